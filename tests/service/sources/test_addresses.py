"""Which addresses may be dialled: a table of what has been used in attacks, and properties over all addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.sources.addresses import is_public, parse

REFUSED = {
    "loopback": "127.0.0.1",
    "the rest of loopback": "127.255.255.254",
    "this host": "0.0.0.0",  # noqa: S104 - not listened on
    "private": "10.0.0.1",
    "private, class B": "172.16.0.1",
    "private, class C": "192.168.1.1",
    "metadata of most clouds": "169.254.169.254",
    "metadata of containers on AWS": "169.254.170.2",
    "metadata of Alibaba": "100.100.100.200",
    "metadata of Oracle": "192.0.0.192",
    "Azure's wire server": "168.63.129.16",
    "carrier-grade NAT": "100.64.0.1",
    "benchmarks": "198.18.0.1",
    "documentation": "203.0.113.7",
    "multicast": "224.0.0.1",
    "multicast of an organisation": "239.1.2.3",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "6to4 relays": "192.88.99.1",
    "loopback, IPv6": "::1",
    "unspecified": "::",
    "link-local": "fe80::1",
    "link-local with a zone": "fe80::1%eth0",
    "unique local": "fd00::1",
    "metadata of AWS, IPv6": "fd00:ec2::254",
    "site-local, deprecated": "fec0::1",
    "multicast, IPv6": "ff02::1",
    "global multicast, IPv6": "ff0e::1",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped metadata": "::ffff:169.254.169.254",
    "compatible loopback": "::127.0.0.1",
    "translated loopback": "::ffff:0:127.0.0.1",
    "NAT64 of loopback": "64:ff9b::127.0.0.1",
    "NAT64 of metadata": "64:ff9b::a9fe:a9fe",
    "NAT64 with a local prefix": "64:ff9b:1::8.8.8.8",
    "6to4 of loopback": "2002:7f00:1::",
    "6to4 of a private network": "2002:c0a8:101::1",
    "Teredo": "2001:0:53aa:64c:0:fbff:a73f:1",
    "documentation, IPv6": "2001:db8::1",
    "documentation since 2024": "3fff::1",
    "ORCHID": "2001:20::1",
    "discard": "100::1",
    "segment routing": "5f00::1",
}
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
FORBIDDEN_NETWORKS = [
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
    )
]


@pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED)
def test_it_is_refused(address: str) -> None:
    assert not is_public(parse(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_it_is_public(address: str) -> None:
    assert is_public(parse(address))


def within(network: IPv4Network | IPv6Network) -> st.SearchStrategy[int]:
    return st.integers(int(network.network_address), int(network.broadcast_address))


@given(st.sampled_from(FORBIDDEN_NETWORKS).flatmap(within))
def test_nothing_in_a_forbidden_network_is_public_however_it_is_written(number: int) -> None:
    address = IPv4Address(number)
    assert not is_public(address)
    for prefix, shift in (("::ffff:0:0", 0), ("64:ff9b::", 0), ("2002::", 80), ("::", 0), ("::ffff:0:0:0", 0)):
        assert not is_public(IPv6Address(int(IPv6Address(prefix)) | number << shift))


@given(st.integers(0, 2**32 - 1))
def test_an_address_in_disguise_is_judged_by_what_it_carries(number: int) -> None:
    public = is_public(IPv4Address(number))
    assert is_public(IPv6Address(int(IPv6Address("::ffff:0:0")) | number)) == public
    assert is_public(IPv6Address(int(IPv6Address("64:ff9b::")) | number)) == public
    assert is_public(IPv6Address(int(IPv6Address("2002::")) | number << 80)) == public


@given(st.integers(0, 2**128 - 1))
def test_only_global_unicast_is_public(number: int) -> None:
    address = IPv6Address(number)
    if is_public(address) and address.ipv4_mapped is None and address not in IPv6Network("64:ff9b::/96"):
        assert address in IPv6Network("2000::/3")
        assert address.is_global

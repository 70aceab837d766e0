"""Which network addresses may be dialled for a stranger. Pure.

An address is public if it is global unicast. An IPv6 address that carries an IPv4 address, so that a gateway dials that
one, is judged by it: IPv4-mapped (RFC 4291), NAT64 with the well-known prefix (RFC 6052), 6to4 (RFC 3056). Teredo
(RFC 4380) is refused. The lists of the standard library follow IANA's registries of special-purpose addresses; what
they lacked at some time is listed here.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_REFUSED = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service is among them
        "168.63.129.16/32",  # Azure's wire server: a public address that leads to the host of a virtual machine
        "192.88.99.0/24",  # relays of 6to4, deprecated
        "2001::/23",  # protocol assignments: Teredo, ORCHID
        "3fff::/20",  # documentation, since 2024
    )
)


def is_public(address: Address) -> bool:
    """Whether an address may be dialled for a stranger."""
    if isinstance(address, IPv6Address):
        carried = _carried(address)
        if carried is not None:
            return is_public(carried)
        if address.scope_id is not None or address not in _GLOBAL_UNICAST:
            return False
    if any(address in network for network in _REFUSED if network.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def parse(text: str) -> Address:
    """Parse a numeric address, as the resolver returns it.

    Raises:
        ValueError: it is not one.
    """
    return ip_address(text)


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a gateway would dial for an IPv6 address; None if there is none."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour

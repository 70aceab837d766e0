"""Who a caller is, where no API key says so: an address, or the network that one customer is given. Pure."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

IPV6_PREFIX = 64
"""One customer gets at least a /64 network, so a single host can use as many IPv6 addresses as it likes."""


@lru_cache(maxsize=4096)
def caller_at(host: str) -> str:
    """The caller at an address: an IPv4 address, the /64 network of an IPv6 one, or the text if it is neither."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))

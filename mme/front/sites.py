"""Where a client is, as far as its owner has no other addresses for nothing."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_IPV6_SITE_BITS = 64  # as many addresses are anyone's own


def plain_address(host: str) -> IPv4Address | IPv6Address:
    """An address, that of IPv4 where it is mapped. Raises ValueError."""
    address = ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def site_of(host: str) -> str:
    """An address of IPv4, the network of one of IPv6. Raises ValueError."""
    address = plain_address(host)
    if address.version == 4:  # noqa: PLR2004 - of the protocol
        return str(address)
    return str(ip_network((address, _IPV6_SITE_BITS), strict=False))

"""
The other end of a connection, in the one form in which this program writes addresses.

A socket that takes both families gives IPv4 peers as IPv6 addresses, and the two versions of the PROXY protocol write one IPv6
address in two ways; rules, limits and logs must not depend on that.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address

from tunnelstack.wire.addresses import read_address


def canonical(address: Any) -> Any:
    """
    @param address: an C{IAddress}.
    @return: the same with the text of L{tunnelstack.wire.addresses}; the address itself if it is no IP address.
    """
    if not isinstance(address, (IPv4Address, IPv6Address)):
        return address
    there = read_address(address.host)
    if there is None:
        return address
    return (IPv4Address if there.version == 4 else IPv6Address)(address.type, str(there), address.port)


def peerOf(transport: Any) -> Any:
    """
    @return: the L{canonical} address of a transport's peer.
    """
    return canonical(transport.getPeer())

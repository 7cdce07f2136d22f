"""
The address of a connection's peer, in the one form in which this program writes addresses.

A socket that takes both families gives IPv4 peers as IPv6 addresses, and the two versions of the PROXY protocol write one IPv6
address in two ways; rules, limits and logs must not depend on that.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, ITransport

from tunnelstack.wire.addresses import read_address


def canonical(address: IAddress) -> IAddress:
    """
    @return: the same with the text of L{tunnelstack.wire.addresses}; the address itself if it is not an IP address.
    """
    if not isinstance(address, (IPv4Address, IPv6Address)):
        return address
    there = read_address(address.host)
    if there is None:
        return address
    return (IPv4Address if there.version == 4 else IPv6Address)(address.type, str(there), address.port)


def peerOf(transport: ITransport) -> IAddress:
    """
    @return: the L{canonical} address of a transport's peer.
    """
    return canonical(transport.getPeer())

"""
The address of a connection's peer, in the one form in which this program writes addresses.

A socket that takes both families gives IPv4 peers as IPv6 addresses, and the two versions of the PROXY protocol write one IPv6
address in two ways; rules, limits and logs must not depend on that.
"""

from __future__ import annotations

import os

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, ITransport

from tunnelstack.wire.addresses import address_text


def canonical(address: IAddress) -> IAddress:
    """
    @return: the same with the text of L{tunnelstack.wire.addresses}; the address itself if it is not an IP address.
    """
    if not isinstance(address, (IPv4Address, IPv6Address)):
        return address
    text = address_text(address.host)
    if not text or (text == address.host and isinstance(address, IPv4Address) and ":" not in text):
        return address
    return (IPv6Address if ":" in text else IPv4Address)(address.type, text, address.port)


def addressText(address: object) -> str:
    """
    An address for logs, status and messages.

    @param address: an C{IAddress}.
    @return: C{host:port}, C{[host]:port} for IPv6, C{unix:PATH} for a Unix socket; C{""} for an address that has no text, such
        as that of an unnamed Unix socket.
    """
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name)}" if address.name else ""
    if isinstance(address, (IPv4Address, IPv6Address)):
        address = canonical(address)
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if not isinstance(host, str):
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def peerOf(transport: ITransport) -> IAddress:
    """
    @return: the L{canonical} address of a transport's peer.
    """
    return canonical(transport.getPeer())


def portOf(address: IAddress) -> int:
    """
    @return: the port of an address; C{0} if its kind has none.
    """
    return getattr(address, "port", 0)

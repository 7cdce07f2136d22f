"""
Bent octets for the header of the PROXY protocol, which a proxy writes before a visitor's first octet.

The first octet of an input chooses where the rest is cut.
"""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from tests.transport.test_haproxy import HEADERS, PROXY
from tunnelstack.transport.haproxy import proxiedEndpoint
from tunnelstack.transport.peers import peerOf
from tunnelstack.wire.addresses import address_text

LONGEST = 512  # octets that are delivered one by one

SEEDS = [bytes([choice]) + header + b"GET /" for header, _ in HEADERS for choice in (0, 5, 20)]


@implementer(IStreamServerEndpoint)
class Listening:
    """
    An endpoint in memory.
    """

    factory: Any = None

    def listen(self, factory: Any) -> Any:
        self.factory = factory
        return succeed(None)


class Served(Protocol):
    """
    What is served.
    """

    heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


def target(data: bytes) -> Hashable:
    """
    @return: whether it is served, and for which kind of address.
    """
    octets = data[1:]
    cut = data[0] if data else 0
    whole = serve([octets])
    ways = [[octets[:cut], octets[cut:]]]
    if len(octets) <= LONGEST:
        ways.append([octets[at : at + 1] for at in range(len(octets))])
    for pieces in ways:
        assert serve(pieces) == whole, (pieces, whole)
    host, heard = whole
    if host:
        assert address_text(host) == host == str(ip_address(host)), host
        assert octets.endswith(heard)
    return bool(host), host == PROXY.host, ":" in host, bool(heard)


def serve(pieces: list[bytes]) -> tuple[str, bytes]:
    """
    @return: the host that is taken for the visitor's, and what is served; nothing if the connection was closed.
    """
    inner, served, factory = Listening(), Served(), Factory()
    factory.buildProtocol = lambda address: served  # type: ignore[method-assign,assignment]
    proxiedEndpoint(inner).listen(factory)
    protocol = inner.factory.buildProtocol(PROXY)
    transport = StringTransport(peerAddress=PROXY)
    protocol.makeConnection(transport)
    for piece in pieces:
        if piece and not transport.disconnecting:
            protocol.dataReceived(piece)
    if transport.disconnecting or not served.heard:
        return "", b""
    return address_text(peerOf(served.transport).host), served.heard

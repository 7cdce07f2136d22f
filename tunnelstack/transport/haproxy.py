"""
The PROXY protocol before Twisted's parser, which rejects two things that proxies send: a first line without addresses,
C{PROXY UNKNOWN}, and a header whose first octets arrive alone.

Source: U{https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt}, section 2.1: for C{UNKNOWN}, the sender may leave out
the rest of the line, and the receiver uses the connection's own addresses.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

WORD = b"PROXY "
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BARE = b"PROXY UNKNOWN\r\n"
PADDED = b"PROXY UNKNOWN \r\n"
"""The same line in the form that Twisted accepts."""

SHORTEST = 16
"""Octets of the shortest header of either version, but for L{BARE}."""


class HeaderProtocol(ProtocolWrapper):
    """
    Keeps the first octets of a connection until they show which header begins there; later octets bypass it.
    """

    _first = b""

    def dataReceived(self, data: bytes) -> None:
        self._first += data
        if self._isIncomplete():
            return
        first, self._first = self._first, b""
        if first.startswith(BARE):
            first = PADDED + first[len(BARE) :]
        self.dataReceived = self.wrappedProtocol.dataReceived  # type: ignore[method-assign]
        self.dataReceived(first)

    def _isIncomplete(self) -> bool:
        first = self._first
        begun = WORD.startswith(first[: len(WORD)]) or SIGNATURE.startswith(first[: len(SIGNATURE)])
        return begun and len(first) < SHORTEST and first != BARE


class HeaderFactory(WrappingFactory):
    """
    Builds a L{HeaderProtocol} for each connection.
    """

    noisy = False
    protocol = HeaderProtocol


@implementer(IStreamServerEndpoint)
class _HeaderEndpoint:
    def __init__(self, inner: IStreamServerEndpoint) -> None:
        self._inner = inner

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        listening: Deferred[IListeningPort] = self._inner.listen(HeaderFactory(factory))
        return listening


def proxiedEndpoint(inner: IStreamServerEndpoint) -> IStreamServerEndpoint:
    """
    An endpoint whose connections begin with a header of the PROXY protocol, version 1 or 2; it gives the address of the peer.
    """
    endpoint: IStreamServerEndpoint = proxyEndpoint(_HeaderEndpoint(inner))
    return endpoint

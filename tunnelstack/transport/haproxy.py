"""
The PROXY protocol in front of Twisted's parser, which refuses two things that proxies send: a first line without addresses,
C{PROXY UNKNOWN}, and a header whose first octets come alone.

Source: U{https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt}, section 2.1: for C{UNKNOWN}, the sender may leave out
the rest of the line, and the receiver uses the connection's own addresses.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

WORD = b"PROXY "
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BARE = b"PROXY UNKNOWN\r\n"
PADDED = b"PROXY UNKNOWN \r\n"
"""The same line as Twisted takes it."""

SHORTEST = 16
"""Octets of the shortest header of either version, but for L{BARE}."""


class HeaderProtocol(ProtocolWrapper):
    """
    Keeps the first octets of a connection until they show which header begins there, and takes no part in what follows.
    """

    _first = b""

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the header.
        """
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

    def listen(self, factory: Any) -> Deferred[Any]:
        listening: Deferred[Any] = self._inner.listen(HeaderFactory(factory))
        return listening


def proxiedEndpoint(inner: IStreamServerEndpoint) -> IStreamServerEndpoint:
    """
    An endpoint whose connections begin with a header of the PROXY protocol, version 1 or 2; peers are who the header says.
    """
    endpoint: IStreamServerEndpoint = proxyEndpoint(_HeaderEndpoint(inner))
    return endpoint

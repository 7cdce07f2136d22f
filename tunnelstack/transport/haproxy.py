"""
The PROXY protocol before Twisted's parser, which rejects two things that proxies send: a first line without addresses,
C{PROXY UNKNOWN}, and a header whose first octets arrive alone.  And it accepts, or fails at, what must be rejected: a line of
version 1 with words in place of addresses and ports.

Source: U{https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt}, section 2.1: for C{UNKNOWN}, the sender may leave out
the rest of the line, and the receiver uses the connection's own addresses.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from tunnelstack.transport.peers import addressText

WORD = b"PROXY "
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BARE = b"PROXY UNKNOWN\r\n"
PADDED = b"PROXY UNKNOWN \r\n"
"""The same line in the form that Twisted accepts."""

SHORTEST = 16
"""Octets of the shortest header of version 2."""

LONGEST_LINE = 107
"""Octets of the longest header of version 1, with its line end."""

HIGHEST_PORT = 65_535

_WORD = rb"([^\r\n ]++)"
_PORT = rb"([0-9]{1,5})"
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*+)?|TCP([46]) " + b" ".join((_WORD, _WORD, _PORT, _PORT)) + rb")\r\n"
)


class HeaderProtocol(ProtocolWrapper):
    """
    Keeps the first octets of a connection until they show which header begins there: a line of version 1 until its end.  Later
    octets bypass it.  A connection that does not begin with a header is closed.
    """

    log = Logger()

    _first = b""

    def dataReceived(self, data: bytes) -> None:
        self._first += data
        if self._isIncomplete():
            return
        first, self._first = self._first, b""
        if not (first.startswith(SIGNATURE) or isLineUntrusted(first)):
            self.log.info(
                "the connection from {peer} was closed: it does not begin with a header of the PROXY protocol",
                peer=addressText(self.getPeer()),
            )
            self.loseConnection()
            return
        if first.startswith(BARE):
            first = PADDED + first[len(BARE) :]
        self.dataReceived = self.wrappedProtocol.dataReceived  # type: ignore[method-assign]
        self.dataReceived(first)

    def _isIncomplete(self) -> bool:
        first = self._first
        if first.startswith(WORD):
            return len(first) < LONGEST_LINE and b"\r\n" not in first
        begun = WORD.startswith(first) or SIGNATURE.startswith(first[: len(SIGNATURE)])
        return begun and len(first) < SHORTEST


def isLineUntrusted(octets: bytes) -> bool:
    """
    Whether octets begin with a header of version 1, whose addresses are of the family that it names.
    """
    line = _LINE.match(octets, 0, LONGEST_LINE)
    if line is None:
        return False
    family, source, target, *ports = line.groups()
    if family is None:
        return True
    try:
        versions = {ip_address(address.decode("ascii")).version for address in (source, target)}
    except ValueError:
        return False
    return versions == {int(family)} and all(int(port) <= HIGHEST_PORT for port in ports)


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

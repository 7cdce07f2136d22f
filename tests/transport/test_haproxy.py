"""
The PROXY protocol in front of Twisted's parser, over wires in memory.
"""

from __future__ import annotations

import socket
import struct
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.haproxy import proxyEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tunnelstack.transport.haproxy import BARE, LONGEST_LINE, SIGNATURE, _HeaderEndpoint, proxiedEndpoint
from tunnelstack.transport.peers import peerOf

PROXY = IPv4Address("TCP", "192.0.2.99", 4000)
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 1111, 80)

#: Headers and the hosts that they name as the visitor's.
HEADERS = [
    (BARE, PROXY.host), (b"PROXY UNKNOWN \r\n", PROXY.host), (b"PROXY UNKNOWN a b 1 2\r\n", PROXY.host),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "192.0.2.1"), (b"PROXY TCP6 2001:DB8:0::7 ::1 1 2\r\n", "2001:db8::7"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "1.1.1.1"), (b"PROXY TCP6 ::1 ::1 1 1\r\n", "::1"),
    (SIGNATURE + b"\x20\0\0\0", PROXY.host), (SIGNATURE + b"\x21\0\0\0", PROXY.host),
    (SIGNATURE + b"\x21\x21" + struct.pack("!H", len(SIX)) + SIX, "2001:db8::7"),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1"),
]  # fmt: skip


class Listening:
    """
    An endpoint in memory.
    """

    factory: Any = None

    def listen(self, factory: Any) -> Any:
        self.factory = factory
        return succeed(None)


class Visit(Protocol):
    """
    What is served.
    """

    heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


class HeaderTests(SynchronousTestCase):
    """
    From a header to a peer.
    """

    def connect(self, wrap: Any = proxiedEndpoint) -> tuple[Any, StringTransport, Visit]:
        """
        @return: the outermost protocol, its transport, and what is served.
        """
        inner, served = implementer(IStreamServerEndpoint)(Listening)(), Visit()
        factory = Factory()
        factory.buildProtocol = lambda address: served  # type: ignore[assignment,method-assign,return-value]
        wrap(inner).listen(factory)
        protocol = inner.factory.buildProtocol(PROXY)
        transport = StringTransport(peerAddress=PROXY)
        protocol.makeConnection(transport)
        return protocol, transport, served

    def hears(self, *pieces: bytes) -> tuple[str, bytes]:
        """
        @return: the peer's host and what was served, C{""} if the connection was closed.
        """
        protocol, transport, served = self.connect()
        for piece in pieces:
            if not transport.disconnecting:
                protocol.dataReceived(piece)
        host = "" if transport.disconnecting else peerOf(served.transport).host
        return host, served.heard

    def test_eachHeaderGivesItsAddress(self) -> None:
        for header, host in HEADERS:
            self.assertEqual(self.hears(header + b"GET"), (host, b"GET"), header)
            self.assertEqual(self.hears(header, b"GET", b" /"), (host, b"GET /"), header)

    @given(st.sampled_from(HEADERS), st.lists(st.integers(0, 80), max_size=4))
    def test_itMattersNotWhereTheOctetsAreCut(self, known: tuple[bytes, str], cuts: list[int]) -> None:
        header, host = known
        octets = header + b"GET /"
        edges = [0, *sorted(cuts), len(octets)]
        pieces = [octets[start:end] for start, end in pairwise(edges) if octets[start:end]]
        self.assertEqual(self.hears(*pieces), (host, b"GET /"))

    def test_aHeaderMayArriveOctetByOctet(self) -> None:
        for header, host in HEADERS:
            self.assertEqual(self.hears(*[bytes([octet]) for octet in header + b"GET"]), (host, b"GET"))

    def test_whatIsNoHeaderIsClosedAtItsFirstOctetThatShowsIt(self) -> None:
        for octets in (
            b"GET", b"PROXX", b"PROXY\r", b"\r\n\r\nx", SIGNATURE + b"\x10\0\0\0", b"PROXY UNKNOW\r\n\r\n\r\n",
            b"PROXY UNKNOWNX\r\n", b"PROXY UNKNOWN " + b"x" * 93,
        ):  # fmt: skip
            self.assertEqual(self.hears(octets), ("", b""), octets)

    def test_aLineWithoutAddressesOfItsFamilyIsClosed(self) -> None:
        """
        The kind of this fault: Twisted's parser takes any words for addresses, and raises an error for any but ASCII, and for
        words in place of ports; so a visitor had no address, or the log a traceback.
        """
        for line in (
            b"PROXY TCP4 one two 1 2", b"PROXY TCP4 192.0.2.1 192.0.2.2 x 2", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 y",
            b"PROXY TCP4 \xff 192.0.2.2 1 2", b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2", b"PROXY TCP4 ::1 ::1 1 2",
            b"PROXY TCP4 192.0.2.1 ::1 1 2", b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2", b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2",
            b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2", b"PROXY TCP4 192.0.2.1 192.0.2.2 1",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            b"PROXY TCP4 [::1] ::1 1 2", b"PROXY TCP5 ::1 ::1 1 2",
        ):  # fmt: skip
            octets = line + b"\r\nGET / HTTP/1.1\r\n"
            self.assertEqual(self.hears(octets), ("", b""), line)
            self.assertEqual(self.hears(*[bytes([octet]) for octet in octets]), ("", b""), line)

    def test_theLongestLineIsRead(self) -> None:
        line = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
        self.assertEqual(len(line), LONGEST_LINE)
        for pieces in ((line + b"GET",), (line[:-1], b"\nGET"), (line[:60], line[60:], b"GET")):
            self.assertEqual(self.hears(*pieces), (PROXY.host, b"GET"))
        longer = line[:-2] + b"x\r\n"
        self.assertEqual((self.hears(longer), self.hears(longer[:-1], b"\n")), (("", b""), ("", b"")))

    def test_nothingIsAddedToWhatFollows(self) -> None:
        protocol, _, served = self.connect()
        protocol.dataReceived(BARE)
        self.assertEqual(protocol.dataReceived, protocol.wrappedProtocol.dataReceived)
        protocol.dataReceived(BARE)
        self.assertEqual(served.heard, BARE)

    def test_itEndsWithTheConnection(self) -> None:
        protocol, _, served = self.connect()
        lost: list[Any] = []
        served.connectionLost = lost.append  # type: ignore[assignment,method-assign]
        protocol.connectionLost(None)
        self.assertEqual(len(lost), 1)

    def test_theEndpointProvidesItsInterface(self) -> None:
        verifyObject(IStreamServerEndpoint, _HeaderEndpoint(Listening()))

    def test_twistedStillRefusesTheBareLine(self) -> None:
        """
        When this fails, L{tunnelstack.transport.haproxy} is needed only for headers in pieces; when the next test fails too, it
        is not needed at all.
        """
        protocol, transport, _ = self.connect(proxyEndpoint)
        protocol.dataReceived(BARE)
        self.assertTrue(transport.disconnecting)

    def test_twistedStillRefusesAFirstPiece(self) -> None:
        protocol, transport, _ = self.connect(proxyEndpoint)
        protocol.dataReceived(b"PROXY")
        self.assertTrue(transport.disconnecting)

"""
Both sides of a WebSocket over a wire in memory, against each other and against peers written by hand.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoProtocol,
    TimeoutError,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.transport.rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    MASK,
    PING,
    PONG,
    REQUEST,
    TEXT,
    Raw,
    RawServer,
    frame,
    rawClient,
    requestHead,
)
from tunnelstack.errors import ConfigurationError, UsageError
from tunnelstack.interfaces import IRecordTransport
from tunnelstack.testing import Wire
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.errors import (
    ClosedByPeer,
    KeepaliveTimeout,
    UpgradeFailed,
    UpgradeRefused,
    WebSocketProtocolError,
)
from tunnelstack.transport.websocket.server import WebSocketServerFactory, upgrade
from tunnelstack.transport.websocket.settings import WebSocketLimits


class Collect(Protocol):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.records: list[tuple[bytes, bool]] = []
        self.reason: Any = None

    @property
    def got(self) -> bytes:
        return b"".join(self.pieces)

    def dataReceived(self, data: bytes) -> None:
        assert data
        self.pieces.append(data)

    def recordReceived(self, octets: bytes, text: bool) -> None:
        self.records.append((octets, text))

    def connectionLost(self, reason: Any = None) -> None:
        assert self.reason is None
        self.reason = reason


def factoryOf(protocol: Any) -> Any:
    factory = Factory()
    factory.buildProtocol = lambda address: protocol      # type: ignore[method-assign]
    return factory


class OverWire:
    """
    A client endpoint whose server is at the far end of a wire.
    """

    def __init__(self, wire: Wire, serverProtocol: Any) -> None:
        self.wire = wire
        self.serverProtocol = serverProtocol

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(self.wire.near.getPeer())
        self.wire.connect(protocol, self.serverProtocol)
        return succeed(protocol)


class Pair:
    """
    Two protocols of ours joined by a WebSocket over a wire.
    """

    def __init__(self, cut: int | None = None, server: dict[str, Any] | None = None, **client: Any) -> None:
        self.wire = Wire(cut=cut)
        self.client, self.server = Collect(), Collect()
        answering = WebSocketServerFactory(factoryOf(self.server), clock=self.wire.clock, **(server or {}))
        below = OverWire(self.wire, answering.buildProtocol(self.wire.far.getPeer()))
        endpoint = WebSocketClientEndpoint(self.wire.clock, "ws://edge.example/t?a=b", endpoint=below, **client)
        self.outcome = endpoint.connect(factoryOf(self.client))
        self.wire.settle()


class AgainstRawClient(SynchronousTestCase):
    """
    Our server and a client by hand.
    """

    def serve(self, cut: int | None = None, **options: Any) -> tuple[Wire, Raw, Collect]:
        wire, server = Wire(cut=cut), Collect()
        factory = WebSocketServerFactory(factoryOf(server), clock=wire.clock, **options)
        return wire, rawClient(wire, factory.buildProtocol(wire.far.getPeer())), server

    def assertViolation(self, octets: bytes, code: int, **options: Any) -> None:
        for cut in (None, 1):
            wire, client, server = self.serve(cut, **options)
            wire.near.write(octets)
            wire.settle()
            self.assertEqual(client.frames(), [(CLOSE, True, code.to_bytes(2, "big"))], octets)
            self.assertEqual(server.pieces, [])
            wire.near.write(frame(BINARY, b"ignored", mask=MASK) * 3)
            wire.settle()
            wire.near.loseConnection()
            wire.settle()
            self.assertTrue(server.reason.check(WebSocketProtocolError) and server.reason.check(ConnectionLost))
            self.assertEqual((server.reason.value.code, server.pieces), (code, []))
            self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_aMessageArrivesInOneFrame(self) -> None:
        for cut in (None, 1, 3):
            for size in (1, 125, 126, 65535, 65536):
                wire, _client, server = self.serve(cut if size < 1000 else None)
                wire.near.write(frame(BINARY, b"x" * size, mask=MASK))
                wire.settle()
                self.assertEqual(server.got, b"x" * size)

    def test_fragmentsAreJoined(self) -> None:
        text = b"the quick brown fox"
        ping = frame(PING, b"?", mask=MASK)
        empty = frame(CONTINUATION, fin=False, mask=MASK)
        singles = [text[at : at + 1] for at in range(len(text))]
        ways = {
            "one octet a frame": [*singles],
            "an empty first frame": [b"", text],
            "empty frames between": [text[:5], b"", b"", text[5:]],
            "an empty last frame": [text, b""],
            "two frames": [text[:7], text[7:]],
        }
        for name, pieces in ways.items():
            for between in (b"", ping, empty):
                for cut in (None, 1, 2, 5):
                    wire, client, server = self.serve(cut)
                    last = len(pieces) - 1
                    frames = [
                        frame(CONTINUATION if at else BINARY, piece, fin=at == last, mask=MASK)
                        for at, piece in enumerate(pieces)
                    ]
                    wire.near.write(between.join(frames) + frame(BINARY, b"!", mask=MASK))
                    wire.settle()
                    self.assertEqual(server.got, text + b"!", (name, between, cut))
                    self.assertEqual(set(client.frames()), {(PONG, True, b"?")} if between == ping else set())

    def test_emptyMessagesAreSilent(self) -> None:
        wire, _client, server = self.serve()
        wire.near.write(frame(BINARY, mask=MASK) * 200 + frame(BINARY, b"x", mask=MASK))
        wire.settle()
        self.assertEqual(server.pieces, [b"x"])

    def test_framesBehindTheRequestAreRead(self) -> None:
        wire, server, client = Wire(), Collect(), Raw()
        factory = WebSocketServerFactory(factoryOf(server), clock=wire.clock)
        wire.connect(client, factory.buildProtocol(wire.far.getPeer()))
        wire.near.write(REQUEST + b"\r\n" + frame(BINARY, b"early", mask=MASK))
        wire.settle()
        self.assertEqual(server.got, b"early")

    def test_brokenRulesAreRefused(self) -> None:
        self.assertViolation(frame(BINARY, b"unmasked"), 1002)
        self.assertViolation(frame(BINARY, b"reserved bit", mask=MASK, rsv=4), 1002)
        self.assertViolation(frame(3, b"reserved opcode", mask=MASK), 1002)
        self.assertViolation(frame(11, b"reserved control", mask=MASK), 1002)
        self.assertViolation(frame(CONTINUATION, b"of nothing", mask=MASK), 1002)
        self.assertViolation(frame(PING, b"x", fin=False, mask=MASK), 1002)
        self.assertViolation(frame(PING, b"x" * 126, mask=MASK), 1002)
        self.assertViolation(b"\x82\xfe\x00\x05" + MASK + b"12345", 1002)           # not the shortest length
        self.assertViolation(b"\x82\xff" + b"\x80" + bytes(7) + MASK, 1002)         # length of 2 ** 63
        self.assertViolation(frame(CLOSE, b"\x03", mask=MASK), 1002)                # half a code
        self.assertViolation(frame(CLOSE, (1006).to_bytes(2, "big"), mask=MASK), 1002)
        self.assertViolation(frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff", mask=MASK), 1007)
        self.assertViolation(b"GET / HTTP/1.1\r\nHost: again\r\n\r\n", 1002)

    def test_aPeerThatBrokeARuleIsNotWaitedForLong(self) -> None:
        wire, client, server = self.serve()
        wire.near.write(frame(BINARY, b"unmasked"))
        wire.settle()
        wire.clock.advance(4.9)
        wire.settle()
        self.assertIsNone(server.reason)
        wire.clock.advance(0.2)
        wire.settle()
        self.assertTrue(server.reason.check(WebSocketProtocolError) and client.reason.check(ConnectionLost))

    def test_textIsRefusedWhereOctetsAreSpoken(self) -> None:
        self.assertViolation(frame(TEXT, b"text", mask=MASK), 1003)
        self.assertViolation(frame(TEXT, b"", fin=False, mask=MASK), 1003)

    def test_aLengthIsRefusedBeforeItsOctets(self) -> None:
        head = b"\x82\xff" + (2**40).to_bytes(8, "big") + MASK
        self.assertViolation(head, 1009)
        self.assertViolation(frame(BINARY, b"x" * 101, mask=MASK), 1009, limits=WebSocketLimits(maxMessage=100))

    def test_fragmentsCountTogether(self) -> None:
        wire, client, server = self.serve(limits=WebSocketLimits(maxMessage=100))
        wire.near.write(frame(BINARY, b"x" * 60, fin=False, mask=MASK))
        wire.near.write(frame(CONTINUATION, b"x" * 41, mask=MASK))
        wire.settle()
        self.assertEqual(client.frames(), [(CLOSE, True, b"\x03\xf1")])
        self.assertEqual(server.got, b"x" * 60)

    def test_manyPingsAreAnsweredByTheLast(self) -> None:
        wire, client, _server = self.serve()
        wire.near.write(b"".join(frame(PING, b"%d" % at, mask=MASK) for at in range(1000)))
        wire.settle()
        self.assertEqual(client.frames(), [(PONG, True, b"999")])

    def test_pingsOfOneWhoDoesNotReadPileUpNothing(self) -> None:
        wire, client, server = self.serve()
        wire.near.pauseProducing()
        server.transport.write(b"x" * 70_000)
        for at in range(1000):
            wire.near.write(frame(PING, b"%d" % at, mask=MASK))
            wire.settle()
        self.assertLess(wire.far.undelivered, 71_000)
        wire.near.resumeProducing()
        wire.settle()
        self.assertEqual(client.frames()[-1], (PONG, True, b"999"))

    def test_pongsNobodyAskedForAreNothing(self) -> None:
        wire, client, server = self.serve()
        wire.near.write(frame(PONG, b"?", mask=MASK) + frame(BINARY, b"x", mask=MASK))
        wire.settle()
        self.assertEqual((client.frames(), server.got), ([], b"x"))

    def test_writesAreMessages(self) -> None:
        wire, client, server = self.serve(limits=WebSocketLimits(message=100))
        server.transport.write(b"one")
        server.transport.writeSequence([b"two", b"", b"three"])
        server.transport.write(b"")
        server.transport.write(b"y" * 250)
        server.transport.writeRecord(b"z" * 100)
        wire.settle()
        lengths = [len(payload) for opcode, fin, payload in client.frames() if opcode == BINARY and fin]
        self.assertEqual(lengths, [3, 8, 100, 100, 50, 100])
        for wrong in (b"", b"z" * 101):
            self.assertRaises(UsageError, server.transport.writeRecord, wrong)
        verifyObject(IRecordTransport, server.transport)

    def test_ourCloseIsAnswered(self) -> None:
        wire, client, server = self.serve()
        server.transport.write(b"last")
        server.transport.loseConnection()
        wire.near.write(frame(BINARY, b"crossing", mask=MASK))
        wire.settle()
        self.assertEqual(client.frames(), [(BINARY, True, b"last"), (CLOSE, True, b"\x03\xe8")])
        self.assertIsNone(server.reason)
        wire.near.write(frame(CLOSE, b"\x03\xe8", mask=MASK))
        wire.settle()
        self.assertTrue(server.reason.check(ConnectionDone) and client.reason.check(ConnectionDone))
        self.assertEqual(server.pieces, [])
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_aPeerThatNeverAnswersOurCloseIsLeft(self) -> None:
        wire, client, server = self.serve()
        server.transport.loseConnection()
        wire.settle()
        wire.clock.advance(4.9)
        wire.settle()
        self.assertIsNone(client.reason)
        wire.clock.advance(0.2)
        wire.settle()
        self.assertTrue(server.reason.check(ConnectionLost) and client.reason.check(ConnectionLost))

    def test_aPeerThatDoesNotReadHasLongerToTakeWhatWasWritten(self) -> None:
        wire, client, server = self.serve()
        wire.near.pauseProducing()
        server.transport.write(b"x" * 100_000)
        server.transport.loseConnection()
        wire.clock.advance(29)
        wire.settle()
        self.assertIsNone(server.reason)
        wire.near.resumeProducing()
        wire.settle()
        self.assertEqual(sum(len(payload) for opcode, _, payload in client.frames() if opcode == BINARY), 100_000)
        wire.clock.advance(4.9)
        wire.settle()
        self.assertIsNone(server.reason)
        wire.clock.advance(0.2)
        wire.settle()
        self.assertTrue(server.reason.check(ConnectionLost))

    def test_aCloseMayHaveNoFrame(self) -> None:
        wire, client, server = self.serve(limits=WebSocketLimits(closeFrame=False))
        server.transport.write(b"last")
        server.transport.loseConnection()
        wire.settle()
        self.assertEqual(client.frames(), [(BINARY, True, b"last")])
        self.assertTrue(server.reason.check(ConnectionDone) and client.reason.check(ConnectionDone))

    def test_theCodeOfACloseBecomesAReason(self) -> None:
        for code, expected in ((1000, ConnectionDone), (1001, ConnectionDone), (None, ConnectionDone),
                               (1011, ClosedByPeer), (4001, ClosedByPeer)):
            wire, client, server = self.serve(1)
            payload = b"" if code is None else code.to_bytes(2, "big") + b"why"
            wire.near.write(frame(CLOSE, payload, mask=MASK) + frame(BINARY, b"behind", mask=MASK))
            wire.settle()
            self.assertEqual(client.frames(), [(CLOSE, True, payload[:2])])
            self.assertIs(server.reason.type, expected)
            self.assertEqual(server.pieces, [])
            if expected is ClosedByPeer:
                self.assertEqual((server.reason.value.code, server.reason.value.reason), (code, "why"))
                self.assertTrue(server.reason.check(ConnectionLost))

    def test_anEndWithoutACloseIsALoss(self) -> None:
        wire, _client, server = self.serve()
        wire.near.loseConnection()
        wire.settle()
        self.assertTrue(server.reason.check(ConnectionLost))

    def test_recordsAreWholeMessages(self) -> None:
        wire, client, server = self.serve(1, records=True)
        wire.near.write(frame(TEXT, b"\xc3", fin=False, mask=MASK) + frame(CONTINUATION, b"\xa9", mask=MASK))
        wire.near.write(frame(BINARY, mask=MASK) + frame(BINARY, b"\xff" * 200, mask=MASK))
        wire.settle()
        self.assertEqual(server.records, [(b"\xc3\xa9", True), (b"", False), (b"\xff" * 200, False)])
        server.transport.writeRecord(b"{}", text=True)
        wire.settle()
        self.assertEqual(client.frames(), [(TEXT, True, b"{}")])

    def test_recordsOfTextAreUTF8(self) -> None:
        self.assertViolation(frame(TEXT, b"\xff", mask=MASK), 1007, records=True)

    def test_recordsAreBounded(self) -> None:
        limits = WebSocketLimits(maxMessage=100)
        self.assertViolation(frame(TEXT, b"x" * 101, mask=MASK), 1009, records=True, limits=limits)

    def test_aPeerThatAnswersNoPingIsLost(self) -> None:
        limits = WebSocketLimits(keepalive=20, keepaliveTimeout=5)
        wire, client, server = self.serve(limits=limits)
        for count in (b"1", b"2", b"3"):
            wire.clock.advance(15)
            wire.settle()
            self.assertEqual(client.frames(), [])
            wire.clock.advance(5)
            wire.settle()
            self.assertEqual(client.frames(), [(PING, True, count)])
            wire.near.write(frame(PONG, count, mask=MASK))
            wire.settle()
            wire.clock.advance(5)
            wire.clock.advance(0)
            self.assertIsNone(server.reason)
            wire.clock.advance(-5)
        wire.clock.advance(25)
        wire.settle()
        wire.clock.advance(5)
        wire.settle()
        self.assertTrue(server.reason.check(KeepaliveTimeout) and server.reason.check(ConnectionLost))

    def test_keepaliveForgivesWhileTheApplicationDoesNotRead(self) -> None:
        wire, _client, server = self.serve(limits=WebSocketLimits(keepalive=20))
        server.transport.pauseProducing()
        wire.clock.pump([5.0] * 40)
        wire.settle()
        self.assertIsNone(server.reason)
        server.transport.abortConnection()
        wire.settle()
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_aProtocolThatFailsOnceReadingGoesOnIsDropped(self) -> None:
        wire, _client, server = self.serve()
        received = server.dataReceived

        def broken(data: bytes) -> None:
            if server.pieces:
                raise ZeroDivisionError
            received(data)
            server.transport.pauseProducing()

        server.dataReceived = broken       # type: ignore[method-assign]
        wire.near.write(frame(BINARY, b"x", mask=MASK) * 2)
        wire.settle()
        self.assertIsNone(server.reason)
        server.transport.resumeProducing()
        wire.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(server.reason.check(ZeroDivisionError))

    def test_aPauseHoldsFramesThatHadArrived(self) -> None:
        wire, _client, server = self.serve()
        received = server.dataReceived

        def once(data: bytes) -> None:
            received(data)
            server.transport.pauseProducing()

        server.dataReceived = once         # type: ignore[method-assign]
        wire.near.write(b"".join(frame(BINARY, b"%d" % at, mask=MASK) for at in range(5)))
        for at in range(5):
            wire.settle()
            self.assertEqual(len(server.pieces), at + 1)
            server.transport.resumeProducing()
            self.assertEqual(len(server.pieces), at + 1)


class RefusalTests(SynchronousTestCase):
    """
    Our server and requests that are no good.
    """

    def ask(self, request: bytes, cut: int | None = None, **options: Any) -> tuple[bytes, Any]:
        wire, server, client = Wire(cut=cut), Collect(), Raw()
        factory = WebSocketServerFactory(factoryOf(server), clock=wire.clock, **options)
        wire.connect(client, factory.buildProtocol(wire.far.getPeer()))
        wire.near.write(request)
        wire.settle()
        self.assertTrue(client.reason.check(ConnectionDone))
        self.assertIsNone(server.transport)
        self.assertEqual(wire.clock.getDelayedCalls(), [])
        return client.got, server

    def test_eachRefusalHasItsStatus(self) -> None:
        without = {
            400: [b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"Host: edge.example\r\n",
                  b"Sec-WebSocket-Version: 13\r\n", b"Connection: Upgrade\r\n"],
            426: [b"Upgrade: websocket\r\n"],
        }
        for status, fields in without.items():
            for field in fields:
                for cut in (None, 1):
                    self.assertIn(field, REQUEST)
                    answer, _ = self.ask(REQUEST.replace(field, b"") + b"\r\n", cut)
                    self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), answer)
                    self.assertIn(b"\r\nContent-Length: ", answer)
        self.assertTrue(self.ask(REQUEST.replace(b"GET", b"POST") + b"\r\n")[0].startswith(b"HTTP/1.1 405 "))
        self.assertTrue(self.ask(b"SSH-2.0-OpenSSH\r\n\r\n")[0].startswith(b"HTTP/1.1 400 "))
        self.assertTrue(self.ask(b"\xff\x00\x80\r\n\r\n")[0].startswith(b"HTTP/1.1 400 "))

    def test_onlyVersion13IsSpoken(self) -> None:
        for version in (b"8", b"0", b"7", b"14", b"99", b"13, 8", b"013", b"x"):
            for cut in (None, 1):
                answer, _ = self.ask(REQUEST.replace(b": 13", b": " + version) + b"\r\n", cut)
                self.assertTrue(answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n"), answer)
                self.assertIn(b"\r\nSec-WebSocket-Version: 13\r\n", answer)
                self.assertIn(b"\r\nUpgrade: websocket\r\n", answer)

    def test_requestsThatTwoProgramsReadInTwoWays(self) -> None:
        for field in (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY, b"Host: other", b"Content-Length: 5",
                      b"Transfer-Encoding: chunked", b"no field", b"X: a\nY: b", b"X : a"):
            answer, _ = self.ask(REQUEST + field + b"\r\n\r\n")
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), (field, answer))
        for key in (b"", b"short==", b"d" * 24, KEY + b"==", b"*" * 22 + b"=="):
            answer, _ = self.ask(REQUEST.replace(KEY, key) + b"\r\n")
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), (key, answer))
        self.assertTrue(self.ask(REQUEST.replace(b"/1.1", b"/1.0") + b"\r\n")[0].startswith(b"HTTP/1.1 505 "))

    def test_anotherPathIsNotFound(self) -> None:
        answer, _ = self.ask(REQUEST + b"\r\n", path="/elsewhere")
        self.assertTrue(answer.startswith(b"HTTP/1.1 404 "), answer)

    def test_aFactoryMayRefuse(self) -> None:
        wire, client, factory = Wire(), Raw(), factoryOf(None)
        wire.connect(client, WebSocketServerFactory(factory, clock=wire.clock).buildProtocol(None))
        wire.near.write(REQUEST + b"\r\n")
        wire.settle()
        self.assertTrue(client.got.startswith(b"HTTP/1.1 403 "), client.got)

    def test_aFactoryThatFailsIsOurFault(self) -> None:
        wire, client, factory = Wire(), Raw(), factoryOf(None)
        factory.buildProtocol = lambda address: 1 / 0
        wire.connect(client, WebSocketServerFactory(factory, clock=wire.clock).buildProtocol(None))
        wire.near.write(REQUEST + b"\r\n")
        wire.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(client.got.startswith(b"HTTP/1.1 500 "), client.got)
        self.assertNotIn(b"division", client.got)

    def test_aHeadIsBounded(self) -> None:
        answer, _ = self.ask(b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)
        self.assertTrue(answer.startswith(b"HTTP/1.1 431 "), answer)

    def test_aClientHasSoManySeconds(self) -> None:
        wire, client = Wire(), Raw()
        wire.connect(client, WebSocketServerFactory(factoryOf(Collect()), clock=wire.clock).buildProtocol(None))
        wire.near.write(REQUEST)
        wire.settle()
        wire.clock.advance(10)
        wire.settle()
        self.assertTrue(client.reason.check(ConnectionLost))

    def test_aRefusedClientIsNotWaitedForLong(self) -> None:
        wire, client = Wire(), Raw()
        wire.connect(client, WebSocketServerFactory(factoryOf(Collect()), clock=wire.clock).buildProtocol(None))
        wire.near.pauseProducing()
        wire.near.write(REQUEST.replace(b"websocket", b"other") + b"\r\n")
        wire.settle()
        self.assertIsNone(client.reason)
        wire.clock.advance(5)
        wire.settle()
        self.assertTrue(client.reason.check(ConnectionLost))
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_compressionIsNotTaken(self) -> None:
        wire, client = Wire(), Raw()
        wire.connect(client, WebSocketServerFactory(factoryOf(Collect()), clock=wire.clock).buildProtocol(None))
        wire.near.write(REQUEST + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n")
        wire.settle()
        self.assertTrue(client.got.startswith(b"HTTP/1.1 101 "), client.got)
        self.assertNotIn(b"Extensions", client.got)


class TakeOverTests(SynchronousTestCase):
    def test_aHeadThatWasReadElsewhereIsAnswered(self) -> None:
        wire, client, application = Wire(), Raw(), Collect()
        before = Raw()
        wire.connect(client, before)
        wire.near.write(REQUEST + b"Sec-WebSocket-Protocol: x, tunnelstack.v1\r\n\r\n" + frame(BINARY, b"a", mask=MASK))
        wire.settle()
        head, end, rest = before.taken().partition(b"\r\n\r\n")
        addresses: list[Any] = []
        factory = factoryOf(application)
        factory.buildProtocol = lambda address: addresses.append(address) or application
        protocol = upgrade(
            wire.far,
            requestHead(head + end),
            factory,
            clock=wire.clock,
            address="a visitor",
            subprotocols=["tunnelstack.v1"],
            headers=[("X-Edge", "1"), ("X-Edge", "2")],
        )
        protocol.dataReceived(rest)
        wire.near.write(frame(BINARY, b"b", mask=MASK))
        wire.settle()
        self.assertEqual((application.got, addresses), (b"ab", ["a visitor"]))
        self.assertEqual(application.transport.subprotocol, "tunnelstack.v1")
        self.assertIn(b"\r\nX-Edge: 1\r\nX-Edge: 2\r\nSec-WebSocket-Protocol: tunnelstack.v1\r\n", client.got)
        wire.near.loseConnection()
        wire.settle()
        self.assertIsNotNone(application.reason)


class AgainstRawServer(SynchronousTestCase):
    """
    Our client and a server by hand.
    """

    def ask(
        self, answer: bytes | None = None, cut: int | None = None, **options: Any
    ) -> tuple[Wire, RawServer, Collect, Any]:
        wire, server, client = Wire(cut=cut), RawServer(), Collect()
        server.answer = answer
        endpoint = WebSocketClientEndpoint(
            wire.clock, "ws://edge.example:8080/t?a=b", endpoint=OverWire(wire, server), **options
        )
        outcome = endpoint.connect(factoryOf(client))
        wire.settle()
        return wire, server, client, outcome

    def refused(self, answer: bytes, **options: Any) -> Any:
        for cut in (None, 1):
            wire, server, client, outcome = self.ask(answer, cut, **options)
            error = self.failureResultOf(outcome).value
            self.assertIsNone(client.transport)
            wire.settle()
            self.assertIsNotNone(server.reason)
            self.assertEqual(wire.clock.getDelayedCalls(), [])
        return error

    def test_theRequestHasItsFields(self) -> None:
        _, server, _client, outcome = self.ask(
            headers=[("Authorization", "Bearer x"), ("X-Two", "1"), ("X-Two", "2")], subprotocols=["a", "b"]
        )
        self.successResultOf(outcome)
        lines = server.request.split(b"\r\n")
        self.assertEqual(lines[0], b"GET /t?a=b HTTP/1.1")
        for line in (b"Host: edge.example:8080", b"Upgrade: websocket", b"Connection: Upgrade",
                     b"Sec-WebSocket-Version: 13", b"Authorization: Bearer x", b"X-Two: 1", b"X-Two: 2",
                     b"Sec-WebSocket-Protocol: a, b"):
            self.assertIn(line, lines)
        self.assertNotIn(b"Extensions", server.request)

    def test_theHostFieldNamesThePortOnlyWhereItMatters(self) -> None:
        for url, host in (("ws://h/", b"h"), ("ws://h:81", b"h:81"), ("wss://h:443/", b"h"),
                          ("https://[::1]:8443/x", b"[::1]:8443"), ("http://h:443/", b"h:443")):
            wire, server = Wire(), RawServer()
            outcome = WebSocketClientEndpoint(wire.clock, url, endpoint=OverWire(wire, server)).connect(
                factoryOf(Collect())
            )
            wire.settle()
            self.successResultOf(outcome)
            self.assertIn(b"\r\nHost: " + host + b"\r\n", server.request)

    def test_framesBehindTheAnswerAreReadAfterTheConnectionWasMade(self) -> None:
        for cut in (None, 1):
            wire, server, client = Wire(cut=cut), RawServer(), Collect()
            proper = server.properAnswer
            server.properAnswer = lambda *f: proper(*f) + frame(BINARY, b"early")   # type: ignore[method-assign]
            order: list[str] = []
            client.connectionMade = lambda: order.append("made")                   # type: ignore[method-assign]
            received = client.dataReceived
            client.dataReceived = lambda data: (order.append("data"), received(data))[1]   # type: ignore
            endpoint = WebSocketClientEndpoint(wire.clock, "ws://h/", endpoint=OverWire(wire, server))
            endpoint.connect(factoryOf(client)).addCallback(lambda protocol: order.append("fired"))
            wire.settle()
            self.assertEqual(order[:3], ["made", "fired", "data"])
            self.assertEqual(client.got, b"early")

    def test_framesOfAClientAreMaskedAnew(self) -> None:
        wire, server, client, _outcome = self.ask()
        client.transport.write(b"\0" * 16)
        client.transport.write(b"\0" * 16)
        wire.settle()
        first, second = server.got[:22], server.got[22:]
        self.assertEqual((first[:2], second[:2]), (b"\x82\x90", b"\x82\x90"))
        self.assertNotEqual(first[2:6], second[2:6])
        self.assertEqual(first[6:], first[2:6] * 4)
        self.assertEqual(server.frames(), [(BINARY, True, b"\0" * 16)] * 2)

    def test_aMaskedFrameOfAServerIsRefused(self) -> None:
        wire, server, client, _outcome = self.ask()
        wire.far.write(frame(BINARY, b"masked", mask=MASK))
        wire.settle()
        self.assertEqual(server.frames(), [(CLOSE, True, b"\x03\xea")])
        wire.far.loseConnection()
        wire.settle()
        self.assertEqual(client.reason.value.code, 1002)

    def test_eachRefusalHasItsStatus(self) -> None:
        for status in (401, 403, 404, 500, 503, 301, 200):
            answer = b"HTTP/1.1 %d Some reason\r\nContent-Length: 6\r\nX-Why: z\r\n\r\nsorry\nmore" % status
            error = self.refused(answer)
            self.assertIsInstance(error, UpgradeRefused)
            self.assertEqual((error.status, error.reason, error.body), (status, "Some reason", "sorry\n"))
            self.assertEqual(error.headers["x-why"], "z")

    def test_aRefusalMayComeInChunks(self) -> None:
        head = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.assertEqual(self.refused(head + b"3\r\nsor\r\n2;x=y\r\nry\r\n0\r\n\r\n").body, "sorry")

    def test_aRefusalMayEndWithTheConnection(self) -> None:
        wire, server, _client, outcome = self.ask(b"HTTP/1.0 502 \r\n\r\nbad gate\xff")
        self.assertNoResult(outcome)
        wire.far.loseConnection()
        wire.settle()
        error = self.failureResultOf(outcome, UpgradeRefused).value
        self.assertEqual((error.status, error.reason, error.body), (502, "", "bad gate\ufffd"))

    def test_aRefusalWithoutEndIsCut(self) -> None:
        self.assertEqual(len(self.refused(b"HTTP/1.1 500 X\r\n\r\n" + b"x" * 9000).body), 4096)
        self.assertEqual(len(self.refused(b"HTTP/1.1 500 X\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 9000).body), 4096)
        endless = b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"
        self.assertLess(len(self.refused(endless + b"x" * 9000).body), 4097)

    def test_interimAnswersArePassedOver(self) -> None:
        wire, server, client = Wire(cut=1), RawServer(), Collect()
        proper = server.properAnswer
        server.properAnswer = lambda *f: (                                          # type: ignore[method-assign]
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + proper(*f)
        )
        outcome = WebSocketClientEndpoint(wire.clock, "ws://h/", endpoint=OverWire(wire, server)).connect(
            factoryOf(client)
        )
        wire.settle()
        self.assertIs(self.successResultOf(outcome), client)

    def test_otherServersAreRejected(self) -> None:
        switching = b"HTTP/1.1 101 Switching Protocols\r\n"
        upgrading = switching + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        for answer in (
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"\x16\x03\x01\x02\x00",
            b"HTTP/2.0 200\r\n\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 101\xff\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000,
            switching + b"\r\n",
            upgrading + b"\r\n",
            upgrading + b"Sec-WebSocket-Accept: bm90IHRoZSByaWdodCBvbmU=\r\n\r\n",
            upgrading + b"Sec-WebSocket-Accept: \xff\xfe\r\n\r\n",
            switching + b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        ):
            error = self.refused(answer)
            self.assertIsInstance(error, UpgradeFailed, answer)

    def test_whatWasNotOfferedIsRejected(self) -> None:
        for field in (b"Sec-WebSocket-Protocol: other", b"Sec-WebSocket-Extensions: permessage-deflate"):
            wire, server = Wire(), RawServer()
            proper = server.properAnswer
            server.properAnswer = lambda *_, proper=proper, field=field: proper(field)    # type: ignore
            outcome = WebSocketClientEndpoint(
                wire.clock, "ws://h/", subprotocols=["mine"], endpoint=OverWire(wire, server)
            ).connect(factoryOf(Collect()))
            wire.settle()
            self.failureResultOf(outcome, UpgradeFailed)

    def test_anEndInsteadOfAnAnswerFailsTheHandshake(self) -> None:
        wire, server, _client, outcome = self.ask(b"HTTP/1.1 1")
        wire.far.loseConnection()
        wire.settle()
        self.failureResultOf(outcome, UpgradeFailed)
        wire, server, _client, outcome = self.ask(b"HTTP/1.1 1")
        wire.drop()
        self.failureResultOf(outcome, ConnectionLost)

    def test_aServerThatDoesNotAnswerIsATimeout(self) -> None:
        wire, server, _client, outcome = self.ask(b"HTTP/1.1 1", timeout=7)
        wire.clock.advance(6)
        self.assertNoResult(outcome)
        wire.clock.advance(1)
        wire.settle()
        self.failureResultOf(outcome, TimeoutError)
        self.assertTrue(server.reason.check(ConnectionLost))

    def test_cancellingClosesTheConnection(self) -> None:
        wire, server, _client, outcome = self.ask(b"HTTP/1.1 1")
        outcome.cancel()
        wire.settle()
        self.failureResultOf(outcome, CancelledError)
        self.assertTrue(server.reason.check(ConnectionLost))
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_errorsOfConnectingAreAsTheyAre(self) -> None:
        class Nobody:
            def connect(self, factory: Any) -> Deferred[Any]:
                return fail(ConnectionRefusedError())

        wire = Wire()
        outcome = WebSocketClientEndpoint(wire.clock, "ws://h/", endpoint=Nobody()).connect(factoryOf(None))  # type: ignore[arg-type]
        self.failureResultOf(outcome, ConnectionRefusedError)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_aFactoryMayRefuse(self) -> None:
        wire, server = Wire(), RawServer()
        outcome = WebSocketClientEndpoint(wire.clock, "ws://h/", endpoint=OverWire(wire, server)).connect(
            factoryOf(None)
        )
        wire.settle()
        self.failureResultOf(outcome, NoProtocol)
        self.assertTrue(server.reason.check(ConnectionLost))

    def test_urlsThatNameNoWebSocket(self) -> None:
        for url in ("ftp://h/", "h:80", "ws://", "ws://h:0/", "ws://h:99999/", "ws://u:p@h/", "ws://h/a b",
                    "ws://h/\r\nX: y", "ws://h/é", "ws://[::1/", ""):
            self.assertRaises(ConfigurationError, WebSocketClientEndpoint, None, url)

    def test_headersThatWouldBreakTheRequest(self) -> None:
        for name, value in (("X", "a\r\nY: b"), ("X Y", "a"), ("", "a"), ("X:", "a"), ("X", "\u20ac")):
            self.assertRaises(UsageError, WebSocketClientEndpoint, None, "ws://h/", headers=[(name, value)])
            self.assertRaises(UsageError, WebSocketServerFactory, None, clock=1, headers=[(name, value)])


class RedirectTests(SynchronousTestCase):
    """
    A server that says where else to ask.
    """

    def ask(self, url: str, location: str, status: int = 307, **options: Any) -> tuple[list[bytes], Any, Any]:
        wires: list[Wire] = []
        requests: list[RawServer] = []

        class Hop:
            def connect(self, factory: Any) -> Deferred[Any]:
                wire, server = Wire(clock=clock), RawServer()
                wires.append(wire)
                requests.append(server)
                if len(wires) == 1:
                    server.answer = b"HTTP/1.1 %d Go\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % (
                        status, location.encode())
                return OverWire(wire, server).connect(factory)

        clock = Wire().clock
        options = {"headers": [("Authorization", "secret"), ("X-A", "b")], **options}
        self.patch(WebSocketClientEndpoint, "_serverEndpoint", lambda endpoint: Hop())
        client = Collect()
        outcome = WebSocketClientEndpoint(clock, url, **options).connect(factoryOf(client))
        for wire in wires:     # grows while we follow
            wire.settle()
        return [server.request for server in requests], outcome, client

    def test_redirectsAreNotFollowedByDefault(self) -> None:
        _, outcome, _client = self.ask("ws://h/a", "/b")
        self.assertEqual(self.failureResultOf(outcome, UpgradeRefused).value.status, 307)

    def test_redirectsAreFollowedWithTheSameHeaders(self) -> None:
        requests, outcome, client = self.ask("ws://h/a", "/b", 308, redirects=1)
        self.assertIs(self.successResultOf(outcome), client)
        self.assertIn(b"GET /b HTTP/1.1", requests[1])
        self.assertIn(b"Authorization: secret", requests[1])

    def test_credentialsStayWithTheirHost(self) -> None:
        requests, outcome, client = self.ask("ws://h/a", "wss://other/b", redirects=1)
        self.assertIs(self.successResultOf(outcome), client)
        self.assertNotIn(b"secret", requests[1])
        self.assertIn(b"X-A: b", requests[1])

    def test_redirectsNeverLeaveTLS(self) -> None:
        _, outcome, _client = self.ask("wss://h/a", "ws://h/b", redirects=5)
        self.failureResultOf(outcome, UpgradeRefused)

    def test_otherStatusesAreNotFollowed(self) -> None:
        _, outcome, _client = self.ask("ws://h/a", "/b", 302, redirects=5)
        self.failureResultOf(outcome, UpgradeRefused)

    def test_aRedirectToAnotherSchemeFails(self) -> None:
        _, outcome, _client = self.ask("ws://h/a", "mailto:you", redirects=5)
        self.failureResultOf(outcome, UpgradeFailed)


class PairTests(SynchronousTestCase):
    def test_subprotocolIsTheServersChoice(self) -> None:
        pair = Pair(server={"subprotocols": ["b", "a"]}, subprotocols=["x", "a", "b"])
        self.assertEqual(pair.client.transport.subprotocol, "b")
        self.assertEqual(pair.server.transport.subprotocol, "b")
        self.assertEqual(pair.server.transport.resource, "/t?a=b")
        self.assertIsNone(pair.client.transport.getPeerCertificate())
        self.assertIsNone(pair.client.transport.negotiatedProtocol)

    def test_bothSidesMayCloseAtOnce(self) -> None:
        pair = Pair()
        pair.client.transport.loseConnection()
        pair.server.transport.loseConnection()
        pair.wire.settle()
        self.assertTrue(pair.client.reason.check(ConnectionDone) and pair.server.reason.check(ConnectionDone))
        self.assertEqual(pair.wire.clock.getDelayedCalls(), [])

    def test_aCloseCarriesACodeAndAReason(self) -> None:
        pair = Pair()
        pair.server.transport.loseConnection(1008, "no such agent: \u00e9" + "\u20ac" * 60)
        pair.wire.settle()
        self.assertTrue(pair.client.reason.check(ClosedByPeer))
        self.assertEqual(pair.client.reason.value.code, 1008)
        reason = pair.client.reason.value.reason
        self.assertTrue(reason.startswith("no such agent: \u00e9\u20ac"), reason)
        self.assertLessEqual(len(reason.encode()), 123)
        self.assertTrue(pair.server.reason.check(ConnectionDone))

    def test_aPingIsAnsweredWithItsPayload(self) -> None:
        pair = Pair()
        pongs: list[bytes] = []
        transport = pair.server.transport
        transport.onPong = pongs.append
        transport.takeDataSeen()
        self.assertFalse(transport.takeDataSeen())
        transport.ping(b"7")
        pair.wire.settle()
        self.assertEqual(pongs, [b"7"])
        self.assertTrue(transport.takeDataSeen())
        self.assertFalse(transport.takeDataSeen())
        transport.loseConnection()
        transport.ping(b"8")
        pair.wire.settle()
        self.assertEqual(pongs, [b"7"])

    def test_closeWhileTheApplicationDoesNotRead(self) -> None:
        pair = Pair()
        pair.client.transport.pauseProducing()
        pair.server.transport.write(b"x" * 1000)
        pair.wire.settle()
        pair.client.transport.loseConnection()
        pair.wire.settle()
        self.assertTrue(pair.client.reason.check(ConnectionDone) and pair.server.reason.check(ConnectionDone))
        self.assertEqual(pair.client.pieces, [])

    def test_anAbortFromInsideADeliveryEndsBoth(self) -> None:
        pair = Pair()
        pair.server.dataReceived = lambda data: pair.server.transport.abortConnection()   # type: ignore
        pair.client.transport.write(b"a")
        pair.client.transport.write(b"b")
        pair.wire.settle()
        self.assertTrue(pair.server.reason.check(ConnectionAborted) and pair.client.reason.check(ConnectionLost))

    def test_aLostNetworkLosesBoth(self) -> None:
        pair = Pair()
        pair.wire.drop()
        self.assertTrue(pair.client.reason.check(ConnectionLost) and pair.server.reason.check(ConnectionLost))
        self.assertEqual(pair.wire.clock.getDelayedCalls(), [])

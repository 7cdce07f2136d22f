"""
A server of ours and clients that attack it by raw frames.  Each attack ends with GOAWAY or RST_STREAM, and costs no more memory
or calls than its limit allows.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.transport.http2 import GET, OK, POST, RawPeer, Remember, frame, rawClient, rawServer
from tunnelstack.testing import Wire
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.transport.http2.errors import HTTP2ConnectionLost
from tunnelstack.wire.http2 import frames
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.frames import END_HEADERS, END_STREAM
from tunnelstack.wire.http2.limits import HTTP2Limits
from tunnelstack.wire.http2.preface import PREFACE

KIB = 1024
CALM = ErrorCode.ENHANCE_YOUR_CALM


class FloodTests(SynchronousTestCase):
    """
    More frames than the traffic needs.
    """

    def setUp(self) -> None:
        self.wire, self.peer, self.server, self.accepted = rawClient()

    def flood(self, octets: bytes, times: int) -> None:
        """
        Send octets so often, and see that they end the connection.
        """
        for _ in range(times):
            self.peer.transport.write(octets)
        self.wire.settle()
        goAway = self.peer.goAway
        self.assertIsNotNone(goAway)
        self.assertEqual(goAway[1], CALM)     # type: ignore[index]
        self.assertIsNotNone(self.peer.lost)
        self.assertIsInstance(self.server.lostReason, HTTP2ConnectionLost)
        self.assertEqual(self.server.streams, 0)

    def slowly(self, octets: bytes, times: int, seconds: float) -> None:
        """
        Send octets so often, at intervals that no limit forbids.
        """
        self.peer.send(frames.SETTINGS, frames.ACK)
        for _ in range(times):
            self.peer.transport.write(octets)
            self.wire.clock.advance(seconds)
            self.wire.settle()
        self.assertIsNone(self.peer.goAway)

    def test_rapidReset(self) -> None:
        """
        CVE-2023-44487.
        """
        for number in range(400):
            stream = 2 * number + 1
            self.peer.request(stream)
            self.peer.send(frames.RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
        self.flood(b"", 0)
        self.assertLessEqual(len(self.accepted), 201)

    def test_resetsOfAnsweredRequestsAreNoAttack(self) -> None:
        for number in range(400):
            stream = 2 * number + 1
            self.peer.request(stream)
            self.wire.settle()
            self.accepted[-1].stream.sendHeaders(OK)
            self.wire.settle()
            self.peer.send(frames.RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
            self.wire.settle()
        self.assertIsNone(self.peer.goAway)

    def test_resetsThatThePeerCausesHere(self) -> None:
        """
        CVE-2025-8671.
        """
        for number in range(400):
            stream = 2 * number + 1
            self.peer.request(stream)
            self.peer.send(frames.WINDOW_UPDATE, 0, stream, bytes(4))
        self.flood(b"", 0)

    def test_malformedRequestsEndTheConnection(self) -> None:
        for number in range(400):
            self.peer.request(2 * number + 1, [*GET, (b"connection", b"close")])
        self.flood(b"", 0)
        self.assertEqual(self.accepted, [])

    def test_pings(self) -> None:
        self.flood(frame(frames.PING, 0, 0, bytes(8)), 200)
        self.assertLessEqual(len(self.peer.of(frames.PING)), 100)

    def test_answersToPingsThatWereNotSent(self) -> None:
        self.flood(frame(frames.PING, frames.ACK, 0, bytes(8)), 200)

    def test_pingsAtIntervalsAreNoAttack(self) -> None:
        self.slowly(frame(frames.PING, 0, 0, bytes(8)), 300, 0.2)

    def test_pingsForWhatWasSentAreNoAttack(self) -> None:
        """
        gRPC sends one whenever it has received something, to measure the way.
        """
        self.peer.request(1, end=False)
        self.wire.settle()
        stream = self.accepted[0].stream
        stream.sendHeaders(OK)
        for _ in range(500):
            stream.write(bytes(100))
            self.wire.settle()
            self.peer.transport.write(frame(frames.PING, 0, 0, bytes(8)))
        self.wire.settle()
        self.assertIsNone(self.peer.goAway)

    def test_answersToPingsAreNoAttack(self) -> None:
        for _ in range(300):
            self.server.ping()
            self.wire.settle()
            for _, _, opaque in self.peer.of(frames.PING)[-1:]:
                self.peer.transport.write(frame(frames.PING, frames.ACK, 0, opaque))
            self.wire.settle()
        self.assertIsNone(self.peer.goAway)

    def test_windowUpdatesOfNewStreamsAreNoAttack(self) -> None:
        """
        gRPC sends some for each stream that it opens.
        """
        for number in range(1500):
            stream = 2 * number + 1
            self.peer.request(stream, end=True)
            self.peer.transport.write(frame(frames.WINDOW_UPDATE, 0, stream, (1000).to_bytes(4, "big")))
            self.wire.settle()
            receiver = self.accepted[-1]
            receiver.stream.sendHeaders(OK, True)
            self.wire.settle()
        self.assertIsNone(self.peer.goAway)

    def test_floodsOfSettingsEndTheConnection(self) -> None:
        self.flood(frame(frames.SETTINGS, 0, 0, (4).to_bytes(2, "big") + (70_000).to_bytes(4, "big")), 100)

    def test_acknowledgementsOfSettingsThatWereNotSent(self) -> None:
        self.flood(frame(frames.SETTINGS, frames.ACK), 100)

    def test_floodsOfEmptyDataEndTheConnection(self) -> None:
        self.peer.request(1, POST, end=False)
        self.flood(frame(frames.DATA, 0, 1), 200)

    def test_dataThatIsPadding(self) -> None:
        self.peer.request(1, POST, end=False)
        self.flood(frame(frames.DATA, frames.PADDED, 1, b"\xff" + bytes(255)), 200)

    def test_windowUpdates(self) -> None:
        self.flood(frame(frames.WINDOW_UPDATE, 0, 0, (1).to_bytes(4, "big")), 1500)

    def test_windowUpdatesOfAStream(self) -> None:
        self.peer.request(1, POST, end=False)
        self.flood(frame(frames.WINDOW_UPDATE, 0, 1, (1).to_bytes(4, "big")), 1500)

    def test_priorities(self) -> None:
        self.flood(frame(frames.PRIORITY, 0, 1, bytes(5)), 300)

    def test_floodsOfUnknownFramesEndTheConnection(self) -> None:
        self.flood(frame(0xFA, 0, 0, b"grease"), 300)

    def test_continuations(self) -> None:
        """
        CVE-2024-27316.
        """
        self.peer.send(frames.HEADERS, 0, 1, b"")
        self.flood(frame(frames.CONTINUATION, 0, 1, b""), 100)

    def test_aListOfFieldsWithoutEnd(self) -> None:
        self.peer.send(frames.HEADERS, 0, 1, bytes(16 * KIB))
        self.flood(frame(frames.CONTINUATION, 0, 1, bytes(16 * KIB)), 30)

    def test_aListOfFieldsThatExpands(self) -> None:
        """
        CVE-2016-6581: each octet is a field of 4 KiB.
        """
        name = b"\x40\x01a" + b"\x7f\x81\x1e" + b"x" * 4000     # indexed as 62
        block = self.peer.encoder.encode(GET) + name + 8 * KIB * b"\xbe"
        tracemalloc.start()
        try:
            self.peer.send(frames.HEADERS, END_HEADERS | END_STREAM, 1, block)
            self.wire.settle()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertEqual(self.peer.goAway, (0, CALM))
        self.assertLess(peak, 2 * 1024 * KIB)

    def test_goAways(self) -> None:
        self.flood(frames.pack_go_away(0, 0), 200)

    def test_anAnswerThatIsNotReadIsDropped(self) -> None:
        """
        CVE-2019-9512 and 9515: the peer does not read the answers that it causes.
        """
        limits = HTTP2Limits(pings=1_000_000)
        wire, peer, server, _ = rawClient(limits)
        wire.near.pauseProducing()
        for _ in range(20):
            peer.transport.write(1000 * frame(frames.PING, 0, 0, bytes(8)))
            wire.settle()
        self.assertLess(wire.far.undelivered, 200 * KIB)
        self.assertIsInstance(server.lostReason, HTTP2ConnectionLost)
        self.assertIn("does not read", str(server.lostReason))


class MalformedTests(SynchronousTestCase):
    """
    Requests that are not well-formed: their stream is reset, and nothing else happens.
    """

    def check(self, fields: Any, body: list[bytes] | None = None, trailers: Any = None) -> None:
        wire, peer, server, accepted = rawClient()
        peer.request(1, fields, end=body is None and trailers is None)
        for number, piece in enumerate(body or ()):
            last = number == len(body or ()) - 1 and trailers is None
            peer.send(frames.DATA, END_STREAM if last else 0, 1, piece)
        if trailers is not None:
            peer.request(1, trailers)
        peer.request(3)
        wire.settle()
        self.assertEqual(peer.resets[:1], [(1, ErrorCode.PROTOCOL_ERROR)], fields)
        self.assertEqual({stream for stream, _ in peer.resets}, {1})     # h2 resets it again for what follows
        self.assertEqual(accepted[-1].told[-1], ("ended", []))
        self.assertEqual(accepted[-1].stream.streamId, 3)
        self.assertIsNone(peer.goAway)
        if len(accepted) == 2:
            self.assertEqual(accepted[0].told[-1].code, ErrorCode.PROTOCOL_ERROR)
            self.assertFalse(any(told[:1] == ("ended",) for told in accepted[0].told if isinstance(told, tuple)))

    def test_pseudoFieldsAreChecked(self) -> None:
        method, scheme, authority, path = GET
        for fields in (
            [scheme, authority, path],
            [method, authority, path],
            [method, scheme, authority],
            [method, scheme, authority, (b":path", b"")],
            [method, scheme, authority, (b":path", b"a")],
            [method, scheme, authority, (b":path", b"*")],
            [method, scheme, authority, (b":path", b"/a b")],
            [method, scheme, authority, (b":path", b"/a\r\nb")],
            [(b":method", b"GE T"), scheme, authority, path],
            [(b":method", b""), scheme, authority, path],
            [method, (b":scheme", b"ht tp"), authority, path],
            [*GET, method],
            [*GET, (b":status", b"200")],
            [*GET, (b":unknown", b"1")],
            [*GET[:3], (b"a", b"b"), path],
            [(b":method", b"CONNECT"), scheme, authority, path],
            [(b":method", b"CONNECT")],
            [*GET, (b":protocol", b"websocket")],
        ):
            self.check(fields)

    def test_fieldsAreChecked(self) -> None:
        for field in (
            (b"Upper", b"1"), (b"", b"1"), (b"a b", b"1"), (b"a:b", b"1"), (b"\xe9", b"1"), (b"a\x00", b"1"),
            (b"a", b"1\r\nb: 2"), (b"a", b"1\nb"), (b"a", b"1\rb"), (b"a", b"\x00"), (b"a", b" 1"), (b"a", b"1\t"),
            (b"connection", b"close"), (b"keep-alive", b"1"), (b"proxy-connection", b"close"),
            (b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"), (b"te", b"gzip"), (b"te", b"trailers, gzip"),
            (b"content-length", b"-1"), (b"content-length", b"+1"), (b"content-length", b"1,1"), (b"content-length", b""),
            (b"content-length", b"0x1"), (b"content-length", b"1" * 19), (b"content-length", "\u0661".encode()),
        ):
            self.check([*GET, field])

    def test_lengthsMustFit(self) -> None:
        def length(number: int) -> Any:
            return [*POST, (b"content-length", b"%d" % number)]

        self.check(length(1))
        self.check(length(5), [b"1234"])
        self.check(length(5), [b"123", b"456"])
        self.check(length(5), [b"1234"], trailers=[(b"a", b"b")])
        self.check([*length(5), (b"content-length", b"6")], [b"12345"])

    def test_trailersAreChecked(self) -> None:
        self.check(POST, [b"body"], trailers=[(b":path", b"/")])
        self.check(POST, [b"body"], trailers=[(b"Upper", b"1")])
        self.check(POST, [b"body"], trailers=[(b"connection", b"close")])

    def test_aSecondHeadThatEndsNothing(self) -> None:
        wire, peer, _, accepted = rawClient()
        peer.request(1, POST, end=False)
        peer.request(1, [(b"a", b"b")], end=False)
        peer.request(3)
        wire.settle()
        self.assertEqual(peer.resets, [(1, ErrorCode.PROTOCOL_ERROR)])
        self.assertEqual(len(accepted), 2)
        self.assertIsNone(peer.goAway)

    def test_whatIsWellFormedArrives(self) -> None:
        for fields in (
            [(b":path", b"/"), (b":method", b"GET"), (b":scheme", b"http")],
            [(b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")],
            [(b":method", b"CONNECT"), (b":authority", b"example.com:443")],
            [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]],
            [*GET, (b"te", b"trailers"), (b"a", b""), (b"a", b"\xff \t x"), (b"cookie", b"a"), (b"cookie", b"b")],
            [*GET, (b"content-length", b"0"), (b"content-length", b"0")],
        ):
            wire, peer, _, accepted = rawClient()
            peer.request(1, fields)
            wire.settle()
            self.assertEqual(accepted[0].told, [("head", fields, True), ("ended", [])])

    def test_theExtendedCONNECTIsRejectedWhereItIsNotAnnounced(self) -> None:
        wire, peer, _, accepted = rawClient(HTTP2Limits(connect_protocol=False))
        peer.request(1, [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]], end=False)
        wire.settle()
        self.assertEqual(peer.resets, [(1, ErrorCode.PROTOCOL_ERROR)])

    def test_aRequestWithTooManyFieldsIsAnswered(self) -> None:
        wire, peer, server, accepted = rawClient(HTTP2Limits(header_list=8 * KIB))
        peer.request(1, [*GET, *((b"name-%d" % number, b"x" * 100) for number in range(80))], end=False)
        peer.request(3)
        wire.settle()
        (flags, stream, payload), = peer.of(frames.HEADERS)
        self.assertEqual((stream, peer.decoder.decode(payload, raw=True)[0]), (1, (b":status", b"431")))
        self.assertTrue(flags & END_STREAM)
        self.assertEqual(peer.resets, [(1, ErrorCode.NO_ERROR)])
        self.assertEqual([receiver.stream.streamId for receiver in accepted], [3])


class BrokenTests(SynchronousTestCase):
    """
    Octets that end the connection.
    """

    def broken(self, octets: bytes, code: int) -> None:
        wire, peer, server, _ = rawClient()
        peer.request(1, POST, end=False)
        peer.transport.write(octets)
        wire.settle()
        self.assertEqual(peer.goAway, (1, code), octets)
        self.assertIsNotNone(peer.lost)

    def test_framesInTheWrongPlaceOrOfTheWrongSizeAreErrors(self) -> None:
        for octets, code in (
            (frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.DATA, 0, 5, b"x"), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.DATA, frames.PADDED, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.HEADERS, END_HEADERS, 2, b""), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.HEADERS, END_HEADERS, 3, b"\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
            (frame(frames.HEADERS, END_HEADERS, 3, b"\xfe"), ErrorCode.COMPRESSION_ERROR),
            (frame(frames.HEADERS, 0, 3, b"") + frame(frames.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.HEADERS, 0, 3, b"") + frame(frames.CONTINUATION, END_HEADERS, 5, b""), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.CONTINUATION, END_HEADERS, 1, b""), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.RST_STREAM, 0, 3, bytes(4)), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
            (frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
            (frame(frames.SETTINGS, 0, 0, b"\x00\x04\x80\x00\x00\x00"), ErrorCode.FLOW_CONTROL_ERROR),
            (frame(frames.SETTINGS, 0, 0, b"\x00\x05\x00\x00\x00\x01"), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
            (frame(frames.PUSH_PROMISE, END_HEADERS, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR),
            (frame(frames.WINDOW_UPDATE, 0, 3, bytes((0, 0, 0, 1))), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
            (frame(frames.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
            (b"\xff\xff\xff" + frame(frames.DATA, 0, 1)[3:], ErrorCode.FRAME_SIZE_ERROR),
        ):
            self.broken(octets, code)

    def test_mistakesOfOneStreamEndItAlone(self) -> None:
        for octets, code in (
            (frame(frames.WINDOW_UPDATE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR),
            (frame(frames.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
            (frame(frames.PRIORITY, 0, 1, bytes((0, 0, 0, 1, 0))), ErrorCode.PROTOCOL_ERROR),
            (frame(frames.DATA, END_STREAM, 1) + frame(frames.DATA, 0, 1, b"late"), ErrorCode.STREAM_CLOSED),
        ):
            wire, peer, server, accepted = rawClient()
            peer.request(1, POST, end=False)
            peer.transport.write(octets)
            peer.request(3)
            wire.settle()
            self.assertEqual(peer.resets, [(1, code)])
            self.assertEqual(accepted[0].told[-1].code, code)
            self.assertEqual(accepted[1].told, [("head", GET, True), ("ended", [])])

    def test_aMistakeOnAStreamThatIsOverIsReported(self) -> None:
        wire, peer, _, accepted = rawClient()
        peer.request(1)
        wire.settle()
        accepted[0].stream.sendHeaders(OK, endStream=True)
        wire.settle()
        peer.send(frames.PRIORITY, 0, 1, bytes(4))
        wire.settle()
        self.assertEqual((peer.resets, peer.goAway), ([(1, ErrorCode.FRAME_SIZE_ERROR)], None))

    def test_whatIsNotHTTP2IsDropped(self) -> None:
        for octets in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", PREFACE + frame(frames.PING, 0, 0, bytes(8))):
            wire, accepted = Wire(), []
            server = HTTP2Connection(False, clock=wire.clock, accept=accepted.append)
            peer = RawPeer()
            self.patch(peer, "connectionMade", lambda octets=octets, peer=peer: peer.transport.write(octets))
            wire.connect(peer, server)
            wire.settle()
            self.assertIsNotNone(peer.lost, octets)

    def test_eventsBeforeAMistakeAreDelivered(self) -> None:
        wire, peer, server, accepted = rawClient()
        peer.request(1, POST, end=False)
        peer.send(frames.DATA, 0, 1, b"good")
        peer.send(frames.PING, 0, 0, b"bad")
        wire.settle()
        self.assertEqual((accepted[0].body, accepted[0].told[0]), (b"good", ("head", POST, False)))
        self.assertIsInstance(accepted[0].told[-1], HTTP2ConnectionLost)


class DeadlineTests(SynchronousTestCase):
    """
    Peers that do nothing.
    """

    def test_aPeerWithoutSettingsIsDropped(self) -> None:
        wire, peer = Wire(), RawPeer()
        self.patch(peer, "connectionMade", lambda: peer.transport.write(PREFACE[:10]))
        server = HTTP2Connection(False, clock=wire.clock, accept=Remember)
        wire.connect(peer, server)
        wire.settle()
        wire.clock.advance(10.1)
        wire.settle()
        self.assertEqual(peer.goAway, (0, ErrorCode.SETTINGS_TIMEOUT))
        self.assertIsNotNone(peer.lost)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_aPeerThatDoesNotAcknowledgeSettingsIsDropped(self) -> None:
        wire, peer, server, _ = rawClient()
        wire.clock.advance(9.9)
        wire.settle()
        self.assertIsNone(peer.goAway)
        wire.clock.advance(0.2)
        wire.settle()
        self.assertEqual(peer.goAway, (0, ErrorCode.SETTINGS_TIMEOUT))

    def alive(self, limits: HTTP2Limits) -> tuple[Any, Any, Any]:
        wire, peer, server, accepted = rawClient(limits)
        peer.send(frames.SETTINGS, frames.ACK)
        wire.settle()
        return wire, peer, server

    def advance(self, wire: Any, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            wire.clock.advance(0.25)
            wire.settle()

    def test_aPeerThatAnswersNoPingIsDropped(self) -> None:
        wire, peer, server = self.alive(HTTP2Limits(keepalive=30, keepalive_timeout=15, idle_timeout=0))
        self.advance(wire, 30.5)
        self.assertEqual(len(peer.of(frames.PING)), 1)
        self.assertIsNone(peer.lost)
        self.advance(wire, 16)
        self.assertIsNotNone(peer.lost)
        self.assertIn("ping", str(server.lostReason))

    def test_anIdleConnectionIsDrained(self) -> None:
        wire, peer, server = self.alive(HTTP2Limits(keepalive=0, idle_timeout=60))
        self.advance(wire, 50)
        peer.request(1)
        wire.settle()
        self.advance(wire, 100)
        self.assertIsNone(peer.goAway)
        server.transports()[0].sendHeaders(OK, endStream=True)
        wire.settle()
        self.advance(wire, 59)
        self.assertIsNone(peer.goAway)
        self.advance(wire, 1.5)
        self.assertEqual(peer.goAway, (0x7FFFFFFF, 0))
        self.assertIsNone(peer.lost)
        self.advance(wire, 1.5)
        self.assertEqual(peer.goAway, (1, 0))
        self.assertIsNotNone(peer.lost)

    def test_aPeerThatDoesNotCloseIsDropped(self) -> None:
        wire, client, peer = rawServer()
        wire.near.pauseProducing()
        client.drain()
        wire.far.pauseProducing()
        wire.settle()
        wire.clock.advance(10.1)
        wire.settle()
        self.assertTrue(wire.over)


class CostTests(SynchronousTestCase):
    """
    Memory that peers can cause us to hold.
    """

    def test_unknownSettingsAreNotKept(self) -> None:
        wire, peer, server, _ = rawClient(HTTP2Limits(settings=1000))
        tracemalloc.start()
        try:
            for start in range(9, 40_000, 2000):
                payload = b"".join(number.to_bytes(2, "big") + bytes(4) for number in range(start, start + 2000))
                peer.send(frames.SETTINGS, 0, 0, payload)
                wire.settle()
            current, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertIsNone(peer.goAway)
        self.assertLess(current, 64 * KIB)

    def test_theTableOfTheEncoderIsBounded(self) -> None:
        wire, peer, server, accepted = rawClient(HTTP2Limits(idle_timeout=0))
        peer.send(frames.SETTINGS, 0, 0, b"\x00\x01\x7f\xff\xff\xff")
        for number in range(50):
            peer.request(2 * number + 1)
            wire.settle()
            accepted[-1].stream.sendHeaders([*OK, (b"x-%d" % number, b"x" * 1000)], endStream=True)
            wire.settle()
        self.assertLessEqual(server.core._encoder.header_table_size, 4096)

    def test_aFrameIsNotBufferedBeforeItsSizeIsKnown(self) -> None:
        wire, peer, server, _ = rawClient()
        peer.transport.write(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01")
        wire.settle()
        self.assertEqual(peer.goAway, (0, ErrorCode.FRAME_SIZE_ERROR))

    def test_aConnectionWithManyStreamsBehindItStaysSmall(self) -> None:
        wire, peer, server, accepted = rawClient(HTTP2Limits(idle_timeout=0))

        def serve(first: int, count: int) -> None:
            for number in range(first, first + count):
                peer.request(2 * number + 1)
                wire.settle()
                accepted.pop().stream.sendHeaders(OK, endStream=True)
                wire.settle()
                peer.frames.clear()

        serve(0, 1500)
        tracemalloc.start()
        try:
            serve(1500, 1500)
            current, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(current, 300 * KIB)

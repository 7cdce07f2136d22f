"""
HTTP/2 connections over a wire: both roles of ours with each other, at any chunking.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.promises.streams import Producer, Pull
from tests.transport.http2 import GET, OK, POST, Remember, http2Pair, rawClient, rawServer
from tunnelstack.errors import UsageError
from tunnelstack.transport.http2.errors import (
    ConnectionClosing,
    HTTP2ConnectionLost,
    HTTP2StreamReset,
    NoFreeStream,
)
from tunnelstack.wire.http2 import frames
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.limits import HTTP2Limits

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "docs" / "examples" / "http2.py"
KIB = 1024
MIB = 1024 * KIB
WINDOW = 256 * KIB


class Pair(SynchronousTestCase):
    """
    Two connections of ours.
    """

    cut: int | None = None
    limits: HTTP2Limits | None = None
    clientLimits: HTTP2Limits | None = None

    def setUp(self) -> None:
        self.wire, self.client, self.server, self.accepted = http2Pair(
            cut=self.cut, limits=self.limits, clientLimits=self.clientLimits
        )
        self.wire.settle()

    def open(self, fields: Any = GET, endStream: bool = True) -> Any:
        receiver = Remember()
        receiver.stream = self.client.openStream(fields, receiver, endStream)
        return receiver

    def exchange(self, fields: Any = GET, endStream: bool = True) -> tuple[Any, Any]:
        """
        @return: the receivers at the client and at the server.
        """
        near = self.open(fields, endStream)
        self.wire.settle()
        return near, self.accepted[-1]


class ExchangeTests(Pair):
    """
    Requests and responses.
    """

    def test_aStreamIsAConsumerAndAProducer(self) -> None:
        near, far = self.exchange()
        for stream in (near.stream, far.stream):
            verifyObject(IConsumer, stream)
            verifyObject(IPushProducer, stream)

    def test_aRequestAndItsResponseArrive(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        near.stream.write(b"question")
        near.stream.end()
        self.wire.settle()
        far.stream.sendHeaders([*OK, (b"content-type", b"text/plain")])
        far.stream.write(b"answer")
        far.stream.end()
        self.wire.settle()
        self.assertEqual(far.told, [("head", POST, False), "body", ("ended", []), "closed"])
        self.assertEqual(far.body, b"question")
        self.assertEqual(near.told, [("head", [*OK, (b"content-type", b"text/plain")], False), "body", ("ended", []), "closed"])
        self.assertEqual(near.body, b"answer")
        self.assertEqual((self.client.streams, self.server.streams), (0, 0))

    def test_aHeadAloneEndsItsStream(self) -> None:
        near, far = self.exchange()
        far.stream.sendHeaders([(b":status", b"204")], endStream=True)
        self.wire.settle()
        self.assertEqual(far.told, [("head", GET, True), ("ended", []), "closed"])
        self.assertEqual(near.told, [("head", [(b":status", b"204")], True), ("ended", []), "closed"])

    def test_trailersFollowTheBody(self) -> None:
        near, far = self.exchange()
        far.stream.sendHeaders(OK)
        far.stream.write(b"body")
        far.stream.end([(b"grpc-status", b"0")])
        self.wire.settle()
        self.assertEqual(near.told, [("head", OK, False), "body", ("ended", [(b"grpc-status", b"0")]), "closed"])

    def test_trailersMayFollowTheHead(self) -> None:
        near, far = self.exchange()
        far.stream.sendHeaders(OK)
        far.stream.end([(b"grpc-status", b"12")])
        self.wire.settle()
        self.assertEqual(near.told, [("head", OK, False), ("ended", [(b"grpc-status", b"12")]), "closed"])

    def test_interimHeadsComeFirst(self) -> None:
        near, far = self.exchange()
        far.stream.sendInformational([(b":status", b"103"), (b"link", b"</a>")])
        far.stream.sendHeaders(OK, endStream=True)
        self.wire.settle()
        hints = [(b":status", b"103"), (b"link", b"</a>")]
        self.assertEqual(near.told, [("informational", hints), ("head", OK, True), ("ended", []), "closed"])
        self.assertRaises(UsageError, far.stream.sendInformational, [(b":status", b"103")])

    def test_bothDirectionsFlowAtOnce(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        far.stream.sendHeaders(OK)
        for _ in range(3):
            near.stream.write(b"ping")
            far.stream.write(b"pong")
            self.wire.settle()
        self.assertEqual((near.body, far.body), (3 * b"pong", 3 * b"ping"))

    def test_manyStreamsShareAConnection(self) -> None:
        receivers = [self.open() for _ in range(100)]
        self.wire.settle()
        for number, far in enumerate(self.accepted):
            far.stream.sendHeaders(OK)
            far.stream.write(b"%d" % number * 1000)
            far.stream.end()
        self.wire.settle()
        self.assertEqual([near.body for near in receivers], [b"%d" % number * 1000 for number in range(100)])

    def test_largeBodiesArriveWhole(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        body = bytes(range(256)) * (3 * MIB // 256)
        near.stream.write(body)
        near.stream.end()
        far.stream.sendHeaders(OK)
        far.stream.write(body)
        far.stream.end()
        self.wire.settle()
        self.assertTrue(near.body == far.body == body)
        self.assertEqual((self.client.held, self.server.held), (0, 0))

    def test_everythingOfATurnLeavesInOneWrite(self) -> None:
        writes: list[bytes] = []
        real = self.wire.near.write
        self.patch(self.wire.near, "write", lambda octets: (writes.append(octets), real(octets)))
        self.client.scheduler._write = self.wire.near.write
        for _ in range(10):
            self.open(POST, endStream=False).stream.write(b"body")
        self.wire.clock.advance(0)
        self.assertEqual(len(writes), 1)

    def test_theEndTravelsWithTheLastOctets(self) -> None:
        wire, peer, _, accepted = rawClient()
        peer.request(1)
        wire.settle()
        accepted[0].stream.sendHeaders(OK)
        accepted[0].stream.write(b"body")
        accepted[0].stream.end()
        wire.settle()
        self.assertEqual([(flags, payload) for flags, _, payload in peer.of(frames.DATA)], [(frames.END_STREAM, b"body")])

    def test_usageIsChecked(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        self.assertRaises(UsageError, near.stream.sendHeaders, GET)
        self.assertRaises(UsageError, far.stream.write, b"body before the head")
        self.assertRaises(UsageError, far.stream.end)
        self.assertRaises(UsageError, self.server.openStream, GET, Remember())

    def test_writesAfterTheEndVanish(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        near.stream.end()
        near.stream.write(b"late")
        near.stream.end([(b"late", b"too")])
        self.wire.settle()
        self.assertEqual(far.told, [("head", POST, False), ("ended", [])])


class CutExchangeTests(ExchangeTests):
    """
    The same, cut anywhere.
    """

    cut = 7

    def test_largeBodiesArriveWhole(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        near.stream.write(b"x" * 70_000)
        self.wire.settle()
        self.assertEqual(far.body, b"x" * 70_000)


class EndTests(Pair):
    """
    Resets, failures, and the end of a connection.
    """

    def test_aResetReachesTheOtherSide(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        near.stream.reset(ErrorCode.CANCEL)
        self.wire.settle()
        self.assertEqual(near.told, [])
        self.assertIsInstance(far.told[-1], HTTP2StreamReset)
        self.assertEqual((far.told[-1].code, far.told[-1].byPeer, far.told[-1].unprocessed), (ErrorCode.CANCEL, True, False))
        self.assertEqual((self.client.streams, self.server.streams), (0, 0))

    def test_aRefusedStreamMayBeTriedAgain(self) -> None:
        self.accepted.kind = lambda stream: None
        near = self.open()
        self.wire.settle()
        self.assertEqual((near.told[-1].code, near.told[-1].unprocessed), (ErrorCode.REFUSED_STREAM, True))

    def test_aStreamThatNobodySentIsResetWithoutAWord(self) -> None:
        near = self.open()
        near.stream.reset()
        self.wire.settle()
        self.assertEqual((len(self.accepted), self.client.streams), (0, 0))

    def test_aResetOfAnAnsweredRequestIsReportedWhileTheAnswerIsSent(self) -> None:
        near, far = self.exchange()
        far.stream.sendHeaders(OK)
        self.wire.settle()
        near.stream.reset()
        self.wire.settle()
        self.assertEqual(far.told[1], ("ended", []))
        self.assertIsInstance(far.told[-1], HTTP2StreamReset)

    def test_anExceptionOfAReceiverResetsItsStreamAlone(self) -> None:
        class Broken(Remember):
            def dataReceived(self, octets: bytes) -> None:
                raise RuntimeError("no more")

        self.accepted.kind = Broken
        near, far = self.exchange(POST, endStream=False)
        self.accepted.kind = Remember
        other, otherFar = self.exchange(POST, endStream=False)
        near.stream.write(b"octets")
        other.stream.write(b"octets")
        self.wire.settle()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(near.told[-1].code, ErrorCode.INTERNAL_ERROR)
        self.assertIsInstance(far.told[-1], HTTP2StreamReset)
        self.assertEqual(otherFar.body, b"octets")

    def test_anExceptionOfAcceptRefusesItsStreamAlone(self) -> None:
        self.accepted.kind = lambda stream: 1 // 0
        near = self.open()
        self.wire.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(near.told[-1].code, ErrorCode.INTERNAL_ERROR)
        self.assertIsNone(self.client.lostReason)

    def test_streamsAreLostWithTheirConnection(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        lost = self.client.whenLost()
        self.wire.drop()
        self.wire.settle()
        for receiver in (near, far):
            self.assertIsInstance(receiver.told[-1], HTTP2ConnectionLost)
        self.assertIsInstance(self.successResultOf(lost), HTTP2ConnectionLost)
        self.assertRaises(ConnectionClosing, self.client.openStream, GET, Remember())
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_anAnsweredRequestIsReadNoMore(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        far.stream.stopReading()
        far.stream.sendHeaders([(b":status", b"413")], endStream=True)
        self.wire.settle()
        self.assertEqual(near.told, [("head", [(b":status", b"413")], True), ("ended", []), "closed"])
        self.assertEqual(far.told, [("head", POST, False), "closed"])
        near.stream.write(b"more")
        self.wire.settle()
        self.assertIsNone(self.client.lostReason)

    def test_whatIsNotReadIsCredited(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        far.stream.stopReading()
        near.stream.write(b"x" * 3 * WINDOW)
        self.wire.settle()
        self.assertEqual((near.stream.queued, far.body, self.server.held), (0, b"", 0))

    def test_pingMeasuresTheRoundTrip(self) -> None:
        answer = self.client.ping()
        self.wire.clock.advance(0.25)
        self.wire.settle()
        self.assertEqual(self.successResultOf(answer), 0.25)

    def test_aPingFailsWithItsConnection(self) -> None:
        answer = self.client.ping()
        self.wire.drop()
        self.failureResultOf(answer, HTTP2ConnectionLost)
        self.failureResultOf(self.client.ping(), HTTP2ConnectionLost)

    def test_drainLetsStreamsEnd(self) -> None:
        near, far = self.exchange()
        drained = self.server.drain()
        late = self.open()                    # the client does not know yet
        self.wire.settle()
        self.assertNoResult(drained)
        self.assertTrue(self.client.isGoingAway and self.server.isGoingAway)
        self.assertRaises(ConnectionClosing, self.client.openStream, GET, Remember())
        for receiver in self.accepted:
            receiver.stream.sendHeaders(OK, endStream=True)
        self.wire.settle()
        self.assertIsNone(self.successResultOf(drained))
        for receiver in (near, late):
            self.assertEqual(receiver.told[-1], "closed")

    def test_drainOfAClientLetsStreamsEnd(self) -> None:
        near, far = self.exchange()
        drained = self.client.drain()
        self.wire.settle()
        self.assertNoResult(drained)
        far.stream.sendHeaders(OK, endStream=True)
        self.wire.settle()
        self.assertIsNone(self.successResultOf(drained))
        self.assertEqual(near.told[-1], "closed")

    def test_goAwayRefusesStreamsOnTheirWay(self) -> None:
        near, _ = self.exchange()
        self.server.goAway()
        late = self.open()
        self.wire.settle()
        self.assertTrue(late.told[-1].unprocessed)
        self.assertEqual(near.told, [])
        self.accepted[0].stream.sendHeaders(OK, endStream=True)
        self.wire.settle()
        self.assertEqual(near.told[-1], "closed")
        self.assertTrue(self.wire.over)

    def test_abortDropsTheConnection(self) -> None:
        near, _ = self.exchange()
        self.client.abort()
        self.wire.settle()
        self.assertIsInstance(near.told[-1], HTTP2ConnectionLost)
        self.assertTrue(self.wire.over)


class PressureTests(Pair):
    """
    Credit and pauses.
    """

    def test_aPausedReceiverHoldsOneWindow(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        far.stream.pauseProducing()
        near.stream.write(b"x" * MIB)
        self.wire.settle()
        self.assertEqual((far.body, self.server.held, near.stream.queued), (b"", WINDOW, MIB - WINDOW))
        far.stream.resumeProducing()
        self.wire.settle()
        self.assertEqual((len(far.body), self.server.held, near.stream.queued), (MIB, 0, 0))

    def test_aPausedStreamDoesNotHoldItsNeighbours(self) -> None:
        pairs = [self.exchange(POST, endStream=False) for _ in range(40)]
        for near, far in pairs[:-1]:
            far.stream.pauseProducing()
            near.stream.write(b"x" * WINDOW * 2)
        self.wire.settle()
        near, far = pairs[-1]
        near.stream.write(b"x" * 2 * MIB)
        self.wire.settle()
        # what is held for the others is more than held_octets, so that only the rest of the connection's window is left
        self.assertLessEqual(self.server.held, 16 * MIB)
        for _, paused in pairs[:-1]:
            paused.stream.reset()
        self.wire.settle()
        self.assertEqual(len(far.body), 2 * MIB)

    def test_everythingIsHeldInOrder(self) -> None:
        near, far = self.exchange()
        near.stream.pauseProducing()
        far.stream.sendInformational([(b":status", b"103")])
        far.stream.sendHeaders(OK)
        far.stream.write(b"body")
        far.stream.end([(b"trailer", b"1")])
        self.wire.settle()
        self.assertEqual(near.told, [])
        near.stream.resumeProducing()
        self.assertEqual(near.told, [])       # on a later turn
        self.wire.settle()
        self.assertEqual(
            near.told,
            [("informational", [(b":status", b"103")]), ("head", OK, False), "body", ("ended", [(b"trailer", b"1")]), "closed"],
        )

    def test_pausesTakeEffectBetweenCalls(self) -> None:
        class Pausing(Remember):
            def headersReceived(self, fields: Any, ended: bool) -> None:
                super().headersReceived(fields, ended)
                self.stream.pauseProducing()

        self.accepted.kind = Pausing
        near, far = self.exchange(POST, endStream=False)
        near.stream.write(b"body")
        near.stream.end()
        self.wire.settle()
        self.assertEqual(far.told, [("head", POST, False)])
        far.stream.resumeProducing()
        self.wire.settle()
        self.assertEqual(far.told[1:], ["body", ("ended", [])])

    def test_aFailureDoesNotWait(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        far.stream.pauseProducing()
        near.stream.write(b"body")
        self.wire.settle()
        near.stream.reset()
        self.wire.settle()
        self.assertEqual(far.told[0], ("head", POST, False))
        self.assertIsInstance(far.told[1], HTTP2StreamReset)
        self.assertEqual((self.server.held, self.server.scheduler.paused), (0, 0))

    def test_aProducerIsPausedByCredit(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        far.stream.pauseProducing()
        producer = Producer()
        near.stream.registerProducer(producer, True)
        near.stream.write(b"x" * 2 * WINDOW)
        self.wire.settle()
        self.assertEqual(producer.asked, ["pause"])
        far.stream.resumeProducing()
        self.wire.settle()
        self.assertEqual(producer.asked, ["pause", "resume"])
        near.stream.unregisterProducer()
        near.stream.end()
        self.wire.settle()
        self.assertEqual(far.told[-1], ("ended", []))

    def test_aProducerIsStoppedWithItsStream(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        producer = Producer()
        near.stream.registerProducer(producer, True)
        far.stream.reset()
        self.wire.settle()
        self.assertEqual(producer.asked, ["stop"])
        late = Producer()
        near.stream.registerProducer(late, True)
        self.assertEqual(late.asked, ["stop"])

    def test_aPeerThatReadsNothingCostsItsWindows(self) -> None:
        receivers = [self.open() for _ in range(100)]
        self.wire.settle()
        for near in receivers:
            near.stream.pauseProducing()
        producers = []
        for far in self.accepted:
            far.stream.sendHeaders(OK)
            producers.append(Producer())
            far.stream.registerProducer(producers[-1], True)
            while producers[-1].asked[-1:] != ["pause"] and far.stream.queued < 10 * MIB:
                far.stream.write(b"x" * 16 * KIB)
        self.wire.settle()
        self.assertEqual({producer.asked[0] for producer in producers}, {"pause"})
        self.assertLessEqual(self.client.held, 16 * MIB)
        self.assertLessEqual(sum(far.stream.queued for far in self.accepted), 100 * 160 * KIB)
        other, far = None, None
        for near in receivers[1:]:
            near.stream.reset()
        self.wire.settle()
        other, far = self.exchange()
        far.stream.sendHeaders(OK, endStream=True)
        self.wire.settle()
        self.assertEqual(other.told[-1], "closed")

    def test_streamsShareTheWindowOfTheConnection(self) -> None:
        wire, peer, _, accepted = rawClient()
        peer.send(frames.SETTINGS, 0, 0, b"\x00\x04\x00\x10\x00\x00")
        for number in range(8):
            peer.request(2 * number + 1)
        wire.settle()
        for far in accepted:
            far.stream.sendHeaders(OK)
            far.stream.write(b"x" * 200 * KIB)
        wire.settle()
        for _ in range(16):
            peer.send(frames.WINDOW_UPDATE, 0, 0, (16 * KIB).to_bytes(4, "big"))
            wire.settle()
        got = [200 * KIB - far.stream.queued for far in accepted]
        self.assertEqual(sum(got), 65535 + 16 * 16 * KIB)
        self.assertLessEqual(max(got) - min(got), 32 * KIB)

    def test_aPullProducerIsAskedAsItsOctetsAreSent(self) -> None:
        near, far = self.exchange(POST, endStream=False)
        pull = Pull(near.stream, [b"one", b"two", b"three"])
        near.stream.registerProducer(pull, False)
        self.wire.settle()
        near.stream.end()
        self.wire.settle()
        self.assertEqual((far.body, pull.asked), (b"onetwothree", 4 * ["resume"]))

    def test_headsThatFillABatchDoNotStopTheirBodies(self) -> None:
        pairs = [self.exchange() for _ in range(100)]
        for number, (_, far) in enumerate(pairs):
            far.stream.sendHeaders([*OK, (b"x-%d" % number, bytes(1500 + number).replace(b"\0", b"x"))])
            far.stream.write(b"x" * 40 * KIB)
            far.stream.end()
        self.wire.settle()
        self.assertEqual({(len(near.body), near.told[-1]) for near, _ in pairs}, {(40 * KIB, "closed")})

    def test_streamsTakeTurns(self) -> None:
        pairs = [self.exchange() for _ in range(4)]
        for _, far in pairs:
            far.stream.sendHeaders(OK)
            far.stream.write(b"x" * WINDOW)
        self.wire.turn()
        self.wire.turn()
        got = [len(near.body) for near, _ in pairs]
        self.assertLessEqual(max(got) - min(got), 16 * KIB)


class SlotTests(Pair):
    """
    How many streams may be open.
    """

    limits = HTTP2Limits(streams=3)

    def test_thePeersLimitHolds(self) -> None:
        changes: list[int] = []
        self.client.onSlotsChanged = lambda: changes.append(self.client.openSlots)
        receivers = [self.open() for _ in range(3)]
        self.assertEqual(self.client.openSlots, 0)
        self.assertRaises(NoFreeStream, self.client.openStream, GET, Remember())
        self.wire.settle()
        self.assertEqual(changes, [])
        self.accepted[0].stream.sendHeaders(OK, endStream=True)
        self.wire.settle()
        self.assertEqual(set(changes), {1})
        self.assertEqual(receivers[0].told[-1], "closed")
        self.open()

    def test_slotsEndWithTheConnection(self) -> None:
        changes: list[int] = []
        self.client.onSlotsChanged = lambda: changes.append(self.client.openSlots)
        self.wire.drop()
        self.assertEqual((changes[-1], self.client.openSlots), (0, 0))

    def test_streamsBeyondTheLimitAreRefusedAlone(self) -> None:
        wire, peer, server, accepted = rawClient(HTTP2Limits(streams=3))
        for number in range(5):
            peer.request(2 * number + 1, POST, end=False)
        wire.settle()
        self.assertEqual(peer.resets, [(7, ErrorCode.REFUSED_STREAM), (9, ErrorCode.REFUSED_STREAM)])
        self.assertEqual(len(accepted), 3)
        self.assertIsNone(peer.goAway)

    def test_aClientWaitsForNoSettings(self) -> None:
        wire, client, server, accepted = http2Pair()
        receiver = Remember()
        client.openStream(GET, receiver, True)
        self.assertEqual(client.openSlots, 99)
        wire.settle()
        self.assertEqual(len(accepted), 1)
        self.successResultOf(client.whenUp())


class ClientTests(SynchronousTestCase):
    """
    A client of ours and a server that sends raw frames.
    """

    def test_pushIsRejected(self) -> None:
        wire, client, peer = rawServer()
        client.openStream(GET, Remember(), True)
        wire.settle()
        promise = (2).to_bytes(4, "big") + peer.encoder.encode(GET)
        peer.send(frames.PUSH_PROMISE, frames.END_HEADERS, 1, promise)
        wire.settle()
        self.assertEqual(peer.goAway, (0, ErrorCode.PROTOCOL_ERROR))

    def test_goAwayInTwoStepsKeepsTheStreamsBelow(self) -> None:
        wire, client, peer = rawServer()
        receivers = [Remember() for _ in range(3)]
        for receiver in receivers:
            client.openStream(GET, receiver, True)
        wire.settle()
        peer.transport.write(frames.pack_go_away(0x7FFFFFFF, 0))
        peer.send(frames.PING, 0, 0, bytes(8))
        wire.settle()
        self.assertEqual([receiver.told for receiver in receivers], [[], [], []])
        self.assertEqual(len(peer.of(frames.PING)), 1)
        peer.transport.write(frames.pack_go_away(3, 0))
        peer.send(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, peer.encoder.encode(OK))
        peer.send(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, peer.encoder.encode(OK))
        wire.settle()
        self.assertEqual([receiver.told[-1] for receiver in receivers[:2]], ["closed", "closed"])
        self.assertTrue(receivers[2].told[-1].unprocessed)
        self.assertEqual(peer.resets, [])

    def test_aResponseThatDoesNotFitItsLengthFailsItsStream(self) -> None:
        for body, length in ((b"12345", b"4"), (b"12345", b"6")):
            wire, client, peer = rawServer()
            receiver, other = Remember(), Remember()
            client.openStream(GET, receiver, True)
            client.openStream(GET, other, True)
            wire.settle()
            peer.send(frames.HEADERS, frames.END_HEADERS, 1, peer.encoder.encode([*OK, (b"content-length", length)]))
            peer.send(frames.DATA, frames.END_STREAM, 1, body)
            peer.send(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, peer.encoder.encode(OK))
            wire.settle()
            self.assertEqual(receiver.told[-1].code, ErrorCode.PROTOCOL_ERROR)
            self.assertEqual(other.told[-1], "closed")

    def test_interimResponsesToAStreamThatWasResetHarmNobody(self) -> None:
        wire, client, peer = rawServer()
        receiver, other = Remember(), Remember()
        stream = client.openStream(GET, receiver, True)
        client.openStream(GET, other, True)
        wire.settle()
        stream.reset()
        for stream_id in (1, 3):
            peer.send(frames.HEADERS, frames.END_HEADERS, stream_id, peer.encoder.encode([(b":status", b"103")]))
        peer.send(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, peer.encoder.encode(OK))
        wire.settle()
        self.assertEqual([told[0] for told in other.told[:2]], ["informational", "head"])
        self.assertIsNone(peer.goAway)

    def test_anInterimResponseAfterTheFinalOneFailsItsStream(self) -> None:
        wire, client, peer = rawServer()
        receiver = Remember()
        client.openStream(GET, receiver, True)
        wire.settle()
        for status in (b"200", b"103"):
            peer.send(frames.HEADERS, frames.END_HEADERS, 1, peer.encoder.encode([(b":status", status)]))
        wire.settle()
        self.assertEqual(receiver.told[-1].code, ErrorCode.PROTOCOL_ERROR)
        self.assertIsNone(peer.goAway)

    def test_aResponseToHEADMayAnnounceALength(self) -> None:
        wire, client, peer = rawServer()
        receiver = Remember()
        client.openStream([(b":method", b"HEAD"), *GET[1:]], receiver, True)
        wire.settle()
        fields = [*OK, (b"content-length", b"100")]
        peer.send(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, peer.encoder.encode(fields))
        wire.settle()
        self.assertEqual(receiver.told, [("head", fields, True), ("ended", []), "closed"])

    def test_theExtendedCONNECTIsAnnounced(self) -> None:
        _, client, _, _ = pair = http2Pair()
        pair[0].settle()
        self.assertTrue(client.peerAllowsConnectProtocol)
        wire, client, _ = rawServer()
        self.assertFalse(client.peerAllowsConnectProtocol)


class ImportTests(SynchronousTestCase):
    """
    What programs load.
    """

    def test_programsThatDoNotUseHTTP2DoNotLoadIt(self) -> None:
        program = (
            "import sys, tunnelstack.agent.service, tunnelstack.commands.scripts, tunnelstack.edge.service\n"
            "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'h2', 'hpack', 'hyperframe'}))"
        )
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        self.assertEqual((ran.stdout, ran.returncode), ("\n", 0), ran.stderr)


class ExampleTests(SynchronousTestCase):
    """
    The program of C{docs/howto/use-http2.md}.
    """

    def test_theExampleRuns(self) -> None:
        ran = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=60)
        lines = [f"200 {word} [(b'shouted-octets', b'5')]\n" for word in ("HELLO", "WORLD")]
        self.assertEqual((ran.stdout, ran.returncode), ("".join(lines), 0), ran.stderr)

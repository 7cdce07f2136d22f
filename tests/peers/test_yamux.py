"""
Our sessions with the genuine hashicorp/yamux, in both roles, over TCP and over WebSocket, whoever dials.

It takes longer than most tests here: real sockets, the timers of another program, and 64 MiB in each direction for each of
the four (1 GiB with C{TUNNELSTACK_SOAK=1}).
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.trial.unittest import TestCase

from tests.peers._go import GoError, GoPeerGone
from tests.peers._ours import BULK, KIB, MIB, Collect, Echo, MeetsGo, Paused, Pump, Upper, Watched, pause
from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.stream.errors import SessionLost, StreamResetError
from tunnelstack.wire.yamux.limits import SessionLimits

WINDOW = 256 * KIB
IN_FLIGHT = MIB  # octets: a window, the queue of a stream and of a carrier, one block; generously


class Curt(Watched):
    """
    Answers and closes at the first octet, whatever else is on its way.
    """

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"enough")
        self.transport.loseConnection()


class YamuxWithGo(MeetsGo):
    """
    What holds between a genuine yamux and ours, whatever carries it.
    """

    # Echo and half-close

    @inlineCallbacks
    def test_yamuxStreamOfOursIsEchoed(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", raw="echo")
        stream = yield self.connect(Collect(b"hello"))
        yield stream.whenCount(5)
        self.assertEqual(stream.octets, b"hello")
        stream.transport.loseWriteConnection()
        reason = yield stream.whenLost()
        self.assertIsInstance(reason.error, ConnectionDone)
        self.assertTrue(stream.readEnded and stream.writeEnded)
        handled = (yield self.ask("handled", count=1))["handled"]
        self.assertEqual((handled[0]["in"], handled[0]["out"], handled[0]["end"]), (5, 5, ""))
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxStreamOfGoIsEchoed(self: Any) -> Any:
        yield self.meet()
        yield self.listen(Echo())
        opened = (yield self.ask("open"))["stream"]
        yield self.peer.call("write", stream=opened, data=b"hello")
        echoed = yield self.peer.call("read", stream=opened, count=5)
        self.assertEqual(echoed["data"], b"hello")
        yield self.peer.call("close", stream=opened)
        rest = yield self.peer.call("read", stream=opened)
        self.assertEqual((rest["data"], rest["end"]), (b"", "EOF"))
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxGoAnswersAfterOurEnd(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", raw="upper")
        stream = yield self.connect(Collect(b"question " * 5000))
        stream.transport.loseWriteConnection()
        yield stream.whenLost()
        self.assertEqual(stream.octets, b"QUESTION " * 5000)
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxWeAnswerAfterGoesEnd(self: Any) -> Any:
        yield self.meet()
        yield self.listen(Upper())
        opened = (yield self.ask("open"))["stream"]
        yield self.peer.call("write", stream=opened, data=b"question " * 5000)
        yield self.peer.call("close", stream=opened)
        answer = yield self.peer.call("read", stream=opened)
        self.assertEqual((answer["data"], answer["end"]), (b"QUESTION " * 5000, "EOF"))
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxEndBeforeAnythingElseIsAnEmptyStream(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", raw="sink")
        stream = yield self.connect(Collect())
        stream.transport.loseWriteConnection()
        yield stream.whenLost()
        self.assertTrue(stream.octets.startswith(b"0 "))
        yield self.listen(Echo())
        opened = (yield self.ask("open"))["stream"]
        yield self.peer.call("close", stream=opened)
        rest = yield self.peer.call("read", stream=opened)
        self.assertEqual((rest["data"], rest["end"]), (b"", "EOF"))
        yield self.isContent()

    # Many streams

    @inlineCallbacks
    def test_yamuxThousandStreamsOfGo(self: Any) -> Any:
        yield self.meet()
        yield self.listen(*[Echo() for _ in range(1000)])
        report = yield self.ask("drive", streams=1000, octets=3000, together=True, timeout=60)
        self.assertEqual((report["good"], report["errors"], report["most"]), (1000, {}, 1000))
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxThousandStreamsOfOursArrive(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", raw="echo")
        blocks = [os.urandom(3000) for _ in range(1000)]
        streams = yield gatherResults([self.connect(Collect(block)) for block in blocks])
        yield gatherResults([stream.whenCount(3000) for stream in streams])
        self.assertEqual([bytes(stream.octets) for stream in streams], blocks)
        self.assertEqual(self.session.streams, 1000)
        for stream in streams:
            stream.transport.loseWriteConnection()
        yield gatherResults([stream.whenLost() for stream in streams])
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxBothSidesOpenAtOnce(self: Any) -> Any:
        yield self.meet()
        yield self.listen(*[Echo() for _ in range(200)])
        yield self.ask("serve", raw="echo")
        theirs = self.ask("drive", streams=200, octets=40_000, timeout=60)
        block = os.urandom(300 * KIB)
        streams = yield gatherResults([self.connect(Collect(block)) for _ in range(30)])
        for stream in streams:
            stream.transport.loseWriteConnection()
        yield gatherResults([stream.whenLost() for stream in streams])
        report = yield theirs
        self.assertEqual((report["good"], report["errors"]), (200, {}))
        self.assertEqual({bytes(stream.octets) for stream in streams}, {block})
        yield self.isContent()

    # Flow control

    @inlineCallbacks
    def test_yamuxSlowGoReaderPausesOneProducer(self: Any) -> Any:
        yield self.meet()
        pump = yield self.connect(Pump(8 * MIB))
        slow = (yield self.ask("accept"))["stream"]
        neighbour = yield self.connect(Collect())
        beside = (yield self.ask("accept"))["stream"]
        for _ in range(10):
            neighbour.transport.write(b"question")
            yield self.peer.call("read", stream=beside, count=8)
            yield self.peer.call("write", stream=beside, data=b"answer")
        yield neighbour.whenCount(60)
        self.assertTrue(pump.paused)
        self.assertLess(pump.sent, IN_FLIGHT)
        got = yield self.peer.call("receive", stream=slow, block=8 * KIB, pause=0.0001)
        self.assertEqual((got["octets"], got["sha256"]), (8 * MIB, pump.sentSum.hexdigest()))
        yield self.peer.call("close", stream=slow)
        yield pump.whenLost()
        neighbour.transport.loseConnection()
        yield self.peer.call("close", stream=beside)

    @inlineCallbacks
    def test_yamuxPausedApplicationHoldsOneWindowOfGoes(self: Any) -> Any:
        yield self.meet()
        held, neighbour = Paused(), Echo()
        yield self.listen(held, neighbour)
        bulk = (yield self.ask("open"))["stream"]
        sending = self.peer.call("send", stream=bulk, octets=8 * MIB)
        beside = (yield self.ask("open"))["stream"]
        for _ in range(10):
            yield self.peer.call("write", stream=beside, data=b"question")
            yield self.peer.call("read", stream=beside, count=8)
        self.assertEqual(held.count, 0)
        self.assertLessEqual(self.session.octetsIn, WINDOW + 80)
        held.transport.resumeProducing()
        sent = yield sending
        yield self.peer.call("close", stream=bulk)
        yield held.whenReadEnded()
        self.assertEqual((held.count, held.sum.hexdigest()), (8 * MIB, sent["sha256"]))
        held.transport.loseConnection()

    @inlineCallbacks
    def test_yamuxLargerWindowOfGoIsUsed(self: Any) -> Any:
        yield self.meet(window=2 * MIB)
        pump = yield self.connect(Pump(8 * MIB))
        slow = (yield self.ask("accept"))["stream"]
        yield pump.until(lambda: pump.paused)
        yield self.session.ping()
        yield self.session.ping()
        self.assertGreater(self.session.octetsOut, WINDOW)
        got = yield self.peer.call("receive", stream=slow)
        self.assertEqual(got["sha256"], pump.sentSum.hexdigest())

    # Bulk

    @inlineCallbacks
    def test_yamuxBulkOfOursArrivesWhole(self: Any) -> Any:
        yield self.meet()
        pump = yield self.connect(Pump(BULK))
        stream = (yield self.ask("accept"))["stream"]
        got = yield self.peer.call("receive", stream=stream, timeout=self.timeout)
        self.assertEqual((got["octets"], got["sha256"]), (BULK, pump.sentSum.hexdigest()))
        yield self.peer.call("close", stream=stream)
        yield pump.whenLost()
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxBulkOfGoArrivesWhole(self: Any) -> Any:
        yield self.meet()
        sink = Watched()
        yield self.listen(sink)
        stream = (yield self.ask("open"))["stream"]
        sent = yield self.peer.call("send", stream=stream, octets=BULK, timeout=self.timeout)
        yield self.peer.call("close", stream=stream)
        yield sink.whenReadEnded()
        self.assertEqual((sink.count, sink.sum.hexdigest()), (BULK, sent["sha256"]))
        sink.transport.loseConnection()
        rest = yield self.peer.call("read", stream=stream)
        self.assertEqual((rest["data"], rest["end"]), (b"", "EOF"))
        yield self.isContent()

    # Backlog and resets

    @inlineCallbacks
    def test_yamuxBacklogOfGoOverflows(self: Any) -> Any:
        yield self.meet(backlog=16)
        streams = yield gatherResults([self.connect(Collect(b"mine")) for _ in range(40)])
        reset = streams[16:]
        reasons = yield gatherResults([stream.whenLost() for stream in reset])
        self.assertEqual({type(reason.error) for reason in reasons}, {StreamResetError})
        for stream in streams[:16]:
            taken = (yield self.ask("accept"))["stream"]
            yield self.peer.call("read", stream=taken, count=4)
            yield self.peer.call("write", stream=taken, data=b"here")
            yield stream.whenCount(4)
            stream.transport.loseConnection()
            yield self.peer.call("close", stream=taken)

    @inlineCallbacks
    def test_yamuxBacklogOfOursOverflows(self: Any) -> Any:
        yield self.meet(limits=SessionLimits(backlog=16), backlog=100)
        opened = []
        for _ in range(20):
            opened.append((yield self.ask("open"))["stream"])
        for late in opened[16:]:
            ended = yield self.peer.call("read", stream=late)
            self.assertEqual(ended["end"], "ConnectionReset")
        self.assertEqual(self.session.streams, 16)
        yield self.listen(*[Echo() for _ in range(16)])
        for stream in opened[:16]:
            yield self.peer.call("write", stream=stream, data=b"late")
            echoed = yield self.peer.call("read", stream=stream, count=4)
            self.assertEqual(echoed["data"], b"late")

    @inlineCallbacks
    def test_yamuxResetOfOursReachesGo(self: Any) -> Any:
        yield self.meet()
        stream = yield self.connect(Collect(b"and no further"))
        taken = (yield self.ask("accept"))["stream"]
        yield self.peer.call("read", stream=taken, count=3)
        stream.transport.abortConnection()
        reason = yield stream.whenLost()
        self.assertIsInstance(reason.error, ConnectionAborted)
        ended = yield self.peer.call("read", stream=taken)
        self.assertEqual(ended["end"], "ConnectionReset")
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxResetOfGoReachesUs(self: Any) -> Any:
        yield self.meet(close_timeout=0.2)
        stays = Watched()
        yield self.listen(stays)
        opened = (yield self.ask("open"))["stream"]
        yield self.peer.call("close", stream=opened)
        yield stays.whenReadEnded()
        self.assertIsNone(stays.reason)
        reason = yield stays.whenLost()
        self.assertIsInstance(reason.error, StreamResetError)
        yield self.session.ping()

    @inlineCallbacks
    def test_yamuxCloseWhileGoStillSendsLosesNothingOfOurs(self: Any) -> Any:
        yield self.meet()
        yield self.listen(Curt())
        opened = (yield self.ask("open"))["stream"]
        yield self.peer.call("send", stream=opened, octets=600 * KIB)
        answer = yield self.peer.call("read", stream=opened)
        self.assertEqual((answer["data"], answer["end"]), (b"enough", "EOF"))
        yield self.peer.call("close", stream=opened)
        yield self.session.ping()
        yield self.isContent()

    # Life signs

    @inlineCallbacks
    def test_yamuxPingsAreAnsweredBothWays(self: Any) -> Any:
        yield self.meet()
        trips = yield gatherResults([self.session.ping() for _ in range(20)])
        self.assertTrue(all(0 <= seconds < 5 for seconds in trips))
        for _ in range(5):
            yield self.ask("ping")
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxKeepaliveOfGoIsAnsweredBesideBulk(self: Any) -> Any:
        yield self.meet(keepalive=0.05, write_timeout=3)
        sink = Watched()
        yield self.listen(sink)
        pump = yield self.connect(Pump(16 * MIB))
        taken = (yield self.ask("accept"))["stream"]
        opened = (yield self.ask("open"))["stream"]
        yield gatherResults([
            self.peer.call("receive", stream=taken, block=16 * KIB, pause=0.0005),
            self.peer.call("send", stream=opened, octets=16 * MIB),
        ])
        self.assertEqual(pump.sent, 16 * MIB)
        stats = yield self.ask("stats")
        self.assertEqual((stats["log"], stats["closed"]), ([], False))

    @inlineCallbacks
    def test_yamuxKeepaliveOfOursIsAnswered(self: Any) -> Any:
        yield self.meet(limits=SessionLimits(keepalive=0.1, keepalive_timeout=3))
        yield pause(1.5)
        yield self.session.ping()
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxFrozenGoIsNoticed(self: Any) -> Any:
        yield self.meet(limits=SessionLimits(keepalive=0.1, keepalive_timeout=0.3))
        stream = yield self.connect(Collect(b"anybody there?"))
        self.peer.freeze()
        reason = yield stream.whenLost()
        self.assertIsInstance(reason.error, SessionLost)

    @inlineCallbacks
    def test_yamuxOurSilenceIsNoticedByGo(self: Any) -> Any:
        yield self.meet(keepalive=0.1, write_timeout=0.3)
        self.session.transport.pauseProducing()
        ended = yield self.ask("lost")
        self.assertEqual(ended["kind"], "KeepAliveTimeout")
        self.session.transport.resumeProducing()
        yield self.session.whenLost()

    # Going away

    @inlineCallbacks
    def test_yamuxGoAwayOfOurs(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", raw="echo")
        stream = yield self.connect(Collect(b"before"))
        yield stream.whenCount(6)
        self.session.goAway()
        yield self.session.ping()
        error = yield self.assertFailure(self.ask("open"), GoError)
        self.assertEqual(error.kind, "RemoteGoAway")
        yield self.assertFailure(self.connect(Collect()), Unavailable)
        stream.transport.write(b"after")
        yield stream.whenCount(11)
        stream.transport.loseWriteConnection()
        yield stream.whenLost()
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxGoAwayOfGo(self: Any) -> Any:
        yield self.meet()
        yield self.listen(Echo())
        opened = (yield self.ask("open"))["stream"]
        yield self.peer.call("write", stream=opened, data=b"before")
        yield self.peer.call("read", stream=opened, count=6)
        yield self.ask("goaway")
        yield self.ask("ping")
        yield self.assertFailure(self.connect(Collect()), Unavailable)
        yield self.peer.call("write", stream=opened, data=b"after")
        echoed = yield self.peer.call("read", stream=opened, count=5)
        self.assertEqual(echoed["data"], b"after")
        yield self.peer.call("close", stream=opened)
        yield self.peer.call("read", stream=opened)
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxDrainLetsGoFinish(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", raw="echo")
        stream = yield self.connect(Collect(b"before"))
        yield stream.whenCount(6)
        drained = self.session.drain()
        yield self.session.ping()
        stream.transport.write(b"after")
        yield stream.whenCount(11)
        stream.transport.loseWriteConnection()
        yield drained
        ended = yield self.ask("lost")
        self.assertEqual((ended["kind"], ended["log"]), ("EOF", []))
        yield self.session.whenLost()

    @inlineCallbacks
    def test_yamuxClosedSessionOfGoIsAGoodEnd(self: Any) -> Any:
        yield self.meet()
        stream = yield self.connect(Collect(b"hello"))
        yield self.ask("accept")
        yield self.ask("close-session")
        reason = yield stream.whenLost()
        self.assertIsInstance(reason.error, SessionLost)
        yield self.session.whenLost()
        yield self.assertFailure(self.connect(Collect()), SessionLost)
        yield self.assertFailure(self.session.ping(), SessionLost)

    # Faults

    @inlineCallbacks
    def test_yamuxGoKilledInTheMiddle(self: Any) -> Any:
        yield self.meet()
        pump, sink = Pump(BULK * 16), Watched()
        yield self.listen(sink)
        yield self.connect(pump)
        opened = (yield self.ask("open"))["stream"]
        taken = (yield self.ask("accept"))["stream"]
        for endless in self.peer.call("send", stream=opened, octets=BULK * 16), self.peer.call("receive", stream=taken):
            self.assertFailure(endless, GoPeerGone)
        yield sink.whenCount(MIB)
        yield self.peer.kill()
        for stream in pump, sink:
            reason = yield stream.whenLost()
            self.assertIsInstance(reason.error, ConnectionLost)
            self.assertIsInstance(reason.error, SessionLost)
        yield self.session.whenLost()

    @inlineCallbacks
    def test_yamuxGarbageEndsOneSessionWithAGoAway(self: Any) -> Any:
        yield self.meet()
        untouched, peer, there = self.session, self.peer, self.there
        yield self.ask("serve", raw="echo")
        neighbour = yield self.connect(Collect(b"before"))
        yield neighbour.whenCount(6)
        yield self.meet()
        stream = yield self.connect(Collect())
        yield self.ask("accept")
        yield self.ask("garbage", data=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        reason = yield stream.whenLost()
        self.assertIsInstance(reason.error, SessionLost)
        self.assertIsInstance(reason.error.__cause__, PeerError)
        ended = yield self.ask("lost")
        self.assertEqual(ended["cause"], "yamux protocol error")
        neighbour.transport.write(b"after")
        yield neighbour.whenCount(11)
        self.session, self.peer, self.there = untouched, peer, there
        neighbour.transport.loseWriteConnection()
        yield neighbour.whenLost()
        yield self.isContent()

    @inlineCallbacks
    def test_yamuxOddButLegalOctetsDoNoHarm(self: Any) -> Any:
        yield self.meet()
        unknown = 1001 if not self.client else 1002
        for header in (
            bytes([0, 0, 0, 0]) + unknown.to_bytes(4, "big") + (5).to_bytes(4, "big") + b"stray",
            bytes([0, 1, 0, 4]) + unknown.to_bytes(4, "big") + bytes(4),
            bytes([0, 1, 0, 8]) + unknown.to_bytes(4, "big") + bytes(4),
            bytes([0, 2, 0, 2]) + bytes(4) + (77).to_bytes(4, "big"),
        ):
            yield self.ask("garbage", data=header)
        yield self.ask("serve", raw="echo")
        stream = yield self.connect(Collect(b"fine"))
        yield stream.whenCount(4)


class YamuxClientOverTCPTests(YamuxWithGo, TestCase):
    """
    We dial and are the yamux client.
    """

    carrier, client, weDial = "tcp", True, True


class YamuxServerOverTCPTests(YamuxWithGo, TestCase):
    """
    Go dials and is the yamux client.
    """

    carrier, client, weDial = "tcp", False, False


class YamuxClientOverWebSocketTests(YamuxWithGo, TestCase):
    """
    Go dials and is the yamux server: an edge that opens streams to its agents.
    """

    carrier, client, weDial = "ws", True, False


class YamuxServerOverWebSocketTests(YamuxWithGo, TestCase):
    """
    We dial and are the yamux server: an agent.
    """

    carrier, client, weDial = "ws", False, True

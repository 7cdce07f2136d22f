"""
Our WebSocket carrier with the genuine gorilla/websocket, both sides: messages, fragments, closes, handshakes.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.trial.unittest import TestCase

from tests.peers._go import GoError, GoPeer, GoPeerGone
from tests.peers._ours import BULK, KIB, MIB, SOAK, Collect, Paused, Pump, Watched, awaitOne, pause, reach
from tunnelstack.transport.websocket.errors import (
    ClosedByPeer,
    KeepaliveTimeout,
    UpgradeFailed,
    UpgradeRefused,
    WebSocketProtocolError,
)
from tunnelstack.transport.websocket.settings import WebSocketLimits

SIZES = (1, 125, 126, 127, 65_535, 65_536, 65_537, 300_000)  # around every form of a frame's length


class Records(Watched):
    """
    Keeps whole messages.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[bytes, bool]] = []

    def recordReceived(self, octets: bytes, text: bool) -> None:
        self.records.append((octets, text))
        self.dataReceived(octets)


class WebSocketWithGo:
    """
    One WebSocket with nothing on it, between a Go peer and a protocol of ours.

    @cvar weDial: we are the WebSocket client.
    @ivar there: the number of Go's session; C{stream} is that of its octets.
    """

    weDial: bool
    timeout = 1500 if SOAK else 120

    @inlineCallbacks
    def meet(self: Any, protocol: Any, ours: dict[str, Any] | None = None, **config: Any) -> Any:
        """
        @param ours: options of our endpoint or factory.
        @param config: of the Go side.
        """
        self.peer = GoPeer.start(self)
        self.addCleanup(self.end, protocol)
        config.update(carrier="ws", role="none")
        if self.weDial:
            port = (yield self.peer.call("listen", **config))["port"]
            yield reach("ws", port, protocol, **(ours or {}))
            said = yield self.peer.call("arrived")
        else:
            port = yield awaitOne(self, "ws", protocol, **(ours or {}))
            said = yield self.peer.call("dial", port=port, **config)
        self.there, self.stream = said["session"], said["stream"]

    def end(self: Any, protocol: Any) -> Any:
        if protocol.transport is not None and protocol.reason is None:
            protocol.transport.abortConnection()
            return protocol.whenLost()

    def ask(self: Any, do: str, **parameters: Any) -> Any:
        return self.peer.call(do, session=self.there, **parameters)

    @inlineCallbacks
    def arrives(self: Any, octets: bytes, **config: Any) -> Any:
        """
        What Go writes in one message comes to us, and Go has it back.
        """
        collect = Collect()
        yield self.meet(collect, **config)
        yield self.peer.call("write", stream=self.stream, data=octets)
        yield collect.whenCount(len(octets))
        self.assertEqual(collect.octets, octets)
        collect.transport.write(octets)
        back = yield self.peer.call("read", stream=self.stream, count=len(octets))
        self.assertEqual(back["data"], octets)

    # Octets

    @inlineCallbacks
    def test_websocketEveryFormOfLengthIsRead(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect)
        for size in SIZES:
            octets = os.urandom(size)
            collect.count = 0
            collect.octets.clear()
            yield self.peer.call("write", stream=self.stream, data=octets)
            yield collect.whenCount(size)
            self.assertEqual(collect.octets, octets)
            collect.transport.write(octets)
            back = yield self.peer.call("read", stream=self.stream, count=size)
            self.assertEqual(back["data"], octets)

    def test_websocketFragmentsOfOneOctetAreJoined(self: Any) -> Any:
        return self.arrives(os.urandom(5_000), fragment=1)

    def test_websocketFragmentsOf125OctetsAreJoined(self: Any) -> Any:
        return self.arrives(os.urandom(100_000), fragment=125)

    def test_websocketFragmentsOf65536OctetsAreJoined(self: Any) -> Any:
        return self.arrives(os.urandom(400_000), fragment=65_536)

    def test_websocketCompressionThatIsOfferedIsNotUsed(self: Any) -> Any:
        return self.arrives(bytes(100_000), compression=True)

    @inlineCallbacks
    def test_websocketLongWritesAreMessagesOfAtMost64KiB(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect)
        octets = os.urandom(300_000)
        collect.transport.write(octets)
        got = b""
        while len(got) < len(octets):
            message = yield self.ask("next-message")
            self.assertEqual(message["type"], "binary")
            self.assertTrue(0 < len(message["data"]) <= 64 * KIB)
            got += message["data"]
        self.assertEqual(got, octets)

    @inlineCallbacks
    def test_websocketRecordsKeepTheirBoundaries(self: Any) -> Any:
        records = Records()
        yield self.meet(records, {"records": True}, fragment=10)
        ours = [b"one", b"t" * 50_000, b"three"]
        for octets in ours:
            records.transport.writeRecord(octets)
        for octets in ours:
            message = yield self.ask("next-message")
            self.assertEqual((message["type"], message["data"]), ("binary", octets))
        theirs = [("text", "größer".encode()), ("binary", b"\xff" * 5_000), ("text", b"end")]
        for kind, octets in theirs:
            yield self.ask("message", type=kind, data=octets)
        yield records.until(lambda: len(records.records) == 3)
        self.assertEqual(records.records, [(octets, kind == "text") for kind, octets in theirs])

    # Bulk and pressure

    @inlineCallbacks
    def test_websocketBulkOfGoArrivesWhole(self: Any) -> Any:
        sink = Watched()
        yield self.meet(sink)
        sent = yield self.peer.call("send", stream=self.stream, octets=BULK, timeout=self.timeout)
        yield sink.whenCount(BULK)
        self.assertEqual(sink.sum.hexdigest(), sent["sha256"])

    @inlineCallbacks
    def test_websocketBulkOfOursArrivesWhole(self: Any) -> Any:
        pump = Pump(BULK, endless=True)
        yield self.meet(pump)
        got = yield self.peer.call("receive", stream=self.stream, octets=BULK, timeout=self.timeout)
        self.assertEqual((got["octets"], got["sha256"]), (BULK, pump.sentSum.hexdigest()))

    @inlineCallbacks
    def test_websocketSlowGoReaderPausesOurProducer(self: Any) -> Any:
        pump = Pump(64 * MIB, endless=True)
        yield self.meet(pump)
        yield pump.until(lambda: pump.paused)
        yield pause(0.3)
        self.assertTrue(pump.paused)
        self.assertLess(pump.sent, 32 * MIB)  # what two kernels take
        got = yield self.peer.call("receive", stream=self.stream, octets=64 * MIB)
        self.assertEqual(got["sha256"], pump.sentSum.hexdigest())

    @inlineCallbacks
    def test_websocketPausedReaderHoldsGo(self: Any) -> Any:
        held = Paused()
        yield self.meet(held)
        sending = self.peer.call("send", stream=self.stream, octets=64 * MIB)
        yield pause(0.3)
        self.assertEqual(held.count, 0)
        self.assertFalse(sending.called)
        held.transport.resumeProducing()
        sent = yield sending
        yield held.whenCount(64 * MIB)
        self.assertEqual(held.sum.hexdigest(), sent["sha256"])

    # Life signs

    @inlineCallbacks
    def test_websocketPingOfGoIsAnswered(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect)
        message = self.ask("next-message")
        yield self.ask("message", type="ping", data=b"there?")
        yield self.ask("message", type="binary", data=b"now")
        yield collect.whenCount(3)
        collect.transport.write(b"here")
        got = yield message
        self.assertEqual((got["data"], got["pongs"]), (b"here", 1))

    @inlineCallbacks
    def test_websocketUnaskedPongDoesNoHarm(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect)
        yield self.ask("message", type="pong", data=b"nobody asked")
        yield self.ask("message", type="binary", data=b"fine")
        yield collect.whenCount(4)

    @inlineCallbacks
    def test_websocketKeepaliveOfOursIsAnsweredByGo(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect, {"limits": WebSocketLimits(keepalive=0.1, keepaliveTimeout=3)})
        message = self.ask("next-message")
        yield pause(1.2)
        collect.transport.write(b"still here")
        got = yield message
        self.assertEqual(got["data"], b"still here")

    @inlineCallbacks
    def test_websocketFrozenGoIsNoticed(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect, {"limits": WebSocketLimits(keepalive=0.1, keepaliveTimeout=0.3)})
        self.peer.freeze()
        reason = yield collect.whenLost()
        self.assertIsInstance(reason.error, KeepaliveTimeout)

    # Ends

    @inlineCallbacks
    def test_websocketCloseOfOursIsAGoodEnd(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect)
        collect.transport.write(b"last words")
        collect.transport.loseConnection()
        message = yield self.ask("next-message")
        self.assertEqual(message["data"], b"last words")
        message = yield self.ask("next-message")
        self.assertEqual((message["type"], message["code"]), ("close", 1000))
        reason = yield collect.whenLost()
        self.assertIsInstance(reason.error, ConnectionDone)

    @inlineCallbacks
    def test_websocketCloseOfGoIsAGoodEnd(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect)
        yield self.peer.call("write", stream=self.stream, data=b"last words")
        yield self.ask("close-session")
        reason = yield collect.whenLost()
        self.assertIsInstance(reason.error, ConnectionDone)
        self.assertEqual(collect.octets, b"last words")

    @inlineCallbacks
    def test_websocketCloseCodeOfGoIsTold(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect)
        yield self.ask("message", type="close", code=4001, data=b"gone fishing")
        reason = yield collect.whenLost()
        self.assertIsInstance(reason.error, ClosedByPeer)
        self.assertEqual((reason.error.code, reason.error.reason), (4001, "gone fishing"))

    @inlineCallbacks
    def test_websocketDroppedConnectionIsNoGoodEnd(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect)
        yield self.ask("drop")
        reason = yield collect.whenLost()
        self.assertIsInstance(reason.error, ConnectionLost)

    @inlineCallbacks
    def test_websocketGoKilledInTheMiddle(self: Any) -> Any:
        sink = Watched()
        yield self.meet(sink)
        self.assertFailure(self.peer.call("send", stream=self.stream, octets=64 * BULK), GoPeerGone)
        yield sink.whenCount(MIB)
        yield self.peer.kill()
        reason = yield sink.whenLost()
        self.assertIsInstance(reason.error, ConnectionLost)

    # What is against the rules

    @inlineCallbacks
    def test_websocketTextAmongOctetsIsRefused(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect)
        yield self.ask("message", type="text", data=b"hello")
        message = yield self.ask("next-message")
        self.assertEqual((message["type"], message["code"]), ("close", 1003))
        yield self.ask("drop")
        reason = yield collect.whenLost()
        self.assertIsInstance(reason.error, WebSocketProtocolError)
        self.assertEqual((reason.error.code, collect.count), (1003, 0))

    @inlineCallbacks
    def tooLarge(self: Any, **config: Any) -> Any:
        collect = Collect()
        yield self.meet(collect, {"limits": WebSocketLimits(maxMessage=MIB, closeTimeout=0.3)}, **config)
        yield self.peer.call("write", stream=self.stream, data=bytes(MIB))
        yield collect.whenCount(MIB)
        writing = self.peer.call("write", stream=self.stream, data=bytes(MIB + 1))
        writing.addErrback(lambda failure: failure.trap(GoError))  # it may hear of our end while it still writes
        reason = yield collect.whenLost()
        self.assertIsInstance(reason.error, WebSocketProtocolError)
        self.assertEqual(reason.error.code, 1009)
        yield writing

    def test_websocketMessageAboveTheBoundIsRefused(self: Any) -> Any:
        return self.tooLarge()

    def test_websocketFragmentsAboveTheBoundAreRefused(self: Any) -> Any:
        return self.tooLarge(fragment=10_000)


class WebSocketClientTests(WebSocketWithGo, TestCase):
    """
    We dial.
    """

    weDial = True

    @inlineCallbacks
    def test_websocketRefusalOfGoIsTold(self: Any) -> Any:
        peer = GoPeer.start(self)
        port = (yield peer.call("listen", carrier="ws", role="none", headers={"Authorization": ["Bearer right"]}))["port"]
        wrong = reach("ws", port, Collect(), headers=[("Authorization", "Bearer wrong")])
        refused = yield self.assertFailure(wrong, UpgradeRefused)
        self.assertEqual(refused.status, 401)
        collect = Collect()
        yield reach("ws", port, collect, headers=[("Authorization", "Bearer right")])
        yield self.end(collect)

    @inlineCallbacks
    def test_websocketSubprotocolIsGoesChoice(self: Any) -> Any:
        collect = Collect()
        yield self.meet(collect, {"subprotocols": ["newer", "tunnelstack.v1"]}, subprotocol="tunnelstack.v1")
        self.assertEqual(collect.transport.subprotocol, "tunnelstack.v1")

    @inlineCallbacks
    def test_websocketPeerThatIsNoneIsAnError(self: Any) -> Any:
        peer = GoPeer.start(self)
        port = (yield peer.call("listen", carrier="tcp", role="none"))["port"]
        failing = self.assertFailure(reach("ws", port, Collect()), UpgradeFailed)
        there = (yield peer.call("arrived"))["session"]
        yield peer.call("garbage", session=there, data=b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        yield failing


class WebSocketServerTests(WebSocketWithGo, TestCase):
    """
    Go dials.
    """

    weDial = False

    @inlineCallbacks
    def test_websocketOtherPathIsAnswered404(self: Any) -> Any:
        peer = GoPeer.start(self)
        port = yield awaitOne(self, "ws", Collect(), path="/_tunnel/1")
        dialling = peer.call("dial", carrier="ws", role="none", port=port, path="/other")
        error = yield self.assertFailure(dialling, GoError)
        self.assertEqual(error.said["status"], 404)

    @inlineCallbacks
    def test_websocketSubprotocolIsOurChoice(self: Any) -> Any:
        peer, collect = GoPeer.start(self), Collect()
        port = yield awaitOne(self, "ws", collect, subprotocols=["tunnelstack.v1"])
        said = yield peer.call("dial", carrier="ws", role="none", port=port, subprotocol="tunnelstack.v1")
        self.assertEqual((said["status"], said["subprotocol"]), (101, "tunnelstack.v1"))
        yield gatherResults([peer.kill(), collect.whenLost()])

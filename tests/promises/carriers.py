"""
What every carrier promises to the protocol on top of it, written once.

A subclass joins two protocols by its carrier and says which of the optional traits it has.  Carriers over a wire in
memory come to rest at once; those over real sockets are watched until they do what was promised.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IPushProducer, ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tunnelstack.testing import Wire

# What not every carrier promises; Twisted's own TCP and TLS lack some.
HALF_CLOSE = "half-close"             # loseWriteConnection leaves the other direction open
CLOSE_IS_FINAL = "close is final"     # what is written after loseConnection vanishes
CLOSE_WAITS = "close waits"           # loseConnection waits for a streaming producer to finish
ABORT_IS_TOLD = "abort is told"       # who aborts hears ConnectionAborted, and may call anything afterwards
PULLS = "pulls"                       # pull producers are asked by the carrier's own clock
EVERY_END = frozenset((CLOSE_IS_FINAL, CLOSE_WAITS, ABORT_IS_TOLD, PULLS))
BOUND = 16 * 1024 * 1024              # octets that a carrier and two sockets may hold for a reader that stopped


class Peer(Protocol):
    """
    Remembers what it was told, and that nothing was told from inside a call of its own.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.count = 0
        self.reason: Any = None
        self.ends: list[str] = []
        self.pauseAfter: int | None = None
        self._calling = False

    @property
    def got(self) -> bytes:
        return b"".join(self.pieces)

    def call(self, name: str, *arguments: Any) -> None:
        """
        Call a method of the transport.
        """
        self._calling = True
        try:
            getattr(self.transport, name)(*arguments)
        finally:
            self._calling = False

    def dataReceived(self, data: bytes) -> None:
        assert not self._calling, "octets from inside a call"
        assert self.reason is None, "octets after the end"
        assert isinstance(data, bytes) and data
        self.pieces.append(data)
        self.count += len(data)
        if self.pauseAfter is not None and self.count >= self.pauseAfter:
            self.pauseAfter = None
            self.call("pauseProducing")

    def connectionLost(self, reason: Any = None) -> None:
        assert not self._calling, "an end from inside a call"
        assert self.reason is None, "a second end"
        self.reason = reason


@implementer(IHalfCloseableProtocol)
class HalfPeer(Peer):
    def readConnectionLost(self) -> None:
        self.ends.append("read")

    def writeConnectionLost(self) -> None:
        self.ends.append("write")


class Source:
    """
    A producer that writes pieces of some size as long as it may, up to a total.
    """

    def __init__(self, peer: Peer, total: int, piece: int) -> None:
        self.peer, self.left, self.piece = peer, total, bytes(range(256)) * (piece // 256)
        self.running = False
        self.pauses = 0
        self.stopped = False
        self.written = 0

    def resumeProducing(self) -> None:
        self.running = True
        while self.running and self.left:
            self._writeOne()

    def _writeOne(self) -> None:
        self.left -= len(self.piece)
        self.written += len(self.piece)
        self.peer.transport.write(self.piece)
        if not self.left:
            self.peer.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.pauses += 1
        self.running = False

    def stopProducing(self) -> None:
        self.running = False
        self.stopped = True


class PullSource(Source):
    def resumeProducing(self) -> None:
        self._writeOne()


class CarrierPromises:
    """
    Mix into a C{trial} test case.

    @cvar traits: which of the optional promises are made.
    """

    traits: frozenset[str] = frozenset()
    timeout = 10.0     # seconds of real time, for carriers on sockets
    protocol: type[Peer] = Peer
    fail: Any
    skipTest: Any
    assertEqual: Any
    assertTrue: Any
    assertFalse: Any
    assertRaises: Any
    assertIsNone: Any
    assertGreater: Any
    assertLess: Any

    def join(self, near: Factory, far: Factory) -> Deferred[Any]:
        """
        Join two applications by the carrier; fires once both are connected.
        """
        raise NotImplementedError

    def until(self, condition: Callable[[], bool]) -> Deferred[Any]:
        """
        Let things happen until a condition holds.
        """
        raise NotImplementedError

    def rest(self) -> Deferred[Any]:
        """
        Let things happen until nothing more is to be expected.
        """
        raise NotImplementedError

    @inlineCallbacks
    def pair(self, kind: type[Peer] = Peer) -> Generator[Any, Any, tuple[Any, Any]]:
        near, far = kind(), kind()
        yield self.join(_factoryOf(near), _factoryOf(far))
        self.near, self.far = near, far
        return near, far

    def bothLost(self) -> bool:
        return self.near.reason is not None and self.far.reason is not None

    # What is promised

    @inlineCallbacks
    def test_transportsProvideTheirInterfaces(self) -> Generator[Any, Any, None]:
        for peer in (yield self.pair()):
            for interface in (ITransport, IConsumer, IPushProducer):
                verifyObject(interface, peer.transport)

    @inlineCallbacks
    def test_addressesMirrorEachOther(self) -> Generator[Any, Any, None]:
        near, far = yield self.pair()
        self.assertEqual(near.transport.getPeer(), far.transport.getHost())
        self.assertEqual(near.transport.getHost(), far.transport.getPeer())

    @inlineCallbacks
    def test_octetsArriveInOrderBothWaysAtOnce(self) -> Generator[Any, Any, None]:
        near, far = yield self.pair()
        sent = {near: b"", far: b""}
        for size in (1, 2, 125, 126, 127, 1000, 65535, 65536, 65537, 200_000, 3):
            for peer in (near, far):
                octets = bytes((size + at) % 251 for at in range(size))
                sent[peer] += octets
                if size % 2:
                    peer.call("write", octets)
                else:
                    peer.call("writeSequence", [octets[:1], b"", octets[1:]])
        yield self.until(lambda: near.count + far.count == len(sent[near]) + len(sent[far]))
        self.assertTrue(near.got == sent[far] and far.got == sent[near])

    @inlineCallbacks
    def test_emptyWritesSayNothing(self) -> Generator[Any, Any, None]:
        near, far = yield self.pair()
        near.call("write", b"")
        near.call("writeSequence", [])
        near.call("writeSequence", [b"", b""])
        near.call("write", b"x")
        yield self.until(lambda: far.count == 1)

    @inlineCallbacks
    def test_textIsNoOctets(self) -> Generator[Any, Any, None]:
        near, far = yield self.pair()
        self.assertRaises(TypeError, near.transport.write, "text")
        near.call("write", b"x")
        yield self.until(lambda: far.got == b"x")

    @inlineCallbacks
    def test_closeFlushesFirst(self) -> Generator[Any, Any, None]:
        for closer in ("near", "far"):
            yield self.pair()
            one, other = (self.near, self.far) if closer == "near" else (self.far, self.near)
            one.call("write", b"x" * 1_000_000)
            one.call("loseConnection")
            self.assertTrue(one.transport.disconnecting)
            yield self.until(self.bothLost)
            self.assertEqual(other.count, 1_000_000)
            self.assertTrue(one.reason.check(ConnectionDone) and other.reason.check(ConnectionDone))

    @inlineCallbacks
    def test_writesAfterTheEndVanish(self) -> Generator[Any, Any, None]:
        near, far = yield self.pair()
        near.call("write", b"last")
        near.call("loseConnection")
        if CLOSE_IS_FINAL in self.traits:
            near.call("write", b"late")
            near.call("writeSequence", [b"late"])
        yield self.until(self.bothLost)
        self.assertEqual(far.got, b"last")
        for peer in (near, far):
            peer.call("write", b"later")
            peer.call("loseConnection")
            if ABORT_IS_TOLD in self.traits:
                peer.call("abortConnection")
        yield self.rest()

    @inlineCallbacks
    def test_abortEndsBothSidesOnALaterTurn(self) -> Generator[Any, Any, None]:
        near, far = yield self.pair()
        near.call("write", b"maybe")
        near.call("abortConnection")
        near.call("write", b"never")
        self.assertIsNone(near.reason)
        yield self.until(self.bothLost)
        if ABORT_IS_TOLD in self.traits:
            self.assertTrue(near.reason.check(ConnectionAborted), near.reason)
        self.assertFalse(far.reason.check(ConnectionDone), far.reason)
        self.assertFalse(b"never" in far.got)

    @inlineCallbacks
    def test_aPausedReaderIsToldNothing(self) -> Generator[Any, Any, None]:
        near, far = yield self.pair()
        far.call("pauseProducing")
        yield self.rest()
        near.call("write", b"a" * 1000)
        near.call("write", b"b")
        yield self.rest()
        self.assertEqual(far.count, 0)
        far.call("resumeProducing")
        yield self.until(lambda: far.count == 1001)
        self.assertEqual(far.got, b"a" * 1000 + b"b")

    @inlineCallbacks
    def test_aPauseFromInsideADeliveryHoldsAtOnce(self) -> Generator[Any, Any, None]:
        near, far = yield self.pair()
        far.pauseAfter = 1
        for _ in range(50):
            near.call("write", b"x" * 100)
        yield self.until(lambda: far.count > 0)
        seen = len(far.pieces)
        yield self.rest()
        self.assertEqual(len(far.pieces), seen)
        far.call("resumeProducing")
        yield self.until(lambda: far.count == 5000)

    @inlineCallbacks
    def test_aReaderThatStopsHoldsItsWriter(self) -> Generator[Any, Any, None]:
        near, far = yield self.pair()
        far.call("pauseProducing")
        yield self.rest()
        source = Source(near, 4 * BOUND, 64 * 1024)
        near.call("registerProducer", source, True)
        self.assertRaises(RuntimeError, near.transport.registerProducer, source, True)
        near._calling = False
        source.resumeProducing()
        yield self.rest()
        self.assertFalse(source.running)
        self.assertLess(source.written, BOUND)
        far.pieces = _Forgetful()      # type: ignore[assignment]
        far.call("resumeProducing")
        yield self.until(lambda: far.count == 4 * BOUND)

    @inlineCallbacks
    def test_aPullProducerIsAskedForEveryPiece(self) -> Generator[Any, Any, None]:
        if PULLS not in self.traits:
            self.skipTest("this carrier asks by another clock")
        near, far = yield self.pair()
        near.transport.registerProducer(PullSource(near, 2560, 256), False)
        yield self.until(lambda: far.count == 2560)

    @inlineCallbacks
    def test_theProducerOfALostConnectionIsStopped(self) -> Generator[Any, Any, None]:
        near, _far = yield self.pair()
        source, late = Source(near, 256, 256), Source(near, 256, 256)
        near.call("registerProducer", source, True)
        near.call("abortConnection")
        yield self.until(self.bothLost)
        near.call("registerProducer", late, True)
        self.assertTrue(source.stopped and late.stopped)

    @inlineCallbacks
    def test_closeWaitsForTheProducer(self) -> Generator[Any, Any, None]:
        if CLOSE_WAITS not in self.traits:
            self.skipTest("this carrier does not wait")
        near, far = yield self.pair()
        source = Source(near, 1024 * 1024, 1024)
        near.call("registerProducer", source, True)
        near.call("loseConnection")
        yield self.rest()
        self.assertFalse(self.bothLost())
        source.resumeProducing()
        yield self.until(self.bothLost)
        self.assertEqual(far.count, 1024 * 1024)

    @inlineCallbacks
    def test_oneDirectionMayEndFirst(self) -> Generator[Any, Any, None]:
        if HALF_CLOSE not in self.traits:
            self.skipTest("this carrier has no half-close")
        near, far = yield self.pair(HalfPeer)
        near.call("write", b"question")
        near.call("loseWriteConnection")
        yield self.until(lambda: far.ends == ["read"] and near.ends == ["write"])
        self.assertEqual(far.got, b"question")
        far.call("write", b"answer")
        far.call("loseConnection")
        yield self.until(lambda: near.ends == ["write", "read"])
        self.assertEqual(near.got, b"answer")
        self.assertIsNone(near.reason)
        near.transport.loseConnection()      # Twisted's own TCP says connectionLost from inside this one
        yield self.until(self.bothLost)
        self.assertTrue(near.reason.check(ConnectionDone) and far.reason.check(ConnectionDone))


class _Forgetful(list[bytes]):
    """
    For a test that only counts.
    """

    def append(self, piece: bytes) -> None:
        pass


class InMemory:
    """
    For carriers over a wire in memory.

    @cvar cuts: octets per delivery of each pair that a test makes.
    """

    cut: int | None = None

    def until(self, condition: Callable[[], bool]) -> Deferred[Any]:
        self.wire.settle()
        assert condition(), "it did not happen"
        return succeed(None)

    def rest(self) -> Deferred[Any]:
        self.wire.settle()
        return succeed(None)

    def newWire(self) -> Wire:
        self.wire = Wire(cut=self.cut)
        return self.wire


class OnSockets:
    """
    For carriers over real sockets of this machine.
    """

    addCleanup: Any

    @inlineCallbacks
    def until(self, condition: Callable[[], bool]) -> Generator[Any, Any, None]:
        while not condition():
            yield deferLater(reactor, 0.001)    # type: ignore[arg-type]

    @inlineCallbacks
    def rest(self) -> Generator[Any, Any, None]:
        for _ in range(100):
            yield deferLater(reactor, 0)        # type: ignore[arg-type]


def _factoryOf(protocol: Protocol) -> Factory:
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda address: protocol    # type: ignore[method-assign]
    return factory

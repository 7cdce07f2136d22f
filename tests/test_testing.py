"""
The wire that other tests trust keeps what it promises.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tunnelstack.records import Service
from tunnelstack.testing import Caller, EdgeAndAgent, Network, Wire


class Collect(Protocol):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.happened: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.happened.append(reason.type)


@implementer(IHalfCloseableProtocol)
class HalfCollect(Collect):
    def readConnectionLost(self) -> None:
        self.happened.append("read")

    def writeConnectionLost(self) -> None:
        self.happened.append("write")


class Source:
    """
    A producer that remembers what it was told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class WireTests(SynchronousTestCase):
    def joined(self, protocol: type[Collect] = Collect, **options: Any) -> tuple[Wire, Collect, Collect]:
        wire = Wire(**options)
        near, far = protocol(), protocol()
        wire.connect(near, far)
        return wire, near, far

    def test_theTransportProvidesItsInterfaces(self) -> None:
        for interface in (ITransport, ITCPTransport, IConsumer, IPushProducer):
            verifyObject(interface, Wire().near)

    def test_nothingArrivesUntilItIsDelivered(self) -> None:
        wire, _near, far = self.joined()
        wire.near.write(b"abc")
        self.assertEqual(far.pieces, [])
        self.assertEqual(wire.deliver(wire.far, 2), 2)
        self.assertEqual(far.pieces, [b"ab"])
        wire.settle()
        self.assertEqual(far.pieces, [b"ab", b"c"])

    def test_octetsAreCutAsAsked(self) -> None:
        wire, _near, far = self.joined(cut=2)
        wire.near.writeSequence([b"abc", b"de"])
        wire.settle()
        self.assertEqual(far.pieces, [b"ab", b"cd", b"e"])

    def test_onlyBytesAreTaken(self) -> None:
        wire, _near, far = self.joined()
        for wrong in ("text", bytearray(b"x"), memoryview(b"x")):
            self.assertRaises(TypeError, wire.near.write, wrong)
            self.assertRaises(TypeError, wire.near.writeSequence, [b"fine", wrong])
        wire.settle()
        self.assertEqual(far.pieces, [])

    def test_closeFlushesFirst(self) -> None:
        wire, near, far = self.joined(cut=1)
        wire.near.write(b"last")
        wire.near.loseConnection()
        self.assertTrue(wire.near.disconnecting)
        wire.near.write(b"too late")
        self.assertEqual(near.happened, [])
        wire.settle()
        self.assertEqual(b"".join(far.pieces), b"last")
        self.assertEqual((near.happened, far.happened), ([ConnectionDone], [ConnectionDone]))
        self.assertFalse(wire.near.connected or wire.far.connected)

    def test_closeWaitsForAPullProducerOnly(self) -> None:
        wire, near, far = self.joined()
        left = [b"still ", b"produced"]

        class Pull(Source):
            def resumeProducing(self) -> None:
                wire.near.write(left.pop(0))
                if not left:
                    wire.near.unregisterProducer()

        wire.near.registerProducer(Pull(), False)
        wire.near.loseConnection()
        wire.settle()
        self.assertEqual(b"".join(far.pieces), b"still produced")
        self.assertEqual((near.happened, far.happened), ([ConnectionDone], [ConnectionDone]))
        wire, near, far = self.joined()
        source = Source()
        wire.near.registerProducer(source, True)
        wire.near.loseConnection()
        wire.settle()
        self.assertEqual((source.told, near.happened), (["stop"], [ConnectionDone]))

    def test_oneDirectionMayEndFirst(self) -> None:
        wire, near, far = self.joined(HalfCollect)
        wire.near.write(b"question")
        wire.near.loseWriteConnection()
        wire.near.write(b"dropped")
        wire.settle()
        self.assertEqual((far.pieces, near.happened, far.happened), ([b"question"], ["write"], ["read"]))
        wire.far.write(b"answer")
        wire.far.loseConnection()
        wire.settle()
        self.assertEqual((near.pieces, far.happened), ([b"answer"], ["read", ConnectionDone]))
        self.assertEqual(near.happened, ["write", "read"])
        wire.near.loseConnection()
        wire.settle()
        self.assertEqual(near.happened, ["write", "read", ConnectionDone])

    def test_endOfReadingClosesAPlainProtocol(self) -> None:
        wire, near, far = self.joined()
        wire.near.loseWriteConnection()
        wire.settle()
        self.assertEqual((near.happened, far.happened), ([ConnectionDone], [ConnectionDone]))

    def test_anAbortEndsBothSides(self) -> None:
        wire, near, far = self.joined()
        wire.near.write(b"lost")
        wire.near.abortConnection()
        self.assertEqual(near.happened, [])
        wire.settle()
        self.assertEqual((near.happened, far.happened), ([ConnectionAborted], [ConnectionLost]))
        self.assertEqual(far.pieces, [])

    def test_writingToSomebodyGoneIsAnsweredByAReset(self) -> None:
        wire, _near, far = self.joined(HalfCollect)
        wire.near.loseConnection()
        wire.settle()
        wire.far.write(b"anybody there?")
        wire.settle()
        self.assertEqual(far.happened, ["read", ConnectionLost])

    def test_aDropLosesBothSides(self) -> None:
        wire, near, far = self.joined()
        wire.near.write(b"under way")
        wire.drop()
        self.assertEqual((near.happened, far.happened, far.pieces), ([ConnectionLost], [ConnectionLost], []))
        wire.settle()
        self.assertEqual(near.happened, [ConnectionLost])

    def test_streamingProducerIsPausedAndResumed(self) -> None:
        wire, _near, _far = self.joined(capacity=10)
        source = Source()
        wire.near.registerProducer(source, True)
        self.assertRaises(RuntimeError, wire.near.registerProducer, Source(), True)
        wire.near.write(b"x" * 10)
        self.assertEqual(source.told, [])
        wire.near.write(b"x")
        self.assertEqual((source.told, wire.near.undelivered), (["pause"], 11))
        wire.deliver(wire.far, 10)
        wire.turn()
        self.assertEqual(source.told, ["pause", "resume"])

    def test_pullProducerIsAskedWheneverTheQueueIsEmpty(self) -> None:
        wire, _near, far = self.joined()
        left = [b"a", b"b", b"c"]

        class Pull(Source):
            def resumeProducing(self) -> None:
                wire.near.write(left.pop(0))
                if not left:
                    wire.near.unregisterProducer()

        wire.near.registerProducer(Pull(), False)
        wire.settle()
        self.assertEqual(far.pieces, [b"a", b"b", b"c"])

    def test_aReaderThatStoppedGetsNothing(self) -> None:
        wire, near, far = self.joined()
        wire.far.pauseProducing()
        wire.near.write(b"abc")
        wire.near.loseConnection()
        wire.settle()
        self.assertTrue(wire.far.readPaused)
        self.assertEqual((far.pieces, near.happened, far.happened), ([], [], []))
        wire.far.resumeProducing()
        wire.settle()
        self.assertEqual((far.pieces, far.happened), ([b"abc"], [ConnectionDone]))

    def test_producerOfALostConnectionIsStopped(self) -> None:
        wire, _near, _far = self.joined()
        source, late = Source(), Source()
        wire.near.registerProducer(source, True)
        wire.drop()
        wire.near.registerProducer(late, True)
        self.assertEqual((source.told, late.told), (["stop"], ["stop"]))

    def test_workOfTheNextTurnIsDoneAndTimeStands(self) -> None:
        wire, _near, far = self.joined()
        wire.clock.callLater(0, wire.near.write, b"soon")
        wire.clock.callLater(1, wire.near.write, b"later")
        wire.settle()
        self.assertEqual((far.pieces, wire.clock.seconds()), ([b"soon"], 0))

    def test_endlessTalkIsNoticed(self) -> None:
        wire, near, far = self.joined()
        far.dataReceived = lambda data: wire.far.write(data)       # type: ignore[method-assign]
        near.dataReceived = lambda data: wire.near.write(data)     # type: ignore[method-assign]
        wire.near.write(b"ping")
        self.assertRaises(AssertionError, wire.settle, rounds=50)

    def test_addressesMirrorEachOther(self) -> None:
        wire = Wire()
        self.assertEqual(wire.near.getPeer(), wire.far.getHost())
        self.assertEqual(wire.far.getPeer(), wire.near.getHost())


class NetworkTests(SynchronousTestCase):
    """
    A machine without sockets.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.factory = Factory.forProtocol(Caller)
        self.factory.noisy = False

    def connect(self, port: int = 80) -> Any:
        endpoint = clientFromString(self.network, f"tcp:localhost:{port}")
        connected = connectProtocol(endpoint, Caller())
        self.network.settle()
        return connected

    def test_endpointsOfANetworkMeet(self) -> None:
        served: list[Any] = []
        self.factory.buildProtocol = lambda address: served.append(Caller()) or served[-1]
        listening = self.successResultOf(serverFromString(self.network, "tcp:80").listen(self.factory))
        caller = self.successResultOf(self.connect())
        caller.transport.write(b"hello")
        self.network.settle()
        self.assertEqual(served[0].got, b"hello")
        self.assertEqual(caller.transport.getPeer(), listening.getHost())
        self.assertEqual(caller.transport.getHost(), served[0].transport.getPeer())
        caller.transport.loseConnection()
        self.network.settle()
        self.assertEqual(self.network.wires, [])

    def test_aConnectionToNothingIsRefused(self) -> None:
        self.failureResultOf(self.connect(), ConnectionRefusedError)
        listening = self.network.listenTCP(80, self.factory)
        listening.stopListening()
        self.failureResultOf(self.connect(), ConnectionRefusedError)

    def test_aPortIsTaken(self) -> None:
        self.network.listenTCP(80, self.factory)
        self.assertRaises(CannotListenError, self.network.listenTCP, 80, self.factory)
        free = [self.network.listenTCP(0, self.factory).getHost().port for _ in range(2)]
        self.assertEqual(len({80, *free}), 3)

    def test_whoIsTurnedAwayIsDisconnected(self) -> None:
        self.factory.buildProtocol = lambda address: None
        self.network.listenTCP(80, self.factory)
        self.assertTrue(self.successResultOf(self.connect()).lost.check(ConnectionDone))

    def test_anAttemptMayBeCancelled(self) -> None:
        connecting = connectProtocol(clientFromString(self.network, "tcp:localhost:80"), Caller())
        connecting.cancel()
        self.failureResultOf(connecting)
        self.network.settle()

    def test_timePassesInSteps(self) -> None:
        happened: list[float] = []

        def tick() -> None:
            happened.append(self.network.seconds())
            self.network.callLater(0.5, tick)

        tick()
        self.network.passTime(2, 0.5)
        self.assertEqual(happened, [0, 0.5, 1, 1.5, 2])


class EdgeAndAgentTests(SynchronousTestCase):
    """
    The example of the documentation.
    """

    def test_theExampleOfTheDocumentationWorks(self) -> None:
        class Echo(Protocol):
            transport: Any

            def dataReceived(self, data: bytes) -> None:
                self.transport.write(data)

        both = EdgeAndAgent()
        factory = Factory.forProtocol(Echo)
        factory.noisy = False
        both.agent.publish(Service(name="echo", kind="tcp", port=2000), factory)
        both.start()
        visitor = both.visit(b"hello", 2000)
        self.assertEqual(visitor.got, b"hello")
        both.stop()
        self.assertIsNotNone(visitor.lost)
        self.assertEqual((both.network.getDelayedCalls(), both.network.wires), ([], []))

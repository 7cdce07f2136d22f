"""
TCP ports and their connections on our reactor: Twisted's suites, and how a connection is made and closed.
"""

from __future__ import annotations

import select
import socket
from typing import Any
from unittest import SkipTest, skipUnless

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.test import test_socket, test_tcp, test_tls
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.reactor.suites import onOurs

EPOLL = hasattr(select, "epoll")
if EPOLL:
    from tunnelstack.reactor.busypoll import BusyPollReactor



def withoutContext(self: object) -> None:
    """
    In place of the test of the context of the old logging system, which our reactor does not set.
    """
    raise SkipTest("there is no context")


def less(suite: type) -> type:
    """
    A suite L{withoutContext}.
    """
    return type(suite.__name__, (suite,), {"test_logPrefix": withoutContext})


globals().update(onOurs(
    __name__, less(test_tcp.TCP4ClientTestsBuilder), less(test_tcp.TCP6ClientTestsBuilder), test_tcp.TCPPortTestsBuilder,
    test_tcp.TCPFDPortTestsBuilder, test_tcp.TCPConnectionTestsBuilder, test_tcp.TCP4ConnectorTestsBuilder,
    test_tcp.TCPTransportTestsBuilder, test_tcp.AdoptStreamConnectionTestsBuilder, test_tcp.AbortConnectionTests,
    less(test_tls.SSLClientTestsMixin), less(test_tls.StartTLSClientTestsMixin), test_tls.TLSPortTestsBuilder,
    test_tls.AbortSSLConnectionTests, test_socket.AdoptStreamPortErrorsTestsBuilder,
))  # fmt: skip


class Recorder(Protocol):
    """
    Notes what it is told.
    """

    def __init__(self) -> None:
        self.received = b""
        self.reasons: list[type] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.reasons.append(reason.type)


@skipUnless(EPOLL, "epoll is Linux's")
class ConnectionTests(SynchronousTestCase):
    """
    A port, and callers that are plain sockets.
    """

    def setUp(self) -> None:
        self.reactor: Any = BusyPollReactor()
        self.addCleanup(self.tearDownReactor)
        self.made: list[Recorder] = []
        factory: Any = Factory()
        factory.buildProtocol = self.build
        self.addresses: list[Any] = []
        self.port = self.reactor.listenTCP(0, factory, 50, "127.0.0.1")

    def tearDownReactor(self) -> None:
        for each in self.reactor.removeAll():
            if hasattr(each, "socket"):
                each.socket.close()
        self.reactor._poller.close()

    def build(self, address: Any) -> Recorder | None:
        self.addresses.append(address)
        if len(self.addresses) > 90:
            return None
        self.made.append(Recorder())
        return self.made[-1]

    def call(self) -> socket.socket:
        caller = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        self.addCleanup(caller.close)
        caller.settimeout(30)
        return caller

    def connected(self) -> tuple[socket.socket, Any, Recorder]:
        caller = self.call()
        self.turn()
        return caller, self.made[-1].transport, self.made[-1]

    def turn(self) -> None:
        """
        One turn of the reactor, which does not wait.
        """
        self.reactor.runUntilCurrent()
        self.reactor.timeout()
        self.reactor.doPoll(0)

    def test_theAddressIsMadeOnce(self) -> None:
        caller, transport, _ = self.connected()
        self.assertIs(transport.getPeer(), self.addresses[0])
        self.assertEqual((transport.getPeer().host, transport.getPeer().port), caller.getsockname())

    def test_aConnectionHasItsNamesForLogs(self) -> None:
        _, transport, _ = self.connected()
        self.assertEqual(transport.logPrefix(), "Recorder,0,127.0.0.1")
        self.assertEqual(repr(transport), f"<Recorder #0 on {self.port.getHost().port}>")

    def test_aConnectionWithNothingToWriteIsClosedAtTheEndOfTheTurn(self) -> None:
        caller, transport, recorder = self.connected()
        descriptor = transport.fileno()
        transport.loseConnection()
        self.assertEqual(recorder.reasons, [])
        self.reactor.timeout()
        self.assertEqual([reason.__name__ for reason in recorder.reasons], ["ConnectionDone"])
        self.assertEqual(caller.recv(10), b"")
        self.assertNotIn(descriptor, self.reactor._selectables)

    def test_whatWasWrittenIsSentBeforeTheConnectionIsClosed(self) -> None:
        caller, transport, recorder = self.connected()
        transport.write(b"last words")
        transport.loseConnection()
        for _ in range(3):
            self.turn()
        self.assertEqual((len(recorder.reasons), caller.recv(20), caller.recv(20)), (1, b"last words", b""))

    def test_whatIsWrittenAfterItIsSentToo(self) -> None:
        caller, transport, recorder = self.connected()
        transport.loseConnection()
        transport.write(b"postscript")
        for _ in range(3):
            self.turn()
        self.assertEqual((len(recorder.reasons), caller.recv(20), caller.recv(20)), (1, b"postscript", b""))

    def test_aConnectionThatIsAbortedInTheSameTurnIsReset(self) -> None:
        caller, transport, recorder = self.connected()
        transport.loseConnection()
        transport.abortConnection()
        for _ in range(2):
            self.turn()
        self.assertEqual([reason.__name__ for reason in recorder.reasons], ["ConnectionAborted"])
        self.assertRaises(ConnectionResetError, caller.recv, 10)

    def test_aConnectionThatIsReadAgainLeavesNoDescriptorBehind(self) -> None:
        _, transport, recorder = self.connected()
        descriptor = transport.fileno()
        transport.loseConnection()
        transport.startReading()
        self.reactor.timeout()
        self.assertEqual((len(recorder.reasons), descriptor in self.reactor._selectables), (1, False))

    def test_aConnectionThatIsToldToWriteAfterItLeavesNoDescriptorBehind(self) -> None:
        _, transport, recorder = self.connected()
        descriptor = transport.fileno()
        transport.loseConnection()
        transport.unregisterProducer()                          # which starts writing
        for _ in range(2):
            self.turn()
        self.assertEqual([reason.__name__ for reason in recorder.reasons], ["ConnectionDone"])
        self.assertNotIn(descriptor, self.reactor._writes | self.reactor._reads)

    def test_aProducerIsWaitedFor(self) -> None:
        _, transport, recorder = self.connected()

        class Producer:
            def resumeProducing(self) -> None: ...
            def pauseProducing(self) -> None: ...
            def stopProducing(self) -> None: ...

        transport.registerProducer(Producer(), True)
        transport.loseConnection()
        transport.write(b"a piece")
        self.reactor.timeout()
        self.assertEqual(recorder.reasons, [])

    def test_aPortAcceptsWhatWaitsAndThenExpectsAsMany(self) -> None:
        for _ in range(3):
            self.call()
        self.turn()
        self.assertEqual((len(self.made), self.port.numberAccepts), (3, 3))
        for _ in range(7):
            self.call()
        self.turn()
        self.assertEqual((len(self.made), self.port.numberAccepts), (6, 23))

    def test_aConnectionThatIsRefusedIsClosed(self) -> None:
        self.addresses = [None] * 90
        caller = self.call()
        self.turn()
        self.assertEqual((self.made, caller.recv(10)), ([], b""))

    def test_connectionsHaveTheOptionsThatTheirPortPassesOn(self) -> None:
        self.call()                                             # it waits before the options are set
        options = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 65536))
        self.port.passOn(options)
        self.turn()
        self.assertEqual((len(self.made), self.made[-1].transport.inherited), (1, ()))
        _, transport, _ = self.connected()
        self.assertIs(transport.inherited, options)
        for level, name, value in options:
            self.assertEqual(transport.socket.getsockopt(level, name), value)

    def test_aPortAcceptsNoMoreInATurnThanItMay(self) -> None:
        self.port.mostAccepts = 2
        for _ in range(7):
            self.call()
        self.port.numberAccepts = 7
        self.port.doRead()
        self.assertEqual(len(self.made), 2)

    def test_whatIsSentAtOnceFollowsWhatWasWritten(self) -> None:
        caller, transport, _ = self.connected()
        transport.sendAtOnce(b"one ")
        transport.write(b"two ")
        transport.sendAtOnce(b"three")
        transport.loseConnection()
        transport.sendAtOnce(b", and a postscript")
        for _ in range(3):
            self.turn()
        self.assertEqual((caller.recv(99), caller.recv(9)), (b"one two three, and a postscript", b""))

    def test_whatTheNetworkDoesNotTakeIsSentLater(self) -> None:
        caller, transport, _ = self.connected()
        transport.sendAtOnce(bytes(20_000_000))
        self.assertTrue(transport.dataBuffer or transport._tempDataLen)
        received = 0
        while received < 20_000_000:
            self.turn()
            received += len(caller.recv(1 << 20))

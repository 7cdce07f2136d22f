"""
What is written is on the network before the reactor has its next turn.
"""

from __future__ import annotations

import os
import socket
from typing import Any
from unittest.mock import patch

from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.certificates import authority, edge
from tests.transport.test_websocket import Collect, factoryOf
from tunnelstack.testing import Wire
from tunnelstack.transport.direct_write import immediateWrite
from tunnelstack.transport.tls import clientContext, serverContext, tlsFactory


class _Reactor:
    """
    Remembers who wants to write.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.writers: set[Any] = set()

    def addWriter(self, writer: Any) -> None:
        self.asked += 1
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def removeReader(self, reader: Any) -> None:
        pass

    addReader = removeReader


class _Producer:
    """
    Is told of pressure.
    """

    paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    stopProducing = pauseProducing


class PromptTests(SynchronousTestCase):
    """
    Twisted's own connection over a pair of sockets, without a reactor that runs.
    """

    def setUp(self) -> None:
        self.near, self.far = socket.socketpair()
        for end in (self.near, self.far):
            end.setblocking(False)
            self.addCleanup(end.close)
        self.reactor = _Reactor()
        self.transport: Any = Connection(self.near, Protocol(), self.reactor)
        self.transport.connected = 1
        self.write = immediateWrite(self.transport)

    def arrived(self) -> bytes:
        """
        All that has come to the other end.
        """
        pieces = []
        try:
            while piece := self.far.recv(1 << 20):
                pieces.append(piece)
        except BlockingIOError:
            pass
        return b"".join(pieces)

    def test_itLeavesAtOnceAndAsksNobody(self) -> None:
        self.write(b"octets")
        self.assertEqual(self.arrived(), b"octets")
        self.assertEqual(self.reactor.asked, 0)

    def test_whatWaitsGoesFirst(self) -> None:
        self.transport.write(b"first, ")
        self.write(b"second")
        self.assertEqual(self.arrived(), b"")
        self.assertIsNone(self.transport.doWrite())
        self.assertEqual(self.arrived(), b"first, second")
        self.write(b", third")
        self.assertEqual(self.arrived(), b", third")

    def test_theRestIsLeftToTheReactorAndPressureIsTold(self) -> None:
        producer = _Producer()
        self.transport.registerProducer(producer, True)
        octets = bytes(range(256)) * 32768
        self.write(octets)
        self.assertEqual(self.reactor.writers, {self.transport})
        self.assertTrue(producer.paused)
        received = b""
        while self.reactor.writers:
            self.assertIsNone(self.transport.doWrite())
            received += self.arrived()
        self.assertEqual(received, octets)
        self.assertFalse(producer.paused)

    def test_nothingLeavesBehindAnEnd(self) -> None:
        self.transport.loseConnection()
        self.write(b"octets")
        self.assertEqual(self.arrived(), b"")

    def test_nothingLeavesBehindAHalfClose(self) -> None:
        self.transport.loseWriteConnection()
        self.transport.doWrite()
        self.write(b"octets")
        self.assertEqual(self.arrived(), b"")

    def test_anErrorIsMetByTheReactor(self) -> None:
        self.far.close()
        self.write(b"octets")
        self.assertEqual(self.reactor.writers, {self.transport})
        self.assertIsInstance(self.transport.doWrite(), Exception)

    def test_aConnectionThatHasTurnedToTLSWritesByItself(self) -> None:
        written: list[bytes] = []
        self.transport.TLS = True
        self.transport.write = written.append
        self.write(b"octets")
        self.assertEqual((written, self.arrived()), ([b"octets"], b""))

    def test_whatCannotBeHurriedIsNot(self) -> None:
        near = Wire().near
        self.assertEqual(immediateWrite(near), near.write)

    def test_aWrapperIsAskedForWhatLiesBelow(self) -> None:
        class Wrapper:
            def immediateWrite(wrapper) -> Any:
                return immediateWrite(self.transport)

        immediateWrite(Wrapper())(b"octets")
        self.assertEqual(self.arrived(), b"octets")


class EncryptingTests(SynchronousTestCase):
    """
    TLS over a transport.
    """

    def setUp(self) -> None:
        self.wire, self.near, self.far = Wire(), Collect(), Collect()
        server = tlsFactory(serverContext(edge()), False, factoryOf(self.far), self.wire.clock)
        context = clientContext("edge.example", ca=[authority().certificate])
        client = tlsFactory(context, True, factoryOf(self.near), self.wire.clock)
        self.wire.connect(client.buildProtocol(None), server.buildProtocol(None))
        self.write = immediateWrite(self.near.transport)

    def test_octetsLeaveAtOnceAndInOrder(self) -> None:
        self.wire.settle()
        octets, below = os.urandom(100_000), self.near.transport.transport
        written: list[bytes] = []
        with patch.object(below, "write", written.append):
            write = immediateWrite(self.near.transport)
            write(octets)
        self.assertEqual(len(written), 1)
        below.write(written[0])
        self.write(b"x")
        self.wire.settle()
        self.assertEqual(self.far.got, octets + b"x")

    def test_nothingIsSentThroughWhatIsBelow(self) -> None:
        self.wire.settle()
        sent: list[bytes] = []
        below = type(self.near.transport.transport)
        with patch.object(below, "sendAtOnce", lambda transport, octets: sent.append(octets), create=True):
            immediateWrite(self.near.transport)(b"a secret")
        self.assertEqual(len(sent), 1)
        self.assertNotIn(b"a secret", sent[0])

    def test_octetsStayBehindThoseThatWait(self) -> None:
        self.write(b"before the handshake, ")
        self.wire.settle()
        self.near.transport.write(b"for the next turn, ")
        self.write(b"now")
        self.wire.settle()
        self.assertEqual(self.far.got, b"before the handshake, for the next turn, now")

    def test_nothingLeavesBehindAnEnd(self) -> None:
        self.wire.settle()
        self.near.transport.loseConnection()
        self.write(b"octets")
        self.wire.settle()
        self.assertEqual(self.far.got, b"")

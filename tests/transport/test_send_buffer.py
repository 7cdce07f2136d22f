"""
The send buffers below a writer are known, and are kept short.
"""

from __future__ import annotations

import socket
from typing import Any
from unittest import SkipTest

from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.test_direct_write import _Producer, _Reactor
from tunnelstack.testing import Wire
from tunnelstack.transport.direct_write import immediateWrite
from tunnelstack.transport.send_buffer import (
    NOTSENT_LOWAT,
    TWISTED_BUFFER,
    SendBuffer,
    SocketBuffer,
    sendBuffer,
)

KIB = 1024


def pair() -> tuple[socket.socket, socket.socket]:
    """
    Two ends of a TCP connection on loopback.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    for end in (near, far):
        end.setblocking(False)
    return near, far


class SocketBufferTests(SynchronousTestCase):
    """
    Twisted's own connection over TCP, without a reactor that runs.
    """

    def setUp(self) -> None:
        self.near, self.far = pair()
        self.addCleanup(self.near.close)
        self.addCleanup(self.far.close)
        self.reactor = _Reactor()
        self.transport: Any = Connection(self.near, Protocol(), self.reactor)
        self.transport.connected = 1
        self.producer = _Producer()
        self.transport.registerProducer(self.producer, True)

    def fill(self) -> int:
        """
        Write 4 KiB at a time until the producer is paused.

        @return: octets that the kernel took.
        """
        write, written = immediateWrite(self.transport), 0
        while not self.producer.paused:
            write(bytes(4 * KIB))
            written += 4 * KIB
        return written - len(self.transport.dataBuffer) - self.transport._tempDataLen

    def test_aWriterIsPausedAsSoonAsTheKernelRefuses(self) -> None:
        buffer = sendBuffer(self.transport)
        self.assertIsInstance(buffer, SocketBuffer)
        self.fill()
        waiting = len(self.transport.dataBuffer) + self.transport._tempDataLen
        self.assertTrue(0 < waiting <= 4 * KIB, waiting)

    def test_bothWaysToWriteAskWhetherTheBufferIsFull(self) -> None:
        """
        C{SocketBuffer} replaces a private method of Twisted.  If this fails, Twisted pauses producers in another way now.
        """
        self.assertEqual(self.transport._isSendBufferFull.__func__, FileDescriptor._isSendBufferFull)
        self.assertIs(self.transport.bufferSize, FileDescriptor.bufferSize)
        self.assertEqual(self.transport.bufferSize, TWISTED_BUFFER)
        for write in (self.transport.write, lambda octets: self.transport.writeSequence([octets])):
            asked: list[bool] = []
            self.transport._isSendBufferFull = lambda asked=asked: asked.append(True) or True
            self.producer.paused = False
            write(b"x")
            self.assertEqual((asked, self.producer.paused), ([True], True))

    def test_theBoundOfTwistedIsKeptUnlessThereIsAnother(self) -> None:
        sendBuffer(self.transport)
        full = self.transport._isSendBufferFull
        self.transport._tempDataLen = 1
        self.assertTrue(full())
        over = SocketBuffer(self.transport, False)
        self.transport._tempDataLen = TWISTED_BUFFER
        self.assertEqual(self.transport._isSendBufferFull(), FileDescriptor._isSendBufferFull(self.transport))
        self.transport._tempDataLen += 1
        self.assertTrue(self.transport._isSendBufferFull() and FileDescriptor._isSendBufferFull(self.transport))
        self.transport._tempDataLen = 100
        over.bound(99, 16 * KIB)
        self.assertTrue(self.transport._isSendBufferFull())
        over.bound(100, 16 * KIB)
        self.assertFalse(self.transport._isSendBufferFull())
        self.transport._tempDataLen = 0

    def test_theSizeOfTheBufferIsThatOfReadsAsWell(self) -> None:
        """
        Once it is not, C{bufferSize} can be set instead of the private method.
        """
        read: list[int] = []

        class Reading:
            def recv(self, octets: int) -> bytes:
                read.append(octets)
                return b""

        self.transport.socket, kept = Reading(), self.transport.socket
        self.transport.bufferSize = 1
        self.transport.doRead()
        self.transport.socket = kept
        self.assertEqual(read, [1])

    def test_theKernelKeepsLittleUnsent(self) -> None:
        if NOTSENT_LOWAT is None:
            raise SkipTest("this system has no TCP_NOTSENT_LOWAT")
        buffer = sendBuffer(self.transport)
        buffer.bound(64 * KIB, 16 * KIB)
        self.fill()
        unsent = buffer.unsent()
        if unsent is None:
            raise SkipTest("this system does not report what is unsent")
        self.assertTrue(16 * KIB <= unsent <= (16 + 64) * KIB, unsent)     # a segment may begin below the bound
        self.assertGreaterEqual(buffer.unacknowledged(), unsent)

    def test_theSendBufferIsLeftToTheKernel(self) -> None:
        before = self.near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        sendBuffer(self.transport).bound(64 * KIB, 16 * KIB)
        self.fill()
        self.assertGreaterEqual(self.near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF), before)

    def test_smallChangesAreNotWorthACall(self) -> None:
        buffer: Any = sendBuffer(self.transport)
        calls: list[int] = []

        class Counting:
            def setsockopt(self, level: int, option: int, value: int) -> None:
                calls.append(value)

        buffer._socket = Counting()
        for unsent in (16_384, 17_000, 15_000, 20_479, 20_481, 30_000, 25_000, 14_000):
            buffer.bound(64 * KIB, unsent)
        self.assertEqual(calls, [16_384, 20_481, 30_000, 14_000] if NOTSENT_LOWAT is not None else [])

    def test_aClosedSocketIsNoError(self) -> None:
        buffer = sendBuffer(self.transport)
        self.near.close()
        buffer.bound(64 * KIB, 1000)
        self.assertEqual((buffer.unacknowledged(), buffer.unsent()), (0, None))


class OtherTransportTests(SynchronousTestCase):
    """
    Transports that are not on a socket, and TLS.
    """

    def test_ofAnyOtherTransportNothingIsKnown(self) -> None:
        wire = Wire()
        wire.connect(Protocol(), Protocol())
        for transport in (wire.near, object()):
            buffer = sendBuffer(transport)
            buffer.bound(1, 1)
            self.assertEqual((buffer.unacknowledged(), buffer.unsent()), (0, None))

    def test_aTransportMaySayItself(self) -> None:
        own = SendBuffer()

        class Transport:
            def sendBuffer(self) -> SendBuffer:
                return own

        self.assertIs(sendBuffer(Transport()), own)

    def test_aWriterOverTLSIsPausedAboveABatch(self) -> None:
        near, far = pair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        connection: Any = Connection(near, Protocol(), _Reactor())
        connection.connected = 1
        producer = _Producer()
        connection.registerProducer(producer, True)
        tls = TLSMemoryBIOProtocol(Factory(), Protocol(), False)
        tls.transport = connection
        buffer = sendBuffer(tls)
        buffer.bound(8 * KIB, 16 * KIB)
        connection.write(bytes(8 * KIB))
        self.assertFalse(producer.paused)
        connection.write(b"x")
        self.assertTrue(producer.paused)

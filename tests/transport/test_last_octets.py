"""
The kind of F06: an answer that is in the socket when a write fails.  It is read before the loss is reported, whatever the order
in which the reactor meets the reset: while reading is paused, in a write, or both.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tunnelstack.transport.last_octets import MOST_OCTETS, readBeforeLoss

RESET = struct.pack("ii", 1, 0)


class Client(Protocol):
    """
    Collects, and remembers the order of what happened.
    """

    transport: Any
    intercept = True

    def __init__(self) -> None:
        self.got = b""
        self.reason: Any = None

    def connectionMade(self) -> None:
        if self.intercept:
            readBeforeLoss(self.transport)

    def dataReceived(self, data: bytes) -> None:
        assert self.reason is None
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


class LastOctetsTests(TestCase):
    """
    L{readBeforeLoss}.
    """

    timeout = 60

    @inlineCallbacks
    def meet(self, octets: bytes, kind: type[Client] = Client) -> Any:
        """
        A connection that does not read; the peer has sent C{octets}, and a reset behind them.
        """
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listening.getsockname()[1])
        client: Any = yield endpoint.connect(Factory.forProtocol(kind))
        client.transport.pauseProducing()
        peer, _ = listening.accept()
        peer.sendall(octets)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        return client

    @inlineCallbacks
    def writeUntilLost(self, client: Any) -> Any:
        """
        @return: the type of the loss.
        """
        while client.reason is None:
            client.transport.write(b"more of the body")
            yield deferLater(reactor, 0)
        return client.reason.type

    @inlineCallbacks
    def test_aWriteFails(self) -> Any:
        client = yield self.meet(b"HTTP/1.1 413 Content Too Large\r\n\r\n")
        reason = yield self.writeUntilLost(client)
        self.assertEqual(client.got, b"HTTP/1.1 413 Content Too Large\r\n\r\n")
        self.assertIs(reason, ConnectionLost)

    @inlineCallbacks
    def test_twistedDropsTheLastOctets(self) -> Any:
        """
        Twisted itself drops the octets; when that changes, this component has no use any more.
        """
        client = yield self.meet(b"HTTP/1.1 413 Content Too Large\r\n\r\n", type("Plain", (Client,), {"intercept": False}))
        yield self.writeUntilLost(client)
        self.assertEqual(client.got, b"")

    @inlineCallbacks
    def test_noMoreThanTheBoundIsRead(self) -> Any:
        client = yield self.meet(bytes(100_000))
        client.transport.bufferSize = 1000
        yield self.writeUntilLost(client)
        self.assertEqual(len(client.got), 100_000)
        self.assertLess(100_000, MOST_OCTETS)

    @inlineCallbacks
    def test_aProtocolMayAbortInBetween(self) -> Any:
        """
        A protocol that has heard enough may abort; the loss is reported once.
        """

        class Aborting(Client):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.transport.abortConnection()

        client = yield self.meet(b"x" * 10_000, Aborting)
        client.transport.bufferSize = 1000
        yield self.writeUntilLost(client)
        self.assertEqual(len(client.got), 1000)
        yield deferLater(reactor, 0)

    @inlineCallbacks
    def test_ourOwnAbortReadsNothing(self) -> Any:
        client = yield self.meet(b"answer")
        client.transport.abortConnection()
        reason = yield self.writeUntilLost(client)
        self.assertIs(reason, ConnectionAborted)
        self.assertEqual(client.got, b"")

    def test_otherTransportsAreLeftAlone(self) -> None:
        transport = StringTransport()
        readBeforeLoss(transport)
        self.assertNotIn("connectionLost", vars(transport))

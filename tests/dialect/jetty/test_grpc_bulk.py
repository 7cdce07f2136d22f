"""
Bodies of any length pass by gRPC in constant memory: 64 MiB, and 1 GiB with C{TUNNELSTACK_SOAK=1}.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.dialect.jetty.grpc_support import Pair
from tests.exchange.doubles import Server
from tests.promises.exchanges import Pressed
from tunnelstack.interfaces import IExchangeReceiver
from tunnelstack.records import HTTPPurpose
from tunnelstack.testing import Network
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

SIZE = (1024 if os.environ.get("TUNNELSTACK_SOAK") == "1" else 64) << 20
PIECE = bytes(range(256)) * 256
MOST = 4 << 20
"""Octets that both ends and the network may hold for one body."""


@implementer(IExchangeReceiver)
class Counter:
    """
    Counts a body, which is the same piece again and again.
    """

    def __init__(self) -> None:
        self.count = 0
        self.whole = False
        self.failure: Any = None
        self.head: Any = None

    def informational(self, head: Any) -> None:
        pass

    def headReceived(self, head: Any) -> None:
        self.head = head

    def bodyReceived(self, octets: bytes) -> None:
        at = self.count % 256
        assert octets == (PIECE[at:] + PIECE)[: len(octets)]
        self.count += len(octets)

    def ended(self, trailers: Any) -> None:
        self.whole = True

    def failed(self, reason: Any) -> None:
        self.failure = reason


class Counting(Server):
    """
    Counts the bodies of requests.
    """

    def exchangeReceived(self, head: Any, exchange: Any) -> Any:
        counter = Counter()
        self.asked.append((head, exchange, counter))       # type: ignore[arg-type]
        return counter


class BulkTests(SynchronousTestCase):
    """
    One body each way.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.pair = Pair(self.network)
        self.server = Counting()
        link = self.pair.connect(self.server)
        self.network.settle()
        self.link = self.successResultOf(link)
        self.addCleanup(self.network.settle)
        self.addCleanup(self.link.abort, "the test is over")
        self.receiver = Counter()
        self.exchange = self.pair.tunnel.exchange(HTTPPurpose(), self.receiver)

    def pump(self, write: Any, producer: Pressed, counter: Any) -> None:
        """
        Write a body as fast as it is taken.
        """
        written = highest = 0
        while written < SIZE:
            while not producer.paused and written < SIZE:
                write(PIECE)
                written += len(PIECE)
            self.network.settle()
            highest = max(highest, written - counter().count)
            self.assertLess(highest, MOST)

    def test_aRequestOfAnyLengthPasses(self) -> None:
        producer = Pressed()
        self.exchange.registerProducer(producer, True)
        self.exchange.sendHead(RequestHead(b"POST", b"/", [(b"Host", b"a"), (b"Content-Length", b"%d" % SIZE)]))
        self.network.settle()
        self.pump(self.exchange.write, producer, lambda: self.server.asked[0][2])
        self.exchange.end()
        self.network.settle()
        counter: Any = self.server.asked[0][2]
        self.assertEqual((counter.count, counter.whole, counter.failure), (SIZE, True, None))

    def test_aResponseOfAnyLengthPasses(self) -> None:
        self.exchange.sendHead(RequestHead(b"GET", b"/", [(b"Host", b"a")]))
        self.exchange.end()
        self.network.settle()
        producer = Pressed()
        server = self.server.asked[0][1]
        server.registerProducer(producer, True)
        server.sendHead(ResponseHead(200, b"OK", []))
        self.pump(server.write, producer, lambda: self.receiver)
        server.unregisterProducer()
        server.end()
        self.network.settle()
        self.assertEqual((self.receiver.count, self.receiver.whole, self.receiver.failure), (SIZE, True, None))

"""
The promises of exchanges over HTTP/2, alone and with HTTP/1.1 in front, between and behind.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.exchange.doubles import Server, Wires, settle
from tests.promises.exchanges import ExchangePromises
from tunnelstack.exchange.forward import Forwarder
from tunnelstack.exchange.http2_pool import HTTP2ExchangePool
from tunnelstack.exchange.http2_server import HTTP2ServerConnection
from tunnelstack.exchange.pending import PendingExchange
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.server import HTTPServerProtocol


class HTTP2Tests(ExchangePromises, SynchronousTestCase):
    """
    HTTP/2 over one connection.
    """

    cut: int | None = None

    def connectExchanges(self) -> None:
        self.clock = Clock()
        self.server = Server()
        self.wires = self.http2(self.server)
        self.pool = self.begin(self.wires)
        self.open = self.pool.exchange
        self.settle = lambda: settle(*self.parts())
        self.sever = lambda: [wire.near.abortConnection() for wire in self.wires.wires]

    def parts(self) -> list[Wires]:
        return [self.wires]

    def begin(self, wires: Wires) -> Any:
        return HTTP2ExchangePool(wires, clock=self.clock)

    def http2(self, server: Any) -> Wires:
        return Wires(self.clock, lambda: HTTP2ServerConnection(server, clock=self.clock).protocol, self.cut)

    def http1(self, server: Any) -> Wires:
        return Wires(self.clock, lambda: HTTPServerProtocol(server, clock=self.clock), self.cut)


class CutHTTP2Tests(HTTP2Tests):
    cut = 1000


class PendingTests(HTTP2Tests):
    """
    An exchange that is attached to one of HTTP/2 when everything was said.
    """

    def connectExchanges(self) -> None:
        super().connectExchanges()
        self.pending: list[PendingExchange] = []
        self.settle = self.attachAndSettle

    def open(self, receiver: Any) -> PendingExchange:           # type: ignore[override]
        exchange = PendingExchange(receiver)
        self.pending.append(exchange)
        return exchange

    def begin(self, wires: Wires) -> Any:
        self.carriers = super().begin(wires)
        return self

    @property
    def exchange(self) -> Any:
        return self.open

    def attachAndSettle(self) -> None:
        waiting, self.pending = self.pending, []
        for exchange in waiting:
            exchange.attach(self.carriers.exchange)
        settle(*self.parts())

    def test_aBodyLongerThanItsLengthIsADefect(self) -> None:
        """
        It is known once the exchange is attached.
        """


class HTTP1BehindTests(HTTP2Tests):
    """
    A visitor of HTTP/2, and a server of HTTP/1.1.
    """

    between = True

    def connectExchanges(self) -> None:
        super().connectExchanges()
        self.far = self.http1(self.server)
        pool = ExchangePool(self.far, clock=self.clock)
        self.wires = self.http2(Forwarder(pool.exchange))
        self.open = self.begin(self.wires).exchange

    def parts(self) -> list[Wires]:
        return [self.wires, self.far]


class HTTP1InFrontTests(HTTP1BehindTests):
    """
    A visitor of HTTP/1.1, and a server of HTTP/2.
    """

    def connectExchanges(self) -> None:
        HTTP2Tests.connectExchanges(self)
        self.far = self.http2(self.server)
        pool = HTTP2ExchangePool(self.far, clock=self.clock)
        self.wires = self.http1(Forwarder(pool.exchange))
        self.open = ExchangePool(self.wires, clock=self.clock).exchange


class HTTP1BetweenTests(HTTP2Tests):
    """
    As edge and agent: HTTP/2 on both sides, HTTP/1.1 between them.
    """

    between = True

    def connectExchanges(self) -> None:
        super().connectExchanges()
        self.last = self.http2(self.server)
        agent = Forwarder(HTTP2ExchangePool(self.last, clock=self.clock).exchange)
        self.middle = self.http1(agent)
        edge = Forwarder(ExchangePool(self.middle, clock=self.clock).exchange)
        self.wires = self.http2(edge)
        self.open = self.begin(self.wires).exchange

    def parts(self) -> list[Wires]:
        return [self.wires, self.middle, self.last]

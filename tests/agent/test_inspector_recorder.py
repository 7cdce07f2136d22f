"""
The bounds of what an inspector keeps, for any order of events; and exchanges that are recorded keep all promises of exchanges.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.exchange.doubles import Server, Wires, settle
from tests.promises.exchanges import ExchangePromises
from tunnelstack.agent.inspector.capture import CapturingServer
from tunnelstack.agent.inspector.recorded_request import RecordedMessage, RecordedRequest
from tunnelstack.agent.inspector.recorder import RequestRecorder
from tunnelstack.control.config.records import InspectConfig
from tunnelstack.control.request_times import RequestTimes
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.interfaces import IExchangeReceiver, IServerExchange
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

REQUESTS, OCTETS, BODY = 8, 2**20, 200_000


def stoppedTimes() -> RequestTimes:
    """
    The steps of a request for which no time passes.
    """
    times = RequestTimes()
    times.now = lambda: 0.0
    return times


class _Exchange:
    """
    An exchange as the recorder sees it.
    """

    def __init__(self) -> None:
        self.context = stoppedTimes()


class RecorderMachine(RuleBasedStateMachine):
    """
    Requests begin, receive and end in any order.
    """

    def __init__(self) -> None:
        super().__init__()
        config = InspectConfig(enabled=True, requests=REQUESTS, octets=OCTETS, bodyOctets=BODY)
        self.recorder = RequestRecorder(config, lambda: 0.0)
        self.open: list[tuple[Any, RecordedRequest]] = []
        self.begun = 0

    @rule(octets=st.integers(0, 250_000))
    def begin(self, octets: int) -> None:
        exchange: Any = _Exchange()
        head = RequestHead(b"GET", b"/", [(b"X-Long", bytes(octets))])
        self.open.append((exchange, self.recorder.begin("site", head, exchange)))
        self.begun += 1

    @rule(which=st.integers(0, 20), octets=st.integers(0, 300_000), isRequest=st.booleans())
    def body(self, which: int, octets: int, isRequest: bool) -> None:
        if self.open:
            request = self.open[which % len(self.open)][1]
            body = request.requestBody if isRequest else request.responseBody
            before = body.octets
            self.recorder.bodyReceived(request, body, bytes(octets))
            assert body.octets == before + octets
            assert len(body.kept) <= BODY
            assert body.cut or request.forgotten or len(body.kept) == body.octets

    @rule(which=st.integers(0, 20), octets=st.integers(0, BODY), count=st.integers(1, 20))
    def messages(self, which: int, octets: int, count: int) -> None:
        if self.open:
            for _ in range(count):
                message = RecordedMessage("server", 0.0, "binary", octets, bytes(octets), False)
                self.recorder.messageReceived(self.open[which % len(self.open)][1], message)

    @rule(which=st.integers(0, 20))
    def head(self, which: int) -> None:
        if self.open:
            self.recorder.responseBegun(self.open[which % len(self.open)][1], ResponseHead(200, b"", [(b"X", bytes(9000))]))

    @rule(which=st.integers(0, 20))
    def end(self, which: int) -> None:
        if self.open:
            exchange, request = self.open.pop(which % len(self.open))
            self.recorder.ended(exchange, 1.0)
            assert request.state != "open"

    @rule()
    def forget(self) -> None:
        self.recorder.forgetEnded()
        assert all(request.state == "open" for request in self.recorder.requests.values())

    @invariant()
    def isBounded(self) -> None:
        recorder = self.recorder
        kept = recorder.requests
        assert len(kept) <= REQUESTS
        assert recorder.octets == sum(request.size for request in kept.values())
        assert recorder.octets <= OCTETS or len(kept) == 1
        assert recorder.forgotten + len(kept) == self.begun
        assert list(kept) == sorted(kept)
        assert len(recorder.captures) == len(self.open)


RecorderTests = RecorderMachine.TestCase


class _Recorded:
    """
    Gives exchanges their times, as the agent does.
    """

    def __init__(self, server: CapturingServer) -> None:
        self._server = server

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        exchange.context = stoppedTimes()
        return self._server.exchangeReceived(head, exchange)


class RecordedExchangeTests(ExchangePromises, SynchronousTestCase):
    """
    HTTP/1.1 over a connection, recorded.
    """

    cut: int | None = None

    def connectExchanges(self) -> None:
        self.clock = clock = Clock()
        self.server = Server()
        recorder = RequestRecorder(InspectConfig(enabled=True, bodyOctets=10), lambda: 0.0)
        server: Any = _Recorded(CapturingServer(self.server, recorder, "site"))
        done = lambda exchange, now: recorder.ended(exchange, 0.0)  # noqa: E731
        wires = Wires(clock, lambda: HTTPServerProtocol(server, clock=clock, done=done), self.cut)
        self.open = ExchangePool(wires, clock=clock).exchange
        self.settle = lambda: settle(wires)
        self.sever = lambda: [wire.near.abortConnection() for wire in wires.wires]


class CutRecordedExchangeTests(RecordedExchangeTests):
    """
    The same, cut into single octets.
    """

    cut = 1

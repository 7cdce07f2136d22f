"""
A model of lanes: whatever visitors, local servers and networks do, each exchange gets its own octets, and ends once.
"""

from __future__ import annotations

from typing import Any

from attrs import define, evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.dialect.jetty.grpc_support import Pair
from tests.exchange.doubles import Recorder, Server
from tunnelstack.dialect.jetty.grpc_edge import EDGE_LIMITS
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.records import HTTPPurpose, Visitor
from tunnelstack.testing import Network
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

LANES = 5
LIMITS = evolve(EDGE_LIMITS, lanes_initial=2, lanes_min_idle=1, lanes_max=LANES, lane_max_exchanges=4, max_chunk_bytes=1000)
NUMBERS = st.integers(0, 1 << 16)


@define(eq=False)
class Model:
    """
    What is known of one exchange.

    @ivar asked: the octets of the request so far.
    @ivar answered: those of the response.
    """

    exchange: Any
    receiver: Recorder
    asked: bytes = b""
    answered: bytes = b""
    askedWhole: bool = False
    answeredWhole: bool = False
    responding: bool = False
    paused: bool = False
    cancelled: bool = False

    @property
    def over(self) -> bool:
        return self.cancelled or self.receiver.trailers is not None or self.receiver.failure is not None


class Lanes(RuleBasedStateMachine):
    """
    An edge and an agent, with few lanes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(700)
        self.pair = Pair(self.network, limits=LIMITS)
        self.server = Server()
        link = self.pair.connect(self.server)
        self.network.settle()
        self.link: Any = link.result
        self.models: list[Model] = []

    def live(self) -> list[Model]:
        return [each for each in self.models if not each.over]

    def pick(self, number: int) -> Model:
        live = self.live()
        return live[number % len(live)]

    def served(self, model: Model) -> Any:
        """
        @return: the exchange at the local server and the body of the request there; C{(None, None)} if it has not arrived.
        """
        number = b"%d" % self.models.index(model)
        found = [(exchange, body) for head, exchange, body in self.server.asked if head.field(b"x-number") == number]
        return found[-1] if found else (None, None)

    # What visitors do

    @rule()
    def ask(self) -> None:
        if len(self.live()) >= 2 * LANES:
            return
        receiver = Recorder()
        exchange = self.pair.tunnel.exchange(HTTPPurpose(), receiver, Visitor(trace=f"r{len(self.models)}"))
        self.models.append(Model(exchange, receiver))
        fields = [(b"Host", b"a"), (b"X-Number", b"%d" % (len(self.models) - 1)), (b"Transfer-Encoding", b"chunked")]
        exchange.sendHead(RequestHead(b"POST", b"/", fields))
        self.network.settle()

    @precondition(lambda self: self.live())
    @rule(number=NUMBERS, size=st.integers(1, 5000))
    def write(self, number: int, size: int) -> None:
        model = self.pick(number)
        if not model.askedWhole:
            octets = bytes((number + at) % 256 for at in range(size))
            model.asked += octets
            model.exchange.write(octets)
            self.network.settle()

    @precondition(lambda self: self.live())
    @rule(number=NUMBERS)
    def end(self, number: int) -> None:
        model = self.pick(number)
        if not model.askedWhole:
            model.askedWhole = True
            model.exchange.end()
            self.network.settle()

    @precondition(lambda self: self.live())
    @rule(number=NUMBERS)
    def giveUp(self, number: int) -> None:
        model = self.pick(number)
        model.cancelled = True
        model.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.network.settle()

    @precondition(lambda self: self.live())
    @rule(number=NUMBERS, paused=st.booleans())
    def pause(self, number: int, paused: bool) -> None:
        model = self.pick(number)
        model.paused = paused
        (model.exchange.pauseProducing if paused else model.exchange.resumeProducing)()
        self.network.settle()

    # What local servers do

    @precondition(lambda self: self.live())
    @rule(number=NUMBERS, size=st.integers(0, 5000), last=st.booleans())
    def answer(self, number: int, size: int, last: bool) -> None:
        model = self.pick(number)
        server, _ = self.served(model)
        if server is None or server.finished:
            return
        if not model.responding:
            model.responding = True
            server.sendHead(ResponseHead(200, b"OK", []))
        octets = bytes((number * 3 + at) % 256 for at in range(size))
        model.answered += octets
        server.write(octets)
        if last:
            model.answeredWhole = True
            server.end()
        self.network.settle()

    @precondition(lambda self: self.live())
    @rule(number=NUMBERS)
    def breakOff(self, number: int) -> None:
        model = self.pick(number)
        server, _ = self.served(model)
        if server is not None and not server.finished and model.responding:
            server.cancel(FailureKind.BROKEN)
            self.network.settle()
            if not model.paused:
                assert model.receiver.failure is not None

    # What networks do

    @rule(number=NUMBERS)
    def loseAnIdleLane(self, number: int) -> None:
        idle = self.pair.tunnel._idle.lanes()
        if idle:
            idle[number % len(idle)].reset()
            self.network.settle()

    @rule(number=NUMBERS)
    def retireAnIdleLane(self, number: int) -> None:
        idle = self.link._lanes.idleLanes()
        if idle:
            idle[number % len(idle)].retire()
            self.network.settle()

    @rule(number=NUMBERS)
    def crossARequestWithTheEndOfItsLane(self, number: int) -> None:
        """
        All idle lanes are retired at the moment at which a request is sent: it is carried all the same.
        """
        for lane in self.link._lanes.idleLanes():
            lane.retire()
        self.ask()

    @rule()
    def wait(self) -> None:
        self.network.passTime(1)

    # What must hold

    @invariant()
    def exchangesHaveTheirOwnOctets(self) -> None:
        for model in self.models:
            receiver, (_, body) = model.receiver, self.served(model)
            assert model.answered.startswith(receiver.body)
            assert body is None or model.asked.startswith(body.body)
            if receiver.trailers is not None:
                assert (receiver.body, receiver.failure) == (model.answered, None)
                assert model.answeredWhole
            if model.answeredWhole and not model.paused and not model.cancelled and receiver.failure is None:
                assert receiver.trailers == []
            if body is not None and model.askedWhole and not model.over and not model.responding:
                assert (body.body, body.trailers) == (model.asked, [])

    @invariant()
    def nothingFailsByItself(self) -> None:
        for model in self.models:
            if model.receiver.failure is not None and not model.responding:
                assert model.receiver.failure.kind is FailureKind.BUSY      # it has waited for a lane too long

    @invariant()
    def lanesAreBounded(self) -> None:
        tunnel = self.pair.tunnel
        assert tunnel.inFlight == len(self.live())
        assert len(tunnel._lanes) <= LANES
        assert self.link._lanes.open <= LANES
        assert self.link.whenLost().called is False

    def teardown(self) -> None:
        for model in self.live():
            model.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.network.settle()
        assert self.pair.tunnel.inFlight == 0
        assert all(server.finished for _, server, _ in self.server.asked)
        self.network.passTime(20)
        receiver = Recorder()
        exchange = self.pair.tunnel.exchange(HTTPPurpose(), receiver)
        exchange.sendHead(RequestHead(b"GET", b"/", [(b"Host", b"a")]))
        exchange.end()
        self.network.settle()
        self.server.asked[-1][1].respond(ResponseHead(200, b"OK", [(b"Content-Length", b"2")]), b"ok")
        self.network.settle()
        assert receiver.body == b"ok"
        self.link.abort("the test is over")
        self.network.settle()


LaneModelTests = Lanes.TestCase
LaneModelTests.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

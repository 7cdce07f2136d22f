"""
How agents register by gRPC, and how sessions live and end.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from tests.dialect.jetty.grpc_support import SESSION, TOKEN, TUNNEL, Sessions, Stranger
from tests.exchange.doubles import Server
from tunnelstack.dialect.jetty.grpc_edge import EDGE_LIMITS
from tunnelstack.dialect.jetty.grpc_tunnel import FINISH_SECONDS, LONELY_SECONDS
from tunnelstack.dialect.jetty.register_pings import PING_SECONDS, SILENT_SECONDS
from tunnelstack.dialect.jetty.registration import STATUS, RegistrationRefused
from tunnelstack.errors import Denied
from tunnelstack.stream.errors import SessionLost
from tunnelstack.wire.grpc import Status
from tunnelstack.wire.records.jetty import REGISTER_SECONDS, VERIFY_SECONDS
from tunnelstack.wire.records.jetty_grpc import (
    FORWARD_RAW_PATH,
    TUNNEL_ID,
    VERSION_FIELD,
    Drain,
    ErrorInfo,
    HTTPChunk,
    LaneDemand,
    Ping,
    Pong,
    RegisterRequest,
    RegisterResponse,
    ResponseHead,
)


class RegistrationTests(Sessions):
    """
    The first message and its answer.
    """

    def test_anAgentIsAnswered(self) -> None:
        register = self.agent.register(agent_version="x/1", instance_id="i-7", max_lanes=20)
        self.assertEqual((register.head or {})[b"jetty-edge-id"], b"edge-a")
        self.assertEqual((register.head or {})[b"jetty-protocol-version"], b"1")
        answer = register.told[0]
        self.assertEqual(
            (answer.session_id, answer.tunnel_id, answer.subdomain, answer.edge_id, answer.protocol_version),
            (SESSION, TUNNEL, "demo", "edge-a", 1),
        )
        self.assertEqual((answer.limits.lanes_max, answer.limits.lanes_initial), (20, 8))
        asked = self.asked[0]
        self.assertEqual(
            (asked.tunnelId, asked.agentToken, asked.transport, asked.agentVersion, asked.instance),
            (TUNNEL, TOKEN, "grpc", "x/1", "i-7"),
        )
        self.assertIsNone(register.result)

    def test_capabilitiesAreThoseOfBoth(self) -> None:
        register = self.agent.register(capabilities=("upgrade/1", "future/9"))
        self.assertEqual(register.told[0].capabilities, ("upgrade/1",))
        self.assertFalse(self.pair.tunnel.traits.trailers)
        self.assertTrue(self.pair.tunnel.traits.upgrade)

    def test_theTokenMayBeMetadata(self) -> None:
        self.agent.register((b"authorization", b"Bearer " + TOKEN.encode()), (TUNNEL_ID, TUNNEL.encode()), agent_token="")
        self.agent.register((b"authorization", b"Bearer " + TOKEN.encode()), (TUNNEL_ID, TUNNEL.encode()))
        self.agent.register((b"authorization", b"bearer " + TOKEN.encode()), (TUNNEL_ID, TUNNEL.encode()), tunnel_id="")
        self.assertEqual([(each.tunnelId, each.agentToken) for each in self.asked], [(TUNNEL, TOKEN)] * 3)

    def test_metadataAndMessageMustMatch(self) -> None:
        for metadata, changes in (
            ((b"authorization", b"Bearer other"), {}), ((TUNNEL_ID, b"other"), {}), ((b"x", b"y"), {"tunnel_id": ""}),
        ):  # fmt: skip
            register = self.agent.register(metadata, **changes)
            self.assertEqual((register.status, register.head), (Status.INVALID_ARGUMENT, None))
        self.assertEqual(self.asked, [])

    def test_eachRefusalHasItsStatus(self) -> None:
        for code, status in STATUS.items():
            self.pair.registrar.refuse = RegistrationRefused(code)
            register = self.agent.register()
            self.assertEqual((register.status, register.head, register.told), (status, None, []))
            self.assertEqual(register.result.message, self.pair.registrar.refuse.sentence)
        self.pair.registrar.refuse = None
        register = self.agent.register(agent_token="old")
        self.assertEqual(register.result.message, 'verify rejected: {"valid":false}')
        self.assertEqual((register.status, self.pair.agents.sessions), (Status.UNAUTHENTICATED, {}))

    def test_aVerifierThatDoesNotAnswerIsUnavailable(self) -> None:
        self.pair.registrar.pending = Deferred()
        register = self.agent.register()
        self.network.passTime(VERIFY_SECONDS + 1)
        self.assertEqual(register.status, Status.UNAVAILABLE)
        self.assertEqual(register.result.message, "laravel verify: unavailable")

    def test_aVerifierWithADefectIsUnavailable(self) -> None:
        self.pair.registrar.pending = Deferred()
        register = self.agent.register()
        self.pair.registrar.pending.errback(RuntimeError("a defect"))
        self.network.settle()
        self.assertEqual(register.status, Status.UNAVAILABLE)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_anAgentThatIsNotAcceptedAtLastIsRefused(self) -> None:
        self.pair.registrar.refuseArrival = RegistrationRefused("too_many_agents")
        register = self.agent.register()
        self.assertEqual((register.status, self.pair.agents.sessions), (Status.RESOURCE_EXHAUSTED, {}))

    def test_anAgentThatGoesWhileItIsVerifiedLeavesNothing(self) -> None:
        self.pair.registrar.pending = Deferred()
        register = self.agent.register()
        register.call.reset()
        self.network.settle()
        self.assertTrue(self.pair.registrar.pending.called)
        self.assertEqual(self.pair.agents.sessions, {})

    def test_whoSaysNothingIsRefused(self) -> None:
        register = self.agent.call(b"/jetty.tunnel.v1.TunnelAgent/Register", RegisterResponse)
        self.network.passTime(REGISTER_SECONDS + 1)
        self.assertEqual(register.status, Status.INVALID_ARGUMENT)
        silent = self.agent.call(b"/jetty.tunnel.v1.TunnelAgent/Register", RegisterResponse)
        silent.call.halfClose()
        self.network.settle()
        self.assertEqual(silent.status, Status.INVALID_ARGUMENT)

    def test_versionZeroIsRefused(self) -> None:
        register = self.agent.register(protocol_version=0)
        self.network.passTime(REGISTER_SECONDS + 1)
        self.assertEqual((register.status, self.asked), (Status.FAILED_PRECONDITION, []))
        self.assertIsNone(self.agent.register((VERSION_FIELD, b"1"), protocol_version=0).result)
        self.assertEqual(self.agent.register(protocol_version=7).told[0].protocol_version, 1)

    def test_whatIsNoMessageIsAnError(self) -> None:
        register = self.agent.call(b"/jetty.tunnel.v1.TunnelAgent/Register", RegisterResponse)
        register.call.send(b"\x0a\xff")
        self.network.settle()
        self.assertEqual(register.status, Status.INTERNAL)
        register = self.agent.call(b"/jetty.tunnel.v1.TunnelAgent/Register", RegisterResponse)
        register.call.send(bytes(70_000))
        self.network.settle()
        self.assertEqual(register.status, Status.RESOURCE_EXHAUSTED)

    def test_aConnectionWithoutACallIsClosed(self) -> None:
        self.network.passTime(14)
        self.assertIsNone(self.agent.connection.lostReason)
        self.network.passTime(5)
        self.assertIsNotNone(self.agent.connection.lostReason)


class UnaryTests(Sessions):
    """
    A client whose C{Register} is unary.
    """

    def register(self) -> Any:
        register = self.agent.register(half=True, protocol_version=0, capabilities=())
        self.assertEqual((register.told[0].session_id, register.status), (SESSION, Status.OK))
        return register

    def test_itsSessionLivesWithItsLanes(self) -> None:
        self.register()
        lane = self.agent.lane()
        self.network.passTime(2 * LONELY_SECONDS)
        self.assertTrue(self.pair.tunnel.healthy)
        lane.call.halfClose()
        self.network.settle()
        self.assertEqual(lane.status, Status.OK)
        self.network.passTime(LONELY_SECONDS - 2)
        self.assertTrue(self.pair.tunnel.healthy)
        self.network.passTime(3)
        self.assertFalse(self.pair.tunnel.healthy)

    def test_itsSessionEndsIfThereIsNeverALane(self) -> None:
        self.register()
        self.network.passTime(LONELY_SECONDS + 1)
        self.assertFalse(self.pair.tunnel.healthy)
        self.assertEqual(Stranger(self.pair).lane().status, Status.FAILED_PRECONDITION)

    def test_itsLanesAreUsed(self) -> None:
        self.register()
        lane = self.agent.lane()
        _, receiver = self.ask()
        self.assertEqual(lane.told[0].request.path, "/")
        lane.send(HTTPChunk(type=1, response=ResponseHead(status=200), end=True))
        self.network.settle()
        self.assertEqual(receiver.heads[0].status, 200)
        self.assertEqual(lane.status, Status.OK)       # it does not announce that lanes can be used again


class SessionTests(Sessions):
    """
    What is said while a session lasts.
    """

    def setUp(self) -> None:
        super().setUp()
        self.register = self.agent.register()
        self.register.told.clear()

    def say(self, control: Any) -> None:
        self.register.send(RegisterRequest(control=control))
        self.network.settle()

    def heard(self) -> list[Any]:
        heard = [each.control for each in self.register.told]
        self.register.told.clear()
        return heard

    def test_pingsAreAnswered(self) -> None:
        self.say(Ping(nonce=7))
        self.assertEqual(self.heard(), [Pong(nonce=7)])

    def test_theEdgeSendsPings(self) -> None:
        self.network.passTime(PING_SECONDS - 1)
        self.assertEqual(self.heard(), [])
        self.network.passTime(2)
        (ping,) = self.heard()
        self.say(Pong(nonce=ping.nonce))
        measured = self.pair.tunnel.ping()
        self.network.settle()
        (ping,) = self.heard()
        self.network.advance(0.5)
        self.say(Pong(nonce=ping.nonce))
        self.assertEqual(self.successResultOf(measured), 0.5)
        self.say(Pong(nonce=99))

    def test_anAgentThatIsSilentIsLost(self) -> None:
        measured = self.pair.tunnel.ping()
        self.network.passTime(SILENT_SECONDS + 1)
        self.failureResultOf(measured, SessionLost)
        self.assertFalse(self.pair.tunnel.healthy)
        self.assertIsNotNone(self.register.result)

    def test_anAgentThatAsksWithoutReadingIsLost(self) -> None:
        self.register.call.pauseProducing()
        for number in range(100_000):
            self.register.send(RegisterRequest(control=Ping(nonce=number + (1 << 60))))
            if number % 1000 == 0:
                self.network.settle()
                if not self.pair.tunnel.healthy:
                    break
        self.assertFalse(self.pair.tunnel.healthy)

    def test_lanesAreDemandedForRequestsThatWait(self) -> None:
        receivers = [self.ask()[1] for _ in range(3)]
        self.assertEqual(self.heard(), [LaneDemand(count=1)] * 3)
        lane = self.agent.lane()
        self.assertEqual(len(lane.told), 1)
        self.network.passTime(3)
        self.assertIsNone(receivers[0].failure)
        for receiver in receivers[1:]:
            assert receiver.failure is not None
            self.assertEqual((receiver.failure.status, receiver.failure.retryAfter), (503, 1))

    def test_anAgentMayAnnounceItsEnd(self) -> None:
        lane = self.agent.lane()
        self.say(Drain(grace_ms=1000))
        self.assertFalse(self.pair.tunnel.healthy)
        self.assertEqual(lane.status, Status.OK)
        self.register.call.halfClose()
        self.network.settle()
        self.assertEqual(self.register.status, Status.OK)
        self.assertTrue(self.pair.tunnel.whenLost().called)

    def test_theEdgeMayAnnounceItsEnd(self) -> None:
        idle, busy = self.agent.lane(), self.agent.lane()
        _, receiver = self.ask()
        self.pair.edge.stopping = True
        drained = self.pair.tunnel.drain()
        self.network.settle()
        drain = self.heard()[0]
        self.assertEqual((drain.grace_ms, drain.reconnect), (30_000, True))
        self.assertEqual((idle.status, busy.status), (Status.OK, None))
        busy.send(HTTPChunk(type=1, response=ResponseHead(status=200), end=True))
        self.network.settle()
        self.assertEqual((receiver.trailers, busy.status, self.register.status), ([], Status.OK, Status.OK))
        self.successResultOf(drained)
        self.network.passTime(5)
        self.assertTrue(self.agent.connection.isLost)

    def test_exchangesMayEndAfterTheSession(self) -> None:
        late, busy, idle = (self.agent.lane() for _ in range(3))
        _, one = self.ask()
        _, other = self.ask()
        self.register.call.reset()
        self.network.settle()
        self.assertTrue(self.pair.tunnel.whenLost().called)
        self.assertEqual(late.status, Status.OK)
        idle.send(HTTPChunk(type=1, response=ResponseHead(status=200), end=True))
        self.network.settle()
        self.assertEqual((one.trailers, other.failure), ([], None))
        self.network.passTime(FINISH_SECONDS + 1)
        self.assertIsNotNone(other.failure)
        self.assertIsNotNone(busy.result)

    def test_anAbortSaysWhy(self) -> None:
        for reason, status, code in (
            (Denied("replaced", "again"), Status.ABORTED, "replaced"), ("stopped", Status.OK, None),
            (RegistrationRefused("no_such_tunnel"), Status.NOT_FOUND, "no_such_tunnel"),
            (Denied("revoked", "gone"), Status.PERMISSION_DENIED, "forbidden"),
        ):  # fmt: skip
            agent = Stranger(self.pair)
            register = agent.register()
            self.pair.tunnel.abort(reason)
            self.network.settle()
            self.assertEqual(register.status, status)
            said = [each.control.code for each in register.told if isinstance(each.control, ErrorInfo)]
            self.assertEqual(said, [code] if code else [])

    def test_lanesComeByAnyConnection(self) -> None:
        other = Stranger(self.pair)
        lane = other.lane()
        self.assertIsNone(lane.result)
        self.ask()
        self.assertEqual(len(lane.told), 1)

    def test_lanesOfNoSessionAreRefused(self) -> None:
        for session in ("", "5e56", SESSION.upper()):
            lane = self.agent.lane(session)
            self.assertEqual((lane.status, lane.head), (Status.FAILED_PRECONDITION, None))
            self.assertEqual(lane.result.message if lane.result else "", "unknown session")
        raw = self.agent.lane("5e56", FORWARD_RAW_PATH)
        self.assertEqual(raw.status, Status.FAILED_PRECONDITION)


class BoundSessionTests(Sessions):
    """
    Sessions that are bound to their connections.
    """

    bind = True

    def test_lanesComeByTheConnectionOfTheSession(self) -> None:
        self.agent.register()
        self.assertIsNone(self.agent.lane().result)
        self.assertEqual(Stranger(self.pair).lane().status, Status.FAILED_PRECONDITION)


class FewLanesTests(Sessions):
    """
    An edge that grants few lanes.
    """

    limits = evolve(EDGE_LIMITS, lanes_max=2)

    def test_moreLanesAreRefused(self) -> None:
        answer = self.agent.register().told[0]
        self.assertEqual((answer.limits.lanes_initial, answer.limits.lanes_min_idle), (2, 2))
        lanes = [self.agent.lane() for _ in range(3)]
        self.assertEqual([lane.status for lane in lanes], [None, None, Status.RESOURCE_EXHAUSTED])
        lanes[0].call.reset()
        self.network.settle()
        self.assertIsNone(self.agent.lane().result)

    def test_aRealAgentKeepsToIt(self) -> None:
        link = self.pair.connect(Server())
        self.network.settle()
        self.addCleanup(self.successResultOf(link).abort, "the test is over")
        for _ in range(2):
            self.ask()
        self.assertEqual(len(self.pair.tunnel._lanes), 2)

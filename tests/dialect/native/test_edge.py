"""
The edge's half of the native dialect, with agents that do what they must not; beside each there is an honest agent, which must
not notice.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.dialect.strangers import CONTROL, HELLO, Stranger, quiet, told
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.dialect.http_entry import AUTHENTICATE_SECONDS
from tunnelstack.dialect.native.control_server import REQUESTS_PER_SECOND
from tunnelstack.dialect.native.edge import NativeDialect
from tunnelstack.dialect.native.protocol import HTTP, MAX_LINE_OCTETS, TCP, WELCOME_SECONDS
from tunnelstack.errors import Denied
from tunnelstack.interfaces import IDialect, IEdge, ITunnel
from tunnelstack.records import HTTPPurpose, SSHPurpose, StreamPurpose, UDPPurpose
from tunnelstack.stream.errors import StreamResetError, UnsupportedPurpose
from tunnelstack.testing import EdgeAndAgent
from tunnelstack.transport.websocket.errors import UpgradeRefused
from tunnelstack.wire.negotiation.multistream.tokens import HEADER, token

UPGRADE = (
    b"GET /_tunnel/1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: tunnelstack.v1\r\n"
)


class Page(Protocol):
    """
    Answers everything.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Hostile(SynchronousTestCase):
    """
    What these tests begin with: an edge, an honest agent with a site, and a stranger who has a token.
    """

    def setUp(self) -> None:
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.both = EdgeAndAgent(ServiceConfig(name="site", target="3000"))
        self.both.network.listenTCP(3000, quiet(Page))
        self.both.start()
        self.strangers: list[Stranger] = []
        self.addCleanup(self.end)

    def end(self) -> None:
        self.assertTrue(self.both.get("site.localhost").startswith(b"HTTP/1.1 200 "), "the honest agent has suffered")
        for stranger in self.strangers:
            stranger.leave()
        self.both.stop()
        self.assertEqual(self.both.network.getDelayedCalls(), [])
        self.assertEqual(self.both.network.wires, [])

    def stranger(self, token: str = "") -> Stranger:
        self.strangers.append(Stranger(self.both, token))
        return self.strangers[-1]

    def arrived(self) -> Stranger:
        stranger = self.stranger().sendRequest().hello()
        self.assertEqual(stranger.heard()[0]["event"], "welcome")
        return stranger

    def warned(self) -> str:
        return "\n".join(str(formatEvent(event)) for event in self.events if event["log_level"].name in ("warn", "error"))


class DoorTests(Hostile):
    """
    Before there is a session.
    """

    def refused(self, octets: bytes) -> bytes:
        caller = self.both.visit(octets)
        if caller.lost is None:
            caller.transport.abortConnection()
            self.both.settle()
        return caller.got

    def test_whoShowsNoTokenIsNotLetIn(self) -> None:
        answer = self.refused(UPGRADE + b"\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n"), answer)
        self.assertIn(b'WWW-Authenticate: Bearer realm="tunnelstack"\r\n', answer)
        self.assertTrue(answer.endswith(b"\r\n\r\nThe token is unknown to this edge.\n"), answer)

    def test_tokensAreTakenInOneFormOnly(self) -> None:
        good = self.both.token.encode()
        for fields in (
            b"Authorization: Basic " + good, b"Authorization: " + good, b"Authorization: Bearer", b"Authorization: Bearer x y",
            b"Authorization: Bearer " + good + b"\r\nAuthorization: Bearer " + good, b"Authorization: Bearer " + good[:-1],
        ):  # fmt: skip
            answer = self.refused(UPGRADE + fields + b"\r\n\r\n")
            self.assertTrue(answer.startswith(b"HTTP/1.1 401 "), (fields, answer))

    def test_aSchemeIsReadInAnyCase(self) -> None:
        caller = self.both.visit(UPGRADE + b"Authorization: bEARER " + self.both.token.encode() + b"\r\n\r\n")
        self.assertTrue(caller.got.startswith(b"HTTP/1.1 101 "), caller.got)
        caller.transport.abortConnection()
        self.both.settle()

    def test_tokensAreNeverLogged(self) -> None:
        secret = "ts_abcd1234_" + "S" * 43
        self.refused(UPGRADE + b"Authorization: Bearer " + secret.encode() + b"\r\n\r\n")
        self.assertIn("refused: the token is unknown", self.warned())
        self.assertIn("abcd1234", self.warned())
        self.assertNotIn("SSSS", repr(self.events))

    def test_anotherVersionIsToldSo(self) -> None:
        connecting = self.stranger().endpoint(("tunnelstack.v9",)).connect(quiet(Protocol))
        self.both.settle()
        error: Any = self.failureResultOf(connecting, UpgradeRefused).value
        self.assertEqual((error.status, error.body), (400, "This path is for agents with the subprotocol tunnelstack.v1.\n"))

    def test_whoIsNoWebSocketIsToldSo(self) -> None:
        answer = self.refused(
            b"GET /_tunnel/1 HTTP/1.1\r\nHost: localhost\r\nSec-WebSocket-Protocol: tunnelstack.v1\r\n"
            b"Authorization: Bearer " + self.both.token.encode() + b"\r\n\r\n"
        )
        self.assertRegex(answer, rb"\AHTTP/1\.1 4\d\d ")

    def test_aSlowAuthenticatorIsWaitedFor(self) -> None:
        real = self.both.edge.agents.authenticator

        class Slow:
            asked: list[Any] = []

            def authenticate(self, claim: Any) -> Deferred[Any]:
                waiting: Deferred[Any] = Deferred()
                self.asked.append((waiting, claim))
                return waiting

        self.both.edge.agents.authenticator = slow = Slow()
        stranger = self.stranger().sendRequest()
        self.both.network.passTime(5)
        self.assertEqual(stranger.session.transport, None)
        waiting, claim = slow.asked[0]
        self.successResultOf(real.authenticate(claim).addCallback(waiting.callback))
        self.both.settle()
        stranger.hello()
        self.assertEqual(stranger.heard()[0]["agent"], "laptop")

        late = self.both.visit(UPGRADE + b"\r\n")             # and not for ever
        self.both.network.passTime(AUTHENTICATE_SECONDS + 1)
        self.assertTrue(late.got.startswith(b"HTTP/1.1 503 "), late.got)

        gone = self.both.visit(UPGRADE + b"\r\n")             # nor when nobody is left
        cancelled = slow.asked[-1][0]
        gone.transport.abortConnection()
        self.both.settle()
        self.assertTrue(cancelled.called)
        self.both.edge.agents.authenticator = real

    def test_anAuthenticatorThatFailsIsNoReasonToLetAnybodyIn(self) -> None:
        real = self.both.edge.agents.authenticator

        class Broken:
            def authenticate(self, claim: Any) -> None:
                raise ZeroDivisionError("no such table")

        self.both.edge.agents.authenticator = Broken()
        answer = self.refused(UPGRADE + b"\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer)
        self.assertNotIn(b"table", answer)
        self.both.edge.agents.authenticator = real

    def test_whatFollowsTheRequestAtOnceIsTheSessions(self) -> None:
        text = b"\x81\x80\x00\x00\x00\x00"                    # an empty text message, which ends it
        caller = self.both.visit(UPGRADE + b"Authorization: Bearer " + self.both.token.encode() + b"\r\n\r\n" + text)
        self.assertTrue(caller.got.startswith(b"HTTP/1.1 101 "), caller.got)
        self.both.network.passTime(6)
        self.assertIsNotNone(caller.lost)


class HelloTests(Hostile):
    """
    The first words.
    """

    def test_whoSaysNothingIsDropped(self) -> None:
        stranger = self.stranger().sendRequest()
        self.both.network.passTime(WELCOME_SECONDS - 1)
        self.assertFalse(stranger.gone)
        self.both.network.passTime(2)
        self.assertTrue(stranger.gone)
        self.assertIn("it did not open a control stream within 10 seconds", self.warned())

    def test_garbageInsteadOfASessionEndsTheConnection(self) -> None:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 11 + b"\xff" * 100, b"\x01" * 12, bytes(range(256)) * 300):
            carrier = self.stranger().raw()
            carrier.transport.write(garbage)
            self.both.network.passTime(WELCOME_SECONDS + 6)
            self.assertIsNotNone(carrier.lost, garbage[:20])

    def test_helloThatCannotBeUnderstood(self) -> None:
        for line in (
            b'{"instance":1}\n', b'{"instance":"%b"}\n' % (b"x" * 65), b'{"instance":"a b"}\n', b'{"version":[]}\n',
            b'{"version":"%b"}\n' % (b"v" * 129),
        ):  # fmt: skip
            stranger = self.stranger().sendRequest().hello(line)
            self.assertTrue(stranger.gone, line)
        self.assertIn("the parameters of its control stream are invalid", self.warned())

    def test_helloThatIsNoLine(self) -> None:
        for line in (
            b"hello\n", b"[]\n", b"{}{}\n", b'{"a":1,"a":2}\n', b"\xff\n", b'{"x":NaN}\n', b"[" * 10000 + b"\n",
            b'{"x":' + b"[" * 70 + b"]" * 70 + b"}\n", b'{"x":"' + b"x" * MAX_LINE_OCTETS + b'"}\n',
            b"x" * (MAX_LINE_OCTETS + 1),
        ):  # fmt: skip
            stranger = self.stranger().sendRequest().hello(line)
            self.assertTrue(stranger.control.reason.check(StreamResetError), line[:40])
            self.assertFalse(stranger.gone)                   # it may try again, as long as there is time
            stranger.hello()
            self.assertEqual(stranger.heard()[0]["event"], "welcome")

    def test_helloMayBeEmpty(self) -> None:
        self.assertEqual(self.stranger().sendRequest().hello(b"{}\n").heard()[0]["event"], "welcome")

    def test_aSecondControlStreamIsReset(self) -> None:
        stranger = self.arrived()
        second = stranger.open(CONTROL, HELLO)
        self.assertTrue(second.reason.check(StreamResetError))
        stranger.say({"id": 1, "do": "announce", "service": {"name": "mine", "kind": "http"}})
        self.assertTrue(stranger.heard()[1]["ok"])

    def test_anEdgeThatStopsLetsNobodyIn(self) -> None:
        stranger = self.stranger().sendRequest()
        self.both.edge.agents.stopping = True
        stranger.hello()
        self.assertEqual(stranger.heard()[0]["code"], "stopping")
        self.both.network.passTime(2)
        self.assertTrue(stranger.gone)
        self.assertTrue(self.both.visit(UPGRADE + b"\r\n").got.startswith(b"HTTP/1.1 503 "))


class ControlTests(Hostile):
    """
    What is asked on the control stream.
    """

    def test_whatIsNotUnderstoodIsAnsweredSo(self) -> None:
        stranger = self.arrived()
        for number, (message, code) in enumerate((
            ({"do": "dance"}, "unsupported"),
            ({"do": "announce"}, "malformed"),
            ({"do": "announce", "service": []}, "malformed"),
            ({"do": "announce", "service": {"name": "a"}}, "malformed"),
            ({"do": "announce", "service": {"name": "A", "kind": "http"}}, "malformed"),
            ({"do": "announce", "service": {"name": "a.b", "kind": "http"}}, "malformed"),
            ({"do": "announce", "service": {"name": "-a", "kind": "http"}}, "malformed"),
            ({"do": "announce", "service": {"name": "a" * 64, "kind": "http"}}, "malformed"),
            ({"do": "announce", "service": {"name": "", "kind": "http"}}, "malformed"),
            ({"do": "announce", "service": {"name": 1, "kind": "http"}}, "malformed"),
            ({"do": "announce", "service": {"name": "a", "kind": "smtp"}}, "unsupported"),
            ({"do": "announce", "service": {"name": "a", "kind": "tcp", "port": -1}}, "malformed"),
            ({"do": "announce", "service": {"name": "a", "kind": "tcp", "port": 65536}}, "malformed"),
            ({"do": "announce", "service": {"name": "a", "kind": "tcp", "port": True}}, "malformed"),
            ({"do": "announce", "service": {"name": "a", "kind": "tcp", "port": 1.5}}, "malformed"),
            ({"do": "announce", "service": {"name": "a", "kind": "http", "per_visitor": 1}}, "malformed"),
            ({"do": "announce", "service": {"name": "site", "kind": "http"}}, "taken"),
            ({"do": "withdraw", "service": {"name": "A", "kind": "http"}}, "malformed"),
        ), 1):  # fmt: skip
            stranger.say({"id": number, **message})
            answer = stranger.heard()[number]
            self.assertEqual((answer["id"], answer["ok"], answer["code"]), (number, False, code), message)
        self.assertFalse(stranger.gone)

    def test_whatIsNoRequestEndsTheSession(self) -> None:
        for line in (
            b"{}\n", b'{"id":1}\n', b'{"do":"drain"}\n', b'{"id":"1","do":"drain"}\n', b'{"id":true,"do":"drain"}\n',
            b'{"id":-1,"do":"drain"}\n', b'{"id":9007199254740993,"do":"drain"}\n', b'{"id":1,"do":1}\n', b"nonsense\n", b"\n",
            b"[" * 5000 + b"]" * 5000 + b"\n", b'{"id":1,"do":"' + b"x" * MAX_LINE_OCTETS + b'"}\n',
            b"x" * (MAX_LINE_OCTETS + 1), b"\xc3\x28\n",
        ):  # fmt: skip
            stranger = self.arrived()
            stranger.say(line)
            self.assertTrue(stranger.gone, line[:40])
        self.assertIn("its control stream ended", self.warned())

    def test_aControlStreamThatEndsEndsTheSession(self) -> None:
        for end in ("loseConnection", "abortConnection", "loseWriteConnection"):
            stranger = self.arrived()
            getattr(stranger.control.transport, end)()
            self.both.settle()
            self.assertTrue(stranger.gone, end)
        self.assertEqual(len(self.both.edge.registry), 1)

    def test_requestsAreAnsweredInOrder(self) -> None:
        stranger = self.arrived()
        line = b'{"id":%d,"do":"announce","service":{"name":"raw","kind":"tcp","port":2000}}\n'
        stranger.say(b"".join(line % number for number in range(9)))
        self.assertEqual([answer["id"] for answer in stranger.heard()[1:]], list(range(9)))
        self.assertEqual({answer["grant"]["port"] for answer in stranger.heard()[1:]}, {2000})

    def test_aFloodIsDealtWithInItsOwnTime(self) -> None:
        stranger = self.arrived()
        flood = b"".join(b'{"id":%d,"do":"dance"}\n' % number for number in range(1000))
        stranger.say(flood)
        self.assertEqual(len(stranger.heard()) - 1, REQUESTS_PER_SECOND)
        self.both.network.passTime(2)
        self.assertLessEqual(len(stranger.heard()) - 1, 4 * REQUESTS_PER_SECOND)
        self.both.network.passTime(20)
        self.assertEqual(len(stranger.heard()) - 1, 1000)

    def test_whoDoesNotReadItsAnswersIsHeardNoFurther(self) -> None:
        stranger = self.arrived()
        stranger.control.transport.pauseProducing()           # so that credit for answers comes to its end
        flood = b"".join(b'{"id":%d,"do":"%b"}\n' % (number, b"x" * 8000) for number in range(40))
        (tunnel,) = [tunnel for tunnel in self.both.edge.registry if tunnel.instance == "x"]
        for _ in range(100):
            stranger.control.transport.write(flood)
            self.both.network.passTime(1)
        self.assertLess(tunnel.control.stream.transport.queued, 200 * 1024)
        self.assertLess(tunnel.control.stream.transport.held, 512 * 1024)

    def test_oneSessionHoldsSoManyNames(self) -> None:
        stranger = self.arrived()
        for number in range(260):
            stranger.say({"id": number, "do": "announce", "service": {"name": f"n-{number}", "kind": "stream"}})
            if number % 50 == 49:
                self.both.network.passTime(1)
        self.both.network.passTime(2)
        codes = [answer.get("code", "") for answer in stranger.heard()[1:]]
        self.assertEqual((codes.count(""), codes.count("limit")), (256, 4))

    def test_whoGoesFreesAllItHeld(self) -> None:
        stranger = self.arrived()
        for number, service in enumerate(({"name": "mine", "kind": "http"}, {"name": "raw", "kind": "tcp", "port": 2000})):
            stranger.say({"id": number, "do": "announce", "service": service})
        self.assertIn(2000, self.both.network.ports)
        stranger.leave()
        self.assertNotIn(2000, self.both.network.ports)
        self.assertIsNone(self.both.edge.registry.pick("mine"))

    @given(st.lists(st.binary(max_size=200), max_size=5))
    def test_anyOctetsOnTheControlStreamLeaveOtherAgentsAlone(self, pieces: list[bytes]) -> None:
        stranger = self.arrived()
        for piece in pieces:
            if not stranger.gone:
                stranger.say(piece + b"\n")
        stranger.leave()
        self.assertEqual(len(self.both.edge.registry), 1)
        self.strangers.clear()


class StreamTests(Hostile):
    """
    What agents open, and how they take what is opened to them.
    """

    def test_streamsOfUnknownNamesAreReset(self) -> None:
        stranger = self.arrived()
        for name in (HTTP, TCP, b"/tunnelstack/control/2.0.0", b"/x", b"na", b"\r\n"):
            stream = stranger.open(name, b"{}\n")
            self.assertTrue(stream.reason.check(StreamResetError), name)
            self.assertEqual(stream.got, b"")                 # and nothing behind the name was read as another one
        self.assertFalse(stranger.gone)

    def test_aSecondNameIsNotRead(self) -> None:
        stranger = self.arrived()
        stream = stranger.open(b"/unknown", token(b"/tunnelstack/dial/1.0.0") + b'{"to":"site"}\n')
        self.assertTrue(stream.reason.check(StreamResetError))
        self.assertEqual(stream.got, b"")

    def test_thousandsOfStreamsThatSayNothing(self) -> None:
        stranger = self.arrived()
        for _ in range(1500):
            stranger.session.connector.connect(quiet(Protocol)).addErrback(lambda failure: None)
        self.both.settle()
        (tunnel,) = [tunnel for tunnel in self.both.edge.registry if tunnel.instance == "x"]
        self.assertLessEqual(tunnel.session.streams, 1024)
        self.both.network.passTime(32)
        self.assertLess(tunnel.session.streams, 1024)
        stranger.leave()

    def test_dialsThatMakeNoSense(self) -> None:
        stranger = self.arrived()
        name = b"/tunnelstack/dial/1.0.0"
        missing = "the target or the purpose"
        for line, reason in (
            (b"{}", missing), (b'{"to":1}', missing), (b'{"to":"%b"}' % (b"x" * 300), missing),
            (b'{"to":"site","purpose":[]}', missing), (b'{"to":""}', "no service"), (b'{"to":"/"}', "no service"),
            (b'{"to":"site"}', "no service site"), (b'{"to":"laptop","purpose":"/a\\nb"}', "purpose"),
        ):  # fmt: skip
            stream = stranger.open(name, line + b"\n")
            answer = told(stream.got, name)[0]
            self.assertEqual((answer["ok"], reason in answer["reason"]), (False, True), (line, answer))
            self.assertTrue(stream.reason.check(ConnectionDone))

    def ask(self, stranger: Stranger, handler: Any) -> Any:
        """
        Have the stranger serve what the edge opens, and ask it for a page.
        """
        stranger.session.listener.listen(quiet(handler))
        stranger.say({"id": 1, "do": "announce", "service": {"name": "mine", "kind": "http"}})
        return self.both.visit(b"GET / HTTP/1.1\r\nHost: mine.localhost\r\nConnection: close\r\n\r\n")

    def test_agentsThatAnswerWronglyAreNotTrusted(self) -> None:
        agreed = HEADER + token(HTTP)
        for answer in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",              # without the name
            HEADER + token(b"na"), HEADER + token(TCP), b"\x00" * 100, b"\xff" * 100, HEADER, agreed, b"",
            agreed + b"nonsense\r\n\r\n",
        ):  # fmt: skip
            class Wrong(Protocol):
                transport: Any

                def connectionMade(self, answer: bytes = answer) -> None:
                    self.transport.write(answer)
                    self.transport.loseConnection()

            stranger = self.arrived()
            caller = self.ask(stranger, Wrong)
            self.assertTrue(caller.got.startswith(b"HTTP/1.1 502 "), (answer, caller.got[:60]))
            stranger.leave()

    def test_anAgentThatNeverAnswers(self) -> None:
        stranger = self.arrived()
        caller = self.ask(stranger, Protocol)
        self.assertEqual(caller.got, b"")
        self.both.network.passTime(61)
        self.assertRegex(caller.got, rb"\AHTTP/1\.1 50[24] ")
        self.both.network.passTime(6)
        self.assertIsNotNone(caller.lost)


class TunnelTests(Hostile):
    """
    What the registry has.
    """

    def test_objectsProvideTheirInterfaces(self) -> None:
        (tunnel,) = self.both.edge.registry
        verifyObject(ITunnel, tunnel)
        verifyObject(IDialect, NativeDialect())
        verifyObject(IEdge, self.both.edge.agents)

    def test_otherPurposesAreUnsupported(self) -> None:
        (tunnel,) = self.both.edge.registry
        for purpose in (UDPPurpose(host="a", port=1), SSHPurpose(), HTTPPurpose(host="a", port=1)):
            self.assertRaises(UnsupportedPurpose, tunnel.endpointFor, purpose)

    def test_theEdgeOpensADevelopersProtocol(self) -> None:
        seen: list[Any] = []
        handler = Factory()
        handler.noisy = False
        handler.buildProtocol = lambda address: seen.append(address)
        self.both.agent.handle(b"/demo/1", handler)
        (tunnel,) = self.both.edge.registry
        tunnel.endpointFor(StreamPurpose(b"/demo/1", {"how": "loud"})).connect(quiet(Protocol))
        self.both.settle()
        self.assertEqual(seen[0].parameters, {"parameters": {"how": "loud"}})
        self.assertEqual((seen[0].protocol, seen[0].dialect), (b"/demo/1", "tunnelstack/1"))

    def test_anAbortTellsTheAgentWhy(self) -> None:
        stranger = self.arrived()
        (tunnel,) = [tunnel for tunnel in self.both.edge.registry if tunnel.instance == "x"]
        tunnel.abort(Denied("revoked", "the token was revoked"))
        self.assertFalse(tunnel.healthy)
        self.both.settle()
        self.assertEqual(stranger.heard()[-1], {"event": "ended", "code": "revoked", "reason": "the token was revoked"})
        self.assertFalse(stranger.gone)
        self.both.network.passTime(2)
        self.assertTrue(stranger.gone)

"""
A whole edge and a whole agent, on a network without sockets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import formatEvent, globalLogPublisher
from twisted.protocols.wire import Echo
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.changed_settings import changes
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.control.process.exit_status import CredentialRefused, GaveUp, TemporaryFailure, WrongProtocol
from tunnelstack.errors import Denied, Refused, UsageError
from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.records import Service
from tunnelstack.stream.address import StreamAddress
from tunnelstack.testing import Caller, EdgeAndAgent


@implementer(IDiallingHandler)
class Reaching:
    """
    A handler that has its protocol when the test says so.
    """

    def __init__(self) -> None:
        self.reached: Deferred[Any] = Deferred()

    def connect(self, address: StreamAddress) -> Deferred[Any]:
        return self.reached


class Page(Protocol):
    """
    A web server that answers everything with a page, and keeps the connection.
    """

    transport: Any
    requests: list[bytes]

    def dataReceived(self, data: bytes) -> None:
        self.factory.requests.append(data)  # type: ignore[attr-defined]
        body = f"for {self.transport.getPeer().host}".encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def pages() -> Any:
    """
    A factory of L{Page}s, which remembers the requests.
    """
    factory: Any = Factory.forProtocol(Page)
    factory.noisy = False
    factory.requests = []
    return factory


@implementer(IHalfCloseableProtocol)
class Last(Protocol):
    """
    Answers when all is said.
    """

    transport: Any
    heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def readConnectionLost(self) -> None:
        self.transport.write(self.heard[::-1])
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


class HalfCaller(Caller):
    """
    Goes on listening when it has ended its own direction, and the other way round.
    """

    ended = False

    def readConnectionLost(self) -> None:
        self.ended = True
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


implementer(IHalfCloseableProtocol)(HalfCaller)


class Greeter(Protocol):
    """
    Says who it thinks is there, and remembers how it ended.
    """

    transport: Any

    def connectionMade(self) -> None:
        peer, host = self.transport.getPeer(), self.transport.getHost()
        self.transport.write(f"{peer.host}:{peer.port} at {host.host}:{host.port}\n".encode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.lost.append(reason)  # type: ignore[attr-defined]


def just(kind: type[Protocol]) -> Any:
    """
    A quiet factory.
    """
    factory: Any = Factory.forProtocol(kind)
    factory.noisy = False
    factory.lost = []
    return factory


SITE = ServiceConfig(name="site", target="3000")
RAW = ServiceConfig(name="raw", kind="tcp", target="4000", remotePort=2000)


class Both(SynchronousTestCase):
    """
    What these tests begin with.
    """

    both: EdgeAndAgent

    def setUp(self) -> None:
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def begin(self, *services: ServiceConfig, start: bool = True, **settings: Any) -> EdgeAndAgent:
        both = self.both = EdgeAndAgent(*services, **settings)
        self.origin = pages()
        both.network.listenTCP(3000, self.origin)
        both.network.listenTCP(4000, just(Echo))
        self.addCleanup(self.end, both)
        if start:
            both.start()
        return both

    def end(self, both: EdgeAndAgent) -> None:
        both.stop()
        own = [call for call in both.network.getDelayedCalls() if "HTTPFactory" not in str(call)]   # twisted.web's clock
        self.assertEqual(own, [])
        self.assertEqual(both.network.wires, [])

    def said(self, status: str) -> list[str]:
        """
        The status lines of a kind.
        """
        return [str(formatEvent(event)) for event in self.events if event.get("status") == status]

    def warned(self) -> str:
        """
        All warnings and worse.
        """
        levels = ("warn", "error", "critical")
        return "\n".join(str(formatEvent(event)) for event in self.events if event["log_level"].name in levels)


class VisitTests(Both):
    """
    Visitors reach what is behind the agent.
    """

    def test_aVisitorGetsAPage(self) -> None:
        for cut in (None, 1, 7):
            both = self.begin(SITE, cut=cut)
            answer = both.get("site.localhost", "/there?is=one")
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
            self.assertTrue(answer.endswith(b"\r\n\r\nfor 127.0.0.1"), answer)
            asked = b"".join(self.origin.requests)
            self.assertTrue(asked.startswith(b"GET /there?is=one HTTP/1.1\r\nHost: site.localhost\r\n"), asked)

    def test_eachStateHasAStatusLine(self) -> None:
        self.begin(SITE, RAW)
        self.assertEqual(self.said("edge"), ["ready    http://localhost:8080   agents ws://localhost:8080/_tunnel/1"])
        self.assertEqual(self.said("session"), ["up   edge=localhost:8080 dialect=tunnelstack/1 rtt=0.0ms"])
        self.assertEqual(self.said("site"), ["http://site.localhost:8080 -> tcp:localhost:3000"])
        self.assertEqual(self.said("raw"), ["tcp:raw.localhost:2000 -> tcp:localhost:4000"])
        self.assertEqual(self.warned(), "")

    def test_aLocalServerThatIsNotThereYet(self) -> None:
        both = self.begin(ServiceConfig(name="late", target="3001"))
        self.assertIn("nothing listens on localhost:3001 yet; visitors get 503 with an explanation", self.warned())
        answer = both.get("late.localhost")
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer)
        self.assertIn(b"localhost:3001", answer)
        both.network.listenTCP(3001, pages())
        self.assertTrue(both.get("late.localhost").startswith(b"HTTP/1.1 200 "))

    def test_streamsAreKeptForTheNextRequest(self) -> None:
        both = self.begin(SITE)
        (tunnel,) = both.edge.registry
        for _ in range(3):
            self.assertIn(b" 200 OK", both.get("site.localhost"))
            self.assertEqual(tunnel.session.streams, 2)       # control, and the one that is kept
            self.assertEqual(tunnel.inFlight, 0)

    def test_theVisitorsAddressReachesAnApplication(self) -> None:
        both = self.begin()
        both.agent.publish(Service(name="own", perVisitor=True), pages())
        both.settle()
        first, second = both.visit(), both.visit()
        for caller in (first, second, first):
            caller.transport.write(b"GET / HTTP/1.1\r\nHost: own.localhost\r\n\r\n")
            both.settle()
        self.assertEqual((first.got.count(b"for 127.0.0.1"), second.got.count(b"for 127.0.0.1")), (2, 1))
        (tunnel,) = both.edge.registry
        self.assertEqual(tunnel.session.streams, 3)           # control, and one for each of the visitors

    def test_whatNobodyOffersIsNotFound(self) -> None:
        both = self.begin(SITE)
        self.assertTrue(both.get("other.localhost").startswith(b"HTTP/1.1 404 "))

    def test_theDoorIsNoPathOfASite(self) -> None:
        both = self.begin(SITE)
        self.assertTrue(both.get("site.localhost", "/_tunnel/1").startswith(b"HTTP/1.1 200 "))
        self.assertTrue(both.get("localhost", "/_tunnel/1").startswith(b"HTTP/1.1 401 "))

    def test_aFolderIsServed(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "page.html").write_text("<p>a page</p>")
        both = self.begin(ServiceConfig(name="files", kind="serve", target=str(folder)))
        caller = both.visit(b"GET /page.html HTTP/1.1\r\nHost: files.localhost\r\n\r\n")
        self.assertTrue(caller.got.endswith(b"\r\n\r\n<p>a page</p>"))
        self.assertTrue(both.get("files.localhost", "/other.html").startswith(b"HTTP/1.1 404 "))


class PortTests(Both):
    """
    Raw TCP ports.
    """

    def test_octetsGoBothWays(self) -> None:
        both = self.begin(RAW)
        caller = both.visit(b"ping", 2000)
        self.assertEqual(caller.got, b"ping")
        caller.transport.loseConnection()
        both.settle()
        self.assertEqual(both.edge.agents.ports.connections, 0)

    def test_whatTheAgentCannotReachIsClosed(self) -> None:
        both = self.begin(ServiceConfig(name="raw", kind="tcp", target="4001", remotePort=2000))
        caller = both.visit(b"ping", 2000)
        self.assertIsNotNone(caller.lost)
        self.assertEqual(both.edge.agents.ports.connections, 0)

    def test_halfClosesAreKept(self) -> None:
        both = self.begin(ServiceConfig(name="raw", kind="tcp", target="4002", remotePort=2000))
        both.network.listenTCP(4002, just(Last))
        caller = HalfCaller()
        both.network.join(caller, both.network.ports[2000].factory, IPv4Address("TCP", "127.0.0.1", 2000))
        caller.transport.write(b"abc")
        caller.transport.loseWriteConnection()
        both.settle()
        self.assertEqual((caller.got, caller.ended), (b"cba", True))

    def test_anApplicationKnowsItsVisitorAndItsPublicSide(self) -> None:
        both = self.begin()
        greeters = just(Greeter)
        publication = both.agent.publish(Service(name="hi", kind="tcp", port=2001), greeters)
        both.settle()
        grant = self.successResultOf(publication.whenGranted())
        self.assertEqual((grant.url, grant.host, grant.port), ("", "hi.localhost", 2001))
        caller = both.visit(b"", 2001)
        mine = caller.transport.getHost().port
        self.assertEqual(caller.got, f"127.0.0.1:{mine} at hi.localhost:2001\n".encode())
        caller.transport.abortConnection()
        both.settle()
        self.assertEqual(len(greeters.lost), 1)
        self.assertTrue(greeters.lost[0].check(ConnectionLost))

    def test_anyPortIsFoundAgainAfterwards(self) -> None:
        both = self.begin(ServiceConfig(name="raw", kind="tcp", target="4000"))
        port = both.edge.agents.portOf("tcp", "raw")
        self.assertIn(port, both.network.ports)
        for wire in list(both.network.wires):
            wire.drop()
        both.settle()
        self.assertNotIn(port, both.network.ports)
        both.network.passTime(5)
        self.assertEqual(both.edge.agents.portOf("tcp", "raw"), port)
        self.assertEqual(both.visit(b"ping", port).got, b"ping")

    def test_onlyGrantedPortsAreOpened(self) -> None:
        both = self.begin(allow=["tcp:2000-2001"])
        for port, granted in ((2002, 0), (2000, 2000), (0, 2001), (0, 0)):
            publication = both.agent.publish(Service(name=f"raw-{port}-{granted}", kind="tcp", port=port), just(Echo))
            both.settle()
            self.assertEqual(publication.address.port, granted)
        self.assertIn("the token does not allow tcp:2002", self.warned())
        self.assertIn("all ports that the token allows are taken", self.warned())

    def test_aPortThatIsTakenElsewhereIsAskedForAgain(self) -> None:
        both = self.begin(RAW, start=False)
        other = both.network.listenTCP(2000, just(Echo))
        both.start()
        self.assertIn("port 2000 is taken", self.warned())
        other.stopListening()
        both.network.passTime(40)
        self.assertEqual(both.edge.agents.portOf("tcp", "raw"), 2000)

    def test_withdrawingClosesThePort(self) -> None:
        both = self.begin()
        publication = both.agent.publish(Service(name="hi", kind="tcp", port=2001), just(Echo))
        both.settle()
        caller = both.visit(b"one", 2001)
        withdrawn = publication.withdraw()
        both.settle()
        self.successResultOf(withdrawn)
        self.assertNotIn(2001, both.network.ports)
        caller.transport.write(b"two")
        both.settle()
        self.assertEqual(caller.got, b"onetwo")               # what is under way goes on
        both.agent.publish(Service(name="hi", kind="tcp", port=2001), just(Echo))
        both.settle()
        self.assertIn(2001, both.network.ports)


class DialTests(Both):
    """
    From one agent to another, through the edge.
    """

    def dialled(self, to: str, purpose: str = "") -> Any:
        connected = self.both.agent.dial(to, purpose).connect(just(Caller))
        self.both.settle()
        return connected

    def test_aServiceIsDialledByItsName(self) -> None:
        both = self.begin(RAW)
        both.agent.publish(Service(name="db", kind="stream"), just(Echo))
        both.settle()
        for to in ("db", "laptop/db", "raw"):
            caller = self.successResultOf(self.dialled(to))
            caller.transport.write(b"ping")
            both.settle()
            self.assertEqual(caller.got, b"ping", to)
            caller.transport.loseConnection()
            both.settle()
            self.assertIsNotNone(caller.lost)

    def test_aProtocolOfADeveloperIsDialled(self) -> None:
        both = self.begin(ServiceConfig(name="shout", kind="stream", target="/demo/shout/1.0.0"))
        both.agent.handle(b"/demo/shout/1.0.0", just(Echo))
        both.settle()
        for to, purpose in (("laptop", "/demo/shout/1.0.0"), ("shout", "/demo/shout/1.0.0"), ("shout", "")):
            caller = self.successResultOf(self.dialled(to, purpose))
            caller.transport.write(b"ping")
            both.settle()
            self.assertEqual(caller.got, b"ping")
            caller.transport.loseConnection()
        both.settle()

    def test_aServiceOfThatKindMayConnectFirst(self) -> None:
        """
        What arrives before its handler has reached something waits for that.
        """
        both = self.begin(ServiceConfig(name="shout", kind="stream", target="/demo/shout/1.0.0"))
        early = self.successResultOf(self.dialled("shout", ""))         # the name is accepted before the handler is asked
        self.assertIsNotNone(early.lost)                                # there is none yet
        handler = Reaching()
        both.agent.handle(b"/demo/shout/1.0.0", handler)
        both.settle()
        caller = self.successResultOf(self.dialled("shout", ""))
        caller.transport.write(b"ping")
        both.settle()
        self.assertEqual((caller.got, caller.lost), (b"", None))
        handler.reached.callback(Echo())
        both.settle()
        self.assertEqual(caller.got, b"ping")

    def test_whatIsNotThereIsRefusedWithASentence(self) -> None:
        self.begin(RAW)
        for to, purpose, sentence in (
            ("nobody", "", "no service nobody can be dialled at this edge"), ("nobody", "/x/1", "nobody is not connected"),
            ("laptop", "/unknown/1.0.0", ""), ("laptop", "telnet", "this edge cannot dial for the purpose 'telnet'"),
            ("laptop", "/tunnelstack/http/1.0.0", "this edge cannot dial"),
        ):  # fmt: skip
            failure = self.failureResultOf(self.dialled(to, purpose), Refused)
            self.assertIn(sentence, str(failure.value))

    def test_onlyGrantedNamesAreDialled(self) -> None:
        both = self.begin(allow=["stream:*", "dial:db"])
        for name in ("db", "secret"):
            both.agent.publish(Service(name=name, kind="stream"), just(Echo))
        both.settle()
        self.successResultOf(self.dialled("db")).transport.loseConnection()
        for to in ("secret", "laptop/secret", "nobody"):
            failure = self.failureResultOf(self.dialled(to), Refused)
            self.assertIn(f"the token does not allow dial:{to}", str(failure.value))
        both.settle()

    def test_aDialWaitsForASession(self) -> None:
        both = self.begin(RAW, start=False)
        connected = both.agent.dial("raw").connect(just(Caller))
        self.assertNoResult(connected)
        both.start()
        self.successResultOf(connected).transport.loseConnection()
        both.settle()

    def test_aDialFailsAfterItsTimeOut(self) -> None:
        both = self.begin(RAW, start=False)
        connected = both.agent.dial("raw").connect(just(Caller))
        both.network.passTime(31)
        self.failureResultOf(connected)
        both.start()


class NameTests(Both):
    """
    Who holds a name.
    """

    def second(self, **settings: Any) -> Any:
        another = self.both.another(SITE, **settings)
        self.addCleanup(self.quit, another)
        another.startService()
        self.both.settle()
        return another

    def quit(self, agent: Any) -> None:
        if agent.running:
            stopped = agent.stopService()
            self.both.network.passTime(3)
            self.successResultOf(stopped)

    def grants(self, *agents: Any) -> list[bool]:
        return [agent.publications[0].grant is not None for agent in agents]

    def test_anotherProcessIsRefusedUntilTheNameIsFree(self) -> None:
        both = self.begin(SITE)
        second = self.second()
        self.assertEqual(self.grants(both.agent, second), [True, False])
        self.assertIn("the edge cannot publish site now: site is held by another process of this agent", self.warned())
        self.quit(both.agent)
        self.assertTrue(both.get("site.localhost").startswith(b"HTTP/1.1 503 "))
        both.network.passTime(40)
        self.assertEqual(self.grants(second), [True])
        self.assertTrue(both.get("site.localhost").startswith(b"HTTP/1.1 200 "))

    def test_aHolderThatDoesNotAnswerLosesTheName(self) -> None:
        both = self.begin(SITE)
        for wire in both.network.wires:
            wire.near.readPaused = True                          # the first agent hears nothing any more
        second = self.second()
        self.assertEqual(self.grants(second), [False])
        both.network.passTime(6)
        self.assertEqual(self.grants(second), [True])
        self.assertTrue(both.get("site.localhost").startswith(b"HTTP/1.1 200 "))

    def test_whoMaySharesTheName(self) -> None:
        both = self.begin(SITE, share=True)
        second = self.second()
        self.assertEqual(self.grants(both.agent, second), [True, True])
        tunnels = list(both.edge.registry)
        for _ in range(4):
            both.get("site.localhost")
        self.assertEqual([tunnel.session.streams for tunnel in tunnels], [2, 2])
        self.quit(second)
        self.assertTrue(both.get("site.localhost").startswith(b"HTTP/1.1 200 "))

    def test_theSameProcessReplacesItself(self) -> None:
        both = self.begin(SITE)
        (old,) = both.edge.registry
        ended = both.agent.whenFailed()
        second = self.second(instance=both.agent.config.instance)
        (new,) = both.edge.registry
        self.assertIsNot(new, old)
        self.assertIsInstance(self.successResultOf(ended), TemporaryFailure)
        self.assertEqual(self.grants(second), [True])
        both.network.passTime(2)
        self.assertIsNotNone(old.session.lostReason())
        self.assertTrue(both.get("site.localhost").startswith(b"HTTP/1.1 200 "))

    def test_aNameIsPublishedOnceInAProcess(self) -> None:
        both = self.begin(SITE)
        self.assertRaises(UsageError, both.agent.publish, Service(name="site"), just(Echo))

    def test_otherNamesAreDenied(self) -> None:
        both = self.begin(allow=["http:mine-*"])
        for service in (Service(name="site"), Service(name="mine-1", kind="stream"), Service(name="mine-1", kind="tcp")):
            publication = both.agent.publish(service, just(Echo))
            granted = publication.whenGranted()
            both.settle()
            error: Any = self.failureResultOf(granted, Denied).value
            self.assertEqual(error.code, "not-allowed")
        publication = both.agent.publish(Service(name="mine-1"), just(Echo))
        both.settle()
        self.assertEqual(self.successResultOf(publication.whenGranted()).url, "http://mine-1.localhost:8080")


class LifeTests(Both):
    """
    Sessions come and go.
    """

    def drop(self) -> None:
        for wire in list(self.both.network.wires):
            wire.drop()
        self.both.settle()

    def test_aLostSessionComesBackWithAllItsServices(self) -> None:
        both = self.begin(SITE, RAW)
        self.drop()
        self.assertEqual(len(both.edge.registry), 0)
        self.assertTrue(both.get("site.localhost").startswith(b"HTTP/1.1 503 "))
        both.network.passTime(2)
        self.assertTrue(both.get("site.localhost").startswith(b"HTTP/1.1 200 "))
        self.assertEqual(both.visit(b"ping", 2000).got, b"ping")
        self.assertEqual(len(self.said("session")), 2)

    def test_aPeerThatFallsSilentIsDropped(self) -> None:
        both = self.begin(SITE)
        for wire in both.network.wires:
            wire.near.readPaused = wire.far.readPaused = True
        both.network.passTime(45)
        self.assertIn("the peer did not answer a ping in time", self.warned())
        self.assertTrue(both.get("site.localhost").startswith(b"HTTP/1.1 200 "))

    def test_theEdgeMayBeRestarted(self) -> None:
        both = self.begin(SITE)
        stopped = both.edge.stopService()
        both.network.passTime(3)
        self.successResultOf(stopped)
        self.assertIn("localhost:8080 is about to stop", self.said("session"))
        self.assertEqual(both.network.ports.keys() & {8080}, set())
        both.network.passTime(100)
        both.edge = type(both.edge)(both.network, both.edge.config)
        both.edge.startService()
        both.network.passTime(31)
        self.assertTrue(both.get("site.localhost").startswith(b"HTTP/1.1 200 "))

    def test_stoppingTheAgentLetsARequestEnd(self) -> None:
        both = self.begin(ServiceConfig(name="slow", target="3002"))
        slow = just(Caller)
        built: list[Any] = []
        slow.buildProtocol = lambda address: built.append(Caller()) or built[-1]
        both.network.listenTCP(3002, slow)
        caller = both.visit(b"GET / HTTP/1.1\r\nHost: slow.localhost\r\n\r\n")
        stopped = both.agent.stopService()
        both.network.passTime(5)
        self.assertNoResult(stopped)
        self.assertTrue(both.get("slow.localhost").startswith(b"HTTP/1.1 503 "))
        built[-1].transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        both.network.passTime(3)
        self.assertTrue(caller.got.endswith(b"ok"), caller.got)
        self.successResultOf(stopped)

    @changes("agent [agent] drain_seconds")
    def test_aDrainHasADeadline(self) -> None:
        both = self.begin(RAW, agent={"drainSeconds": 10.0})
        caller = both.visit(b"ping", 2000)
        stopped = both.agent.stopService()
        both.network.passTime(9)
        caller.transport.write(b"pong")
        both.settle()
        self.assertEqual(caller.got, b"pingpong")
        self.assertNoResult(stopped)
        both.network.passTime(2)
        self.successResultOf(stopped)
        self.assertIsNotNone(caller.lost)

    @changes("edge [edge] drain_seconds")
    def test_soHasTheEdges(self) -> None:
        both = self.begin(RAW, edge={"drainSeconds": 10.0})
        caller = both.visit(b"ping", 2000)
        stopped = both.edge.stopService()
        both.network.passTime(9)
        self.assertNoResult(stopped)
        both.network.passTime(5)
        self.successResultOf(stopped)
        self.assertIsNotNone(caller.lost)

    def test_aTokenThatIsUnknownEndsAnAgentAtOnce(self) -> None:
        both = self.begin(SITE)
        stranger = both.another(SITE, token="ts_0000_" + "x" * 43)
        ended = stranger.whenFailed()
        stranger.startService()
        both.settle()
        self.assertIsInstance(self.successResultOf(ended), CredentialRefused)
        self.assertNotIn("x" * 43, self.warned())
        self.failureResultOf(stranger.dial("raw").connect(just(Caller)), CredentialRefused)
        self.successResultOf(stranger.stopService())

    def test_onceItWasTakenItIsTriedAgain(self) -> None:
        both = self.begin(SITE)
        ended = both.agent.whenFailed()
        both.edge.credentials.tokens.replace([])
        self.drop()
        both.network.passTime(2)
        self.assertIn("refuses the token", self.warned())
        both.network.passTime(120)
        self.assertEqual(self.warned().count("refuses the token"), 1)
        both.edge.credentials.tokens.replace(both.edge.config.tokens)
        both.network.passTime(61)
        self.assertNoResult(ended)
        self.assertTrue(both.get("site.localhost").startswith(b"HTTP/1.1 200 "))

    def test_whatIsNoEdgeEndsAnAgentAtOnce(self) -> None:
        for answer in (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"):
            both = self.begin(SITE, start=False)

            class Other(Protocol):
                transport: Any

                def dataReceived(self, data: bytes, answer: bytes = answer) -> None:
                    self.transport.write(answer)
                    self.transport.loseConnection()

            both.network.listenTCP(8080, just(Other))
            ended = both.agent.whenFailed()
            both.agent.startService()
            both.settle()
            self.assertIsInstance(self.successResultOf(ended), WrongProtocol)

    @changes("agent [agent] give_up_after_seconds")
    def test_patienceMayEnd(self) -> None:
        both = self.begin(SITE, start=False, agent={"giveUpAfterSeconds": 90.0})
        ended = both.agent.whenFailed()
        both.agent.startService()
        both.network.passTime(89)
        self.assertNoResult(ended)
        self.assertEqual(self.warned().count("no session with localhost:8080"), 1)
        both.network.passTime(1)
        self.assertIsInstance(self.successResultOf(ended), GaveUp)

    def test_aPortThatIsTakenKeepsTheEdgeFromStarting(self) -> None:
        both = self.begin(start=False)
        both.network.listenTCP(8080, just(Echo))
        ended = both.edge.whenFailed()
        both.edge.startService()
        error = self.successResultOf(ended)
        self.assertIsInstance(error, TemporaryFailure)
        self.assertIn("8080", str(error))

    def test_aStopBeforeTheEdgeIsReached(self) -> None:
        both = self.begin(SITE, start=False)
        both.agent.startService()
        self.successResultOf(both.agent.stopService())
        both.settle()


class ClosedTests(Both):
    """
    Nobody keeps what belongs to somebody who has gone.
    """

    def test_aVisitorWhoGoesFreesItsStream(self) -> None:
        both = self.begin()
        greeters = just(Greeter)
        both.agent.publish(Service(name="hi", kind="tcp", port=2001), greeters)
        both.settle()
        caller = both.visit(b"", 2001)
        caller.transport.loseConnection()
        both.settle()
        (tunnel,) = both.edge.registry
        self.assertEqual(tunnel.session.streams, 1)
        self.assertTrue(greeters.lost[0].check(ConnectionDone))

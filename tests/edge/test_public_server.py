"""
The public port: visitors to tunnels, agents to doors.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.exchange.doubles import Server, Talker, Wires, settle
from tunnelstack.control.access_record import AccessRecord
from tunnelstack.control.config.records import EdgeConfig, Limits, Route
from tunnelstack.control.metrics.counts import ExchangeCounts
from tunnelstack.doors import DoorTable, HTTPDoor
from tunnelstack.edge.listeners import UNKNOWN_LISTENER, EdgeListener
from tunnelstack.edge.public.access_policy import AccessPolicy
from tunnelstack.edge.public.admission import Admission
from tunnelstack.edge.public.requests import RequestRouter
from tunnelstack.edge.public.routes import RouteTable
from tunnelstack.edge.public.server import MAX_OVERSHOOT, PublicServerFactory
from tunnelstack.exchange.errors import Busy, ExchangeFailed, FailureKind
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.interfaces import IExchangeServer
from tunnelstack.records import HTTPPurpose, Principal, TakenOverRequest
from tunnelstack.testing import Wire
from tunnelstack.wire.http1.head import find_end_untrusted, read_request_untrusted

GET = b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Tunnel:
    """
    To an agent who says what the test says.
    """

    healthy = True
    principal = Principal(agent="laptop", token="abcd")

    def __init__(self, clock: Clock) -> None:
        self.agent = Wires(clock, Talker)
        self.pool = ExchangePool(self.agent, clock=clock)
        self.asked: list[tuple[Any, Any]] = []
        self.busy = False

    def exchange(self, purpose: Any, receiver: Any, visitor: Any = None) -> Any:
        if self.busy:
            raise Busy()
        self.asked.append((purpose, visitor))
        return self.pool.exchange(receiver)


class Edge:
    """
    As much of an edge as the public port needs.
    """

    def __init__(self, config: EdgeConfig) -> None:
        self.clock = Clock()
        self.config = config
        self.routes = RouteTable(
            config.domain, config.routes, config.agentHosts, policy=lambda route: AccessPolicy.of(route, self.clock)
        )
        limits = config.limits
        self.admission = Admission(self.clock, most=limits.visitors, perSecond=limits.connectionsPerSecond)
        self.records: dict[str, Any] = {}
        self.doors = DoorTable()
        self.tunnels: dict[str, Tunnel] = {}
        self.known: set[str] = set()

    def pick(self, key: str) -> Tunnel | None:
        return self.tunnels.get(key)

    def isKnown(self, key: str, kind: str = "http", within: float = 0) -> bool:
        return key in self.known


class PublicCase(SynchronousTestCase):
    """
    An edge with one tunnel, C{app}, and a visitor.
    """

    config = EdgeConfig(routes=(Route(host="www.example.com", to="site"),))
    counts: ExchangeCounts | None = None

    def setUp(self) -> None:
        self.edge = Edge(self.config)
        self.tunnel = self.edge.tunnels["app"] = Tunnel(self.edge.clock)
        self.log: list[AccessRecord] = []
        edge = self.edge
        self.factory = PublicServerFactory(
            edge.clock, self.config, registry=edge, routes=edge.routes, admission=edge.admission, doors=edge.doors,
            recordOf=edge.records.get, accessLog=self.log.append, counts=self.counts,
        )
        self.visitor = self.visit()

    def visit(self, address: Any = None) -> Talker:
        addresses = (address or IPv4Address("TCP", "192.0.2.7", 40001), IPv4Address("TCP", "192.0.2.99", 80))
        self.wire = Wire(self.edge.clock, addresses=addresses)
        visitor = Talker()
        self.wire.connect(visitor, self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.99", 1)))
        return visitor

    def settle(self) -> None:
        settle(self.wire, self.tunnel.agent)

    def say(self, octets: bytes) -> bytes:
        self.visitor.say(octets)
        self.settle()
        return self.visitor.take()

    def asked(self) -> Any:
        """
        The head that reached the agent.
        """
        octets = self.tunnel.agent.far[-1].take()
        return read_request_untrusted(octets, find_end_untrusted(octets))

    def answer(self, octets: bytes = OK) -> bytes:
        self.tunnel.agent.far[-1].say(octets)
        self.settle()
        return self.visitor.take()

    def status(self, request: bytes) -> int:
        heard = self.say(request)
        self.assertTrue(heard.startswith(b"HTTP/1.1 "), heard)
        return int(heard[9:12])


class WayTests(PublicCase):
    """
    From a host to an agent and back.
    """

    def test_aRequestIsForwardedAndItsResponseReturned(self) -> None:
        self.say(GET)
        head = self.asked()
        self.assertEqual((head.method, head.target, head.field(b"host")), (b"GET", b"/", b"app.localhost"))
        self.assertEqual(self.answer(), OK)
        purpose, visitor = self.tunnel.asked[0]
        self.assertEqual(purpose, HTTPPurpose(service="app"))
        self.assertEqual((visitor.address.host, visitor.scheme), ("192.0.2.7", "http"))

    def test_theAgentIsSentTheAddressOfTheVisitor(self) -> None:
        self.say(GET[:-2] + b"X-Forwarded-For: 10.0.0.1\r\nforwarded: for=me\r\nX-Real-IP: me\r\nX-Request-Id: mine\r\n\r\n")
        fields = self.asked().fields
        self.assertEqual([pair for pair in fields if pair[0] not in (b"Host", b"X-Request-Id")], [
            (b"X-Forwarded-For", b"192.0.2.7"), (b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Host", b"app.localhost"),
            (b"Forwarded", b"for=192.0.2.7;host=app.localhost;proto=http"),
            (b"CDN-Loop", self.factory.site.loopIdentifier + b"; service=app"),
        ])
        traces = [value for name, value in fields if name.lower() == b"x-request-id"]
        self.assertEqual(len(traces), 1)
        self.assertNotEqual(traces[0], b"mine")

    def test_eachHostOfAConnectionIsTold(self) -> None:
        self.edge.tunnels["other"] = self.tunnel
        for host in (b"app.localhost", b"other.localhost:80", b"app.localhost"):
            self.say(GET.replace(b"app.localhost", host))
            self.assertEqual(self.asked().field(b"x-forwarded-host"), host)
            self.answer()

    def test_theSameHeadIsSentOnWithAnotherIdentifier(self) -> None:
        """
        Its octets are as those of the first one.  What comes between does not change it.
        """
        self.edge.tunnels["other"] = self.tunnel
        kinds = {
            b"/": GET, b"/a": GET.replace(b" / ", b" /a "), b"other": GET.replace(b"app.", b"other."),
            b"fields": GET[:-2] + b"Forwarded: for=me\r\nA: b\r\n\r\n", b"kept": GET[:-2] + b"Connection: keep-alive\r\n\r\n",
        }  # fmt: skip
        first: dict[bytes, bytes] = {}
        seen = []
        for kind in (b"/", b"/", b"/", b"/a", b"/", b"/", b"other", b"other", b"/", b"fields", b"fields", b"kept", b"/"):
            self.say(kinds[kind])
            octets = self.tunnel.agent.far[-1].take()
            identifier = read_request_untrusted(octets, find_end_untrusted(octets)).field(b"x-request-id")
            assert identifier is not None
            seen.append(identifier)
            self.assertEqual(first.setdefault(kind, octets.replace(identifier, b"")), octets.replace(identifier, b""))
            self.answer()
            self.assertEqual(self.log.pop().trace, identifier.decode())
        self.assertEqual(len(set(seen)), len(seen))

    def test_theSameHeadIsForAnotherServiceAfterItsRouteWasChanged(self) -> None:
        self.edge.tunnels["site"] = self.edge.tunnels["other"] = self.tunnel
        request = GET.replace(b"app.localhost", b"www.example.com")
        for to in ("site", "site", "other", "other", "site"):
            config = evolve(self.config, routes=(Route(host="www.example.com", to=to),))
            self.factory.configure(config, Edge(config).routes)
            for _ in range(2):
                self.say(request)
                self.assertTrue(self.asked().field(b"cdn-loop").endswith(b"; service=" + to.encode()))
                self.answer()

    def test_theSameHeadIsALoopAfterItsRouteWasChanged(self) -> None:
        self.edge.tunnels["site"] = self.edge.tunnels["other"] = self.tunnel
        passed = b"CDN-Loop: " + self.factory.site.loopIdentifier + b"; service=other\r\n\r\n"
        request = GET.replace(b"app.localhost", b"www.example.com")[:-2] + passed
        self.say(request)
        self.asked()
        self.answer()
        config = evolve(self.config, routes=(Route(host="www.example.com", to="other"),))
        self.factory.configure(config, Edge(config).routes)
        for _ in range(2):
            self.assertEqual(self.status(request), 508)

    def test_targetsThatAreURLs(self) -> None:
        for target, path in (
            (b"http://app.localhost/a?b", b"/a?b"), (b"HTTPS://app.localhost", b"/"), (b"http://app.localhost?x", b"/?x"),
        ):
            self.say(b"GET %b HTTP/1.1\r\nHost: elsewhere\r\n\r\n" % target)
            head = self.asked()
            self.assertEqual((head.target, head.field(b"host")), (path, b"app.localhost"))
            self.answer()

    def test_octetsOfATargetArePassedOnAsTheyAre(self) -> None:
        for target in (b"/gr\xc3\xbc\xc3\x9fe?\xff", b"/\x80//..;%00/%2e"):
            self.say(b"GET %b HTTP/1.1\r\nHost: app.localhost\r\n\r\n" % target)
            self.assertEqual(self.asked().target, target)
            self.answer()
        self.say(b"GET http://app.localhost/\xe4 HTTP/1.1\r\nHost: app.localhost\r\n\r\n")
        self.assertEqual(self.asked().target, b"/\xe4")

    def test_aFragmentIsRefused(self) -> None:
        for target in (b"/a#b", b"/#", b"/?a#b", b"http://app.localhost/#a"):
            self.assertEqual(self.status(GET.replace(b"GET /", b"GET " + target)), 400)
            self.visitor = self.visit()

    def test_aRequestForAsteriskIsForwarded(self) -> None:
        self.say(GET.replace(b"GET /", b"OPTIONS *"))
        self.assertEqual(self.asked().target, b"*")

    def test_targetsThatAreNeither(self) -> None:
        self.assertEqual(self.status(GET.replace(b"GET /", b"GET *")), 400)
        self.assertEqual(self.status(GET.replace(b"GET /", b"GET ftp://a/")), 400)
        self.assertEqual(self.status(GET.replace(b"GET /", b"CONNECT a:443")), 501)

    def test_theRouterProvidesItsInterface(self) -> None:
        verifyObject(IExchangeServer, RequestRouter(self.factory.site, UNKNOWN_LISTENER))


class PageTests(PublicCase):
    """
    What a visitor reads when there is no answer.
    """

    def test_anUnknownHostIsAnswered404(self) -> None:
        for host in (b"nobody.localhost", b"localhost", b"127.0.0.1:80", b"example.org"):
            self.assertEqual(self.status(GET.replace(b"app.localhost", host)), 404)

    def test_aKnownServiceWithoutItsAgentIsAnswered503(self) -> None:
        self.edge.known.add("gone")
        heard = self.say(GET.replace(b"app.localhost", b"gone.localhost"))
        self.assertTrue(heard.startswith(b"HTTP/1.1 503 "))
        self.assertIn(b"\r\nRetry-After: ", heard)
        self.assertEqual(self.status(GET.replace(b"app.localhost", b"www.example.com")), 503)

    def test_aBusyAgentIsAnswered503(self) -> None:
        self.tunnel.busy = True
        self.assertEqual(self.status(GET), 503)

    def test_aBrokenStreamIsAnswered502(self) -> None:
        self.say(GET)
        self.tunnel.agent.far[-1].transport.abortConnection()
        self.settle()
        self.assertIn(b"HTTP/1.1 502 ", self.visitor.take())

    def test_aResponseThatIsLateIs504(self) -> None:
        self.say(GET)
        self.edge.clock.advance(60)
        self.settle()
        self.assertIn(b"HTTP/1.1 504 ", self.visitor.take())

    def test_theRequestsIdentifierIsEverywhere(self) -> None:
        self.say(GET)
        trace = self.asked().field(b"x-request-id")
        self.tunnel.agent.far[-1].transport.abortConnection()
        self.settle()
        heard = self.visitor.take()
        self.assertIn(b"\r\nX-Request-Id: %b\r\n" % trace, heard)
        self.assertIn(trace, heard.partition(b"\r\n\r\n")[2])
        self.assertEqual(self.log[-1].trace.encode(), trace)

    def test_whatNobodyUnderstoodHasAnIdentifierToo(self) -> None:
        heard = self.say(b"nonsense\r\n\r\n")
        self.assertIn(b"HTTP/1.1 400 ", heard)
        self.assertIn(b"\r\nX-Request-Id: ", heard)

    def test_nothingOfTheRequestIsInThePage(self) -> None:
        heard = self.say(b"GET /<script> HTTP/1.1\r\nHost: a.b.c\r\nX: <script>\r\n\r\n")
        self.assertIn(b"HTTP/1.1 404 ", heard)
        self.assertNotIn(b"script", heard)

    def test_theConnectionGoesOn(self) -> None:
        self.assertEqual(self.status(GET.replace(b"app.localhost", b"x.y")), 404)
        self.say(GET)
        self.assertEqual(self.answer(), OK)


class AccessTests(PublicCase):
    """
    One record for each request.
    """

    def test_anAnsweredRequestIsLogged(self) -> None:
        self.say(GET.replace(b"GET /", b"GET /a?b"))
        self.edge.clock.advance(1.5)
        self.answer()
        record = self.log.pop()
        self.assertEqual(
            (record.method, record.host, record.target, record.visitor, record.service, record.status, record.octets),
            ("GET", "app.localhost", "/a?b", "192.0.2.7", "app", 200, 2),
        )
        self.assertEqual((record.seconds, record.failed), (1.5, None))

    def test_aTargetThatFailedIsLoggedInASCII(self) -> None:
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.tunnel.busy = True
        self.assertEqual(self.status(GET.replace(b"GET /", b"GET /\xc3\xa4\xff")), 503)
        self.assertEqual([event["target"] for event in events if event.get("status") == 503], ["/%C3%A4%FF"])

    def test_theTargetIsInASCII(self) -> None:
        self.say(GET.replace(b"GET /", b"GET /\xc3\xa4\xff"))
        self.answer()
        self.assertEqual(self.log.pop().target, "/%C3%A4%FF")

    def test_aFailedRequestIsLoggedWithItsReason(self) -> None:
        self.say(GET)
        self.tunnel.agent.far[-1].transport.abortConnection()
        self.settle()
        record = self.log.pop()
        assert isinstance(record.failed, ExchangeFailed)
        self.assertEqual((record.status, record.failed.kind), (502, FailureKind.BROKEN))

    def test_aVisitorThatLeavesIsLogged(self) -> None:
        self.say(GET)
        self.visitor.transport.abortConnection()
        self.settle()
        self.assertEqual(self.log.pop().status, 499)


class CountsTests(PublicCase):
    """
    Requests are counted, with a log and without.
    """

    def setUp(self) -> None:
        self.counts = ExchangeCounts(FailureKind, perService=False)
        super().setUp()

    def counted(self) -> tuple[int, int, int]:
        """
        How many responses, durations and first octets are counted.
        """
        assert self.counts is not None
        self.counts.fold()
        return sum(self.counts.byClass), sum(self.counts.duration.counts), sum(self.counts.firstOctet.counts)

    def test_aLogMayBeginAndEndBetweenRequestsAndInThem(self) -> None:
        site, log = self.factory.site, self.factory.site.accessLog
        for number, (before, after) in enumerate(((None, log), (log, None), (None, None), (log, log)), 1):
            site.accessLog = before
            self.say(GET)
            site.accessLog = after
            self.answer()
            self.assertEqual(self.counted(), (number, number, number))
        self.assertEqual(len(self.log), 1, "one that began with a log and ended with it")

    def test_theEdgesOwnAnswersHaveNoFirstOctet(self) -> None:
        for log in None, self.log.append:
            self.factory.site.accessLog = log
            self.say(GET.replace(b"app.localhost", b"nobody.localhost"))
        self.assertEqual(self.counted(), (2, 2, 0))
        assert self.counts is not None
        self.assertEqual(self.counts.failures["unknown"], 2)


class TrustTests(PublicCase):
    """
    Behind a proxy of the operator.
    """

    config = EdgeConfig(trustedProxies=("10.0.0.0/8",))

    def test_itIsBelieved(self) -> None:
        self.visitor = self.visit(IPv4Address("TCP", "10.1.2.3", 1))
        self.say(GET[:-2] + b"X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\nX-Request-Id: abc-1\r\n\r\n")
        head = self.asked()
        self.assertEqual(head.field(b"x-forwarded-for"), b"192.0.2.9, 10.1.2.3")
        self.assertEqual(head.field(b"x-forwarded-proto"), b"https")
        self.assertEqual(head.field(b"x-request-id"), b"abc-1")

    def test_othersAreNot(self) -> None:
        self.say(GET[:-2] + b"X-Forwarded-For: 192.0.2.9\r\n\r\n")
        self.assertEqual(self.asked().field(b"x-forwarded-for"), b"192.0.2.7")
        self.answer()
        self.assertEqual(self.log.pop().visitor, "192.0.2.7")

    def test_theSameHeadGetsAnotherIdentifier(self) -> None:
        self.visitor = self.visit(IPv4Address("TCP", "10.1.2.3", 1))
        seen = []
        for given in (b"", b"", b"X-Request-Id: abc-1\r\n", b"X-Request-Id: abc-1\r\n", b""):
            self.say(GET[:-2] + given + b"\r\n")
            seen.append(self.asked().field(b"x-request-id"))
            self.answer()
        self.assertEqual(seen[2:4], [b"abc-1"] * 2)
        self.assertEqual(len({seen[0], seen[1], seen[4]} - {None, b"abc-1"}), 3)

    def told(self, fields: bytes) -> dict[bytes, bytes]:
        """
        What the server is told of a request with these fields.
        """
        self.visitor = self.visit(IPv4Address("TCP", "10.1.2.3", 1))
        self.say(GET[:-2] + fields + b"\r\n")
        head = self.asked()
        self.answer()
        told = [pair for pair in head.fields if b"orwarded" in pair[0]]
        self.assertEqual(len(dict(told)), len(told))
        return dict(told)

    def test_bothFamiliesAreWrittenFromTheBelievedOne(self) -> None:
        expected = {
            b"X-Forwarded-For": b"2001:db8::9, 10.1.2.3", b"X-Forwarded-Proto": b"https", b"X-Forwarded-Host": b"a.example",
            b"Forwarded": b'for="[2001:db8::9]";host=a.example;proto=https, for=10.1.2.3;host=app.localhost;proto=http',
        }
        x = b"X-Forwarded-For: [2001:DB8:0::9]:80\r\nX-Forwarded-Proto: HTTPS\r\nX-Forwarded-Host: a.example\r\n"
        for fields in (x, x + b"Forwarded: for=1.1.1.1\r\nX-Forwarded-Port: 1\r\n"):
            self.assertEqual(self.told(fields), expected)
        forwarded = b'Forwarded: Proto=https;host=a.example;for="[2001:DB8::9]:80"\r\n'
        self.assertEqual(self.told(forwarded), expected)

    def test_whatAVisitorClaimsOfEarlierHopsIsLeftOut(self) -> None:
        told = self.told(b"X-Forwarded-For: 1.1.1.1, 192.0.2.9, 10.0.0.2\r\n")
        self.assertEqual(told[b"X-Forwarded-For"], b"192.0.2.9, 10.0.0.2, 10.1.2.3")

    def test_theProxysOwnRequests(self) -> None:
        self.assertEqual(self.told(b"")[b"X-Forwarded-For"], b"10.1.2.3")
        self.assertEqual(self.log.pop().visitor, "10.1.2.3")

    def test_whichFieldsAreBelieved(self) -> None:
        fields = b"X-Forwarded-For: 192.0.2.9\r\nForwarded: for=192.0.2.8\r\n"
        for by, visitor in (("", b"192.0.2.9"), ("x-forwarded", b"192.0.2.9"), ("forwarded", b"192.0.2.8")):
            self.factory.configure(evolve(self.config, forwardedBy=by), self.edge.routes)
            told = self.told(fields)
            self.assertEqual(told[b"X-Forwarded-For"], visitor + b", 10.1.2.3")
            self.assertTrue(told[b"Forwarded"].startswith(b"for=" + visitor + b", "))

    def test_aContradictionIsRefused(self) -> None:
        self.factory.configure(evolve(self.config, forwardedBy="both"), self.edge.routes)
        self.visitor = self.visit(IPv4Address("TCP", "10.1.2.3", 1))
        for host in (b"app.localhost", b"nobody.localhost"):
            fields = b"X-Forwarded-For: 192.0.2.9\r\nForwarded: for=192.0.2.8\r\n\r\n"
            self.assertEqual(self.status(GET[:-2].replace(b"app.localhost", host) + fields), 400)
        self.assertEqual(self.tunnel.asked, [])
        told = self.told(b"X-Forwarded-For: 192.0.2.9\r\nForwarded: for=192.0.2.9;proto=https\r\n")
        self.assertEqual(told[b"X-Forwarded-Proto"], b"https")


class TextTests(PublicCase):
    """
    One text for each address, however its socket writes it.
    """

    config = EdgeConfig(trustedProxies=("::ffff:10.0.0.0/104",))

    def test_anAddressHasOneText(self) -> None:
        for host, text in (
            ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:0:0:0:0:0:7", "2001:db8::7"), ("fe80::1%eth0", "fe80::1"),
            ("::ffff:c000:207", "192.0.2.7"),
        ):
            self.visitor = self.visit(IPv6Address("TCP", host, 1))
            self.say(GET)
            self.assertEqual(self.asked().field(b"x-forwarded-for"), text.encode())
            self.answer()
            self.assertEqual(self.log.pop().visitor, text)
            self.assertEqual(self.tunnel.asked[-1][1].address.host, text)

    def test_aTrustedProxyIsKnownInBothForms(self) -> None:
        for address in ("10.1.2.3", "::ffff:10.1.2.3"):
            self.assertTrue(self.factory.site.isTrusted(address))
        self.assertFalse(self.factory.site.isTrusted("192.0.2.1"))


class DoorTests(PublicCase):
    """
    Agents come in on the same port.
    """

    def setUp(self) -> None:
        super().setUp()
        self.taken: list[TakenOverRequest] = []
        self.edge.doors.add(HTTPDoor(path=b"/_tunnel/1", server=Server(self.onRequest)))

    def onRequest(self, head: object, exchange: Any) -> None:
        request = exchange.onRequest()
        self.taken.append(request)
        request.transport.protocol = agent = Talker()
        agent.makeConnection(request.transport)

    def test_doorsAreOpenOnHostsWithoutARoute(self) -> None:
        for host in (b"localhost:8080", b"127.0.0.1", b"edge.example.org"):
            self.visitor = self.visit()
            self.say(b"GET /_tunnel/1?x HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
            self.assertEqual(self.taken.pop().head.field(b"host"), host)
            self.assertEqual(self.wire.far.protocol.heard, b"")
        self.assertEqual(len(self.factory.connections), 1)

    def test_aHostWithARouteHasNoDoors(self) -> None:
        self.say(GET.replace(b"GET /", b"GET /_tunnel/1"))
        self.assertEqual(self.asked().target, b"/_tunnel/1")
        self.assertEqual(self.taken, [])


class BoundTests(PublicCase):
    """
    What strangers may cost.
    """

    config = EdgeConfig(limits=evolve(Limits(), visitors=2, headOctets=1024))

    def test_theNumberOfVisitorsIsLimited(self) -> None:
        self.assertFalse(self.edge.admission.paused)
        second = self.visit()
        self.assertTrue(self.edge.admission.paused)
        second.transport.abortConnection()
        self.settle()
        self.assertFalse(self.edge.admission.paused)

    def test_oneTurnMayExceedTheLimitByABound(self) -> None:
        self.edge.admission.configure(2, 0)
        for _ in range(1 + MAX_OVERSHOOT):
            self.visit()
        self.assertIs(self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.8", 1)), None)

    def test_newConnectionsOfOneAddressAreBounded(self) -> None:
        one, other = (IPv4Address("TCP", f"192.0.2.{number}", 1) for number in (8, 9))
        built = [self.factory.buildProtocol(one) is not None for _ in range(60)]
        self.assertEqual(built, [True] * 50 + [False] * 10)
        self.assertIsNot(self.factory.buildProtocol(other), None)
        self.edge.clock.advance(1 / 50)
        self.assertIsNot(self.factory.buildProtocol(one), None)

    def test_newcomersWhomAProxyIntroduces(self) -> None:
        where = EdgeListener(text="haproxy:tcp:80", endpoint=None, proxied=True)
        with mock.patch.object(self.factory, "buildProtocol", lambda address: self.factory.buildConnection(address, where)):
            statuses = []
            for _ in range(51):
                self.visitor = self.visit(IPv4Address("TCP", "192.0.2.8", 1))
                statuses.append(self.status(GET.replace(b"app.", b"nobody.")))
        self.assertEqual(statuses, [404] * 50 + [429])

    def test_headsAreLimited(self) -> None:
        self.assertEqual(self.status(GET[:-2] + b"X: %b\r\n\r\n" % (b"a" * 1024)), 431)


class StopTests(PublicCase):
    """
    The end of an edge.
    """

    def test_drainingLetsExchangesFinish(self) -> None:
        self.say(GET)
        first, wire = self.visitor, self.wire
        self.visitor = self.visit()
        drained = self.factory.drain()
        settle(self.wire, wire)
        self.assertTrue(self.visitor.readEnded)
        self.assertNoResult(drained)
        self.tunnel.agent.far[-1].say(OK)
        settle(self.tunnel.agent, wire)
        self.assertIn(b"Connection: close", first.heard)
        first.transport.loseConnection()
        settle(wire)
        self.assertFalse(wire.far.connected)

    def test_drainWithoutVisitorsEndsAtOnce(self) -> None:
        self.visitor.transport.loseConnection()
        self.settle()
        self.successResultOf(self.factory.drain())

    def test_abortingEndsTheDrain(self) -> None:
        self.say(GET)
        drained = self.factory.drain()
        self.factory.abort()
        self.settle()
        self.successResultOf(drained)

    def test_newVisitorsHaveOneDelayedCallWhichEndsWithTheLast(self) -> None:
        wires = [self.wire]
        for _ in range(3):
            self.visit()
            wires.append(self.wire)
        self.assertEqual(len(self.edge.clock.getDelayedCalls()), 1)
        self.factory.abort()
        settle(*wires)
        self.assertFalse(self.factory.connections)
        self.assertEqual(self.edge.clock.getDelayedCalls(), [])

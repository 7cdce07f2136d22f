"""
An agent that goes on with another configuration: what is new is offered, what is gone is not, and nobody is cut off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.protocols.wire import Echo

from tests.edge.test_edge_and_agent import RAW, SITE, Both, Page, just, pages
from tunnelstack.agent.uplink import REFUSED_SECONDS
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.control.process.exit_status import GaveUp
from tunnelstack.errors import ConfigurationError
from tunnelstack.records import Service
from tunnelstack.testing import Caller

DOCS = ServiceConfig(name="docs", target="3001")


class Reloads(Both):
    """
    What these tests begin with.
    """

    def reload(self, *services: ServiceConfig, **settings: Any) -> tuple[str, ...]:
        agent = self.both.agent
        said = agent.reload(evolve(agent.config, services=services, **settings))
        self.both.settle()
        return said

    def status(self, name: str) -> bytes:
        """
        Of a site's page, as a visitor sees it.
        """
        return self.both.get(f"{name}.localhost").split(b" ")[1]

    def listen(self, port: int) -> Any:
        origin = pages()
        self.both.network.listenTCP(port, origin)
        return origin


class ServiceTests(Reloads):
    """
    Services come, go, and become others.
    """

    def test_newOnesAreOfferedAndGoneOnesAreNot(self) -> None:
        both = self.begin(SITE, RAW)
        self.listen(3001)
        [session] = [link.session for link in both.agent.serviceLinks]
        visitor = both.visit(b"one", 2000)
        self.assertEqual(self.reload(RAW, DOCS), ("[[service]] docs: added", "[[service]] site: removed"))
        self.assertEqual(self.warned(), "")
        self.assertEqual((self.status("docs"), self.status("site")), (b"200", b"503"))
        visitor.transport.write(b"two")
        both.settle()
        self.assertEqual(visitor.got, b"onetwo")
        self.assertEqual([link.session for link in both.agent.serviceLinks], [session])
        self.assertEqual(self.said("reload"), ["[[service]] docs: added", "[[service]] site: removed"])
        self.assertEqual(self.said("site")[1:], ["withdrawn"])
        self.assertEqual(len(self.said("raw")), 1)             # it noticed nothing

    def test_whatIsUnderWayOfAGoneOneEnds(self) -> None:
        both = self.begin(ServiceConfig(name="slow", target="3002"), RAW)
        built: list[Any] = []
        slow = just(Caller)
        slow.buildProtocol = lambda address: built.append(Caller()) or built[-1]
        both.network.listenTCP(3002, slow)
        asking = both.visit(b"GET / HTTP/1.1\r\nHost: slow.localhost\r\n\r\n")
        connected = both.visit(b"one", 2000)
        self.reload()
        self.assertEqual((self.status("slow"), 2000 in both.network.ports), (b"503", False))
        connected.transport.write(b"two")
        built[-1].transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nslowly")
        both.settle()
        self.assertTrue(asking.got.endswith(b"\r\n\r\nslowly"), asking.got)
        self.assertEqual(connected.got, b"onetwo")
        self.assertIsNotNone(built[-1].lost)                   # nobody asks it any more

    def test_anotherTargetServesTheNextRequest(self) -> None:
        """
        Streams that the edge has kept lead to the new one at their next request.
        """
        both = self.begin(SITE)
        other = self.listen(3001)
        visitor = both.visit(b"GET /1 HTTP/1.1\r\nHost: site.localhost\r\n\r\n")
        tunnel = next(iter(both.edge.registry))
        [streams] = [tunnel.session.streams]
        self.reload(evolve(SITE, target="3001"))
        visitor.transport.write(b"GET /2 HTTP/1.1\r\nHost: site.localhost\r\n\r\n")
        both.settle()
        self.assertEqual(visitor.got.count(b"200 OK"), 2)
        self.assertEqual((len(self.origin.requests), len(other.requests)), (1, 1))
        self.assertEqual(tunnel.session.streams, streams)
        self.assertEqual(self.said("site")[1:], ["http://site.localhost:8080 -> tcp:localhost:3001"])
        self.reload(SITE)
        self.assertEqual((self.status("site"), len(self.origin.requests), len(other.requests)), (b"200", 2, 1))

    def test_anotherTargetWhileARequestIsUnderWay(self) -> None:
        both = self.begin(ServiceConfig(name="slow", target="3002"))
        built: list[Any] = []
        slow = just(Caller)
        slow.buildProtocol = lambda address: built.append(Caller()) or built[-1]
        both.network.listenTCP(3002, slow)
        asking = both.visit(b"GET / HTTP/1.1\r\nHost: slow.localhost\r\n\r\n")
        built[-1].transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nslo")
        self.reload(ServiceConfig(name="slow", target="3000"))
        self.assertEqual(self.status("slow"), b"200")
        self.assertIsNone(built[-1].lost)
        built[-1].transport.write(b"wly")
        both.settle()
        self.assertTrue(asking.got.endswith(b"\r\n\r\nslowly"), asking.got)
        self.assertIsNotNone(built[-1].lost)

    def test_aServiceChangesFromAServerToAFolderAndBack(self) -> None:
        """
        What is kept of the one is not used for the other.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "index.html").write_text("from a file")
        both = self.begin(SITE)
        for _ in range(2):
            self.assertIn(b"for 127.0.0.1", both.get("site.localhost"))
            self.reload(evolve(SITE, kind="serve", target=str(folder)))
            self.assertTrue(both.get("site.localhost").endswith(b"\r\n\r\nfrom a file"))
            self.reload(SITE)
        self.assertIn(b"for 127.0.0.1", both.get("site.localhost"))
        self.assertEqual(self.warned(), "")

    def test_anotherPortIsOpenedAndTheFirstIsClosed(self) -> None:
        both = self.begin(RAW, allow=("tcp:2000-2001",))
        visitor = both.visit(b"one", 2000)
        self.reload(evolve(RAW, remotePort=2001))
        self.assertEqual(both.network.ports.keys() & {2000, 2001}, {2001})
        self.assertEqual(both.visit(b"three", 2001).got, b"three")
        visitor.transport.write(b"two")
        both.settle()
        self.assertEqual(visitor.got, b"onetwo")
        self.assertEqual(self.warned(), "")

    def test_anotherKindIsPublished(self) -> None:
        both = self.begin(SITE)
        self.reload(ServiceConfig(name="site", kind="tcp", target="4000", remotePort=2000))
        self.assertEqual((self.status("site"), both.visit(b"echo", 2000).got), (b"503", b"echo"))
        self.reload(SITE)
        self.assertEqual((self.status("site"), 2000 in both.network.ports), (b"200", False))

    def test_aServerThatIsNotThereYet(self) -> None:
        self.begin(SITE)
        self.reload(evolve(SITE, target="3009"))
        self.assertIn("nothing listens on localhost:3009 yet; visitors get 503 with an explanation", self.warned())

    def test_whatTheEdgeDoesNotAllowIsToldAndTheOthersStay(self) -> None:
        both = self.begin(SITE, allow=("http:site",))
        self.reload(SITE, DOCS)
        self.assertIn("the edge does not publish docs", self.warned())
        self.assertEqual(self.status("site"), b"200")
        self.assertEqual([publication.grant is not None for publication in both.agent.publications], [True, False])

    def test_withNothingLeftToPublishItEnds(self) -> None:
        """
        The kind of M4.
        """
        both = self.begin(SITE, allow=("http:site",))
        ended = both.agent.whenFailed()
        self.reload(SITE, DOCS)
        self.assertNoResult(ended)
        self.reload(DOCS, evolve(DOCS, name="more"))
        error = self.successResultOf(ended)
        self.assertEqual((error.code, str(error)), (77, "nothing is left to publish: the token does not allow http:more"))

    def test_whoHasMoreToServeGoesOn(self) -> None:
        both = self.begin(SITE, allow=("http:site",))
        ended = both.agent.whenFailed()
        both.agent.publish(Service(name="own"), just(Page))
        self.reload(DOCS)
        self.assertNoResult(ended)

    def test_whoseTargetsMayBeDialledGoesOn(self) -> None:
        both = self.begin(SITE, allow=("http:site",))
        ended = both.agent.whenFailed()
        self.reload(DOCS, targets=("localhost:22",))
        self.assertNoResult(ended)

    def test_withoutASessionItCountsFromTheNextOneOn(self) -> None:
        both = self.begin(SITE)
        self.listen(3001)
        both.edge.stopService()
        both.network.passTime(100)
        self.reload(DOCS)
        both.edge = type(both.edge)(both.network, both.edge.config)
        both.edge.startService()
        both.network.passTime(31)
        self.assertEqual((self.status("docs"), self.status("site")), (b"200", b"404"))

    def test_aPortThatWasWaitedForIsNotAskedForAgain(self) -> None:
        both = self.begin(RAW, start=False)
        other = both.network.listenTCP(2000, just(Echo))
        both.start()
        self.assertIn("port 2000 is taken", self.warned())
        self.reload(evolve(RAW, remotePort=2001))
        self.assertIn(2001, both.network.ports)
        other.stopListening()
        both.network.passTime(60)
        self.assertNotIn(2000, both.network.ports)
        self.assertEqual(len(self.said("raw")), 1)
        self.assertEqual([publication.grant.port for publication in both.agent.publications], [2001])


class MistakeTests(Reloads):
    """
    What cannot be served changes nothing.
    """

    def test_aMistakeChangesNothing(self) -> None:
        both = self.begin(SITE, RAW)
        before = both.agent.config
        folder = ServiceConfig(name="files", kind="serve", target=".")
        for wrong in (
            ServiceConfig(name="shell", kind="ssh", target="embedded", hostKeysFile="keys"),
            ServiceConfig(name="shell", target="nonsense:1:2"),
        ):
            calls = len(both.network.getDelayedCalls())
            self.assertRaises(ConfigurationError, self.reload, DOCS, folder, evolve(SITE, target="3001"), wrong)
            both.settle()
            self.assertEqual(len(both.network.getDelayedCalls()), calls)
            self.assertIs(both.agent.config, before)
            self.assertEqual([publication.service.name for publication in both.agent.publications], ["site", "raw"])
            self.assertEqual((self.status("site"), both.visit(b"echo", 2000).got), (b"200", b"echo"))
        self.assertEqual((self.said("reload"), self.warned()), ([], ""))

    def test_theProgramsOwnOffersAreLeftAlone(self) -> None:
        both = self.begin()
        mine = both.agent.publish(Service(name="docs"), just(Page))
        self.assertRaises(ConfigurationError, self.reload, SITE, DOCS)
        self.reload(SITE)
        self.reload()
        self.assertEqual(both.agent.publications, [mine])


class SettingTests(Reloads):
    """
    C{[agent]}.
    """

    def test_targetsApplyToTheNextDial(self) -> None:
        both = self.begin(SITE, allow=("http:*", "dial:*"))
        other = both.another()
        other.startService()
        both.settle()
        for targets, reached in ((("localhost:4000",), True), ((), False)):
            self.reload(SITE, targets=targets)
            connected = other.dial("laptop", "tcp:localhost:4000").connect(just(Caller))
            both.settle()
            caller = self.successResultOf(connected)
            self.assertEqual(caller.lost is None, reached)
            caller.transport.loseConnection()
        other.stopService()
        both.network.passTime(3)

    def test_waitsAndDrains(self) -> None:
        both = self.begin(RAW)
        self.reload(RAW, backoffSeconds=3.0, drainSeconds=4.0)
        [uplink] = [link.uplink for link in both.agent.links]
        self.assertEqual((uplink.maxBackoff, uplink.drainSeconds), (3.0, 4.0))
        visitor = both.visit(b"ping", 2000)
        both.agent.stopService()
        both.network.passTime(3)
        self.assertIsNone(visitor.lost)
        both.network.passTime(3)
        self.assertIsNotNone(visitor.lost)

    def test_theTimeToGiveUpIsLive(self) -> None:
        both = self.begin(start=False)
        ended = both.agent.whenFailed()
        both.agent.startService()
        both.network.passTime(REFUSED_SECONDS)
        self.reload(giveUpAfterSeconds=20.0)
        both.network.passTime(10)
        self.reload(giveUpAfterSeconds=30.0)
        both.network.passTime(29)
        self.assertNoResult(ended)
        both.network.passTime(2)
        self.assertIsInstance(self.successResultOf(ended), GaveUp)

    def test_patienceIsNotAskedForWhileThereIsASession(self) -> None:
        both = self.begin(SITE)
        ended = both.agent.whenFailed()
        self.reload(SITE, giveUpAfterSeconds=20.0)
        both.network.passTime(60)
        self.assertNoResult(ended)
        self.assertEqual(self.status("site"), b"200")

    def test_someSettingsNeedARestart(self) -> None:
        both = self.begin(SITE)
        edges = both.agent.config.edges
        self.assertEqual(
            self.reload(SITE, edges=(), pingSeconds=9.0),
            (
                "[agent] ping_seconds: 30.0 becomes 9.0 when the agent is restarted",
                "[[edge]]: 1 removed when the agent is restarted",
            ),
        )
        self.assertEqual((both.agent.config.edges, both.agent.config.pingSeconds), (edges, 30.0))
        self.assertEqual(self.status("site"), b"200")

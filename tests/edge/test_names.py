"""
Names of raw ports and of SSH servers, on a whole edge with two agents who do not know each other.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo

from tests.edge.test_edge_and_agent import Both, just
from tunnelstack.control.auth.tokens import NewToken, newToken
from tunnelstack.control.config.records import EdgeConfig, TokenRecord
from tunnelstack.errors import Denied
from tunnelstack.records import Principal, Service


class NameTests(Both):
    """
    One agent, C{laptop}, owns C{db} and C{app}; the other, C{guest}, may take ports and offer SSH.
    """

    def setUp(self) -> None:
        super().setUp()
        both = self.begin(start=False, allow=["http:app", "stream:db", "http:open-*", "tcp:2000-2010", "ssh"])
        self.guest = self.known("guest", "tcp:3000-3010", "ssh", "stream:mine")
        both.start()
        both.settle()
        self.laptop = both.agent

    def known(self, name: str, *allow: str, more: tuple[str, ...] = ()) -> Any:
        """
        One more agent.
        """
        new: NewToken = newToken()
        record = TokenRecord(name=name, tokenSha256=new.tokenSha256, allow=allow, id=new.id)
        config: EdgeConfig = self.both.edge.config
        self.both.edge.config = evolve(config, tokens=(*config.tokens, record))
        if self.both.edge.running:
            self.both.edge.reload(self.both.edge.config)
        agent = self.both.another(token=new.token)
        self.addCleanup(self.quit, agent)
        agent.startService()
        return agent

    def quit(self, agent: Any) -> None:
        if agent.running:
            stopped = agent.stopService()
            self.both.network.passTime(3)
            self.successResultOf(stopped)

    def offered(self, agent: Any, name: str, kind: str = "tcp") -> str:
        """
        @return: C{""}, or the code of the refusal.
        """
        publication = agent.publish(Service(name=name, kind=kind), just(Echo))
        granted = publication.whenGranted()
        self.both.settle()
        refused: list[Any] = []
        granted.addErrback(lambda failure: refused.append(failure.value))
        if refused:
            assert isinstance(refused[0], Denied)
            return refused[0].code
        return "" if publication.grant is not None else "taken"

    def to(self, name: str, purpose: str = "") -> str:
        """
        Whom somebody reaches who dials a name.
        """
        tunnel, _ = self.both.edge.agents.reach(Principal(agent="x", allow=("dial:*",)), name, purpose)
        agent: str = tunnel.principal.agent
        return agent

    def test_anAgentMayTakeItsOwnNameAndAFreeOne(self) -> None:
        self.assertEqual(self.offered(self.guest, "game"), "")
        self.assertEqual(self.offered(self.guest, "mine"), "")
        self.assertEqual(self.to("game"), "guest")

    def test_aNameThatAnotherWasGrantedWhileHeIsAway(self) -> None:
        for name in ("db", "app", "open-house", "laptop"):
            self.assertEqual(self.offered(self.guest, name), "not-allowed", name)
            self.assertEqual(self.offered(self.guest, name, "ssh"), "not-allowed", name)
        self.assertEqual([kind for kind in ("tcp", "ssh") if self.both.edge.registry.isHeld("db", kind)], [])
        self.assertEqual(self.offered(self.laptop, "db", "stream"), "")
        self.assertEqual(self.to("db"), "laptop")

    def test_aNameThatAnotherHoldsAsSomethingElse(self) -> None:
        self.assertEqual(self.offered(self.laptop, "free"), "")
        self.assertEqual(self.offered(self.guest, "free"), "taken")
        self.assertEqual(self.offered(self.guest, "free", "ssh"), "taken")
        self.assertEqual(self.to("free"), "laptop")

    def test_theSameAgentMayOfferItInSeveralWays(self) -> None:
        for kind in ("stream", "tcp", "ssh"):
            self.assertEqual(self.offered(self.laptop, "db", kind), "", kind)

    def test_whatIsFreeAgainMayBeTaken(self) -> None:
        self.assertEqual(self.offered(self.laptop, "free"), "")
        self.quit(self.laptop)
        self.assertEqual(self.offered(self.guest, "free"), "")

    def test_theNameOfAnAgentWhoIsHere(self) -> None:
        """
        Also of one that no credential of the configuration names, as with a checker or an authenticator of one's own.
        """
        self.both.edge.owners.setCredentials([])
        self.assertEqual(self.offered(self.guest, "laptop", "ssh"), "taken")
        self.assertEqual(self.offered(self.guest, "laptop"), "taken")
        self.assertEqual(self.to("laptop", "ssh"), "laptop")

    def test_anAgentWhoComesLaterIsStillReachedByHisName(self) -> None:
        self.assertEqual(self.offered(self.guest, "later", "ssh"), "")
        self.assertEqual(self.to("later", "ssh"), "guest")
        self.known("later", "tcp:4000", "ssh")
        self.both.settle()
        self.assertEqual(self.to("later", "ssh"), "later")

    def test_aServiceCanBeCheckedBeforeItIsAnnounced(self) -> None:
        guest = next(tunnel.principal for tunnel in self.both.edge.registry if tunnel.principal.agent == "guest")
        laptop = next(tunnel.principal for tunnel in self.both.edge.registry if tunnel.principal.agent == "laptop")
        self.assertEqual(self.offered(self.laptop, "free"), "")

        def checked(principal: Principal, **service: Any) -> str:
            try:
                self.both.edge.agents.checkService(principal, Service(**service))
            except Denied as denied:
                return denied.code
            return ""

        self.assertEqual(checked(laptop, name="app"), "")
        self.assertEqual(checked(guest, name="app"), "not-allowed")
        self.assertEqual(checked(guest, name="game", kind="tcp", port=3001), "")
        self.assertEqual(checked(guest, name="game", kind="tcp", port=2001), "not-allowed")
        self.assertEqual(checked(guest, name="game", kind="udp"), "not-allowed")
        self.both.network.listenTCP(3002, Factory())
        self.assertEqual(checked(guest, name="game", kind="tcp", port=3002), "port-taken")
        self.assertEqual(self.offered(self.guest, "game"), "")
        self.both.settle()
        port = self.both.edge.agents.portOf("tcp", "game")
        self.assertEqual(checked(guest, name="game", kind="tcp", port=port), "", "its own")
        self.assertEqual(checked(guest, name="free", kind="tcp"), "taken")
        self.assertEqual(checked(laptop, name="free", kind="tcp"), "")
        self.assertEqual(self.both.edge.agents.addressOf("app").url, "http://app.localhost:8080")

    def test_withoutPortsNoNameGetsAPort(self) -> None:
        poor = self.known("poor", "stream:mine-*", "http:poor")
        self.both.settle()
        for name in ("mine-1", "poor", "game"):
            self.assertEqual(self.offered(poor, name), "not-allowed")
            self.assertEqual(self.offered(poor, name, "ssh"), "not-allowed")

    def test_aTokenThatIsMadeLaterOwnsItsNames(self) -> None:
        self.known("shop", "http:store")
        self.both.settle()
        self.assertEqual(self.offered(self.guest, "store"), "not-allowed")

    def test_aSharedPortIsStillNoneThatWasNotGranted(self) -> None:
        """
        Two processes of one agent share a name; the second has a token with other ports.
        """
        ports = self.both.edge.agents.ports.leases
        self.successResultOf(ports.open("laptop", "both", 2005, (range(2000, 2011),)))
        error: Any = self.failureResultOf(ports.open("laptop", "both", 0, (range(3000, 3011),)), Denied).value
        self.assertEqual(error.code, "not-allowed")
        self.successResultOf(ports.close("both"))

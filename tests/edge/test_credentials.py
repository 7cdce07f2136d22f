"""
Who is let in, while it changes: tokens of the state folder, revoked, expired, with other rights; certificates and checkers.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.auth.token_store import TokenStore
from tunnelstack.control.auth.tokens import NewToken, newToken
from tunnelstack.control.config.records import NEVER, CheckerRecord, Limits, Route, ServiceConfig, TokenRecord
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.testing import EdgeAndAgent

SITE = ServiceConfig(name="site", target="3000")


class KeysTests(SynchronousTestCase):
    """
    One edge with a state folder, and an agent whose token is kept there.
    """

    def setUp(self) -> None:
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.folder = Path(self.mktemp()).absolute()
        self.store = TokenStore(StateDirectory(self.folder))
        self.time = datetime(2026, 6, 1, tzinfo=UTC)

    def begin(self, expires: datetime = NEVER, **settings: Any) -> NewToken:
        """
        Start the edge and an agent with a token of the folder.
        """
        new = newToken()
        self.record = TokenRecord(name="desk", tokenSha256=new.tokenSha256, id=new.id, allow=("http:*",), expires=expires)
        self.store.add(self.record)
        self.both = both = EdgeAndAgent(edge={"stateDirectory": str(self.folder), **settings})
        both.network.listenUNIX = lambda *arguments, **options: _Port()  # type: ignore[attr-defined]
        both.edge.credentials._now = both.edge.credentials.tokens._now = lambda: self.time   # type: ignore[union-attr]
        both.agent = both.another(SITE, token=new.token)
        both.start()
        self.addCleanup(self.end)
        return new

    def end(self) -> None:
        for service in (self.both.agent, self.both.edge):
            service.stopService()
            self.both.network.passTime(40)

    def agents(self) -> list[str]:
        return [tunnel.principal.agent for tunnel in self.both.edge.registry]

    def said(self, text: str) -> bool:
        return any(text in str(event.get("reason", "")) for event in self.events)

    def test_tokensOfTheFolderAreGood(self) -> None:
        self.begin()
        self.assertEqual(self.agents(), ["desk"])

    def test_aNewTokenIsGoodWithinASecond(self) -> None:
        self.begin()
        new = newToken()
        self.store.add(TokenRecord(name="late", tokenSha256=new.tokenSha256, id=new.id))
        self.both.network.passTime(1.0, 0.1)
        late = self.both.another(token=new.token)
        late.startService()
        self.both.settle()
        self.addCleanup(late.stopService)
        self.assertEqual(self.agents(), ["desk", "late"])

    def test_aRevokedSessionIsClosedWithinASecondAndToldWhy(self) -> None:
        new = self.begin()
        self.assertTrue(self.both.edge.registry.isHeld("site"))
        self.store.revoke("desk")
        self.both.network.passTime(1.0, 0.1)
        self.assertEqual(self.agents(), [])
        self.assertFalse(self.both.edge.registry.isHeld("site"))
        self.assertTrue(self.said(f"the credential of desk ({new.id}) was revoked"))
        ended = [event for event in self.events if "ends the session" in event["log_format"]]
        self.assertEqual([event["code"] for event in ended], ["revoked"])
        self.both.network.passTime(90)
        self.assertEqual(self.agents(), [])   # and it is not let in again
        self.assertTrue(self.said("refuses the token"))

    def test_sessionsOfOtherCredentialsStay(self) -> None:
        self.begin()
        other = newToken()
        self.store.add(TokenRecord(name="other", tokenSha256=other.tokenSha256, id=other.id))
        before = list(self.both.edge.registry)
        self.both.network.passTime(1.0, 0.1)
        self.store.revoke(other.id)
        self.both.network.passTime(1.0, 0.1)
        self.assertEqual(list(self.both.edge.registry), before)

    def test_aTokenExpires(self) -> None:
        self.begin(expires=self.time + timedelta(hours=1))
        self.both.network.passTime(2.0)
        self.assertEqual(self.agents(), ["desk"])
        self.time += timedelta(hours=1)
        self.both.network.passTime(1.0, 0.1)
        self.assertEqual(self.agents(), [])
        self.assertTrue(self.said("has expired"))

    def test_otherRightsBeginWithANewSession(self) -> None:
        self.begin()
        self.store.revoke("desk")
        self.store.add(evolve(self.record, allow=("http:site", "stream:*")))
        self.both.network.passTime(1.0, 0.1)
        self.assertTrue(self.said("have changed; it may connect again"))
        self.assertFalse(self.both.edge.registry.isHeld("site"))
        self.both.network.passTime(60)
        (tunnel,) = self.both.edge.registry
        self.assertEqual(tunnel.principal.allow, ("http:site", "stream:*"))
        self.assertTrue(self.both.edge.registry.isHeld("site"))

    def test_aDamagedFileChangesNothing(self) -> None:
        self.begin()
        Path(self.store.path).write_text("[[agent]]\nnam = 1\n")
        self.both.network.passTime(1.0, 0.1)
        self.assertEqual(self.agents(), ["desk"])
        wrong = [event for event in self.events if event["log_level"].name == "error"]
        self.assertEqual(len(wrong), 1)
        self.assertIn("has no key nam", wrong[0]["reason"])

    def test_whatWasTakenBackBetweenKnockAndHelloIsRefused(self) -> None:
        self.begin()
        [tunnel] = self.both.edge.registry
        self.both.edge.registry.remove(tunnel)
        self.both.edge.credentials.tokens.replace(())  # type: ignore[union-attr]
        denied = self.assertRaises(Denied, self.both.edge.agents.arrived, tunnel)
        self.assertEqual(denied.code, "revoked")
        tunnel.abort(denied)

    # Another configuration

    def test_reloadTakesTokensAndRoutesAndKeepsSessions(self) -> None:
        self.begin()
        before, edge = list(self.both.edge.registry), self.both.edge
        new = newToken()
        record = TokenRecord(name="more", tokenSha256=new.tokenSha256, id=new.id)
        said = edge.reload(
            evolve(
                edge.config, tokens=(*edge.config.tokens, record), routes=(Route(host="www.example.net", to="site"),),
                limits=Limits(visitors=7), domain="example.org",
            )
        )
        self.assertEqual(list(edge.registry), before)
        self.assertEqual(
            said,
            (
                "[limits] visitors: 10000 becomes 7", "[[agent]]: 1 added", "[[route]]: 1 added",
                "[edge] domain: localhost becomes example.org when the edge is restarted",
            ),
        )
        self.assertIsNotNone(edge.routes.find(b"www.example.net", b"/"))
        self.assertIs(edge.public.site.routes, edge.routes)
        self.assertEqual((edge.admission.maxConnections, edge.config.domain), (7, "localhost"))
        self.assertIsNotNone(edge.credentials.tokens.find(new.token))  # type: ignore[union-attr]

    def test_aTokenThatLeavesTheFileTakesItsSessionWithIt(self) -> None:
        self.begin()
        old = self.both.another(SITE)         # by the token of the configuration
        old.startService()
        self.addCleanup(old.stopService)
        self.both.settle()
        self.assertEqual(self.agents(), ["desk", "laptop"])
        self.both.edge.reload(evolve(self.both.edge.config, tokens=()))
        self.assertEqual(self.agents(), ["desk"])

    def test_whatCannotBeUsedChangesNothing(self) -> None:
        self.begin()
        edge = self.both.edge
        wrong = evolve(edge.config, tokens=(), checkers=(CheckerRecord(auth="nosuch:thing"),))
        self.assertRaises(ConfigurationError, edge.reload, wrong)
        self.assertEqual(len(edge.config.tokens), 1)
        self.assertIsNotNone(edge.credentials.tokens.find(self.both.token))  # type: ignore[union-attr]

    def test_sameAgainSaysSo(self) -> None:
        self.begin()
        self.assertEqual(self.both.edge.reload(self.both.edge.config), ("nothing has changed",))

    def test_namesAndPasswordsOfAChecker(self) -> None:
        path = Path(self.mktemp())
        path.write_text("anna:swordfish\n")
        self.begin(checkers=(CheckerRecord(auth=f"file:{path}", allow=("http:*",)),))
        anna = self.both.another(ServiceConfig(name="hers", target="3000"), token="anna:swordfish")
        anna.startService()
        self.addCleanup(anna.stopService)
        self.both.settle()
        self.assertEqual(self.agents(), ["desk", "anna"])
        self.assertTrue(self.both.edge.registry.isHeld("hers"))
        self.both.edge.reload(evolve(self.both.edge.config, checkers=()))
        self.assertEqual(self.agents(), ["desk"])


class _Port:
    """
    Where nobody asks.
    """

    def stopListening(self) -> None:
        """
        Nothing to do.
        """

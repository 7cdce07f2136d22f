"""
Whose a name is that nobody holds: what a right to ports, or to SSH, does not bring with it.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.auth.name_ownership import NameOwnership
from tunnelstack.control.config.records import CheckerRecord, Route, TokenRecord
from tunnelstack.records import Principal


def record(name: str, *allow: str) -> TokenRecord:
    return TokenRecord(name=name, tokenSha256="ab" * 32, allow=allow)


PORTS = Principal(agent="ports", allow=("tcp:20000-20010", "ssh"))


class OwnersTests(SynchronousTestCase):
    """
    An agent with ports and without names, among others.
    """

    def setUp(self) -> None:
        self.owners = NameOwnership()
        laptop = record("laptop", "http:app", "stream:db-*", "http:w?b", "tcp:*")
        self.owners.setCredentials([record("ports", *PORTS.allow), laptop])

    def may(self, name: str, principal: Principal = PORTS) -> bool:
        return self.owners.mayUse(principal, name)

    def test_whatIsNobodysIsFree(self) -> None:
        self.assertTrue(self.may("game"))
        self.assertTrue(self.may("ports"))

    def test_aNameThatIsGrantedToAnotherIsReserved(self) -> None:
        for name in ("app", "db-", "db-main", "web", "wob"):
            self.assertFalse(self.may(name), name)
        for name in ("apps", "ap", "db", "weeb", "wb"):
            self.assertTrue(self.may(name), name)

    def test_theNameOfAnAgentIsItsOwn(self) -> None:
        self.assertFalse(self.may("laptop"))
        self.assertFalse(self.may("laptop", Principal(agent="ports", allow=("http:*", "tcp:*"))))
        self.assertTrue(self.may("laptop", Principal(agent="laptop", allow=("tcp:*",))))

    def test_whatOneWasGrantedOneselfIsOnesOwnToo(self) -> None:
        for allow in ("http:app", "stream:a*", "http:*"):
            self.assertTrue(self.may("app", Principal(agent="ports", allow=("tcp:20000", allow))), allow)
        self.assertFalse(self.may("app", Principal(agent="ports", allow=("tcp:20000", "dial:app"))))

    def test_anotherTokenOfTheSameAgentMayUseItsName(self) -> None:
        self.assertTrue(self.may("app", Principal(agent="laptop", allow=("tcp:20000",))))

    def test_whatEverybodyCouldBeMeantByIsNobodys(self) -> None:
        self.owners.setCredentials([record("laptop", "http:*", "stream:**", "http:?*")])
        self.assertTrue(self.may("anything"))

    def test_whatRoutesLeadToIsReserved(self) -> None:
        self.owners.setRoutes("example.net", [
            Route(host="shop.example.com", to="laptop/store"), Route(host="news.example.net", to="paper"),
            Route(host="*.example.net", to="laptop/rest"), Route(host="a.b.example.net", to="laptop/deep"),
            Route(host="camera.example.net", to="lab.camera:80"), Route(host="home.example.net", to="ports/home"),
        ])  # fmt: skip
        for name in ("store", "paper", "news", "rest", "deep", "camera"):
            self.assertFalse(self.may(name), name)
        for name in ("shop", "home", "a", "b", "lab"):
            self.assertTrue(self.may(name), name)
        self.assertTrue(self.may("store", Principal(agent="laptop", allow=("tcp:1",))))
        self.assertFalse(self.may("home", Principal(agent="laptop", allow=("tcp:1",))))
        self.assertTrue(self.may("paper", Principal(agent="ports", allow=("tcp:1", "http:paper"))))

    def test_namesOfCheckersAreReserved(self) -> None:
        self.owners.setCredentials([CheckerRecord(auth="file:x", allow=("http:team-*",))])
        self.assertFalse(self.may("team-1"))
        self.assertTrue(self.may("team-1", Principal(agent="alice", allow=("http:team-*", "tcp:1"))))

    def test_onlyTheLatestCounts(self) -> None:
        self.owners.setCredentials([])
        self.assertTrue(self.may("app"))

    def test_theOwnerIsFoundAmongVeryManyCredentials(self) -> None:
        """
        Five thousand agents come back at once: looking for the owner of a name does not look at all of them.
        """
        self.owners.setCredentials([record(f"agent-{number}", f"http:site-{number}-*") for number in range(5000)])
        self.assertFalse(self.may("site-4999-x"))
        for number in range(5000):
            self.assertTrue(self.may(f"other-{number}"))

"""
Which service a host and a path belong to.
"""

from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.records import Route
from tunnelstack.edge.public.access_policy import AccessPolicy
from tunnelstack.edge.public.routes import (
    LONGEST_HOST,
    LONGEST_REMEMBERED,
    REMEMBERED,
    RouteTable,
    normalizedHost,
)
from tunnelstack.errors import ConfigurationError
from tunnelstack.records import HTTPPurpose
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.target import readings


class RouteTests(SynchronousTestCase):
    """
    Names below the domain, and routes of the configuration.
    """

    table = RouteTable("example.net", [
        Route(host="www.example.com", to="laptop/site"),
        Route(host="www.example.com", path="/api", to="api"),
        Route(host="www.example.com", path="/api/v2/", to="new"),
        Route(host="*.example.com", to="any"),
        Route(host="*.deep.example.com", path="/x", to="deep"),
        Route(host="special.example.net", path="/a", to="other"),
    ], agentHosts=["agents.example.net"])

    def key(self, host: bytes, target: bytes = b"/") -> str | None:
        found = self.table.find(host, target)
        return None if found is None else found.key

    def test_aServiceIsFoundByItsNameInTheDomain(self) -> None:
        for host in (b"myapp.example.net", b"MyApp.Example.NET:8080", b"myapp.example.net."):
            found = self.table.find(host, b"/x")
            assert found is not None
            self.assertEqual((found.key, found.configured, found.purpose), ("myapp", False, HTTPPurpose(service="myapp")))

    def test_otherHostsHaveNoRoute(self) -> None:
        for host in (b"", b"example.net", b"a.b.example.net", b".example.net", b"example.com", b"192.0.2.1:80", b"[::1]:80",
                     b"agents.example.net", b"notexample.net", b"\xff"):
            self.assertIs(self.key(host), None, host)
            self.assertFalse(self.table.hasRoute(host))

    def test_theLongestPathIsFound(self) -> None:
        for target, key in (
            (b"/", "laptop/site"), (b"/apis", "laptop/site"), (b"/api", "api"), (b"/api?x", "api"), (b"/api/v1", "api"),
            (b"/api/v2/", "new"), (b"/api/v2/x", "new"), (b"/api/v2", "api"), (b"*", "laptop/site"),
        ):
            self.assertEqual(self.key(b"www.example.com", target), key, target)
        found = self.table.find(b"www.example.com", b"/")
        assert found is not None
        self.assertEqual((found.configured, found.purpose.service), (True, "site"))

    def test_aWildcardCoversAllNamesBelowIt(self) -> None:
        self.assertEqual(self.key(b"a.example.com"), "any")
        self.assertEqual(self.key(b"a.deep.example.com"), "any")
        self.assertEqual(self.key(b"a.deep.example.com", b"/x/y"), "deep")

    def test_aRouteForAPathLeavesTheNameTheRest(self) -> None:
        self.assertEqual(self.key(b"special.example.net", b"/a"), "other")
        self.assertEqual(self.key(b"special.example.net", b"/b"), "special")

    def test_aConfiguredHostHasARoute(self) -> None:
        for host in (b"www.example.com", b"myapp.example.net"):
            self.assertTrue(self.table.hasRoute(host))

    def test_aGuardedServiceIsGuardedUnderItsOwnNameToo(self) -> None:
        routes = [
            Route(host="www.example.com", to="laptop/site", visitors=("allow 10.0.0.0/8",)),
            Route(host="www.example.com", path="/open", to="site", requestsPerSecond=1),
            Route(host="*.example.com", path="/admin", to="site", visitors=("deny all",)), Route(host="a.b", to="other"),
        ]  # fmt: skip
        table = RouteTable("example.net", routes, policy=lambda route: AccessPolicy.of(route, None))
        head = RequestHead(b"GET", b"/", [])
        for target, address, let in (
            (b"/", "10.0.0.1", True), (b"/open", "192.0.2.1", False), (b"/open", "10.0.0.1", True),
            (b"/admin/x", "10.0.0.1", False),
        ):  # fmt: skip
            found = table.find(b"site.example.net", target)
            assert found is not None
            self.assertEqual(found.policy.check(head, address, 0.0) is None, let, target)
        found = table.find(b"other.example.net", b"/")
        assert found is not None
        self.assertIsNone(found.policy)

    def test_noWayOfWritingAPathLeadsAroundARoute(self) -> None:
        for path in (
            b"/x/../a", b"//a", b"/./a", b"/%61", b"/x/%2e%2E/a", b"/x\\..\\a", b"/x/..%2fa", b"/a/../b", b"/a/..%2Fb",
        ):  # fmt: skip
            self.assertIsNone(self.table.find(b"special.example.net", path), path)
        for path, key in ((b"/b/../c", "special"), (b"/a/%20", "other"), (b"/b?x=/../a", "special"), (b"/b%2Fa", "special")):
            self.assertEqual(self.key(b"special.example.net", path), key, path)

    def test_onlyThePathIsCompared(self) -> None:
        for target, key in (
            (b"/a?x=%20", "other"), (b"/a?//x/../y", "other"), (b"/b?/../a", "special"), (b"/b?\\a;%00", "special"),
            (b"/a/%20?%", "other"),
        ):  # fmt: skip
            self.assertEqual(self.key(b"special.example.net", target), key, target)

    def test_aFinalSlashCounts(self) -> None:
        for target, key in (
            (b"/api/v2/%2e", "new"), (b"/api/v2/.", "new"), (b"/api/v2/x/..", "new"), (b"/api/v2/x/%2e%2E?y", "new"),
            (b"/api/v2/?a=%20b", "new"), (b"/api/v2/..", None), (b"/api/v2/x/../..", None), (b"/api/v2%2f", None),
            (b"/api/x/../", "api"), (b"/api/v2//", "new"), (b"/api/v2", "api"),
        ):  # fmt: skip
            self.assertEqual(self.key(b"www.example.com", target), key, target)

    def test_routesThatAgreeAreFoundHoweverAPathIsRead(self) -> None:
        table = RouteTable("example.net", [
            Route(host="a.net", to="site"), Route(host="a.net", path="/x", to="site"),
            Route(host="b.net", path="/x", to="site"),
        ])  # fmt: skip
        for target in (b"/x/..;/y", b"/X", b"/y/%2e%2e/x", b"//x", b"/" + b"%2e/" * 20_000):
            self.assertIsNotNone(table.find(b"a.net", target))
            self.assertIsNone(table.find(b"b.net", target), "what lies outside of the only path is not published")
        self.assertIsNotNone(table.find(b"b.net", b"/x/..;/x/%20"))
        self.assertIsNone(table.find(b"b.net", b"/x/../y"))

    def test_oneServiceMayHaveTwoPolicies(self) -> None:
        routes = [Route(host="a.net", path="/x", to="site", visitors=("deny all",)), Route(host="a.net", to="site")]
        table = RouteTable("example.net", routes, policy=lambda route: AccessPolicy.of(route, None))
        for host in (b"a.net", b"site.example.net"):
            self.assertIsNone(table.find(host, b"/X"))
            self.assertIsNotNone(table.find(host, b"/y;z"))
            found = table.find(host, b"/x/%20")
            assert found is not None
            self.assertIsNotNone(found.policy)

    def test_pathsOfRoutesAreReadInEveryWayToo(self) -> None:
        table = RouteTable("example.net", [
            Route(host="a.net", path="/A%20B", to="blank"), Route(host="a.net", path="/Big", to="big"),
            Route(host="a.net", to="site"),
        ])  # fmt: skip
        for target, key in (
            (b"/A%20B", "blank"), (b"/A%20B/%63", "blank"), (b"/a%20b", None), (b"/A%2520B", None), (b"/Big/x", "big"),
            (b"/big/x", None), (b"/BIG", None), (b"/bigger", "site"), (b"/x", "site"),
        ):  # fmt: skip
            found = table.find(b"a.net", target)
            self.assertEqual(None if found is None else found.key, key, target)

    def test_ofTwoPathsThatDifferInCaseTheFirstIsFound(self) -> None:
        routes = [Route(host="a.net", path="/API", to="one"), Route(host="a.net", path="/api", to="two")]
        table = RouteTable("example.net", [*routes, Route(host="a.net", to="site")])
        found = table.find(b"a.net", b"/API/x")
        self.assertEqual(found and found.key, "one")
        for target in (b"/api/x", b"/Api/x", b"/x/../api", b"/x/../API"):
            self.assertIsNone(table.find(b"a.net", target), target)

    def test_whatCannotBeReadInFewWaysIsNotFound(self) -> None:
        self.assertIsNone(self.key(b"special.example.net", b"/b" + b"/%2e" * 8000))
        self.assertIsNone(self.key(b"special.example.net", b"/a//b;c=d/%2F..%5Cx\\y/./z%00%C0%AE."))
        self.assertEqual(self.key(b"myapp.example.net", b"/b" + b"/%2e" * 8000), "myapp")

    def test_aPathIsJudgedOnce(self) -> None:
        table = RouteTable("example.net", [Route(host="a.net", path="/x", to="one"), Route(host="a.net", to="two")])
        table.find(b"a.net", b"/")
        with mock.patch("tunnelstack.edge.public.routes.readings", wraps=readings) as read:
            for query in range(5):
                self.assertIsNone(table.find(b"a.net", b"/%%78?%d" % query))
                self.assertIsNotNone(table.find(b"a.net", b"/x/plain?%d" % query))
        self.assertEqual(read.call_count, 1)

    def test_noPathHasAQuery(self) -> None:
        for path in ("/a?b", "/a#b", "a", "", "/a b", "/\x7f", "/\u00e4"):
            with self.assertRaises(ConfigurationError):
                Route(host="a.net", path=path, to="site")
        self.assertEqual(Route(host="a.net", path="/!\"$%@;:=>~", to="site").path, "/!\"$%@;:=>~")

    def test_strangersFillNothing(self) -> None:
        for number in range(3 * REMEMBERED):
            self.table.find(b"h%d.example.org" % number, b"/")
            self.table.find(b"www.example.com", b"/A%d" % number)
        hosts, paths = before = self.table.remembered
        self.assertTrue(0 < hosts <= REMEMBERED and 0 < paths <= REMEMBERED, before)
        self.assertIsNone(self.table.find(b"h" * LONGEST_HOST + b".example.net", b"/"))
        self.assertIsNotNone(self.table.find(b"www.example.com", b"/A" + b"a" * LONGEST_REMEMBERED))
        self.assertEqual(self.table.remembered, before)

    def test_hostsAreNormalized(self) -> None:
        for host, expected in ((b"A:80", "a"), (b"[::1]", "::1"), (b"[::1]:80", "::1"), (b"a.", "a"), (b"", "")):
            self.assertEqual(normalizedHost(host), expected)

    def test_anImpliedPortIsLeftOutOfAURL(self) -> None:
        self.assertEqual(self.table.url("a", "https", 443), "https://a.example.net")
        self.assertEqual(self.table.url("a", "http", 8080), "http://a.example.net:8080")

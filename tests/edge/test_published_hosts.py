"""
Hosts that dialects publish, and the names of agents of several systems.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.test_edge_and_agent import Both
from tunnelstack.control.config.records import Route
from tunnelstack.edge.public.hosts import PublishedHosts
from tunnelstack.edge.public.routes import RouteTable
from tunnelstack.errors import Denied
from tunnelstack.records import HTTPPurpose, Principal, Service


class HostTests(SynchronousTestCase):
    """
    In the table of routes.
    """

    def setUp(self) -> None:
        self.hosts = PublishedHosts("example.net", ["agents.example.net"])
        routes = [Route(host="www.example.org", path="/api", to="api"), Route(host="*.example.org", to="any")]
        self.table = RouteTable("example.net", routes, hosts=self.hosts)

    def key(self, host: bytes, path: bytes = b"/") -> str | None:
        found = self.table.find(host, path)
        return None if found is None else found.key

    def test_aHostIsFoundWhileItIsPublished(self) -> None:
        self.assertIsNone(self.table.find(b"other.example", b"/"))      # and remembered as unknown
        self.hosts.publish("other.example", "lab.box")
        found = self.table.find(b"Other.Example:8080", b"/x")
        assert found is not None
        self.assertEqual((found.key, found.configured, found.purpose), ("lab.box:0", True, HTTPPurpose()))
        self.hosts.withdraw("other.example")
        self.assertIsNone(self.table.find(b"Other.Example:8080", b"/x"))
        self.hosts.withdraw("other.example")

    def test_exactRoutesPrecedeItAndWildcardsAndNamesFollow(self) -> None:
        for host in ("www.example.org", "app.example.net"):
            self.hosts.publish(host, "lab.box")
        self.assertEqual(self.key(b"www.example.org", b"/api"), "api")
        self.assertEqual(self.key(b"www.example.org"), "lab.box:0")
        self.assertEqual(self.key(b"app.example.net"), "lab.box:0")
        self.assertEqual(self.key(b"x.example.org"), "any")
        self.assertEqual(list(self.hosts), [("app.example.net", "lab.box"), ("www.example.org", "lab.box")])

    def test_theEdgesOwnHostsAndAddressesAreNot(self) -> None:
        for host in ("example.net", "agents.example.net", "192.0.2.1", "::1"):
            self.assertEqual(self.assertRaises(Denied, self.hosts.publish, host, "a").code, "not-allowed")


class _Tunnel:
    healthy = True
    dialect, instance = "other/1", ""
    inFlight = 0

    def __init__(self, principal: Principal) -> None:
        self.principal, self.key = principal, principal.agent
        self._lost: Deferred[Any] = Deferred()

    def whenLost(self) -> Any:
        return self._lost

    def abort(self, reason: Any) -> None:
        self._lost.callback(reason)

    def drain(self) -> Any:
        self.abort("drained")
        return self._lost


class AgentTests(Both):
    """
    On a whole edge.
    """

    def test_noAgentTakesTheNameOfAnAgentOfAnotherSystem(self) -> None:
        both = self.begin()
        stranger = _Tunnel(Principal(agent="laptop", realm="elsewhere"))
        denied = self.assertRaises(Denied, both.edge.agents.arrived, stranger)
        self.assertEqual((denied.code, denied.sentence), ("taken", "laptop is the name of an agent of another system"))
        both.edge.agents.arrived(_Tunnel(Principal(agent="laptop.b", realm="elsewhere")))
        self.assertTrue(both.edge.registry.hasAgent("laptop.b"))

    def test_aPortIsOpenedOnTheAddressThatItAsksFor(self) -> None:
        both = self.begin()
        opened: list[tuple[int, str]] = []
        listen = both.network.listenTCP
        self.patch(
            both.network, "listenTCP",
            lambda port, factory, backlog, interface: opened.append((port, interface)) or listen(port, factory),
        )  # fmt: skip
        tunnel = _Tunnel(Principal(agent="lab.box", realm="elsewhere", allow=("tcp:2200-2201",)))
        both.edge.agents.arrived(tunnel)
        for port, address in ((2200, "127.0.0.9"), (2201, "")):
            service = Service(name=f"lab-{port}", kind="tcp", port=port, address=address)
            self.assertEqual(self.successResultOf(both.edge.agents.announce(tunnel, service)).port, port)
        self.assertEqual(opened, [(2200, "127.0.0.9"), (2201, "")])

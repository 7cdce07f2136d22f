"""
What changed between two configurations, in words.
"""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.records import (
    AgentConfig,
    EdgeAddress,
    EdgeConfig,
    Limits,
    ListenerConfig,
    Route,
    ServiceConfig,
)
from tunnelstack.control.config.reload import RELOAD_RULES, difference
from tunnelstack.dialect.shellhub.settings import DeviceSettings

TENANT = "00000000-0000-4000-0000-00000000000a"
SITE = ServiceConfig(name="site", target="3000")
HOME = EdgeAddress(url="https://edge.example", token="one")


class EdgeTests(SynchronousTestCase):
    """
    Of an edge.
    """

    def test_equalConfigurationsHaveNoDifference(self) -> None:
        config = EdgeConfig(domain="example.net")
        found = difference(config, EdgeConfig(domain="example.net"))
        self.assertEqual((found.config, found.changed, found.needsRestart), (config, (), ()))
        self.assertEqual(found.sentences("the edge"), ("nothing has changed",))

    def test_aTokenInAFileNeedsNoRestart(self) -> None:
        old = AgentConfig(edges=(evolve(HOME, tokenFile="/run/token"),), instance="i")
        found = difference(old, evolve(old, edges=(evolve(old.edges[0], token="rotated"),)))
        self.assertEqual(found.sentences("the agent"), ("nothing has changed",))

    def test_changesAreAppliedOrNeedARestart(self) -> None:
        old = EdgeConfig(routes=(Route(host="a.net", to="a"),))
        new = EdgeConfig(
            domain="example.net", drainSeconds=5.0, forwardedBy="both", limits=Limits(visitors=9, sessionStreams=7),
            routes=(Route(host="b.net", to="b"), Route(host="c.net", to="c")), listeners=(ListenerConfig(endpoint="tcp:81"),),
        )
        found = difference(old, new)
        self.assertEqual(found.sentences("the edge"), (
            "[edge] forwarded_by: none becomes both", "[edge] drain_seconds: 30.0 becomes 5.0",
            "[limits] visitors: 10000 becomes 9", "[[route]]: 2 added, 1 removed",
            "[edge] domain: localhost becomes example.net when the edge is restarted",
            "[limits] session_streams: 1024 becomes 7 when the edge is restarted",
            "[[listener]]: 1 added when the edge is restarted",
        ))
        live = evolve(new, domain="localhost", limits=Limits(visitors=9), listeners=())
        self.assertEqual(found.config, live)


class AgentTests(SynchronousTestCase):
    """
    Of an agent.
    """

    def test_equalConfigurationsHaveNoDifference(self) -> None:
        """
        Two readings of the same file have different names for the process; it keeps its own.
        """
        old = AgentConfig(services=(SITE,), edges=(HOME,))
        found = difference(old, AgentConfig(services=(SITE,), edges=(HOME,)))
        self.assertEqual(found.config, old)
        self.assertEqual(found.sentences("the agent"), ("nothing has changed",))

    def test_servicesAreCalledByTheirNames(self) -> None:
        old = AgentConfig(services=(SITE, ServiceConfig(name="raw", kind="tcp", target="4000")))
        new = evolve(old, services=(
            ServiceConfig(name="docs", kind="serve", target="."), evolve(SITE, target="3001", rewriteHost="inner"),
        ))
        found = difference(old, new)
        self.assertEqual(found.changed, (
            "[[service]] docs: added", "[[service]] site target: 3000 becomes 3001",
            "[[service]] site rewrite_host: none becomes inner", "[[service]] raw: removed",
        ))
        self.assertEqual((found.needsRestart, found.config.services), ((), new.services))

    def test_aTokenInAFileNeedsNoRestart(self) -> None:
        old = AgentConfig(edges=(evolve(HOME, tokenFile="/run/token"),), instance="i")
        found = difference(old, evolve(old, edges=(evolve(old.edges[0], token="rotated"),)))
        self.assertEqual(found.sentences("the agent"), ("nothing has changed",))

    def test_changesAreAppliedOrNeedARestart(self) -> None:
        old = AgentConfig(edges=(HOME,))
        device = DeviceSettings(url="https://hub.example", tenant=TENANT)
        new = AgentConfig(
            edges=(evolve(HOME, token="another"),), dialects={"shellhub": {"shellhub": (device,)}},
            giveUpAfterSeconds=9.0, backoffSeconds=8.0,
            drainSeconds=7.0, targets=("localhost:*",), pingSeconds=6.0, accessLog="there",
        )
        found = difference(old, new)
        self.assertEqual(found.sentences("the agent"), (
            "[agent] give_up_after_seconds: 0.0 becomes 9.0", "[agent] backoff_seconds: 30.0 becomes 8.0",
            "[agent] drain_seconds: 30.0 becomes 7.0", "[agent] targets: none becomes localhost:*",
            "[agent] ping_seconds: 30.0 becomes 6.0 when the agent is restarted",
            "[agent] access_log: - becomes there when the agent is restarted",
            "[[edge]]: 1 added, 1 removed when the agent is restarted",
            "the new [[shellhub]] when the agent is restarted",
        ))
        self.assertEqual((found.config.edges, found.config.dialects), ((HOME,), {}))
        self.assertEqual((found.config.pingSeconds, found.config.drainSeconds), (30.0, 7.0))


class ShapeTests(SynchronousTestCase):
    def test_nothingIsForgotten(self) -> None:
        """
        What no file says directly is a table of its own here, or the process's own.
        """
        beyond = {EdgeConfig: {"stateDirectory", "dev", "dialects"}, AgentConfig: {"dialects"}}
        for record, shape in RELOAD_RULES.items():
            own = {attribute.name for attribute in record.__attrs_attrs__ if not attribute.metadata["inFile"]}  # type: ignore
            known = {*shape.tables, *shape.lists, *shape.named, *shape.kept, *shape.whole, *shape.own} - {""}
            self.assertEqual(own - known, beyond[record])

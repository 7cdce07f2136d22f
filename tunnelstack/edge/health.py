"""
Health checks: the edge requests a path of a service through each of its agents, and leaves an agent out whose web server does
not answer as it should.

A check is about one service of one tunnel.  It goes through the tunnel as a visitor's request does, so it examines all of the
way.  An agent that has just connected is used until its checks fail.  A tunnel that drains is not examined.

All checks share one timer of L{TICK_SECONDS}, and at most L{MOST_PROBES} requests are under way; further ones wait for the next
tick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import ceil
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from tunnelstack.control.config.upkeep import HealthCheck
from tunnelstack.edge.public.routes import purposeOf
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.interfaces import ITunnel

if TYPE_CHECKING:
    from tunnelstack.edge.health_probe import HealthTarget
    from tunnelstack.edge.running_edge import RunningEdge

TICK_SECONDS = 1.0
"""Seconds between two looks at what is due."""

MOST_PROBES = 64
"""Requests that may be under way at the same time."""

Key = tuple[int, str]
"""The id of a tunnel, and a key of the registry."""


class HealthChecks(Service):
    """
    The checks of one edge.

    @ivar results: how many requests have succeeded and failed, as C{"success"} and C{"failure"}.
    """

    log = Logger()

    def __init__(self, edge: RunningEdge, checks: Iterable[HealthCheck] = ()) -> None:
        self.results: Counter[str] = Counter(success=0, failure=0)
        self._edge = edge
        self._checks: dict[str, HealthCheck] = {check.to: check for check in checks}
        self._targets: dict[Key, HealthTarget] = {}
        self._timer: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._schedule()

    def stopService(self) -> None:
        super().stopService()
        self.configure(())

    def configure(self, checks: Iterable[HealthCheck]) -> None:
        """
        Use other checks.  Where a check has not changed, its results stay.
        """
        self._checks = {check.to: check for check in checks}
        self._findTargets()
        self._schedule()

    # What is known

    @property
    def out(self) -> int:
        """
        How many services of sessions are left out.
        """
        return sum(1 for target in self._targets.values() if target.out)

    def reasons(self, tunnel: ITunnel) -> Mapping[str, str]:
        """
        @return: why a tunnel is left out, by the key of the service.
        """
        targets = self._targets.values() if self._targets else ()
        return {target.key: target.out for target in targets if target.tunnel is tunnel and target.out}

    def outOfService(self, key: str) -> ExchangeFailed | None:
        """
        @param key: of a request for which no tunnel was found.
        @return: what the visitor is answered, if there are agents and all of them are left out.
        """
        held = [target for target in self._targets.values() if target.out and self._edge.registry.holds(target.tunnel, key)]
        target = next((target for target in held if target.key == key.rpartition("/")[2]), None)
        if target is None:
            return None
        return ExchangeFailed(
            FailureKind.UNREACHABLE, f"The web server of this site is out of service: {target.out}.",
            retryAfter=ceil(target.check.intervalSeconds), service=key,
        )

    # Requests

    def _schedule(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._checks and self.running:
            self._timer = self._edge.clock.callLater(0, self._tick)

    def _tick(self) -> None:
        self._timer = self._edge.clock.callLater(TICK_SECONDS, self._tick)
        self._findTargets()
        now = self._edge.clock.seconds()
        under = [target.probe for target in self._targets.values() if target.probe is not None]
        for probe in under:
            probe.checkDeadline(now)
        due = [target for target in self._targets.values() if target.due <= now and target.probe is None]
        for target in sorted(due, key=lambda target: target.due)[: max(0, MOST_PROBES - len(under))]:
            if target.tunnel.healthy:
                self._begin(target, now)

    def _begin(self, target: HealthTarget, now: float) -> None:
        from tunnelstack.edge.health_probe import HealthProbe  # see L{tunnelstack.edge.deferred}

        target.due = now + target.check.intervalSeconds
        target.probe = HealthProbe(target, now + target.check.timeoutSeconds, self.concluded)
        target.probe.begin()

    def concluded(self, target: HealthTarget, reason: str) -> None:
        """
        From a probe.

        @param reason: why the request failed; C{""} if it succeeded.
        """
        self.results["failure" if reason else "success"] += 1
        target.concluded(reason)
        if reason and target.streak >= target.check.failures:
            self._leaveOut(target)
        elif not reason and target.out and target.streak >= target.check.successes:
            self._useAgain(target)

    def _leaveOut(self, target: HealthTarget) -> None:
        if not target.out:
            self.log.warn(
                "{agent} gets no requests for {service}: {reason}", agent=target.tunnel.principal.agent, service=target.key,
                reason=target.reason, path=target.check.path, status="health",
            )
        target.out = target.reason
        self._edge.registry.leaveOut(target.key, target.tunnel)

    def _useAgain(self, target: HealthTarget) -> None:
        self.log.info(
            "{agent} gets requests for {service} again", agent=target.tunnel.principal.agent, service=target.key,
            status="health",
        )
        target.out = ""
        self._edge.registry.useAgain(target.key, target.tunnel)

    # What is to be examined

    def _findTargets(self) -> None:
        """
        Examine what agents publish now.
        """
        found = {(id(target.tunnel), target.key): target for target in self._published()} if self._checks else {}
        for known, target in list(self._targets.items()):
            still = found.get(known)
            if still is None or still.check != target.check or still.host != target.host:
                self._forget(known, target)
        for key, target in found.items():
            self._targets.setdefault(key, target)

    def _forget(self, key: Key, target: HealthTarget) -> None:
        del self._targets[key]
        probe, target.probe = target.probe, None
        if probe is not None:
            probe.abandon()
        if target.out:
            self._edge.registry.useAgain(target.key, target.tunnel)

    def _published(self) -> Iterator[HealthTarget]:
        hosts = {agent: host for host, agent in self._edge.hosts if host in self._checks}
        for tunnel in self._edge.registry:
            agent = tunnel.principal.agent
            for kind, name in self._edge.registry.names(tunnel):
                check = self._checks.get(f"{agent}/{name}") or self._checks.get(name)
                if kind == "http" and check is not None:
                    yield self._target(tunnel, check, name, self._edge.grantFor(name).host)
            if agent in hosts:
                yield self._target(tunnel, self._checks[hosts[agent]], f"{agent}:0", hosts[agent])
            for to, check in self._checks.items():
                device, _, port = to.rpartition(":")
                if device == agent:
                    yield self._target(tunnel, check, to, f"127.0.0.1:{port}")

    def _target(self, tunnel: ITunnel, check: HealthCheck, key: str, host: str) -> HealthTarget:
        from tunnelstack.edge.health_probe import HealthTarget  # see L{tunnelstack.edge.deferred}

        return HealthTarget(tunnel, check, key, purposeOf(key), check.host or host, self._edge.clock.seconds())

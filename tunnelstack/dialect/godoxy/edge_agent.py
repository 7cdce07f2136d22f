"""
The life of one agent that the edge dials: it is examined at intervals, and is connected for as long as it answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.dialect.exponential_backoff import ExponentialBackoff
from tunnelstack.dialect.godoxy.edge_api import AgentAPI
from tunnelstack.dialect.godoxy.edge_dialler import AgentDialler
from tunnelstack.dialect.godoxy.edge_probes import ProbeFailed, probeDatagrams, probeStreams
from tunnelstack.dialect.godoxy.edge_proxy import proxyTarget
from tunnelstack.dialect.godoxy.edge_settings import DialledAgentSettings, EdgeSettings, ServiceSettings
from tunnelstack.dialect.godoxy.edge_tunnel import MISSES, NAME, Capability, DialledTunnel, principalFor
from tunnelstack.errors import Denied
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.interfaces import IEdge
from tunnelstack.records import Grant, Service
from tunnelstack.session.direct import DirectLimits, DirectSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.error_text import errorText
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.godoxy_api import AgentInfo

CONNECTING, UP, LIMITED, DOWN, STOPPED = "connecting", "up", "limited", "down", "stopped"
"""The states of an agent.  One that is limited does not carry streams of a kind that one of its services needs."""

AGAIN_SECONDS = 5.0
"""Seconds until an agent that has not answered once is examined again, if the interval is not shorter."""

SPREAD = 0.1
"""The share of the interval by which two examinations are at most nearer or farther, so that those of all agents spread out."""

CLOSE_SECONDS = 5.0
"""Seconds without progress, after a visitor has left, until its stream is reset.  Genuine agents do not answer a close before
the destination has closed, too, and as many streams as are being closed cannot be opened."""

CHECKS = 4
"""Services whose health is examined at the same time."""

NO_STREAMS = "the agent's version has no streams"

Record = dict[str, object]


@define
class PublishedService:
    """
    A service of an agent.

    @ivar settings: of the service.
    @ivar announced: it is published, or about to be.
    @ivar port: its public port; C{0} if it has none.
    @ivar healthy: what the agent found at its target; C{None} if it was not examined yet.
    @ivar reason: why it is not published, or not healthy.
    """

    settings: ServiceSettings
    announced: bool = False
    port: int = 0
    healthy: bool | None = None
    reason: str = ""

    @property
    def record(self) -> Service:
        """
        As the edge publishes it.
        """
        settings = self.settings
        return Service(name=settings.name, kind=settings.kind, port=settings.port, address=settings.address)


class DialledAgent:
    """
    One agent.

    @ivar settings: where it is.
    @ivar tunnel: the way to it; C{None} while it is not connected.
    """

    log = Logger()

    def __init__(
        self,
        edge: IEdge,
        settings: DialledAgentSettings,
        dialler: AgentDialler,
        services: Iterable[ServiceSettings],
        timing: EdgeSettings,
        random: Callable[[], float],
    ) -> None:
        """
        @param services: what is published of it.
        @param random: gives a number from 0 to 1, which varies waits.
        """
        self.settings = settings
        self.tunnel: DialledTunnel | None = None
        self.timing = timing
        self._edge = edge
        self._principal = principalFor(settings.name)
        self._dialler = dialler
        self._api = AgentAPI(dialler.https, edge.clock, timing.probeSeconds, settings.serverName)
        self._services: dict[str, PublishedService] = {}
        self._random = random
        self._backoff = ExponentialBackoff(random, first=1.0)
        self._state = CONNECTING
        self._reason = ""
        self._misses = 0
        self._examinedAt: float | None = None
        self._living: Deferred[None] | None = None
        self.setServices(services)

    # From its owner

    def start(self) -> None:
        """
        Begin to dial.
        """
        self._living = Deferred.fromCoroutine(self._live())
        self._living.addErrback(self._died)

    def stop(self) -> Deferred[None]:
        """
        Dial no more, and let the work under way finish.

        @return: a C{Deferred} that fires when that is done.
        """
        living, self._living = self._living, None
        self._state = STOPPED
        if living is not None:
            living.cancel()
        self._api.close()
        for service in self._services.values():
            self._withdraw(service)
            self._edge.expectNoMore(self._principal, service.record)
        return succeed(None) if self.tunnel is None else self.tunnel.drain()

    def abort(self, reason: str) -> None:
        """
        Close at once what L{stop} waits for.
        """
        if self.tunnel is not None:
            self.tunnel.abort(reason)

    def setServices(self, services: Iterable[ServiceSettings]) -> None:
        """
        Publish these services, and no others.  Those that have not changed stay as they are.
        """
        wanted = {each.name: each for each in services}
        for name, known in list(self._services.items()):
            if wanted.get(name) != known.settings:
                self._withdraw(known)
                self._edge.expectNoMore(self._principal, known.record)
                del self._services[name]
        for name, settings in wanted.items():
            if name not in self._services:
                service = self._services[name] = PublishedService(settings)
                self._edge.expect(self._principal, service.record)
        self._publish()

    def configure(self, bounds: ExchangeBounds) -> None:
        """
        Use other bounds for exchanges.
        """
        if self.tunnel is not None:
            self.tunnel.configure(bounds)

    def report(self) -> Mapping[str, object]:
        """
        @return: as in L{IOutboundAgents<tunnelstack.interfaces.IOutboundAgents>}.
        """
        tunnel = self.tunnel
        info = AgentInfo(runtime="") if tunnel is None else tunnel.info
        examined = self._examinedAt
        return {
            "agent": self.settings.name, "address": self.settings.address, "state": self.state, "reason": self.reason,
            "reported_name": info.name, "version": info.version, "runtime": info.runtime,
            "tcp_streams": tunnel is not None and tunnel.streams.works,
            "udp_streams": tunnel is not None and tunnel.datagrams.works,
            "flows": 0 if tunnel is None else tunnel.flows.flows,
            "datagrams_dropped": 0 if tunnel is None else tunnel.flows.dropped,
            "examined_seconds": None if examined is None else round(self._edge.clock.seconds() - examined, 3),
            "services": [_serviceRecord(each) for each in self._services.values()],
        }

    @property
    def state(self) -> str:
        """
        One of the words above.
        """
        return LIMITED if self._state == UP and self._missing() else self._state

    @property
    def reason(self) -> str:
        """
        Why the agent is not up; C{""} if it is.
        """
        return self._reason or "; ".join(self._missing())

    def _missing(self) -> list[str]:
        """
        What the agent does not carry that its services need.
        """
        tunnel = self.tunnel
        if tunnel is None:
            return []
        needs = {each.settings.kind for each in self._services.values()}
        carried = (("tcp", tunnel.streams), ("udp", tunnel.datagrams))
        return [f"no {kind} streams: {each.reason}" for kind, each in carried if kind in needs and each.reason]

    def serviceRecord(self, name: str) -> Record | None:
        """
        @return: the state of a service, as JSON can hold it; C{None} if the agent has no such service.
        """
        service = self._services.get(name)
        return None if service is None else _serviceRecord(service)

    # Its life

    async def _live(self) -> None:
        while not self._edge.stopping:
            try:
                await self._examine()
            except CancelledError:
                raise
            except Exception as error:
                wait = self._missed(error)
            else:
                wait = self.timing.healthSeconds * (1 - SPREAD + 2 * SPREAD * self._random())
            await deferLater(self._edge.clock, wait)

    def _died(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("the edge dials the agent {agent} no more", failure=failure, agent=self.settings.name)

    async def _examine(self) -> None:
        """
        @raise Exception: the agent does not answer, or is not accepted.
        """
        self._api.configure(self.timing.probeSeconds)
        info, recent = await self._api.info()
        tunnel = self._found(info)
        self._publish()
        if recent:
            seconds, clock = self.timing.probeSeconds, self._edge.clock
            probes = (
                (tunnel.streams, probeStreams(self._dialler.streams, clock, seconds)),
                (tunnel.datagrams, probeDatagrams(self._dialler.datagrams, clock, seconds)),
            )
            await gatherResults([Deferred.fromCoroutine(self._probe(*each)) for each in probes], consumeErrors=True)
        else:
            for capability in (tunnel.streams, tunnel.datagrams):
                capability.probed(NO_STREAMS)
        turns = DeferredSemaphore(CHECKS)
        await gatherResults([turns.run(self._check, each) for each in self._services.values()], consumeErrors=True)

    def _found(self, info: AgentInfo) -> DialledTunnel:
        """
        The agent has answered.

        @raise Denied: the edge does not accept it.
        """
        self._misses = 0
        self._backoff.reset()
        self._examinedAt = self._edge.clock.seconds()
        self._reason = ""
        if self.tunnel is None:
            self._arrive(info)
        assert self.tunnel is not None
        self.tunnel.info = info
        return self.tunnel

    def _arrive(self, info: AgentInfo) -> None:
        name, edge = self.settings.name, self._edge
        address = StreamAddress(key=name, dialect=NAME, peer=self._dialler.address)
        limits = DirectLimits(
            streams=edge.bounds.streams, closeTimeout=CLOSE_SECONDS, endingTimeout=self.timing.endingSeconds
        )
        session = DirectSession(edge.clock, self._dialler.streams, address=address, limits=limits)
        tunnel = DialledTunnel(name, session, self._dialler, self._api, info, clock=edge.clock, bounds=edge.bounds)
        edge.arrived(tunnel)
        self.tunnel = tunnel
        self._state = UP
        tunnel.whenLost().addCallback(self._lost, tunnel)

    async def _probe(self, capability: Capability, probe: Awaitable[None]) -> None:
        before = capability.works, capability.reason
        try:
            await probe
        except ProbeFailed as failed:
            capability.probed(printable(str(failed)))
        else:
            capability.probed()
        if (capability.works, capability.reason) != before and capability.reason:
            self.log.warn(
                "agent {agent} at {address}: {reason}", agent=self.settings.name, address=self.settings.address,
                reason=capability.reason, dialect=NAME,
            )
        self._publish()

    def _check(self, service: PublishedService) -> Deferred[None]:
        """
        Let the agent examine the target of a service.
        """
        return Deferred.fromCoroutine(self._checkHealth(service))

    async def _checkHealth(self, service: PublishedService) -> None:
        settings = service.settings
        target = proxyTarget(settings) if settings.kind == "http" else None
        scheme, host = (settings.kind, settings.target) if target is None else (target.scheme, target.host)
        path = "/" if target is not None else ""
        try:
            result = await self._api.health(scheme, host, path)
        except CancelledError:
            raise
        except Exception as error:
            healthy, reason = False, errorText(error)
        else:
            healthy, reason = result.healthy, "" if result.healthy else result.detail or "not healthy"
        if service.healthy is not healthy and (not healthy or service.healthy is not None):
            self.log.info(
                "{service} of agent {agent} is " + ("healthy" if healthy else "not healthy: {reason}"), service=settings.name,
                agent=self.settings.name, reason=reason, status="health",
            )
        service.healthy = healthy
        if service.announced:
            service.reason = reason

    def _missed(self, error: Exception) -> float:
        """
        An examination has failed.

        @return: seconds until the next one.
        """
        self._misses += 1
        reason = printable(errorText(error))
        if self.tunnel is not None and self._misses < MISSES:
            self._reason = reason
            return min(AGAIN_SECONDS, self.timing.healthSeconds)
        if reason != self._reason or self._state != DOWN:
            self.log.warn(
                "agent {agent} at {address} is not connected: {reason}", agent=self.settings.name,
                address=self.settings.address, reason=reason, dialect=NAME,
            )
        self._reason = reason
        self._state = DOWN
        if self.tunnel is not None:
            self.tunnel.abort(reason)
        return self._backoff.next()

    def _lost(self, reason: object, tunnel: DialledTunnel) -> None:
        if self.tunnel is not tunnel:
            return
        self.tunnel = None
        if self._state == UP:
            self._state, self._reason = DOWN, self._reason or printable(str(reason))
        for service in self._services.values():
            service.announced, service.port, service.healthy, service.reason = False, 0, None, ""

    # Services

    def _publish(self) -> None:
        """
        Publish what the agent can carry, and nothing else.
        """
        tunnel = self.tunnel
        if tunnel is None or self._state == STOPPED:
            return
        carried = {"http": True, "tcp": tunnel.streams.works, "udp": tunnel.datagrams.works}
        for service in self._services.values():
            kind = service.settings.kind
            if service.announced and not carried[kind]:
                self._withdraw(service)
            elif carried[kind] and not service.announced:
                self._announce(tunnel, service)
            if not service.announced and not carried[kind]:
                service.reason = (tunnel.streams if kind == "tcp" else tunnel.datagrams).reason

    def _announce(self, tunnel: DialledTunnel, service: PublishedService) -> None:
        service.announced, service.reason = True, ""
        tunnel.services[service.settings.name] = service.settings
        announced = self._edge.announce(tunnel, service.record)
        announced.addCallbacks(self._granted, self._notGranted, (service,), {}, (service,))

    def _granted(self, grant: Grant, service: PublishedService) -> None:
        if service.announced:
            service.port = grant.port if service.settings.kind != "http" else 0

    def _notGranted(self, failure: Failure, service: PublishedService) -> None:
        """
        It is tried again after the next examination.
        """
        service.announced = False
        service.reason = failure.value.sentence if isinstance(failure.value, Denied) else errorText(failure)
        self.log.error(
            "{service} of agent {agent} cannot be published: {reason}", service=service.settings.name,
            agent=self.settings.name, reason=service.reason,
        )

    def _withdraw(self, service: PublishedService) -> None:
        tunnel = self.tunnel
        if tunnel is not None and service.announced:
            service.announced, service.port, service.healthy = False, 0, None
            tunnel.services.pop(service.settings.name, None)
            self._edge.withdraw(tunnel, service.record)


def _serviceRecord(service: PublishedService) -> Record:
    settings = service.settings
    return {
        "name": settings.name, "kind": settings.kind, "target": settings.target, "port": service.port,
        "published": service.announced, "healthy": service.healthy, "reason": service.reason,
    }

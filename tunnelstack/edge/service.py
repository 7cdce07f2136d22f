"""
The edge as one service: it listens, accepts agents and visitors, and drains when it is stopped.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.control.access_record import RequestObserver, together
from tunnelstack.control.auth.name_ownership import NameOwnership
from tunnelstack.control.auth.tokens import TokenTable
from tunnelstack.control.config.records import EdgeConfig, Limits, ListenerConfig, Route
from tunnelstack.control.process.exit_status import FatalError
from tunnelstack.control.process.listen_failure import listenFailure
from tunnelstack.control.registry import Registry
from tunnelstack.control.remembered_names import NamesFile, RememberedNames
from tunnelstack.control.secret_files import warnOfExposed
from tunnelstack.dialect.native.protocol import PATH
from tunnelstack.doors import DoorTable, HTTPDoor, ListenerDoor, OutboundDoor
from tunnelstack.edge.admin import AdminService
from tunnelstack.edge.agents import Agents
from tunnelstack.edge.credentials import CredentialStore
from tunnelstack.edge.deferred import loadDeferred
from tunnelstack.edge.dialects import DialectSet, configuredDialects
from tunnelstack.edge.health import HealthChecks
from tunnelstack.edge.last_reload import LastReload
from tunnelstack.edge.listeners import NO_ENDPOINT, EdgeListener, ListenerFactory, isSecure, makeListener
from tunnelstack.edge.public.admission import Admission, passOptionsOn
from tunnelstack.edge.public.hosts import PublishedHosts
from tunnelstack.edge.public.ports import Ports
from tunnelstack.edge.public.routes import RouteTable
from tunnelstack.edge.public.server import PublicServerFactory
from tunnelstack.edge.public.udp_ports import UDPPorts
from tunnelstack.edge.service_index import ServiceIndex
from tunnelstack.edge.ssh.service import SSHGatewayService
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.interfaces import IAuthenticator, IDialect, IProcessService, IReactor, ITunnel
from tunnelstack.records import Grant
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.settings.tables import secretFiles
from tunnelstack.transport.peers import addressText, portOf
from tunnelstack.waiters import Waiters
from tunnelstack.wire.yamux.limits import SessionLimits

if TYPE_CHECKING:
    from tunnelstack.control.tracing.service import TracingService
    from tunnelstack.edge.metrics import EdgeMetrics
    from tunnelstack.edge.public.access_policy import AccessPolicy
    from tunnelstack.edge.round_trips import RoundTrips
    from tunnelstack.transport.certificates import CertificateFolder
    from tunnelstack.transport.http2.connection import HTTP2Connection


@implementer(IProcessService)
class EdgeService(MultiService):
    """
    The edge with all its parts.

    @ivar config: the L{EdgeConfig} in force.
    @ivar registry: the connected agents and the names they hold.
    @ivar routes: finds the service for a host and a path.
    @ivar hosts: the hosts that dialects have published.
    @ivar owners: decides which credential may use a name that no agent holds.
    @ivar admission: counts and limits the connections of visitors.
    @ivar doors: the L{HTTPDoor}s of all dialects.
    @ivar credentials: the credentials of agents, or C{None} if another authenticator was given.
    @ivar admin: the administration interface.
    @ivar health: the health checks.
    @ivar metrics: the metrics, or C{None} if the configuration does not enable them.
    @ivar tracing: the tracing, or C{None} if the configuration does not enable it.
    @ivar ssh: the SSH gateway.
    @ivar dialects: the L{DialectSet}.
    @ivar outboundDoors: the L{OutboundDoor}s of all dialects.
    @ivar startedAt: when the edge was made, in seconds of its clock.
    @ivar lastReload: the result of the last reload, if there was one.
    @ivar agents: the L{IEdge<tunnelstack.interfaces.IEdge>} that dialects use.
    @ivar memoryBudget: the memory that all sessions share.
    @ivar public: the factory of the public port.
    """

    log = Logger()
    public: PublicServerFactory
    admin: AdminService
    health: HealthChecks

    def __init__(
        self,
        reactor: IReactor,
        config: EdgeConfig,
        *,
        authenticator: IAuthenticator | None = None,
        dialects: Iterable[IDialect] | None = None,
        patient: bool = False,
    ) -> None:
        """
        @param authenticator: authenticates agents; the credentials of the configuration do by default.
        @param dialects: the dialects to serve; by default those that the configuration enables.
        @param patient: load what few edges need when it is needed: most of the modules of dialects that can do so, and those of
            L{tunnelstack.edge.deferred}.
        """
        super().__init__()
        limits = config.limits
        self.clock = reactor
        self.config = config
        self.registry = Registry(RememberedNames(reactor.seconds))
        self.hosts = PublishedHosts(config.domain, config.agentHosts)
        self.routes = self._makeRoutes(config)
        self.owners = NameOwnership()
        self.owners.setRoutes(config.domain, config.routes)
        self.admission = Admission(
            reactor, most=limits.visitors, perSecond=limits.connectionsPerSecond,
            isTrusted=lambda address: self.public.site.isTrusted(address),
        )
        self.memoryBudget = MemoryBudget(
            reactor, limits.processOctets, lambda: [visitor.transport for visitor in self.public.connections],
        )
        self.startedAt = reactor.seconds()
        self.lastReload: LastReload | None = None
        self.credentials: CredentialStore | None = None
        known, recordOf = None, TokenTable().record          # which knows none
        if authenticator is None:
            self.credentials = CredentialStore(reactor, config, self.registry, self.owners)
            self.registry.remembered.isLive = self.credentials.isLive
            authenticator, known = self.credentials.authenticator, self.credentials.authenticator.isCurrent
            recordOf = self.credentials.tokens.record
        self.ssh = SSHGatewayService(self)
        self.agents = Agents(
            reactor, self.registry,
            Ports(
                reactor, self.registry, self.admission, interface=config.portsInterface,
                rateLimit=lambda principal: self.public.site.rateLimits.find(principal),
            ),
            UDPPorts(
                reactor, self.registry, self.admission, interface=config.portsInterface,
                rateLimit=lambda principal: self.public.site.rateLimits.find(principal),
                maxFlows=limits.udpFlows, idleSeconds=limits.udpIdleSeconds,
            ),
            authenticator, grantFor=self.grantFor, known=known, owners=self.owners, hosts=self.hosts,
            sessionLimits=SessionLimits(max_streams=limits.sessionStreams, session_octets=limits.sessionOctets),
            budget=self.memoryBudget,
            bounds=exchangeBounds(limits),
            state=StateDirectory(Path(config.stateDirectory)) if config.stateDirectory else None,
            authority=urlsplit(config.publicUrl).netloc or config.domain,
            sshAddress=lambda: self.ssh.addressFor(config.domain),
        )
        self.dialects = configuredDialects(self.agents, config.dialects) if dialects is None else DialectSet(dialects)
        doors = self.dialects.doors(self.agents)
        if not patient:
            self.dialects.load()
            loadDeferred()
        self.doors = DoorTable(door for door in doors if isinstance(door, HTTPDoor))
        self._listenerDoors = [door for door in doors if isinstance(door, ListenerDoor)]
        self.outboundDoors = [door for door in doors if isinstance(door, OutboundDoor)]
        for door in self.outboundDoors:
            door.service.setServiceParent(self)
        self.metrics = self._makeMetrics()
        self.public = PublicServerFactory(
            reactor, config, registry=self.registry, routes=self.routes, admission=self.admission, doors=self.doors,
            recordOf=recordOf, counts=None if self.metrics is None else self.metrics.exchanges,
        )
        self.tracing = self._makeTracing()
        self.observeRequests(None)
        if config.dev:
            self.public.site.index = ServiceIndex(self)
        self.public.onHTTP2 = self._joinBudget
        self.health = HealthChecks(self, config.health)
        self.public.site.outOfService = self.health.outOfService
        self.admin = AdminService(self)
        self.registry.watch(self.public.site.gaps.nameChanged)
        observers = self.metrics, self.tracing
        parts = self.admin, self.health, *observers, self.ssh, self.memoryBudget, self.credentials, self._namesFile(config)
        for part in parts:
            if part is not None:
                part.setServiceParent(self)
        self._listening: list[IListeningPort] = []
        self._folders: list[CertificateFolder] = []
        self._isListening = False
        self._scheme, self._port = "http", 0
        self._readyWaiters: Waiters[str] = Waiters()
        self._failureWaiters: Waiters[FatalError | ConfigurationError] = Waiters()
        self._fatalError: FatalError | ConfigurationError | None = None

    def _joinBudget(self, connection: HTTP2Connection) -> None:
        """
        Count what a connection of a visitor holds.
        """
        from tunnelstack.session.http2_memory import HTTP2ConnectionMemory  # loads h2, which is slow

        HTTP2ConnectionMemory(connection, f"visitor {addressText(connection.getPeer())}").join(self.memoryBudget)

    def _makeMetrics(self) -> EdgeMetrics | None:
        if not self.config.metrics.enabled:
            return None
        from tunnelstack.edge.metrics import EdgeMetrics  # most edges have none

        return EdgeMetrics(self)

    def _makeTracing(self) -> TracingService | None:
        if not self.config.tracing.enabled:
            return None
        from tunnelstack.control.tracing.service import TracingService  # most edges have none

        return TracingService(self.clock, self.config.tracing, "edge")

    def _namesFile(self, config: EdgeConfig) -> NamesFile | None:
        if not config.stateDirectory:
            return None
        return NamesFile(self.clock, self.registry.remembered, StateDirectory(Path(config.stateDirectory)))

    def _makeRoutes(self, config: EdgeConfig) -> RouteTable:
        return RouteTable(
            config.domain, config.routes, config.agentHosts, policy=self._policyOf, hosts=self.hosts
        )

    def _policyOf(self, route: Route) -> AccessPolicy | None:
        """
        @return: what a route requires of requests; C{None} if it allows all.
        """
        from tunnelstack.edge.public.access_policy import AccessPolicy  # see L{tunnelstack.edge.deferred}

        return AccessPolicy.of(route, self.clock)

    def observeRequests(self, observer: RequestObserver | None) -> None:
        """
        @param observer: called with the record of each request that has ended, beside metrics and tracing.
        """
        site, tracing = self.public.site, self.tracing
        site.accessLog = together(None if tracing is None else tracing.requestEnded, observer)
        site.tracer = None if tracing is None else tracing.tracer

    @property
    def certificateExpiries(self) -> dict[str, float]:
        """
        When each certificate of the listeners expires, in seconds since 1970, by its file.
        """
        return {path: expires for folder in self._folders for path, expires in folder.expiries().items()}

    @cached_property
    def roundTrips(self) -> RoundTrips:
        """
        The round trips to agents that somebody has looked at.
        """
        from tunnelstack.edge.round_trips import RoundTrips  # see L{tunnelstack.edge.deferred}

        return RoundTrips(self.clock)

    # What is public

    def grantFor(self, name: str) -> Grant:
        """
        The public address of a web service.
        """
        return Grant(url=self.routes.url(name, self._scheme, self._port), host=f"{name}.{self.routes.domain}", port=self._port)

    @property
    def url(self) -> str:
        """
        The public URL of the edge.
        """
        return self._url(self._scheme)

    @property
    def drainSeconds(self) -> float:
        return self.config.drainSeconds

    @property
    def state(self) -> str:
        """
        C{"starting"}, C{"ready"} or C{"draining"}.
        """
        if self.agents.stopping:
            return "draining"
        return "ready" if self._isListening else "starting"

    @property
    def addresses(self) -> list[IAddress]:
        """
        The addresses on which the edge listens.
        """
        return [port.getHost() for port in self._listening]

    # Starting

    def startService(self) -> None:
        """
        Start to listen.  L{whenReady} fires on success, L{whenFailed} on failure.
        """
        super().startService()
        self._start().addErrback(self._startFailed)

    @inlineCallbacks
    def _start(self) -> Generator[Deferred[Any], Any, None]:
        if self.credentials is not None:
            self.credentials.configure(self.config)
        yield self.admin.listen()
        http2 = self.config.http2
        listeners = [ListenerConfig(endpoint=text, h2c=self.config.h2c and not isSecure(text)) for text in self.config.listen]
        # Before agents connect: some dialects send them the address of the SSH gateway.
        yield self.ssh.listen()
        places = [makeListener(self.clock, listener, http2) for listener in (*listeners, *self.config.listeners)]
        if not places:
            raise ConfigurationError(NO_ENDPOINT)
        for place in places:
            assert place.endpoint is not None
            port = yield place.endpoint.listen(ListenerFactory(self.public, place))
            self._listening.append(port)
            self.admission.addPort(port)
            passOptionsOn(port)
        self._folders = [place.certificates for place in places if place.certificates is not None]
        self._warnOfExposed()
        self._setPublicAddress(places)         # before agents connect, which some dialects tell it
        for door in self._listenerDoors:
            self._listening.append((yield door.endpoint.listen(door.factory)))
            self.log.info("ready    {where}", status="door", where=door.description)
        self._isListening = True
        self._readyWaiters.fire(self._url(self._scheme))
        self.log.info(
            "ready    {url}   agents {door}", status="edge", url=self._url(self._scheme),
            door=self._url("wss" if self._scheme == "https" else "ws") + PATH.decode(),
        )

    def _warnOfExposed(self) -> None:
        """
        Log a warning for each private key of the edge that other users can read.
        """
        keys = [path for folder in self._folders for path in folder.keyFiles]
        keys += [*secretFiles(self.config.dialects), self.config.tracing.headersFile, self.config.admin.tokenFile]
        if self.config.ssh is not None:
            keys.append(self.config.ssh.hostKeysFile)
        warnOfExposed(self.log, keys)

    def whenReady(self) -> Deferred[str]:
        """
        Call this before the service is started.

        @return: fires with the edge's URL when the edge listens on all endpoints.
        """
        return self._readyWaiters.wait()

    def _setPublicAddress(self, places: list[EdgeListener]) -> None:
        """
        Set the scheme and the port of public URLs: those of C{public_url}, or else of the first listener that serves visitors
        instead of redirecting them.
        """
        ports = [portOf(port.getHost()) for port in self._listening]
        secure = [port for place, port in zip(places, ports, strict=True) if place.secure]
        if secure:
            self.public.site.securePort = secure[0]
        if self.config.publicUrl:
            parts = urlsplit(self.config.publicUrl)
            self._scheme, self._port = parts.scheme, parts.port or (443 if parts.scheme == "https" else 80)
            if self._scheme == "https":
                self.public.site.securePort = self._port
        else:
            first = next((number for number, place in enumerate(places) if not place.redirect), 0)
            self._scheme, self._port = "https" if places[first].secure else "http", ports[first]

    def _url(self, scheme: str) -> str:
        implied = self._port in (0, 443 if self._scheme == "https" else 80)
        return f"{scheme}://{self.config.domain}" + ("" if implied else f":{self._port}")

    def _startFailed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CannotListenError):
            self._fail(listenFailure(error, "use another port (--port, --listen)"))
        elif isinstance(error, ConfigurationError):
            self._fail(error)
        else:
            self.log.failure("the edge could not be started", failure=failure)
            self._fail(FatalError("the edge could not be started; the cause is in the log"))

    def whenFailed(self) -> Deferred[FatalError | ConfigurationError]:
        """
        @return: fires with the L{FatalError} or L{ConfigurationError} that prevents the edge from running.
        """
        return self._failureWaiters.wait() if self._fatalError is None else succeed(self._fatalError)

    def _fail(self, why: FatalError | ConfigurationError) -> None:
        self._fatalError = why
        self._failureWaiters.fire(why)

    # Another configuration

    def reload(self, config: EdgeConfig) -> tuple[str, ...]:
        """
        Apply another configuration.  Sessions stay connected unless their credentials were removed.

        @return: one sentence for each difference.
        @raise ConfigurationError: the configuration cannot be used.  Nothing has changed.
        """
        from tunnelstack.control.config.reload import difference  # see L{tunnelstack.edge.deferred}

        found = difference(self.config, config)
        routes = self._makeRoutes(found.config)
        reloadDialects = self.dialects.prepareReload(found.config.dialects)
        if self.credentials is not None:
            self.credentials.configure(found.config)
        self.config = found.config
        self._warnOfExposed()
        self.routes = routes
        self.owners.setRoutes(found.config.domain, found.config.routes)
        self.public.configure(found.config, routes)
        reloadDialects()
        self.health.configure(found.config.health)
        limits = found.config.limits
        self.admission.configure(limits.visitors, limits.connectionsPerSecond)
        self.memoryBudget.limit = limits.processOctets
        self.agents.setBounds(exchangeBounds(limits))
        self.agents.udpPorts.maxFlows, self.agents.udpPorts.idleSeconds = limits.udpFlows, limits.udpIdleSeconds
        sentences = found.sentences("the edge")
        self.lastReload = LastReload(self.clock.seconds(), sentences)
        for sentence in sentences:
            self.log.info("{what}", what=sentence, status="reload")
        return sentences

    def reloadFailed(self, reason: str) -> None:
        """
        Remember that the new configuration cannot be used.
        """
        self.lastReload = LastReload(self.clock.seconds(), error=reason)

    def report(self) -> None:
        """
        Log the state of the edge and of each agent.
        """
        from tunnelstack.edge.status import agentsOf, outboundAgentsOf, statusOf  # see edge/deferred.py

        self.log.info("{report}", report=statusOf(self), status="state")
        for agent in (*agentsOf(self), *outboundAgentsOf(self)):
            self.log.info("{report}", report=agent, status="state")

    # Stopping

    @inlineCallbacks
    def stopService(self) -> Generator[Any, Any, None]:
        """
        Accept no more connections, and wait for work under way, at most C{drain_seconds} of the configuration.

        @return: a C{Deferred} that fires when the edge has stopped.
        """
        self.agents.stopping = True
        self.admission.stop()
        ports, self._listening = self._listening, []
        yield DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)
        yield self.ssh.close()
        tunnels = list(self.registry)
        drained = DeferredList([self.public.drain(), *(tunnel.drain() for tunnel in tunnels)], consumeErrors=True)
        late = self.clock.callLater(self.config.drainSeconds, self._abortRemaining, tunnels)
        yield drained
        yield DeferredList([tunnel.whenLost() for tunnel in tunnels], consumeErrors=True)
        if late.active():
            late.cancel()
        self.dialects.close()
        yield super().stopService()

    def _abortRemaining(self, tunnels: list[ITunnel]) -> None:
        under = len(self.public.connections)
        self.log.warn("drain time is over: the connections of {visitors} visitors are closed", visitors=under)
        self.public.abort()
        for tunnel in tunnels:
            tunnel.abort("the edge has stopped")


def exchangeBounds(limits: Limits) -> ExchangeBounds:
    """
    What C{[limits]} let the exchanges of an agent take.
    """
    return ExchangeBounds(
        headOctets=limits.headOctets, headFields=limits.headFields, responseHeadOctets=limits.responseHeadOctets,
        responseHeadFields=limits.responseHeadFields, firstOctetSeconds=limits.firstOctetSeconds,
        interimSeconds=limits.interimSeconds, idleSeconds=limits.idleSeconds, streams=limits.sessionStreams,
    )

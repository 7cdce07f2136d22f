"""
The public side as one service: it listens, lets agents and visitors in, and drains when it is stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from errno import EADDRINUSE
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.control.auth.name_ownership import NameOwnership
from tunnelstack.control.config.records import EdgeConfig, ListenerConfig
from tunnelstack.control.config.reload import difference
from tunnelstack.control.process.exit_status import FatalError, TemporaryFailure
from tunnelstack.control.process.port_owner import portOwner
from tunnelstack.control.registry import Registry
from tunnelstack.control.secret_files import warnOfExposed
from tunnelstack.dialect.native.protocol import PATH
from tunnelstack.doors import DoorTable, HTTPDoor, ListenerDoor, OutboundDoor
from tunnelstack.edge.admin import AdminService
from tunnelstack.edge.agents import Agents
from tunnelstack.edge.credentials import CredentialStore
from tunnelstack.edge.dialects import DialectSet, configuredDialects
from tunnelstack.edge.listeners import EdgeListener, ListenerFactory, makeListener
from tunnelstack.edge.public.access_policy import AccessPolicy
from tunnelstack.edge.public.admission import Admission
from tunnelstack.edge.public.ports import Ports
from tunnelstack.edge.public.routes import RouteTable
from tunnelstack.edge.public.server import PublicServerFactory
from tunnelstack.edge.ssh.service import SSHGatewayService
from tunnelstack.edge.status import agentsOf, statusOf
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import IAuthenticator
from tunnelstack.records import Grant
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.settings.tables import secretFiles
from tunnelstack.transport.certificates import CertificateFolder
from tunnelstack.wire.yamux.limits import SessionLimits


class EdgeService(MultiService):
    """
    An edge.

    @ivar config: the L{EdgeConfig}.
    @ivar registry: who is there, and who holds which name.
    @ivar routes: which host belongs to which name.
    @ivar owners: whose the names are that nobody holds.
    @ivar doors: the L{HTTPDoor}s of agents.
    @ivar keys: who is let in, or C{None} where another authenticator was given.
    @ivar admin: where operators ask.
    @ivar ssh: where SSH clients come in.
    @ivar dialects: the L{DialectSet}.
    @ivar startedAt: when it was made, in seconds of its clock.
    @ivar agents: what dialects ask.
    @ivar accept: whether newcomers are let in.
    @ivar memoryBudget: what sessions may hold together.
    @ivar public: builds the protocols of visitors' connections.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: EdgeConfig,
        *,
        authenticator: IAuthenticator | None = None,
        dialects: Iterable[Any] | None = None,
    ) -> None:
        """
        @param authenticator: instead of the tokens of the configuration.
        @param dialects: L{IDialect<tunnelstack.interfaces.IDialect>}s; those of the configuration, unless given.
        """
        super().__init__()
        limits = config.limits
        self.clock = reactor
        self.config = config
        self.registry = Registry()
        self.routes = self._makeRoutes(config)
        self.owners = NameOwnership()
        self.owners.setRoutes(config.domain, config.routes)
        self.admission = Admission(
            reactor, most=limits.visitors, perSecond=limits.connectionsPerSecond,
            isTrusted=lambda address: self.public.isTrusted(address),
        )
        self.memoryBudget = MemoryBudget(
            reactor, limits.processOctets, lambda: [visitor.transport for visitor in self.public.connections],
        )
        self.startedAt = reactor.seconds()
        self.credentials: CredentialStore | None = None
        known = None
        if authenticator is None:
            self.credentials = CredentialStore(reactor, config, self.registry, self.owners)
            authenticator, known = self.credentials.authenticator, self.credentials.authenticator.isCurrent
        self.ssh = SSHGatewayService(self)
        self.agents = Agents(
            reactor, self.registry,
            Ports(
                reactor, self.registry, self.admission, interface=config.portsInterface,
                rateLimit=lambda principal: self.public.rateLimits.find(principal),
            ),
            authenticator, grantFor=self.grantFor, known=known, owners=self.owners,
            sessionLimits=SessionLimits(max_streams=limits.sessionStreams, session_octets=limits.sessionOctets),
            budget=self.memoryBudget,
            timeouts=Timeouts(
                head=limits.headSeconds, first=limits.firstOctetSeconds, interim=limits.interimSeconds, idle=limits.idleSeconds
            ),
            state=StateDirectory(Path(config.stateDirectory)) if config.stateDirectory else None,
            authority=urlsplit(config.publicUrl).netloc or config.domain,
            sshAddress=lambda: self.ssh.addressFor(config.domain),
        )
        self.dialects = configuredDialects(self.agents, config.dialects) if dialects is None else DialectSet(dialects)
        doors = self.dialects.doors(self.agents)
        self.doors = DoorTable(door for door in doors if isinstance(door, HTTPDoor))
        self._listenerDoors = [door for door in doors if isinstance(door, ListenerDoor)]
        for door in doors:
            if isinstance(door, OutboundDoor):
                door.service.setServiceParent(self)
        self.public = PublicServerFactory(self)
        self.admin = AdminService(self)
        for part in (self.admin, self.ssh, self.memoryBudget, self.credentials):
            if part is not None:
                part.setServiceParent(self)
        self._listening: list[Any] = []
        self._folders: list[CertificateFolder] = []
        self._isListening = False
        self._scheme, self._port = "http", 0
        self._readyWaiters: list[Deferred[str]] = []
        self._failureWaiters: list[Deferred[FatalError]] = []
        self._fatalError: FatalError | None = None

    def _makeRoutes(self, config: EdgeConfig) -> RouteTable:
        return RouteTable(
            config.domain, config.routes, config.agentHosts, policy=lambda route: AccessPolicy.of(route, self.clock)
        )

    def recordOf(self, token: str) -> Any:
        """
        The record of a credential, by its identifier; C{None} if there is none.
        """
        return None if self.credentials is None else self.credentials.tokens.record(token)

    # What is public

    def grantFor(self, name: str) -> Grant:
        """
        Where the public finds a web service.
        """
        return Grant(url=self.routes.url(name, self._scheme, self._port), host=f"{name}.{self.routes.domain}", port=self._port)

    @property
    def url(self) -> str:
        """
        Where the public finds the edge.
        """
        return self._url(self._scheme)

    @property
    def state(self) -> str:
        """
        C{"starting"}, C{"ready"} or C{"draining"}.
        """
        if self.agents.stopping:
            return "draining"
        return "ready" if self._isListening else "starting"

    @property
    def addresses(self) -> list[Any]:
        """
        The addresses it listens on.
        """
        return [port.getHost() for port in self._listening]

    # Starting

    def startService(self) -> None:
        """
        Listen.  What goes wrong is told by L{whenFailed}.
        """
        super().startService()
        self._start().addErrback(self._startFailed)

    @inlineCallbacks
    def _start(self) -> Any:
        if self.credentials is not None:
            self.credentials.configure(self.config)
        yield self.admin.listen()
        listeners = [ListenerConfig(endpoint=text) for text in self.config.listen]
        yield self.ssh.listen()               # before the devices come, which are told where
        places = [makeListener(self.clock, listener) for listener in (*listeners, *self.config.listeners)]
        if not places:
            raise ConfigurationError("there is nowhere to listen: listen of [edge] is empty")
        for place in places:
            port = yield place.endpoint.listen(ListenerFactory(self.public, place))
            self._listening.append(port)
            self.admission.addPort(port)
        self._folders = [place.certificates for place in places if place.certificates is not None]
        self._warnOfExposed()
        for door in self._listenerDoors:
            self._listening.append((yield door.endpoint.listen(door.factory)))
            self.log.info("ready    {where}", status="door", where=door.description)
        self._setPublicAddress(places)
        self._isListening = True
        waiting, self._readyWaiters = self._readyWaiters, []
        for ready in waiting:
            ready.callback(self._url(self._scheme))
        self.log.info(
            "ready    {url}   agents {door}", status="edge", url=self._url(self._scheme),
            door=self._url("wss" if self._scheme == "https" else "ws") + PATH.decode(),
        )

    def _warnOfExposed(self) -> None:
        """
        Log a warning for each private key of the edge that other users can read.
        """
        keys = [path for folder in self._folders for path in folder.keyFiles]
        keys += secretFiles(self.config.dialects)
        if self.config.ssh is not None:
            keys.append(self.config.ssh.hostKeysFile)
        warnOfExposed(self.log, keys)

    def whenReady(self) -> Deferred[str]:
        """
        @return: fires with the edge's URL once it listens everywhere.  Ask before the service is started.
        """
        ready: Deferred[str] = Deferred()
        self._readyWaiters.append(ready)
        return ready

    def _setPublicAddress(self, places: list[EdgeListener]) -> None:
        """
        What the public has to write before and behind a host name: that of the first place where visitors are served.
        """
        ports = [getattr(port.getHost(), "port", 0) for port in self._listening]
        secure = [port for place, port in zip(places, ports, strict=True) if place.secure]
        if secure:
            self.public.securePort = secure[0]
        if self.config.publicUrl:
            parts = urlsplit(self.config.publicUrl)
            self._scheme, self._port = parts.scheme, parts.port or (443 if parts.scheme == "https" else 80)
            if self._scheme == "https":
                self.public.securePort = self._port
        else:
            first = next((number for number, place in enumerate(places) if not place.redirect), 0)
            self._scheme, self._port = "https" if places[first].secure else "http", ports[first]

    def _url(self, scheme: str) -> str:
        implied = self._port in (0, 443 if self._scheme == "https" else 80)
        return f"{scheme}://{self.config.domain}" + ("" if implied else f":{self._port}")

    def _startFailed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CannotListenError):
            self._fail(_listenError(error))
        elif isinstance(error, ConfigurationError):
            self._fail(error)
        else:
            self.log.failure("the edge could not be started", failure=failure)
            self._fail(FatalError("the edge could not be started; the log says why"))

    def whenFailed(self) -> Deferred[FatalError]:
        """
        @return: fires with the L{FatalError}, or the L{ConfigurationError}, that keeps the edge from going on.
        """
        ended: Deferred[FatalError] = Deferred()
        if self._fatalError is not None:
            ended.callback(self._fatalError)
        else:
            self._failureWaiters.append(ended)
        return ended

    def _fail(self, why: Any) -> None:
        self._fatalError = why
        waiting, self._failureWaiters = self._failureWaiters, []
        for ended in waiting:
            ended.callback(why)

    # Another configuration

    def reload(self, config: EdgeConfig) -> tuple[str, ...]:
        """
        Go on with another configuration.  Sessions stay, unless their credentials are gone.

        @return: a sentence for each difference.
        @raise ConfigurationError: it cannot be used; nothing has changed then.
        """
        found = difference(self.config, config)
        routes = self._makeRoutes(found.config)
        if self.credentials is not None:
            self.credentials.configure(found.config)
        self.config = found.config
        self._warnOfExposed()
        self.routes = routes
        self.owners.setRoutes(found.config.domain, found.config.routes)
        self.public.configure(found.config, routes)
        limits = found.config.limits
        self.admission.configure(limits.visitors, limits.connectionsPerSecond)
        self.memoryBudget.limit = limits.processOctets
        sentences = found.sentences("the edge")
        for sentence in sentences:
            self.log.info("{what}", what=sentence, status="reload")
        return sentences

    def report(self) -> None:
        """
        Write the state into the log.
        """
        self.log.info("{report}", report=statusOf(self), status="state")
        for agent in agentsOf(self):
            self.log.info("{report}", report=agent, status="state")

    # Stopping

    @inlineCallbacks
    def stopService(self) -> Any:
        """
        Take nobody new, and let what is under way end, for as long as the configuration says.
        """
        self.agents.stopping = True
        self.admission.stop()
        ports, self._listening = self._listening, []
        yield DeferredList([port.stopListening() for port in ports if port is not None], consumeErrors=True)
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

    def _abortRemaining(self, tunnels: list[Any]) -> None:
        under = len(self.public.connections)
        self.log.warn("the drain took too long: {visitors} visitors are cut off", visitors=under)
        self.public.abort()
        for tunnel in tunnels:
            tunnel.abort("the edge stops")


def _listenError(error: CannotListenError) -> Any:
    """
    Why something cannot be listened on, with the name of whoever has it.
    """
    reason: Any = error.socketError
    what = f"port {error.port}" if isinstance(error.port, int) else str(error.port)
    if getattr(reason, "errno", None) != EADDRINUSE:
        return ConfigurationError(f"{what} cannot be listened on: {getattr(reason, 'strerror', None) or reason}")
    holder = portOwner(error.port) if isinstance(error.port, int) else ""
    return TemporaryFailure(
        f"{what} is taken{f' by {holder}' if holder else ''}: end it, or choose another with --port or --listen"
    )

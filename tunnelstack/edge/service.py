"""
The public side as one service: it listens, lets agents and visitors in, and drains when it is stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from errno import EADDRINUSE
from typing import Any
from urllib.parse import urlsplit

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.control.auth.name_ownership import Owners
from tunnelstack.control.config.records import EdgeConfig, Listener
from tunnelstack.control.config.reload import difference
from tunnelstack.control.process.exit_status import Ending, NotNow
from tunnelstack.control.process.port_owner import holderOf
from tunnelstack.control.registry import Registry
from tunnelstack.dialect.native.protocol import PATH
from tunnelstack.edge.admin import Admin
from tunnelstack.edge.agents import Agents
from tunnelstack.edge.credentials import Keys
from tunnelstack.edge.dialects import Standing, standingOf
from tunnelstack.edge.listeners import Entrance, Listening, listening
from tunnelstack.edge.memory_budget import ProcessBudget
from tunnelstack.edge.public.access_policy import Policy
from tunnelstack.edge.public.admission import Accept
from tunnelstack.edge.public.ports import Ports
from tunnelstack.edge.public.routes import RouteTable
from tunnelstack.edge.public.server import PublicFactory
from tunnelstack.edge.ssh.service import SSHEntrance
from tunnelstack.edge.status import agentsOf, statusOf
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IAuthenticator
from tunnelstack.records import Grant, HTTPDoor
from tunnelstack.wire.yamux.limits import SessionLimits


class EdgeService(MultiService):
    """
    An edge.

    @ivar config: the L{EdgeConfig}.
    @ivar registry: who is there, and who holds which name.
    @ivar routes: which host belongs to which name.
    @ivar owners: whose the names are that nobody holds.
    @ivar doors: by path, the L{HTTPDoor}s of agents.
    @ivar keys: who is let in, or C{None} where another authenticator was given.
    @ivar admin: where operators ask.
    @ivar ssh: where SSH clients come in.
    @ivar devices: the L{DeviceBook<tunnelstack.control.devices.DeviceBook>} of dialects that have devices, or C{None}.
    @ivar vouch: as in L{Standing}.
    @ivar began: when it was made, in seconds of its clock.
    @ivar agents: what dialects ask.
    @ivar accept: whether newcomers are let in.
    @ivar budget: what sessions may hold together.
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
        self.routes = self._routesOf(config)
        self.owners = Owners()
        self.owners.routes(config.domain, config.routes)
        self.accept = Accept(
            reactor, most=limits.visitors, perSecond=limits.connectionsPerSecond,
            trusts=lambda address: self.public.trusts(address),
        )
        self.budget = ProcessBudget(reactor, limits.processOctets, self.registry)
        self.began = reactor.seconds()
        self.keys: Keys | None = None
        known = None
        if authenticator is None:
            self.keys = Keys(reactor, config, self.registry, self.owners)
            authenticator, known = self.keys.authenticator, self.keys.authenticator.knows
        self.agents = Agents(
            reactor, self.registry,
            Ports(
                reactor, self.registry, self.accept, interface=config.portsInterface,
                pace=lambda principal: self.public.paces.find(principal),
            ),
            authenticator, urlOf=self.grantFor, known=known, owners=self.owners,
            sessionLimits=SessionLimits(max_streams=limits.sessionStreams, session_octets=limits.sessionOctets),
        )
        self.ssh = SSHEntrance(self)
        standing = (
            standingOf(reactor, config, lambda: self.ssh.where(config.domain)) if dialects is None else Standing(list(dialects))
        )
        self.devices, self.vouch = standing.devices, standing.vouch
        found = [door for dialect in standing.dialects for door in dialect.doors(self.agents)]
        self.doors = {door.path: door for door in found if isinstance(door, HTTPDoor)}
        self.public = PublicFactory(self)
        self.admin = Admin(self)
        for part in (self.admin, self.ssh, self.budget, self.keys):
            if part is not None:
                part.setServiceParent(self)
        self._listening: list[Any] = []
        self._listens = False
        self._scheme, self._port = "http", 0
        self._ready: list[Deferred[str]] = []
        self._ended: list[Deferred[Ending]] = []
        self._ending: Ending | None = None

    def _routesOf(self, config: EdgeConfig) -> RouteTable:
        return RouteTable(
            config.domain, config.routes, config.agentHosts, policy=lambda route: Policy.of(route, self.clock)
        )

    def recordOf(self, token: str) -> Any:
        """
        The record of a credential, by its identifier; C{None} if there is none.
        """
        return None if self.keys is None else self.keys.book.record(token)

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
        return "ready" if self._listens else "starting"

    @property
    def addresses(self) -> list[Any]:
        """
        The addresses it listens on.
        """
        return [port.getHost() for port in self._listening]

    # Starting

    def startService(self) -> None:
        """
        Listen.  What goes wrong is told by L{whenEnded}.
        """
        super().startService()
        self._start().addErrback(self._notStarted)

    @inlineCallbacks
    def _start(self) -> Any:
        if self.keys is not None:
            self.keys.configure(self.config)
        yield self.admin.listen()
        listeners = [Listener(endpoint=text) for text in self.config.listen]
        yield self.ssh.listen()               # before the devices come, which are told where
        places = [listening(self.clock, listener) for listener in (*listeners, *self.config.listeners)]
        if not places:
            raise ConfigurationError("there is nowhere to listen: listen of [edge] is empty")
        for place in places:
            port = yield place.endpoint.listen(Entrance(self.public, place))
            self._listening.append(port)
            self.accept.opened(port)
        self._settle(places)
        self._listens = True
        waiting, self._ready = self._ready, []
        for ready in waiting:
            ready.callback(self._url(self._scheme))
        self.log.info(
            "ready    {url}   agents {door}", status="edge", url=self._url(self._scheme),
            door=self._url("wss" if self._scheme == "https" else "ws") + PATH.decode(),
        )

    def whenReady(self) -> Deferred[str]:
        """
        @return: fires with the edge's URL once it listens everywhere.  Ask before the service is started.
        """
        ready: Deferred[str] = Deferred()
        self._ready.append(ready)
        return ready

    def _settle(self, places: list[Listening]) -> None:
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

    def _notStarted(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CannotListenError):
            self._end(_notFree(error))
        elif isinstance(error, ConfigurationError):
            self._end(error)
        else:
            self.log.failure("the edge could not be started", failure=failure)
            self._end(Ending("the edge could not be started; the log says why"))

    def whenEnded(self) -> Deferred[Ending]:
        """
        @return: fires with the L{Ending}, or the L{ConfigurationError}, that keeps the edge from going on.
        """
        ended: Deferred[Ending] = Deferred()
        if self._ending is not None:
            ended.callback(self._ending)
        else:
            self._ended.append(ended)
        return ended

    def _end(self, why: Any) -> None:
        self._ending = why
        waiting, self._ended = self._ended, []
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
        routes = self._routesOf(found.config)
        if self.keys is not None:
            self.keys.configure(found.config)
        self.config = found.config
        self.routes = routes
        self.owners.routes(found.config.domain, found.config.routes)
        self.public.configure(found.config, routes)
        limits = found.config.limits
        self.accept.configure(limits.visitors, limits.connectionsPerSecond)
        self.budget.limit = limits.processOctets
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
        self.accept.stop()
        ports, self._listening = self._listening, []
        yield DeferredList([port.stopListening() for port in ports if port is not None], consumeErrors=True)
        yield self.ssh.close()
        tunnels = list(self.registry)
        drained = DeferredList([self.public.drain(), *(tunnel.drain() for tunnel in tunnels)], consumeErrors=True)
        late = self.clock.callLater(self.config.drainSeconds, self._stopNow, tunnels)
        yield drained
        yield DeferredList([tunnel.whenLost() for tunnel in tunnels], consumeErrors=True)
        if late.active():
            late.cancel()
        if self.devices is not None:
            self.devices.flush()
        yield super().stopService()

    def _stopNow(self, tunnels: list[Any]) -> None:
        under = len(self.public.connections)
        self.log.warn("the drain took too long: {visitors} visitors are cut off", visitors=under)
        self.public.abort()
        for tunnel in tunnels:
            tunnel.abort("the edge stops")


def _notFree(error: CannotListenError) -> Any:
    """
    Why something cannot be listened on, with the name of whoever has it.
    """
    reason: Any = error.socketError
    what = f"port {error.port}" if isinstance(error.port, int) else str(error.port)
    if getattr(reason, "errno", None) != EADDRINUSE:
        return ConfigurationError(f"{what} cannot be listened on: {getattr(reason, 'strerror', None) or reason}")
    holder = holderOf(error.port) if isinstance(error.port, int) else ""
    return NotNow(f"{what} is taken{f' by {holder}' if holder else ''}: end it, or choose another with --port or --listen")

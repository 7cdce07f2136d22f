"""
The agent as a Twisted service: it keeps a session with each of its edges, publishes services there, and serves their streams.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from random import random
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, fail, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.agent.bounds import AgentBounds
from tunnelstack.agent.configured_services import ConfiguredServices
from tunnelstack.agent.dialects import AgentHost, configuredDialects, listeningServices
from tunnelstack.agent.dialler import DialEndpoint
from tunnelstack.agent.exit_policy import ExitPolicy
from tunnelstack.agent.link import AgentLink
from tunnelstack.agent.publication import Publication
from tunnelstack.agent.publications import Publications
from tunnelstack.control.access_record import RequestObserver, together
from tunnelstack.control.config.dev_edge import isStale
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.config.reload import difference
from tunnelstack.control.process.exit_status import CannotListen, CredentialRefused, FatalError
from tunnelstack.control.process.listen_failure import listenFailure
from tunnelstack.control.secret_files import warnOfExposed
from tunnelstack.dialect.native.dialler import (
    DiallingServiceStreams,
    ServiceStreams,
    TargetStreams,
)
from tunnelstack.dialect.native.protocol import HTTP, RESERVED_PREFIX, TCP, UDP
from tunnelstack.errors import UsageError
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.handler.tcp import TCPHandler
from tunnelstack.interfaces import (
    Handler,
    IClosableDialect,
    IExchangeServer,
    IListeningService,
    IProcessService,
    IReactor,
    IServiceLink,
    IStreamHandler,
)
from tunnelstack.records import Service
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.session.totals import SessionTotals
from tunnelstack.settings.plugins import installedPlugins
from tunnelstack.settings.tables import secretFiles
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.waiters import Waiters

if TYPE_CHECKING:
    from tunnelstack.agent.inspector.service import Inspector
    from tunnelstack.agent.metrics import AgentMetrics
    from tunnelstack.control.tracing.service import TracingService

CLOSE_SECONDS = 10.0
"""Seconds for what dialects do at the end of an agent."""


@implementer(IProcessService)
class AgentService(MultiService):
    """
    An agent.

    @ivar config: the L{AgentConfig}.
    @ivar handlers: stream handlers, by the name of their protocol.
    @ivar links: an L{AgentLink} for each edge.
    @ivar listeners: what listens for edges that dial this agent.
    @ivar serviceLinks: the sessions with edges at which services can be announced.
    @ivar requestObserver: called with the record of each HTTP request that dialects serve and that has ended, or C{None}; see
        L{observeRequests}.
    @ivar budget: limits the memory that all sessions hold together.
    @ivar sessions: the sessions with edges, those of listeners included.
    @ivar metrics: the metrics, or C{None} if the configuration has none.
    @ivar inspector: the inspector, or C{None} if the configuration does not enable it.
    @ivar tracing: the tracing, or C{None} if the configuration does not enable it.
    @ivar end: ends the agent for a reason, a L{FatalError}; see L{whenFailed}.
    @ivar openRequests: gives the records of the HTTP requests that have not ended, if there is a C{requestObserver}.
    @ivar revoked: called with a link, a kind, a name and a reason after an edge has withdrawn a grant.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        config: AgentConfig,
        *,
        plugins: bool = True,
        random: Callable[[], float] = random,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """
        @param plugins: whether to serve the stream handlers that are installed on this machine as plugins.
        @param random: gives a number from 0 to 1, which varies the delays.
        @param environ: the environment, which names the state folder and proxies; that of the process by default.
        """
        super().__init__()
        self.config = config
        self.clock = reactor
        self.sessions = SessionTotals()
        self.budget = MemoryBudget(reactor, config.limits.processOctets)
        self.budget.setServiceParent(self)
        self._publications = Publications(reactor, random, self._refused)
        self.serviceLinks: list[IServiceLink] = []
        self.handlers: dict[bytes, Handler] = {
            HTTP: ServiceStreams(("http",), self._publications.find, self._publications.host),
            TCP: self._makeTargetStreams(config),
            UDP: DiallingServiceStreams(("udp",), self._publications.find, self._publications.host),
        }
        if plugins:
            for handler in installedPlugins(IStreamHandler):
                self.handle(handler.name, handler)
        self._bounds = AgentBounds(config.limits)
        self.tracing = self._makeTracing()
        tracer = None if self.tracing is None else self.tracing.tracer
        self.metrics = self._makeMetrics()
        counts = None if self.metrics is None else self.metrics.exchanges
        environ = os.environ if environ is None else environ
        self.inspector: Inspector | None = None
        if config.inspect.enabled:
            from tunnelstack.agent.inspector.service import Inspector  # a fifth of an agent's modules

            self.inspector = Inspector(reactor, config.inspect, self._exchangeServer, environ)
        self._configured = ConfiguredServices(
            reactor, self._publications, self.handlers, self._bounds, tracer, counts, self.budget,
            None if self.inspector is None else self.inspector.recorder,
        )
        self._exitPolicy = ExitPolicy(reactor, config.giveUpAfterSeconds)
        self._exitPolicy.whenFailed().addCallback(self._failed)
        self.end = self._exitPolicy.fail
        self.openRequests = self._configured.openRequests
        self.revoked = self._publications.revoked
        self._waiting: Waiters[IServiceLink] = Waiters()
        host = AgentHost(self, random, environ)
        dialects = configuredDialects(host, config)
        self.listeners = listeningServices(host, config)
        for listener in self.listeners:
            listener.setServiceParent(self)
        self.links = [
            AgentLink(reactor, dialect, config, self._exitPolicy, self.budget, random, self.sessions) for dialect in dialects
        ]
        if self.metrics is not None:
            self.metrics.setServiceParent(self)
        if self.inspector is not None:
            self.inspector.setServiceParent(self)
        if self.tracing is not None:
            self.tracing.setServiceParent(self)
        self.observeRequests(None)

    def _makeMetrics(self) -> AgentMetrics | None:
        if not self.config.metrics.listen:
            return None
        from tunnelstack.agent.metrics import AgentMetrics  # most agents have none

        return AgentMetrics(self)

    def _makeTracing(self) -> TracingService | None:
        if not self.config.tracing.enabled:
            return None
        from tunnelstack.control.tracing.service import TracingService  # most agents have none

        return TracingService(self.clock, self.config.tracing, "agent")

    def observeRequests(self, observer: RequestObserver | None) -> None:
        """
        To be called before the service is started.

        @param observer: called with the record of each HTTP request that has ended, beside metrics and tracing.
        """
        self._recordObserver = together(None if self.tracing is None else self.tracing.requestEnded, observer)
        self.requestObserver = together(None if self.metrics is None else self.metrics.exchanges, self._recordObserver)

    def _makeTargetStreams(self, config: AgentConfig) -> TargetStreams:
        """
        Make the handler of TCP streams: for services, and for targets that the configuration allows to be dialled.
        """
        services = DiallingServiceStreams(("tcp", "stream", "ssh"), self._publications.find, self._publications.host)
        return TargetStreams(
            services, TargetAllowlist(config.targets),
            lambda host, port: TCPHandler(hostEndpoint(self.clock, host, port), self.clock),
        )

    def _exchangeServer(self, name: str) -> IExchangeServer | None:
        return self._configured.exchangeServer(name)

    # What is served

    def handle(self, name: bytes, handler: Handler) -> None:
        """
        Serve streams of a protocol.

        @param name: the protocol's name, such as C{b"/demo/shout/1.0.0"}.
        @raise UsageError: the name is reserved.
        """
        if name.startswith(RESERVED_PREFIX):
            raise UsageError("protocol names that begin with /tunnelstack/ are reserved", name=name)
        self._handle(name, handler)

    def _handle(self, name: bytes, handler: Handler) -> None:
        self.handlers[name] = handler
        for link in self.serviceLinks:
            link.handle(name, handler)

    @property
    def publications(self) -> list[Publication]:
        """
        The publications that have not been withdrawn.
        """
        return self._publications.publications

    @property
    def streams(self) -> int:
        """
        How many streams are open, not counting the control streams.
        """
        return sum(max(0, link.session.streams - 1) for link in self.serviceLinks)

    def publish(self, service: Service, handler: Handler, shown: str = "", *, optional: bool = False) -> Publication:
        """
        Publish a service at every edge, now and after every reconnection, until it is withdrawn.

        @param handler: serves its streams: an C{IProtocolFactory}, whose C{buildProtocol} is called with a
            L{StreamAddress<tunnelstack.stream.address.StreamAddress>} that has the visitor's address, or an
            L{IDiallingHandler<tunnelstack.interfaces.IDiallingHandler>}.
        @param shown: the target as status lines show it.
        @param optional: if the token does not allow the service, this is logged as information and not as an error.
        @raise UsageError: a service of the same kind and name is already published.
        """
        return self._publications.publish(service, handler, shown, optional=optional)

    def dial(self, to: str, purpose: str = "") -> IStreamClientEndpoint:
        """
        Dial a service of another agent through an edge.  The endpoint waits for a session.

        @param to: a service, C{agent/service}, or an agent's name.
        @param purpose: C{""} for the service itself, or the name of a stream protocol.
        """
        return DialEndpoint(self.clock, self.whenLinked, to, purpose)

    def whenLinked(self) -> Deferred[IServiceLink]:
        """
        @return: fires with the link to an edge once there is a session; fails with the L{FatalError} that ends the agent.
        """
        links = self.serviceLinks
        if links:
            return succeed(links[0])
        if self._exitPolicy.fatalError is not None:
            return fail(self._exitPolicy.fatalError)
        return self._waiting.wait()

    def linked(self, link: IServiceLink) -> None:
        """
        A session is up on which services can be announced.
        """
        self.serviceLinks.append(link)
        for shortfall in self._bounds.shortfalls(link.bounds):
            self.log.info("{sentence}", sentence=shortfall)
        self.boundsChanged()
        self._publications.announce(link)
        self._waiting.fire(link)

    def boundsChanged(self) -> None:
        """
        An edge has announced other bounds of exchanges than before.
        """
        self._bounds.announced(link.bounds for link in self.serviceLinks)
        self._configured.boundsChanged()

    def unlinked(self, link: IServiceLink) -> None:
        """
        The session is lost, or draining.
        """
        self.serviceLinks.remove(link)
        self._publications.linkLost(link)

    def _refused(self, publication: Publication) -> None:
        """
        An edge has refused a service finally.  End if that leaves nothing to publish: every edge is connected and has refused
        every service, and the agent serves nothing else that its configuration names.
        """
        publications, links = self.publications, self.serviceLinks
        elsewhere = self.config.targets or self.config.dialects or set(publications) != set(self._configured.publications)
        if elsewhere or len(links) < len(self.links) or not all(each.refusal(links) for each in publications):
            return
        what = "nothing is left to publish" if len(publications) > 1 else f"{publication.service.name} is not published"
        self.end(CredentialRefused(f"{what}: {publication.refusal(links)}"))

    # Starting and stopping

    def startService(self) -> None:
        """
        Publish the services of the configuration, and dial the edges.
        """
        super().startService()
        warnOfExposed(self.log, secretsOf(self.config))
        for edge in filter(isStale, self.config.edges):
            self.log.warn("{url}, the edge started with --dev, has ended: start tunnel-edge --dev again", url=edge.url)
        self._configured.update(self.config.services, self._recordObserver)
        self._exitPolicy.start()
        for link in self.links:
            link.uplink.start()
        for listener in self.listeners:
            self.budget.join(listener.session)
            self.sessions.watch(listener.session)
            listener.whenListening().addCallbacks(self._listening, self._notListening, (listener,), {}, (listener,))

    def _listening(self, _: None, listener: IListeningService) -> None:
        self.log.info("listening at {where}", where=listener.description, status="listen")

    def _notListening(self, failure: Failure, listener: IListeningService) -> None:
        """
        End: nothing else would report that edges cannot reach this agent.
        """
        error = failure.value
        if isinstance(error, CannotListenError):
            why = listenFailure(error, "use another port")
            self.end(why if isinstance(why, FatalError) else CannotListen(str(why)))
        else:
            self.log.failure("the agent does not listen at {where}", failure=failure, where=listener.description)
            self.end(CannotListen(f"the agent does not listen at {listener.description}; the cause is in the log"))

    def stopService(self) -> Deferred[None]:
        """
        Drain the sessions, for at most C{drainSeconds} of the configuration, and close them.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._exitPolicy.stop()
        draining: list[Deferred[Any]] = [self._stopUplinks(), *map(self._drain, self.listeners)]
        await DeferredList(draining, consumeErrors=True)
        closable = [link.dialect for link in self.links if IClosableDialect.providedBy(link.dialect)]
        closing = [maybeDeferred(IClosableDialect(dialect).close) for dialect in closable]
        await DeferredList([each.addTimeout(CLOSE_SECONDS, self.clock) for each in closing], consumeErrors=True)
        self._configured.close()
        await maybeDeferred(super().stopService)

    def _drain(self, listener: IListeningService) -> Deferred[object]:
        """
        Let the work of a listener finish, for at most C{drainSeconds} of the configuration.
        """
        drained: Deferred[object] = listener.drain()
        return drained.addTimeout(self.config.drainSeconds, self.clock)

    def _stopUplinks(self) -> Deferred[list[tuple[bool, None]]]:
        """
        Stop announcing, and drain.
        """
        for link in self.links:
            link.dialect.retire()
        return DeferredList([link.uplink.stop() for link in self.links], consumeErrors=True)

    # Another configuration

    def reload(self, config: AgentConfig) -> tuple[str, ...]:
        """
        Change to another configuration.  Sessions and streams stay open.

        @return: a sentence for each difference.
        @raise ConfigurationError: the configuration cannot be used; nothing has changed then.
        """
        found = difference(self.config, config)
        before, after = self.config, found.config
        reloads = [listener.prepareReload() for listener in self.listeners]
        self._configured.update(after.services, self._recordObserver)
        for reload in reloads:
            reload()
        self.config = after
        warnOfExposed(self.log, secretsOf(after))
        if after.targets != before.targets:
            self._handle(TCP, self._makeTargetStreams(after))
        for link in self.links:
            link.uplink.maxBackoff, link.uplink.drainSeconds = after.backoffSeconds, after.drainSeconds
        self._exitPolicy.setGiveUpSeconds(after.giveUpAfterSeconds)
        self.budget.limit = after.limits.processOctets
        self._bounds.configure(after.limits)
        self._configured.boundsChanged()
        sentences = found.sentences("the agent")
        for sentence in sentences:
            self.log.info("{what}", what=sentence, status="reload")
        return sentences

    def report(self) -> None:
        """
        Log the state of each link and of each publication.
        """
        for link in self.links:
            self.log.info("{report}", report=link.report(), status="state")
        for listener in self.listeners:
            self.log.info("{report}", report={"listens": listener.description, **listener.report()}, status="state")
        for publication in self.publications:
            grant, service = publication.grant, publication.service
            state: dict[str, object] = {"service": f"{service.kind}:{service.name}", "granted": grant is not None}
            self.log.info("{report}", report=state | {"url": grant.url if grant is not None else ""}, status="state")

    @property
    def drainSeconds(self) -> float:
        return self.config.drainSeconds

    def whenReady(self) -> Deferred[object]:
        """
        @return: fires when all listeners listen, and at once if there are none: an agent is ready as soon as it tries to
            connect.  It never fires if one cannot listen.
        """
        if not self.listeners:
            return succeed(None)
        ready: Deferred[object] = Deferred()
        waiting = gatherResults([listener.whenListening() for listener in self.listeners], consumeErrors=True)
        waiting.addCallbacks(ready.callback, lambda failure: None)      # the failure is reported by _notListening
        return ready

    def whenFailed(self) -> Deferred[FatalError]:
        """
        @return: fires with the L{FatalError} that ends the agent.
        """
        return self._exitPolicy.whenFailed()

    def _failed(self, why: FatalError) -> FatalError:
        self._stopUplinks()
        self._waiting.fail(why)
        return why


def secretsOf(config: AgentConfig) -> list[str]:
    """
    @return: the files of a configuration that hold a token or a private key.
    """
    edges = [path for edge in config.edges for path in (edge.tokenFile, edge.keyFile or edge.certificateFile)]
    edges += [config.tracing.headersFile, config.inspect.tokenFile]
    return edges + secretFiles(config.dialects) + [service.hostKeysFile for service in config.services]

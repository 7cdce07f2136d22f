"""
The private side as one service: it keeps a session with each of its edges, publishes services there, and serves their streams.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, fail, inlineCallbacks
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.plugin import getPlugins

from tunnelstack.agent.configured_services import ConfiguredServices
from tunnelstack.agent.dialects import AgentHost, configuredDialects
from tunnelstack.agent.dialler import DialEndpoint
from tunnelstack.agent.exit_policy import ExitPolicy
from tunnelstack.agent.link import AgentLink
from tunnelstack.agent.publication import Publication
from tunnelstack.agent.publications import Publications
from tunnelstack.control.access_log import RequestObserver
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.config.reload import difference
from tunnelstack.control.process.exit_status import FatalError
from tunnelstack.control.secret_files import warnOfExposed
from tunnelstack.dialect.native.dialler import (
    DiallingServiceStreams,
    NativeLink,
    ServiceStreams,
    TargetStreams,
)
from tunnelstack.dialect.native.protocol import HTTP, RESERVED_PREFIX, TCP
from tunnelstack.errors import UsageError
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.handler.tcp import TCPHandler
from tunnelstack.interfaces import IStreamHandler
from tunnelstack.records import Service
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.settings.tables import secretFiles
from tunnelstack.transport.host_endpoint import hostEndpoint


class AgentService(MultiService):
    """
    An agent.

    @ivar config: the L{AgentConfig}.
    @ivar handlers: of streams, by the name of their protocol.
    @ivar links: an L{AgentLink} for each edge.
    @ivar requestObserver: called with each L{AccessRecord<tunnelstack.control.access_log.AccessRecord>}; to be set before the
        service is started, C{None} if nobody wants to know.
    @ivar budget: what all sessions may hold together.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: AgentConfig,
        *,
        plugins: bool = True,
        random: Callable[[], float] = random,
    ) -> None:
        """
        @param plugins: serve the stream handlers that are installed on this machine as well.
        @param random: a number from 0 to 1, for waits.
        """
        super().__init__()
        self.config = config
        self.clock = reactor
        self.requestObserver: RequestObserver | None = None
        self.budget = MemoryBudget(reactor, config.limits.processOctets)
        self.budget.setServiceParent(self)
        self._publications = Publications(reactor, random)
        self.handlers: dict[bytes, Any] = {
            HTTP: ServiceStreams(("http",), self._publications.find, self._publications.host),
            TCP: self._makeTargetStreams(config),
        }
        if plugins:
            for handler in getPlugins(IStreamHandler):
                self.handle(handler.name, handler)
        self._configured = ConfiguredServices(reactor, self._publications, self.handlers)
        self._exitPolicy = ExitPolicy(reactor, config.giveUpAfterSeconds)
        self._exitPolicy.whenFailed().addCallback(self._failed)
        self.end = self._exitPolicy.fail
        self.revoked = self._publications.revoked
        self._waiting: list[Deferred[NativeLink]] = []
        self._links: list[NativeLink] = []
        dialects = configuredDialects(AgentHost(self, random), config)
        self.links = [AgentLink(reactor, dialect, config, self._exitPolicy, self.budget, random) for dialect in dialects]

    def _makeTargetStreams(self, config: AgentConfig) -> TargetStreams:
        """
        Who serves streams that are no requests: for services, and for what may be dialled.
        """
        services = DiallingServiceStreams(("tcp", "stream", "ssh"), self._publications.find, self._publications.host)
        return TargetStreams(
            services, TargetAllowlist(config.targets),
            lambda host, port: TCPHandler(hostEndpoint(self.clock, host, port), self.clock),
        )

    # What is served

    def handle(self, name: bytes, handler: IProtocolFactory) -> None:
        """
        Serve streams of a protocol.

        @param name: the protocol's name, such as C{b"/demo/shout/1.0.0"}.
        @param handler: an C{IProtocolFactory}, or an L{IDiallingHandler<tunnelstack.interfaces.IDiallingHandler>}.
        @raise UsageError: a name that is tunnelstack's own.
        """
        if name.startswith(RESERVED_PREFIX):
            raise UsageError("names below /tunnelstack/ are tunnelstack's own", name=name)
        self._handle(name, handler)

    def _handle(self, name: bytes, handler: Any) -> None:
        self.handlers[name] = handler
        for link in self._links:
            link.handle(name, handler)

    @property
    def publications(self) -> list[Publication]:
        """
        What is offered.
        """
        return self._publications.publications

    @property
    def streams(self) -> int:
        """
        How many streams are open, the control streams left out.
        """
        return sum(max(0, link.session.streams - 1) for link in self._links)

    def publish(self, service: Service, handler: Any, shown: str = "", *, optional: bool = False) -> Publication:
        """
        Offer a service at every edge, now and after every reconnection, until it is withdrawn.

        @param handler: who serves its streams: an C{IProtocolFactory}, whose C{buildProtocol} gets a
            L{StreamAddress<tunnelstack.stream.address.StreamAddress>} with the visitor's address, or an
            L{IDiallingHandler<tunnelstack.interfaces.IDiallingHandler>}.
        @param shown: what a status line says is behind it.
        @param optional: that the token does not allow it is no news.
        @raise UsageError: there is one of that kind and name.
        """
        return self._publications.publish(service, handler, shown, optional=optional)

    def dial(self, to: str, purpose: str = "") -> IStreamClientEndpoint:
        """
        The way to somebody else's service, through an edge; a session is waited for.

        @param to: a service, C{agent/service}, or an agent's name.
        @param purpose: C{""} for the service itself, or the name of a stream protocol.
        """
        return DialEndpoint(self.clock, self.whenLinked, to, purpose)

    def whenLinked(self) -> Deferred[NativeLink]:
        """
        @return: fires with a session, as soon as there is one; fails with the L{FatalError} if there will be none.
        """
        linked: Deferred[NativeLink] = Deferred(lambda cancelled: self._waiting.remove(cancelled))
        links = self._links
        if links:
            linked.callback(links[0])
        elif self._exitPolicy.fatalError is not None:
            return fail(self._exitPolicy.fatalError)
        else:
            self._waiting.append(linked)
        return linked

    def linked(self, link: NativeLink) -> None:
        """
        As in L{IAgentHost<tunnelstack.interfaces.IAgentHost>}.
        """
        self._links.append(link)
        self._publications.announce(link)
        waiting, self._waiting = self._waiting, []
        for linked in waiting:
            linked.callback(link)

    def unlinked(self, link: NativeLink) -> None:
        """
        As in L{IAgentHost<tunnelstack.interfaces.IAgentHost>}.
        """
        self._links.remove(link)
        self._publications.linkLost(link)

    # Starting and stopping

    def startService(self) -> None:
        """
        Publish what the configuration says, and dial.
        """
        super().startService()
        warnOfExposed(self.log, secretsOf(self.config))
        self._configured.update(self.config.services, self.requestObserver)
        self._exitPolicy.start()
        for link in self.links:
            link.uplink.start()

    @inlineCallbacks
    def stopService(self) -> Any:
        """
        Drain the sessions, for as long as the configuration says.
        """
        self._exitPolicy.stop()
        yield self._stopUplinks()
        self._configured.close()
        yield super().stopService()

    def _stopUplinks(self) -> Deferred[Any]:
        """
        Announce nothing any more, and let what is under way end.
        """
        for link in self.links:
            link.dialect.retire()
        return DeferredList([link.uplink.stop() for link in self.links], consumeErrors=True)

    # Another configuration

    def reload(self, config: AgentConfig) -> tuple[str, ...]:
        """
        Go on with another configuration.  Sessions stay, and so do streams.

        @return: a sentence for each difference.
        @raise ConfigurationError: it cannot be used; nothing has changed then.
        """
        found = difference(self.config, config)
        before, after = self.config, found.config
        self._configured.update(after.services, self.requestObserver)
        self.config = after
        warnOfExposed(self.log, secretsOf(after))
        if after.targets != before.targets:
            self._handle(TCP, self._makeTargetStreams(after))
        for link in self.links:
            link.uplink.maxBackoff, link.uplink.drainSeconds = after.backoffSeconds, after.drainSeconds
        self._exitPolicy.setGiveUpSeconds(after.giveUpAfterSeconds)
        self.budget.limit = after.limits.processOctets
        sentences = found.sentences("the agent")
        for sentence in sentences:
            self.log.info("{what}", what=sentence, status="reload")
        return sentences

    def report(self) -> None:
        """
        Write the state into the log.
        """
        for link in self.links:
            self.log.info("{report}", report=link.report(), status="state")
        for publication in self.publications:
            grant, service = publication.grant, publication.service
            state: dict[str, Any] = {"service": f"{service.kind}:{service.name}", "granted": grant is not None}
            self.log.info("{report}", report=state | {"url": grant.url if grant is not None else ""}, status="state")

    def whenFailed(self) -> Deferred[FatalError]:
        """
        @return: fires with the L{FatalError} that keeps the agent from going on.
        """
        return self._exitPolicy.whenFailed()

    def _failed(self, why: FatalError) -> FatalError:
        self._stopUplinks()
        waiting, self._waiting = self._waiting, []
        for linked in waiting:
            linked.errback(why)
        return why


def secretsOf(config: AgentConfig) -> list[str]:
    """
    The files of a configuration that hold a token or a private key.
    """
    edges = [path for edge in config.edges for path in (edge.tokenFile, edge.keyFile or edge.certificateFile)]
    return edges + secretFiles(config.dialects) + [service.hostKeysFile for service in config.services]

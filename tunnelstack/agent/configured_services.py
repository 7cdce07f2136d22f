"""
The services in a configuration: they are published, replaced and withdrawn without cutting off connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from attrs import define
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from tunnelstack.agent.bounds import AgentBounds
from tunnelstack.agent.local_server import LocalServer
from tunnelstack.agent.publication import Publication
from tunnelstack.agent.publications import Publications
from tunnelstack.agent.service_kinds import ExchangeFactory, RunningService, ServiceContext, buildService
from tunnelstack.agent.target import probe
from tunnelstack.control.access_record import AccessRecord, RequestObserver
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import Handler, IExchangeServer, IReactor
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.settings.record import Record

if TYPE_CHECKING:
    from tunnelstack.agent.inspector.recorder import RequestRecorder
    from tunnelstack.control.metrics.counts import ExchangeCounts
    from tunnelstack.control.tracing.tracer import Tracer


@define(eq=False, repr=False)
class _PublishedService(Record):
    config: ServiceConfig
    served: RunningService
    publication: Publication


class ConfiguredServices:
    """
    The publications of an agent that come from its configuration, as opposed to those that a program makes by
    L{AgentService.publish<tunnelstack.agent.service.AgentService.publish>}.
    """

    log = Logger()

    def __init__(
        self, reactor: IReactor, publications: Publications, handlers: Mapping[bytes, Handler], bounds: AgentBounds,
        tracer: Tracer | None = None, counts: ExchangeCounts | None = None, budget: MemoryBudget | None = None,
        recorder: RequestRecorder | None = None,
    ) -> None:
        """
        @param handlers: stream handlers by name, for services of the kind C{stream}.
        @param bounds: of exchanges; call L{boundsChanged} when they change.
        @param tracer: gives each request its span, if requests are traced.
        @param counts: counts the requests that have ended, if there are metrics.
        @param budget: limits what connections with local servers hold.
        @param recorder: keeps requests, if there is an inspector.
        """
        self._budget = budget
        self._reactor = reactor
        self._publications = publications
        self._handlers = handlers
        self._bounds = bounds
        self._tracer = tracer
        self._counts = counts
        self._recorder = recorder
        self._entries: dict[str, _PublishedService] = {}
        self._draining: list[RunningService] = []

    def update(self, configs: Iterable[ServiceConfig], requestObserver: RequestObserver | None = None) -> None:
        """
        Publish these services, and no others.  A service whose configuration is unchanged is not touched.  Requests and
        connections of changed services that are under way finish at the old target.

        @param configs: the services; their names differ.
        @param requestObserver: called with each HTTP request that has ended.
        @raise ConfigurationError: a service cannot be served; nothing has changed then.
        """
        wanted = {config.name: config for config in configs}
        new = self._makeAll([config for config in wanted.values() if not self._isUnchanged(config)], requestObserver)
        for name in [name for name in self._entries if name not in wanted]:
            self._withdraw(self._entries.pop(name))
        for config, served in new:
            entry = self._entries.get(config.name)
            if entry is not None and entry.publication.service.kind == served.service.kind:
                self._replace(entry, config, served)
            else:
                if entry is not None:
                    self._withdraw(entry)
                self._publish(config, served)

    def boundsChanged(self) -> None:
        """
        Let exchanges that begin from now on have the bounds that are in force now.
        """
        for entry in self._entries.values():
            entry.served.configure(self._bounds.bounds)

    @property
    def publications(self) -> list[Publication]:
        """
        The publications of the services in the configuration.
        """
        return [entry.publication for entry in self._entries.values()]

    def exchangeServer(self, name: str) -> IExchangeServer | None:
        """
        @return: the server of the requests of a service; C{None} if it is not published, or is no HTTP service.
        """
        entry = self._entries.get(name)
        handler = None if entry is None else entry.publication.handler
        return handler.server if isinstance(handler, ExchangeFactory) else None

    def openRequests(self) -> list[AccessRecord]:
        """
        @return: the requests that have not ended, if requests are observed.
        """
        handlers = [entry.publication.handler for entry in self._entries.values()]
        return [request for each in handlers if isinstance(each, ExchangeFactory) for request in each.openRequests()]

    def _isUnchanged(self, config: ServiceConfig) -> bool:
        entry = self._entries.get(config.name)
        return entry is not None and entry.config == config

    def _makeAll(
        self, configs: list[ServiceConfig], requestObserver: RequestObserver | None
    ) -> list[tuple[ServiceConfig, RunningService]]:
        """
        Make all of them, or none.
        """
        context = ServiceContext(
            self._reactor, self._handlers, self._bounds, requestObserver, self._tracer, self._counts, self._budget,
            self._recorder,
        )
        made: list[tuple[ServiceConfig, RunningService]] = []
        try:
            for config in configs:
                served = buildService(context, config)
                made.append((config, served))
                if config.name not in self._entries and self._publications.has(served.service):
                    raise ConfigurationError(f"the service {config.name} is already published by the program itself")
        except Exception:
            for _, served in made:
                served.close()
            raise
        return made

    def _publish(self, config: ServiceConfig, served: RunningService) -> None:
        publication = self._publications.publish(served.service, served.handler, served.shown)
        self._entries[config.name] = _PublishedService(config, served, publication)
        self._probe(served)

    def _replace(self, entry: _PublishedService, config: ServiceConfig, served: RunningService) -> None:
        old, handler = entry.served, served.handler
        if isinstance(handler, ExchangeFactory) and isinstance(entry.publication.handler, ExchangeFactory):
            # The edge keeps streams open for further requests; those must go to the new server as well.
            entry.publication.handler.server = handler.server
            handler = entry.publication.handler
        entry.config, entry.served = config, served
        self._probe(served)
        entry.publication.replace(served.service, handler, served.shown).addBoth(lambda _: self._drain(old))

    def _withdraw(self, entry: _PublishedService) -> None:
        entry.publication.withdraw().addBoth(lambda _: self._drain(entry.served))

    def _drain(self, served: RunningService) -> None:
        """
        Let requests and connections under way finish, and close then.  No edge sends new ones.
        """
        self._draining.append(served)
        maybeDeferred(served.drain).addBoth(lambda _: self._drained(served))

    def _drained(self, served: RunningService) -> None:
        if served in self._draining:           # otherwise the agent has stopped meanwhile
            self._draining.remove(served)
            served.close()

    def _probe(self, served: RunningService) -> None:
        if served.warning:
            self.log.warn("{warning}", warning=served.warning, service=served.service.name)
        if served.endpoint is not None and served.server is not None:
            probe(served.endpoint, self._reactor).addCallback(_probed, served.server)

    def close(self) -> None:
        """
        Close all services.  To be called after the uplinks have stopped.
        """
        leaving, self._draining = self._draining, []
        entries, self._entries = self._entries, {}
        for served in (*leaving, *(entry.served for entry in entries.values())):
            served.close()


def _probed(why: str, server: LocalServer) -> None:
    if why:
        server.notReached(why)

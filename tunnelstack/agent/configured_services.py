"""
The services that a configuration names: made, offered, exchanged for others, and ended, without cutting anybody off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from tunnelstack.agent.publication import Publication
from tunnelstack.agent.publications import Offers
from tunnelstack.agent.requests import Heard
from tunnelstack.agent.service_kinds import Exchanges, Served, serve
from tunnelstack.agent.target import probe
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.errors import ConfigurationError
from tunnelstack.records import Service


@define
class _Entry:
    config: ServiceConfig
    served: Served
    publication: Publication


class Roster:
    """
    What of an agent's offers stands in its configuration.
    """

    log = Logger()

    def __init__(self, reactor: Any, offers: Offers, handlers: Mapping[bytes, Any]) -> None:
        """
        @param handlers: of streams, by name, for services of the kind C{stream}.
        """
        self._reactor = reactor
        self._offers = offers
        self._handlers = handlers
        self._entries: dict[str, _Entry] = {}
        self._leaving: list[Served] = []

    def change(self, configs: Iterable[ServiceConfig], heard: Heard | None = None) -> None:
        """
        Offer these services, and no others.  Those that are as they were notice nothing; requests and connections under way of
        the others end where they began.

        @param configs: each with a name of its own.
        @param heard: called with each HTTP request that is over.
        @raise ConfigurationError: one of them cannot be served; nothing has changed then.
        """
        wanted = {config.name: config for config in configs}
        new = self._made([config for config in wanted.values() if not self._is(config)], heard)
        for name in [name for name in self._entries if name not in wanted]:
            self._withdraw(self._entries.pop(name))
        for config, served in new:
            entry = self._entries.get(config.name)
            if entry is not None and entry.publication.service.kind == served.service.kind:
                self._exchange(entry, config, served)
            else:
                if entry is not None:
                    self._withdraw(entry)
                self._publish(config, served)

    def _is(self, config: ServiceConfig) -> bool:
        entry = self._entries.get(config.name)
        return entry is not None and entry.config == config

    def _made(self, configs: list[ServiceConfig], heard: Heard | None) -> list[tuple[ServiceConfig, Served]]:
        """
        All of them, or none.
        """
        made: list[tuple[ServiceConfig, Served]] = []
        try:
            for config in configs:
                served = serve(self._reactor, config, self._handlers, heard)
                made.append((config, served))
                if config.name not in self._entries and self._offers.has(served.service):
                    raise ConfigurationError(f"the service {config.name} is published already, by the program itself")
        except Exception:
            for _, served in made:
                served.close()
            raise
        return made

    def _publish(self, config: ServiceConfig, served: Served) -> None:
        publication = self._offers.publish(served.service, served.handler, served.shown)
        self._entries[config.name] = _Entry(config, served, publication)
        self._probe(served)

    def _exchange(self, entry: _Entry, config: ServiceConfig, served: Served) -> None:
        old, handler = entry.served, served.handler
        if isinstance(handler, Exchanges) and isinstance(entry.publication.handler, Exchanges):
            entry.publication.handler.server = handler.server       # streams that the edge keeps lead there, too
            handler = entry.publication.handler
        entry.config, entry.served = config, served
        self._probe(served)
        entry.publication.exchange(served.service, handler, served.shown).addBoth(lambda _: self._end(old))

    def _withdraw(self, entry: _Entry) -> None:
        entry.publication.withdraw().addBoth(lambda _: self._end(entry.served))

    def _end(self, served: Served) -> None:
        """
        No edge asks this one any more: what is under way ends.
        """
        self._leaving.append(served)
        maybeDeferred(served.drain).addBoth(lambda _: self._ended(served))

    def _ended(self, served: Served) -> None:
        if served in self._leaving:           # else the agent has stopped meanwhile
            self._leaving.remove(served)
            served.close()

    def _probe(self, served: Served) -> None:
        if served.endpoint is not None:
            probe(served.endpoint, self._reactor).addCallback(self._probed, served.service, served.shown)

    def _probed(self, why: str, service: Service, shown: str) -> None:
        if why:
            then = "visitors get 503 with an explanation" if service.kind == "http" else "connections are closed at once"
            where = shown.removeprefix("tcp:")
            if why == "nothing listens":
                self.log.warn("nothing listens on {target} yet; {then}", target=where, then=then, service=service.name)
            else:
                self.log.warn("{target}: {why}; {then}", target=where, why=why, then=then, service=service.name)

    def close(self) -> None:
        """
        The agent has stopped.
        """
        leaving, self._leaving = self._leaving, []
        entries, self._entries = self._entries, {}
        for served in (*leaving, *(entry.served for entry in entries.values())):
            served.close()

"""
From a service in a configuration to what is announced and to who serves its streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, evolve
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from tunnelstack.agent.local import Target
from tunnelstack.control.config import ServiceConfig
from tunnelstack.exchange.join import Forwarder
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.handler.http import LocalSite
from tunnelstack.handler.tcp import TCPHandler
from tunnelstack.terms import Service


@define
class Served:
    """
    What is announced, who serves it, and what a status line says of it.

    @ivar endpoint: what can be probed, or C{None}.
    @ivar close: called when the agent has stopped.
    """

    service: Service
    handler: Any
    shown: str
    endpoint: IStreamClientEndpoint | None = None
    close: Callable[[], object] = lambda: None


def serve(reactor: Any, config: ServiceConfig, handlers: Mapping[bytes, Any]) -> Served:
    """
    @param handlers: of streams, by name, for services of the kind C{stream}.
    @raise ConfigurationError: the target is none.
    """
    return KINDS[config.kind](reactor, config, handlers)


class _Exchanges(Factory):
    """
    Builds the serving side of streams that carry HTTP exchanges.
    """

    noisy = False

    def __init__(self, server: Forwarder, clock: Any) -> None:
        self._server = server
        self._clock = clock

    def buildProtocol(self, address: object) -> HTTPServerProtocol:
        return HTTPServerProtocol(self._server, clock=self._clock)


def _http(reactor: Any, config: ServiceConfig, handlers: Mapping[bytes, Any]) -> Served:
    target = Target(config.target)
    site = LocalSite(target.authority or target.shown, host=config.rewriteHost)
    endpoint = target.endpoint(reactor)
    timeouts = Timeouts(first=config.firstOctetSeconds)
    pool = ExchangePool(endpoint, clock=reactor, timeouts=timeouts, explain=site.explain)
    server = Forwarder(pool.exchange, asked=site.asked, told=site.failed)
    return Served(Service(name=config.name), _Exchanges(server, reactor), target.shown, endpoint, pool.close)


def _tcp(reactor: Any, config: ServiceConfig, handlers: Mapping[bytes, Any]) -> Served:
    target = Target(config.target)
    endpoint = target.endpoint(reactor)
    service = Service(name=config.name, kind="tcp", port=config.remotePort)
    return Served(service, TCPHandler(endpoint, reactor), target.shown, endpoint)


def _folder(reactor: Any, config: ServiceConfig, handlers: Mapping[bytes, Any]) -> Served:
    from twisted.web.server import Site
    from twisted.web.static import File

    site = Site(File(config.target), reactor=reactor)
    site.noisy = False
    site.doStart()                            # it has no port that would
    service = Service(name=config.name, perVisitor=True)
    return Served(service, site, config.target, None, site.doStop)


def _stream(reactor: Any, config: ServiceConfig, handlers: Mapping[bytes, Any]) -> Served:
    name = config.target.encode()
    return Served(Service(name=config.name, kind="stream"), _Protocol(name, handlers), config.target)


class _Protocol:
    """
    Serves a service's streams with the handler of a stream protocol's name.
    """

    def __init__(self, name: bytes, handlers: Mapping[bytes, Any]) -> None:
        self._name = name
        self._handlers = handlers

    def buildProtocol(self, address: Any) -> IProtocol | None:
        """
        C{None} as long as nobody serves the name.
        """
        handler = self._handlers.get(self._name)
        if handler is None:
            return None
        built: IProtocol | None = handler.buildProtocol(evolve(address, protocol=self._name))
        return built


KINDS: dict[str, Callable[[Any, ServiceConfig, Mapping[bytes, Any]], Served]] = {
    "http": _http, "tcp": _tcp, "serve": _folder, "stream": _stream,
}  # fmt: skip

"""
From a service in a configuration to what is announced and to who serves its streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, evolve
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from tunnelstack.agent.requests import RequestObserver, recordFromExchange, recordFromSite
from tunnelstack.agent.target import Target
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.exchange.forward import Forwarder
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.handler.http import LocalSite
from tunnelstack.handler.tcp import TCPHandler
from tunnelstack.interfaces import IExchangeServer
from tunnelstack.records import EMBEDDED, Service


@define(eq=False)
class RunningService:
    """
    What is announced, who serves it, and what a status line says of it.

    @ivar endpoint: what can be probed, or C{None}.
    @ivar drain: begins nothing any more; gives a C{Deferred} that fires when what is under way is over, or C{None} where that
        needs nothing of what L{close} ends.
    @ivar close: called when the agent has stopped, or after the drain.
    """

    service: Service
    handler: Any
    shown: str
    endpoint: IStreamClientEndpoint | None = None
    close: Callable[[], object] = lambda: None
    drain: Callable[[], object] = lambda: None


def buildService(
    reactor: Any,
    config: ServiceConfig,
    handlers: Mapping[bytes, Any],
    requestObserver: RequestObserver | None = None,
) -> RunningService:
    """
    @param handlers: of streams, by name, for services of the kind C{stream}.
    @param requestObserver: called with each HTTP request that is over.
    @raise ConfigurationError: the target is none.
    """
    return KINDS[config.kind](reactor, config, handlers, requestObserver)


@implementer(IExchangeServer)
class ExchangeFactory(Factory):
    """
    Builds the serving side of streams that carry HTTP exchanges.

    @ivar server: who answers.  It may be exchanged for another, whom streams that are there ask from their next request on.
    """

    noisy = False

    def __init__(self, server: Forwarder, clock: Any, name: str, requestObserver: RequestObserver | None) -> None:
        self.server = server
        self._clock = clock
        self._name = name
        self._requestObserver = requestObserver

    def buildProtocol(self, address: object) -> HTTPServerProtocol:
        done = None if self._requestObserver is None else self._done
        return HTTPServerProtocol(self, clock=self._clock, done=done)

    def exchangeReceived(self, head: Any, exchange: Any) -> Any:
        """
        As in L{IExchangeServer}.
        """
        return self.server.exchangeReceived(head, exchange)

    def _done(self, exchange: Any) -> None:
        assert self._requestObserver is not None
        began = exchange.context
        self._requestObserver(recordFromExchange(self._name, exchange, 0.0 if began is None else self._clock.seconds() - began))


def _http(
    reactor: Any,
    config: ServiceConfig,
    handlers: Mapping[bytes, Any],
    requestObserver: RequestObserver | None = None,
) -> RunningService:
    target = Target(config.target)
    site = LocalSite(target.authority or target.shown, host=config.rewriteHost)
    endpoint = target.endpoint(reactor)
    timeouts = Timeouts(first=config.firstOctetSeconds, interim=config.interimSeconds)
    pool = ExchangePool(endpoint, clock=reactor, timeouts=timeouts, explain=site.explain)

    def asked(head: Any, exchange: Any) -> Any:
        exchange.context = reactor.seconds()
        return site.prepareRequest(head, exchange)

    server = Forwarder(
        pool.exchange,
        prepareRequest=asked if requestObserver is not None else site.prepareRequest,
        onFailure=site.failed,
    )
    exchanges = ExchangeFactory(server, reactor, config.name, requestObserver)
    return RunningService(Service(name=config.name), exchanges, target.shown, endpoint, pool.close, pool.drain)


def _tcp(
    reactor: Any,
    config: ServiceConfig,
    handlers: Mapping[bytes, Any],
    requestObserver: RequestObserver | None = None,
) -> RunningService:
    target = Target(config.target)
    endpoint = target.endpoint(reactor)
    service = Service(name=config.name, kind="tcp", port=config.remotePort)
    return RunningService(service, TCPHandler(endpoint, reactor), target.shown, endpoint)


def _serveFolder(
    reactor: Any,
    config: ServiceConfig,
    handlers: Mapping[bytes, Any],
    requestObserver: RequestObserver | None = None,
) -> RunningService:
    from twisted.web.server import Request, Site
    from twisted.web.static import File

    class Timed(Request):
        began = 0.0

        def process(self) -> None:
            self.began = reactor.seconds()
            super().process()

    site = Site(File(config.target), requestFactory=Timed, reactor=reactor)
    site.noisy = False
    site.log = _siteLog(reactor, config.name, requestObserver)  # type: ignore[assignment,method-assign]
    site.doStart()                            # it has no port that would
    service = Service(name=config.name, perVisitor=True)
    return RunningService(service, site, config.target, None, site.doStop)


def _siteLog(clock: Any, name: str, requestObserver: RequestObserver | None) -> Callable[[Any], None]:
    """
    What C{twisted.web} calls when a request is over.
    """

    def log(request: Any) -> None:
        if requestObserver is not None:
            requestObserver(recordFromSite(name, request, clock.seconds() - request.began))

    return log


def _stream(
    reactor: Any,
    config: ServiceConfig,
    handlers: Mapping[bytes, Any],
    requestObserver: RequestObserver | None = None,
) -> RunningService:
    name = config.target.encode()
    return RunningService(Service(name=config.name, kind="stream"), _HandlerByName(name, handlers), config.target)


def _ssh(
    reactor: Any,
    config: ServiceConfig,
    handlers: Mapping[bytes, Any],
    requestObserver: RequestObserver | None = None,
) -> RunningService:
    service = Service(name=config.name, kind="ssh")
    if config.target == EMBEDDED:
        from tunnelstack.agent.ssh_server import (
            makeEmbeddedServer,  # with Conch below it, which is slow to load
        )

        server = makeEmbeddedServer(
            reactor, config.hostKeysFile, authorizedKeysFile=config.authorizedKeysFile, passwordsFile=config.passwordsFile,
            users=config.users,
        )
        return RunningService(service, server, EMBEDDED)
    target = Target(config.target)
    endpoint = target.endpoint(reactor)
    return RunningService(service, TCPHandler(endpoint, reactor), target.shown, endpoint)


class _HandlerByName:
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


KINDS: dict[str, Callable[[Any, ServiceConfig, Mapping[bytes, Any], RequestObserver | None], RunningService]] = {
    "http": _http, "tcp": _tcp, "serve": _serveFolder, "stream": _stream, "ssh": _ssh,
}  # fmt: skip

"""
The kinds of services: each turns a service of a configuration into what is announced and the handler of its streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from operator import attrgetter
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from tunnelstack.agent.bounds import AgentBounds
from tunnelstack.agent.local_server import LocalServer
from tunnelstack.agent.origin_pool import originPool
from tunnelstack.agent.requests import complete, describe
from tunnelstack.agent.target import Target
from tunnelstack.control.access_record import (
    CLIENT_CLOSED,
    MOST_DESCRIPTIONS,
    AccessRecord,
    Descriptions,
    RequestDescription,
    RequestObserver,
    failureCode,
)
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.control.metrics.counts import ExchangeCounts
from tunnelstack.control.request_times import NEVER, RequestTimes
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.error_page import errorPage, respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.forward import Forwarder
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.handler.http import LocalSite
from tunnelstack.handler.tcp import TCPHandler
from tunnelstack.handler.udp import UDPHandler
from tunnelstack.interfaces import (
    Handler,
    IDiallingHandler,
    IExchangeReceiver,
    IExchangeServer,
    IReactor,
    IServerExchange,
)
from tunnelstack.records import EMBEDDED, Service
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.settings.record import Record
from tunnelstack.stream.address import StreamAddress
from tunnelstack.wire.http1.head import Fields, HeadLimits, RequestHead

if TYPE_CHECKING:
    from tunnelstack.agent.inspector.recorder import RequestRecorder
    from tunnelstack.control.tracing.tracer import Tracer

Handlers = Mapping[bytes, Handler]
"""Stream handlers by the name of their protocol."""


CLOSED = "connections are closed at once"

UNVERIFIED = (
    "the certificate of {target} is not verified (--insecure-origin): whatever answers there receives the requests of visitors"
)


@define(eq=False)
class RunningService:
    """
    A service that an agent serves.

    @ivar service: what is announced.
    @ivar handler: serves its streams.
    @ivar shown: the target as status lines show it.
    @ivar endpoint: connects to the target, for a probe; C{None} if there is nothing to connect to.
    @ivar server: the local server; C{None} if there is none.
    @ivar drain: begins no new work; returns a C{Deferred} that fires when the work under way is finished, or C{None} if
        L{close} may be called at once.
    @ivar configure: takes other bounds of exchanges.
    @ivar close: releases connections and resources; called after the drain, or when the agent has stopped.
    @ivar warning: logged when the service is published; C{""} is none.
    """

    service: Service
    handler: Handler
    shown: str
    endpoint: IStreamClientEndpoint | None = None
    server: LocalServer | None = None
    close: Callable[[], object] = lambda: None
    drain: Callable[[], object] = lambda: None
    warning: str = ""
    configure: Callable[[ExchangeBounds], object] = lambda bounds: None


@define(eq=False, repr=False)
class ServiceContext(Record):
    """
    What the services of an agent share.

    @ivar reactor: the reactor.
    @ivar handlers: stream handlers by name, for services of the kind C{stream}.
    @ivar bounds: of exchanges.
    @ivar requestObserver: called with the record of each HTTP request that has ended.
    @ivar tracer: gives each request its span; C{None} if requests are not traced.
    @ivar counts: counts the requests that have ended, or C{None}.
    @ivar budget: limits what the connections with local servers hold, as far as they use HTTP/2.
    @ivar recorder: keeps requests for the inspector, or C{None}.
    @ivar descriptions: what the records of requests say of them.
    """

    reactor: IReactor
    handlers: Handlers
    bounds: AgentBounds
    requestObserver: RequestObserver | None = None
    tracer: Tracer | None = None
    counts: ExchangeCounts | None = None
    budget: MemoryBudget | None = None
    recorder: RequestRecorder | None = None
    descriptions: Descriptions = field(factory=lambda: Descriptions("agent"))

    @property
    def isRecorded(self) -> bool:
        """
        Whether more is done with requests than to count them all together.
        """
        perService = self.counts is not None and self.counts.services is not None
        return self.requestObserver is not None or self.recorder is not None or self.tracer is not None or perService


def buildService(context: ServiceContext, config: ServiceConfig) -> RunningService:
    """
    Make the handler of a service.

    @raise ConfigurationError: the target cannot be used.
    """
    return KINDS[config.kind](context, config)


@implementer(IExchangeServer)
class ExchangeFactory(Factory):
    """
    Builds the serving side of streams that carry HTTP exchanges.

    @ivar server: answers the requests.  It may be replaced; open streams use the new one from their next request on.
    """

    noisy = False

    def __init__(self, server: IExchangeServer, context: ServiceContext, name: str, *, forwards: bool = False) -> None:
        """
        @param name: of the service.
        @param forwards: responses are those of another server.
        """
        self._recorder = recorder = context.recorder
        self.server = server
        if recorder is not None:
            from tunnelstack.agent.inspector.capture import CapturingServer  # most agents have no inspector

            self.server = CapturingServer(server, recorder, name)
        self._context = context
        self._clock = context.reactor
        self._name = name
        self._requestObserver = context.requestObserver
        self._counts = context.counts
        self._onlyCounts = forwards and context.counts is not None and not context.isRecorded
        self._isRecorded = not self._onlyCounts and (context.counts is not None or context.isRecorded)
        self._described: dict[bytes, RequestDescription] = {}
        self._open: dict[IServerExchange, None] = {}     # in order; kept only if requests are observed

    def buildProtocol(self, address: object) -> HTTPServerProtocol:
        bounds = self._context.bounds.bounds
        counts = self._counts if self._onlyCounts else None
        done = self._done if self._isRecorded else None if counts is None else counts.exchangeEnded
        return HTTPServerProtocol(
            self, clock=self._clock, begun=None if counts is None else counts.exchangeBegun, done=done,
            notes=None if counts is None else counts.notes, limits=bounds.requestLimits, timeouts=bounds.streamTimeouts,
        )

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        if self._onlyCounts:
            exchange.context = self._clock.seconds()
        elif self._isRecorded:
            exchange.context = request = AccessRecord()
            request.now = now = self._clock.seconds
            request.began = now()
            tracer = self._context.tracer
            if tracer is not None:
                request.span = tracer.begin(head.fields, trusted=True)
            if self._requestObserver is not None:
                self._open[exchange] = None
                request.routed = request.opened = request.whole = NEVER      # all are read, and defaults are slow to read
                request.failed = None
        return self.server.exchangeReceived(head, exchange)

    def _done(self, exchange: IServerExchange, now: float) -> None:
        request: AccessRecord | None = exchange.context
        if request is None:
            return
        exchange.context = None               # what happens from now on is not recorded
        request.ended = now
        request.seconds = seconds = now - request.began
        if request.answeredAtOnce:
            request.first = seconds
        if self._counts is not None:
            failure = "" if request.failed is None else failureCode(request.failed)
            status = exchange.status or CLIENT_CLOSED
            self._counts.add(status, exchange.octets, seconds, request.first, failure, self._name)
        if self._recorder is not None:
            self._recorder.ended(exchange, seconds)
        if self._requestObserver is not None:
            self._open.pop(exchange, None)
            complete(request, self._describe(exchange), self._name, exchange)
            self._requestObserver(request)

    def _describe(self, exchange: IServerExchange) -> RequestDescription:
        """
        As L{describe} does.  Heads with the same C{prefix} differ in the last field only: the identifier of the request.
        """
        head, known = exchange.head, self._described
        description = known.get(head.prefix)
        if description is None:
            description = describe(self._context.descriptions, self._name, exchange)
            if head.prefix and head.fields[-1][0].lower() == b"x-request-id":
                if len(known) >= MOST_DESCRIPTIONS:
                    known.clear()
                known[head.prefix] = description
        return description

    def openRequests(self) -> list[AccessRecord]:
        """
        @return: the requests that have not ended, the oldest first; their status is C{0} before the response begins.
        """
        return [self._openRecord(exchange) for exchange in self._open]

    def _openRecord(self, exchange: IServerExchange) -> AccessRecord:
        record: AccessRecord = copy(exchange.context)
        record.seconds = record.elapsed
        complete(record, self._describe(exchange), self._name, exchange)
        record.status = exchange.status
        return record


def timesOf(exchange: IServerExchange) -> RequestTimes | None:
    """
    @return: the steps of an exchange that an L{ExchangeFactory} received; C{None} if requests are not observed.
    """
    times = exchange.context
    return times if isinstance(times, RequestTimes) else None


def _http(context: ServiceContext, config: ServiceConfig) -> RunningService:
    reactor = context.reactor
    target = Target(config.target, "http", insecure=config.insecureOrigin)
    origin = f"{'https' if target.secure else 'http'}://{config.rewriteHost}" if config.rewriteOrigin else ""
    site = LocalSite(target.authority or target.shown, host=config.rewriteHost, origin=origin)
    if config.rewriteOrigin and not config.rewriteHost:
        raise ConfigurationError("rewrite_origin needs rewrite_host, the host that Origin and Referer get")
    if config.insecureOrigin and not target.secure:
        raise ConfigurationError(f"insecure_origin is for a target at https:, not for {config.target}")
    endpoint = target.endpoint(reactor)
    pool = originPool(reactor, target, config.http2, site.explain, context.budget)

    def configure(bounds: ExchangeBounds) -> None:
        timeouts = bounds.serverTimeouts
        first, interim = config.firstOctetSeconds or timeouts.first, config.interimSeconds or timeouts.interim
        limits = HeadLimits(octets=bounds.responseHeadOctets, fields=bounds.responseHeadFields)
        pool.configure(evolve(timeouts, first=first, interim=interim), limits)

    configure(context.bounds.bounds)

    def failed(exchange: IServerExchange, reason: ExchangeFailed) -> None:
        times = timesOf(exchange)
        if times is not None:
            times.failed = reason
        elif context.counts is not None:
            context.counts.exchangeFailed(exchange, reason)
        site.failed(exchange, reason)

    def prepare(head: RequestHead, exchange: IServerExchange) -> RequestHead:
        head, times = site.prepareRequest(head, exchange), timesOf(exchange)
        if times is None or times.span is None:
            return head
        return RequestHead(head.method, head.target, times.span.written(head.fields), head.version, head.framing)

    server = Forwarder(
        pool.exchange, prepareRequest=site.prepareRequest if context.tracer is None else prepare, onFailure=failed,
        observerOf=attrgetter("context") if context.isRecorded else None,      # as timesOf, without a call of Python
    )
    exchanges = ExchangeFactory(server, context, config.name, forwards=True)
    warning = UNVERIFIED.format(target=target.shown) if target.secure and config.insecureOrigin else ""
    local = LocalServer(config.name, target.shown, "visitors get 503 with an explanation")
    return RunningService(
        Service(name=config.name), exchanges, target.shown, endpoint, local, pool.close, pool.drain, warning, configure
    )


def _tcp(context: ServiceContext, config: ServiceConfig) -> RunningService:
    reactor = context.reactor
    target = Target(config.target, "tcp")
    endpoint = target.endpoint(reactor)
    service = Service(name=config.name, kind="tcp", port=config.remotePort)
    return _joined(reactor, service, target, endpoint)


def _joined(reactor: IReactor, service: Service, target: Target, endpoint: IStreamClientEndpoint) -> RunningService:
    """
    A service whose streams are joined to connections.
    """
    local = LocalServer(service.name, target.shown, CLOSED)
    handler = TCPHandler(endpoint, reactor, failed=local.failed, connected=local.reached)
    return RunningService(service, handler, target.shown, endpoint, local)


def _udp(context: ServiceContext, config: ServiceConfig) -> RunningService:
    target = Target(config.target, "udp")
    service = Service(name=config.name, kind="udp", port=config.remotePort)
    local = LocalServer(config.name, target.shown, "datagrams are lost")
    handler = UDPHandler(target.datagramEndpoint(context.reactor), failed=local.failed, answered=local.reached)
    return RunningService(service, handler, target.shown, server=local)


def _serveFolder(context: ServiceContext, config: ServiceConfig) -> RunningService:
    from tunnelstack.handler.folder import Folder  # for agents that serve files
    from tunnelstack.handler.folder_site import FolderSite

    if not Path(config.target).is_dir():
        raise ConfigurationError(f"{config.target} is not a folder")
    site = FolderSite(Folder(config.target), time, _refuse)
    exchanges = ExchangeFactory(site, context, config.name)
    return RunningService(Service(name=config.name), exchanges, config.target)


def _refuse(exchange: IServerExchange, status: int, sentence: str, fields: Fields) -> None:
    """
    Answer an exchange with an error page.
    """
    kind = FailureKind.BUSY if status == 503 else FailureKind.UNKNOWN
    respondWithPage(exchange, errorPage, ExchangeFailed(kind, sentence, status=status, fields=fields), exchange.trace)


def _stream(context: ServiceContext, config: ServiceConfig) -> RunningService:
    name = config.target.encode()
    return RunningService(Service(name=config.name, kind="stream"), _HandlerByName(name, context.handlers), config.target)


def _ssh(context: ServiceContext, config: ServiceConfig) -> RunningService:
    reactor = context.reactor
    service = Service(name=config.name, kind="ssh")
    if config.target == EMBEDDED:
        from tunnelstack.agent.ssh_server import (
            makeEmbeddedServer,  # imported here because it loads Conch, which is slow
        )

        server = makeEmbeddedServer(
            reactor, config.hostKeysFile, authorizedKeysFile=config.authorizedKeysFile, passwordsFile=config.passwordsFile,
            users=config.users,
        )
        return RunningService(service, server, EMBEDDED)
    target = Target(config.target, "ssh")
    return _joined(reactor, service, target, target.endpoint(reactor))


@implementer(IDiallingHandler)
class _HandlerByName:
    """
    Serves streams with the handler of a stream protocol, which may be registered later or replaced.
    """

    def __init__(self, name: bytes, handlers: Handlers) -> None:
        self._name = name
        self._handlers = handlers

    def connect(self, address: StreamAddress) -> Deferred[IProtocol | None]:
        """
        As in L{IDiallingHandler}.  Without a handler the stream is refused.
        """
        handler, address = self._handlers.get(self._name), evolve(address, protocol=self._name)
        if handler is None:
            return succeed(None)
        if IDiallingHandler.providedBy(handler):
            return handler.connect(address)
        return succeed(handler.buildProtocol(address))


KINDS: dict[str, Callable[[ServiceContext, ServiceConfig], RunningService]] = {
    "http": _http, "tcp": _tcp, "udp": _udp, "serve": _serveFolder, "stream": _stream, "ssh": _ssh,
}  # fmt: skip

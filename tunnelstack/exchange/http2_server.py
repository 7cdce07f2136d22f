"""
HTTP/2 for a server: each stream of a visitor's connection is an exchange.

Any number of exchanges is under way at a time; none waits for another.  The deadlines are those of HTTP/1.1
(L{Timeouts<tunnelstack.exchange.traits.Timeouts>})::

    of the connection                               counterpart in HTTP/1.1
    ----------------------------------------------  -------------------------------------------
    head, for the preface and the SETTINGS          head, for the first request
    idle, without a stream                          idle, between requests

    of a stream                                     seconds
    ----------------------------------------------  -------------------------------------------
    a body of known length                          idle, without an octet
    the first octet of any other body               head, unless it is not read, or the request
                                                    waits for 100, or takes trailers: then it is
                                                    a call, whose messages come when they like
    a response of known length that is not read     idle
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, ITransport
from twisted.logger import Logger

from tunnelstack.exchange._http2_request import RequestReader
from tunnelstack.exchange._http2_server_exchange import HTTP2ServerExchange
from tunnelstack.exchange.error_page import ErrorPages, errorPage, respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.server import ExchangeStep
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts
from tunnelstack.interfaces import IExchangeServer
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.transport.http2.stream import HTTP2Stream
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import DEFAULT_LIMITS, BadMessage, HeadLimits, RequestHead
from tunnelstack.wire.http1.target import path_of, percent_encoded
from tunnelstack.wire.http2.limits import HTTP2Limits

FindDoor = Callable[[RequestHead, Framing], IExchangeServer | None]
"""Returns the server of a request at a door; C{None} for other requests."""

STREAMS = 100
"""Exchanges of one connection at a time."""

CONNECTION_WINDOW = 1024 * 1024
"""Octets that a visitor may have on the way to us, on all streams together: 10 MB/s where a round trip takes 100 ms."""

HELD_OCTETS = 1024 * 1024
"""Octets of bodies that nobody reads, above which a connection gets no more credit: four windows of a stream."""

FIELD_OVERHEAD = 32
"""Octets that HTTP/2 counts for each field beside its name and value."""


class HTTP2ServerConnection:
    """
    The exchanges of one connection.

    @ivar protocol: the protocol of the connection.
    @ivar pages: makes error pages.
    @ivar limits: of the heads of requests.
    @ivar timeouts: of its exchanges.
    @ivar timer: the deadlines of its exchanges.
    @ivar idleSince: when the last exchange ended, in seconds of the clock; infinite while there are any.
    """

    log = Logger()

    def __init__(
        self,
        server: IExchangeServer,
        *,
        clock: IReactorTime,
        pages: ErrorPages = errorPage,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        limits: HeadLimits = DEFAULT_LIMITS,
        doors: FindDoor | None = None,
        begun: ExchangeStep | None = None,
        done: ExchangeStep | None = None,
        streams: int = STREAMS,
    ) -> None:
        """
        @param server: answers the requests.
        @param doors: called with each head.  A server that it returns serves the exchange instead of C{server}.
        @param begun: called when the head of a response is written.
        @param done: called when an exchange is over.
        @param streams: the most exchanges at a time.
        """
        self._server = server
        self._clock = clock
        self._doors = doors
        self._begun = begun
        self._done = done
        self._exchanges = 0
        self.pages = pages
        self.limits = limits
        self.timeouts = timeouts
        self.timer = SharedTimer(clock)
        self.idleSince = clock.seconds()
        self.protocol = HTTP2Connection(
            False, clock=clock, accept=self._accept, limits=HTTP2Limits(
                streams=streams, header_list=max(4096, limits.octets + FIELD_OVERHEAD * limits.fields),
                preface_timeout=timeouts.head, idle_timeout=timeouts.idle, keepalive=0.0,
                connection_window=CONNECTION_WINDOW, held_octets=HELD_OCTETS, max_window=CONNECTION_WINDOW,
            ),
        )
        self.protocol.whenLost().addCallback(self._lost)

    @property
    def transport(self) -> ITransport:
        """
        The transport of the connection.
        """
        transport: ITransport = self.protocol.transport
        return transport

    def _accept(self, stream: HTTP2Stream) -> RequestReader:
        """
        The peer has opened a stream.
        """
        return RequestReader(self, stream)

    def _lost(self, reason: object) -> None:
        self.timer.stop()

    # from the readers of requests, and from exchanges

    def serve(self, exchange: HTTP2ServerExchange) -> None:
        """
        Give a request to its server.
        """
        self._exchanges += 1
        self.idleSince = inf
        head = exchange.head
        door = None if self._doors is None else self._doors(head, exchange.framing)
        server = self._server if door is None else door
        try:
            exchange.receiver = server.exchangeReceived(head, exchange)
        except Exception:
            self._serverFailed(server, exchange, door is not None)

    def _serverFailed(self, server: IExchangeServer, exchange: HTTP2ServerExchange, atDoor: bool) -> None:
        """
        The server raised an exception: a defect of this program, which costs one request.
        """
        target = path_of(exchange.head.target) if atDoor else exchange.head.target     # the query may have a credential
        self.log.failure(
            "{server} failed to serve {method} {target}", server=server, trace=exchange.trace,
            method=exchange.head.method.decode(), target=percent_encoded(target).decode(),
        )
        if exchange.status or exchange.finished:
            exchange.cancel(FailureKind.BROKEN)
        else:
            respondWithPage(exchange, self.pages, ExchangeFailed(FailureKind.BROKEN, status=500), exchange.trace)

    def malformed(self, bad: BadMessage, stream: HTTP2Stream) -> None:
        """
        A stream is reset, because its request cannot be read.
        """
        self.log.debug("a request by HTTP/2 was malformed: {problem}", problem=str(bad), stream=stream.streamId)

    def responseBegun(self, exchange: HTTP2ServerExchange) -> None:
        """
        From an exchange: the head of its response is written.
        """
        if self._begun is not None:
            self._begun(exchange, self._clock.seconds())

    def exchangeDone(self, exchange: HTTP2ServerExchange) -> None:
        """
        An exchange is over.
        """
        self.timer.discard(exchange)
        self._exchanges -= 1
        now = self._clock.seconds()
        if not self._exchanges:
            self.idleSince = now
        if self._done is not None:
            self._done(exchange, now)

    # ends

    def drain(self) -> Deferred[None]:
        """
        Serve no further requests, and close the connection after its last exchange.

        @return: a C{Deferred} that fires when the connection is closed.
        """
        drained: Deferred[None] = self.protocol.drain()
        return drained

    def timedOut(self) -> None:
        """
        Others wait for the place of this connection: close it after its exchanges.
        """
        self.protocol.goAway()

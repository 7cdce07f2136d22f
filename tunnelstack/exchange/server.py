"""
The server's side of HTTP/1.1, over any transport: a visitor's connection at the edge, a stream at the agent.

One exchange is under way at a time; a request that arrives earlier waits unread.  The states of a connection are shown in
L{tunnelstack.exchange._connection}.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol as TypingProtocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.exchange._connection import (
    BODY,
    CLOSED,
    DISCARDING,
    HEAD,
    IDLE,
    RAW,
    RESPONDING,
    ExchangeConnection,
    IExchangeTransport,
)
from tunnelstack.exchange._server_exchange import ServerExchange
from tunnelstack.exchange.error_page import ErrorPages, errorPage, respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.forward import NULL_RECEIVER
from tunnelstack.exchange.moving_timeout import NEVER, FirstTimeouts
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.records import TakenOverRequest
from tunnelstack.transport.direct_write import Write
from tunnelstack.wire.http1.framing import Framing, end_to_end
from tunnelstack.wire.http1.head import DEFAULT_LIMITS, BadMessage, HeadLimits, RequestHead, encode_response
from tunnelstack.wire.http1.message import MessageReader, ReadRequest
from tunnelstack.wire.http1.target import path_of, percent_encoded

FindDoor = Callable[[RequestHead, Framing], IExchangeServer | None]
"""Returns the server of a request at a door; C{None} for other requests."""

ExchangeStep = Callable[[IServerExchange, float], object]
"""Called with an exchange and the time, in seconds of the clock."""

OK = 200

LINGER = 5.0
"""Seconds to read on after an early response, and after each piece of the request that arrives then.  A connection that is
closed with unread octets is reset, and a reset can overtake the response."""

DISCARDED_OCTETS = 256 * 1024 * 1024
"""Octets of one request that are read and dropped after its response."""


class Notes(TypingProtocol):
    """
    Where a connection notes exchanges whose response had the status L{OK} and was written at once: that is less than half the
    work of a call of Python.

    @ivar seconds: how long each took.
    @ivar octets: of the bodies of all responses.
    @ivar most: how many may be noted.
    """

    seconds: list[float]
    octets: int
    most: int


@implementer(IHalfCloseableProtocol)
class HTTPServerProtocol(Protocol):
    """
    One connection of a visitor, or of the edge to the agent.

    After a response with status C{101} the receiver of the request's body is called on: C{bodyReceived} with raw octets,
    C{ended} a second time when the peer has ended its direction, and C{failed} if the connection is lost before we have
    ended ours.

    @ivar keepAlive: another request may follow the present one.
    @ivar pages: makes error pages.
    @ivar send: writes at once what nothing else is going to follow in this turn.
    """

    log = Logger()
    transport: IExchangeTransport
    send: Write

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
        notes: Notes | None = None,
        first: FirstTimeouts | None = None,
        firstHeads: dict[bytes, ReadRequest] | None = None,
    ) -> None:
        """
        @param server: answers the requests.
        @param doors: called with each head.  A server that it returns serves the exchange instead of C{server}, and may take
            the connection over.
        @param begun: called when the head of a response is written, unless the response is written at once.
        @param done: called when an exchange is over, answered or not, unless it is noted;
        @param notes: here an exchange is noted whose C{context} is the time when it began, a C{float}, and whose response had
            the status L{OK} and was written at once, as long as there is room.
        @param first: has the deadlines of the first heads of all connections.
        @param firstHeads: first heads of other connections with the same C{limits}.
        """
        self._server = server
        self._clock = clock
        self._timeouts = timeouts
        self._doors = doors
        self._begun = begun
        self._done = done
        self._notes = notes
        self._connection = ExchangeConnection(self, clock, timeouts, first)
        self._reader = MessageReader(limits, first_heads=firstHeads)
        self._exchange: ServerExchange | None = None
        self._looping = False
        self._paused = False          # the exchange has paused the request
        self._flowing = False         # some of the body has arrived
        self._quietSince = inf        # when the last piece of a body of unknown length arrived, or the last exchange ended
        self._atDoor = False
        self._discarded = 0           # octets of the request that were dropped
        self._progress = 0            # octets of the response at the last look
        self._surviving: IExchangeReceiver | None = None     # receives what the peer sent before it closed
        self.pages = pages
        self.keepAlive = True

    @property
    def full(self) -> bool:
        """
        The transport accepts no more for now.
        """
        return self._connection.full

    @property
    def unread(self) -> bool:
        """
        The request is not whole.
        """
        return self._connection.state is BODY

    @property
    def atDoor(self) -> bool:
        """
        The request arrived at a door, and may be taken over.
        """
        return self._atDoor

    def connectionMade(self) -> None:
        """
        Wait for the first head.
        """
        connection = self._connection
        connection.open(self.transport)
        self.send = connection.send
        connection.timer.set(self._timeouts.head)

    # what arrives

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the peer.
        """
        state = self._connection.state
        if state is IDLE or state is HEAD:
            reader = self._reader
            reader.buffer = reader.buffer + data if reader.buffer else data      # as receive() does; a call costs 1 %
            if not self._looping:
                self._loop()
        elif state is RAW:
            self._exchange.receiver.bodyReceived(data)                   # type: ignore[union-attr]
        elif state is BODY:
            self._body(data)
            if self._connection.state is IDLE and self._reader.buffer and not self._looping:
                self._loop()
        elif state is RESPONDING:
            self._reader.receive(data)
            self._updateReading()
        elif state is DISCARDING:
            self._drop(data)

    def _loop(self) -> None:
        """
        Begin exchanges as long as there are heads, and each is answered at once.
        """
        reader, connection = self._reader, self._connection
        self._looping = True
        try:
            while reader.buffer and ((state := connection.state) is IDLE or state is HEAD):
                try:
                    head = reader.read_request()
                except BadMessage as bad:
                    self._rejectMalformed(bad)
                    break
                if head is None:
                    self._headBegun()
                    break
                server = self._server
                if self._doors is not None and (door := self._doors(head, head.framing)) is not None:
                    server = door
                    self._atDoor = True
                self._serve(server, head)
        finally:
            self._looping = False
        if self._paused or reader.buffer or connection.readPaused:
            self._updateReading()

    def _headBegun(self) -> None:
        """
        A head is not whole: its time runs from its first octet.
        """
        connection = self._connection
        if connection.state is IDLE and self._reader.buffer:
            connection.state = HEAD
            connection.timer.set(self._timeouts.head)

    def _serve(self, server: IExchangeServer, head: RequestHead) -> None:
        """
        Give the request to its server.
        """
        framing = head.framing
        self._exchange = exchange = ServerExchange()
        exchange.connection, exchange.transport, exchange.head, exchange.framing = self, self.transport, head, framing
        connection = self._connection
        self.keepAlive = framing.keep_alive and not connection.readEnded
        body = framing.body
        if not body:
            connection.state = RESPONDING
            connection.timer.deadline = NEVER
        else:
            connection.state = BODY
            self._flowing = False
            self._bodyAwaited()
        if framing.hop_by_hop:
            onward = head.passed_on           # a reader may return the same head for other requests
            if onward is None:
                fields = end_to_end(head.fields, framing)
                head.passed_on = onward = RequestHead(head.method, head.target, fields, head.version, framing)
            head = onward
        try:
            exchange.receiver = receiver = server.exchangeReceived(head, exchange)
        except Exception:
            self._serverFailed(server, exchange)
            return
        if not body:
            if not exchange.finished:
                receiver.ended(())
        elif self._reader.buffer and self._exchange is exchange:
            self._body(self._reader.take_buffer())

    def _serverFailed(self, server: IExchangeServer, exchange: ServerExchange) -> None:
        """
        The server raised an exception: a defect of this program, which costs one request.
        """
        target = path_of(exchange.head.target) if self._atDoor else exchange.head.target     # the query may have a credential
        self.log.failure(
            "{server} failed to serve {method} {target}", server=server, trace=exchange.trace,
            method=exchange.head.method.decode(), target=percent_encoded(target).decode(),
        )
        if exchange.status or exchange.finished:
            self.abort()
        else:
            respondWithPage(exchange, self.pages, ExchangeFailed(FailureKind.BROKEN, status=500), exchange.trace)

    def _bodyAwaited(self) -> None:
        """
        Set the deadline of a body of which nothing has arrived.  One of unknown length has the time of a head for its first
        octet, unless we do not read it, or the peer waits for C{100 Continue}, or takes trailers: then it is a call, such as
        one of gRPC, whose messages come when they like.
        """
        exchange, timer = self._exchange, self._connection.timer
        assert exchange is not None
        if exchange.framing.body >= 0 or exchange.framing.expect_continue:
            timer.set(self._timeouts.idle)
        elif self._paused or exchange.framing.trailers:
            timer.clear()
        else:
            timer.set(self._timeouts.head)

    def _body(self, data: bytes) -> None:
        """
        Some of the request's body, and perhaps of what follows it.
        """
        exchange, connection, reader = self._exchange, self._connection, self._reader
        assert exchange is not None
        self._flowing = True
        if exchange.framing.body >= 0:
            connection.timer.set(self._timeouts.idle)
        else:
            connection.timer.clear()          # it may pause for as long as the visitor likes
            self._quietSince = self._clock.seconds()
        try:
            data = reader.read_body(data)
        except BadMessage as bad:
            self._chunksMalformed(exchange, bad)
            return
        if data:
            exchange.receiver.bodyReceived(data)
        if reader.ended and self._exchange is exchange and not exchange.finished:
            connection.state = RESPONDING
            connection.timer.clear()
            exchange.receiver.ended(reader.trailers)
            self._updateReading()

    def _chunksMalformed(self, exchange: ServerExchange, bad: BadMessage) -> None:
        exchange.receiver.failed(ExchangeFailed(FailureKind.MALFORMED, str(bad)))
        if not exchange.finished:
            exchange.cancel(FailureKind.MALFORMED)

    def _rejectMalformed(self, bad: BadMessage) -> None:
        """
        No request can be read from these octets, nor from what follows them.
        """
        self._reject(ExchangeFailed(FailureKind.MALFORMED, f"The request was not understood: {bad}.", status=bad.status))

    def _reject(self, failed: ExchangeFailed) -> None:
        self._reader.ended = True             # nothing of what follows is known to be a body
        head, body = self.pages(failed, "")
        head.fields.append((b"Connection", b"close"))
        self.send(encode_response(head) + body)
        self._discard()

    # pressure

    def pauseReading(self, paused: bool) -> None:
        """
        From the exchange: read no more of its request, or read on.
        """
        self._paused = paused
        if self._connection.state is BODY and not self._flowing:
            self._bodyAwaited()
        self._updateReading()

    def _updateReading(self) -> None:
        """
        The transport is paused while the exchange has paused it, or another request waits.
        """
        connection = self._connection
        paused = self._paused or (connection.state is RESPONDING and self._reader.buffer != b"")
        if paused != connection.readPaused:
            connection.setReadPaused(paused)

    def lendTransport(self, producer: IProducer) -> None:
        """
        From the exchange: a pull producer writes its response.
        """
        self._connection.lendTransport(producer)

    def reclaimTransport(self) -> None:
        """
        From the exchange: its pull producer is done.
        """
        self._connection.reclaimTransport()

    def writingPaused(self) -> None:
        """
        From the connection: the transport accepts no more for now.
        """
        exchange = self._exchange
        if exchange is not None:
            if exchange.producer is not None:
                exchange.producer.pauseProducing()
            if exchange.lengthKnown:
                self._connection.timer.set(self._timeouts.idle)

    def writingResumed(self) -> None:
        """
        From the connection: the transport accepts more again.
        """
        exchange, connection = self._exchange, self._connection
        if exchange is not None:
            if connection.readEnded:
                connection.timer.set(self._timeouts.ending)
            elif connection.state is RESPONDING:
                connection.timer.clear()
            if exchange.producer is not None:
                exchange.producer.resumeProducing()

    # the progress and the end of an exchange, which it reports

    def upgraded(self) -> None:
        """
        From the exchange: raw octets from here, in both directions.
        """
        exchange, connection = self._exchange, self._connection
        assert exchange is not None
        connection.state = RAW
        connection.timer.clear()
        self.keepAlive = False
        data = self._reader.take_buffer()
        if data:
            exchange.receiver.bodyReceived(data)
        self._updateReading()
        if connection.readEnded and not exchange.finished:
            exchange.receiver.ended(())

    def endRaw(self) -> None:
        """
        From the exchange: nothing more is written.  The peer's direction is read on, if the transport has half-closes.  If it
        has none, the whole connection is closed, since the peer may wait for just that.
        """
        connection = self._connection
        if not connection.endWriting():
            exchange = self._exchange
            self._detachExchange()
            connection.close()
            if not connection.readEnded and exchange is not None:
                exchange.receiver.ended(())

    def farSideEnded(self) -> None:
        """
        From the exchange, after the connection is lost: the far side has ended as well.
        """
        self._surviving = None
        self._connection.release()

    def responseBegun(self, exchange: ServerExchange) -> None:
        """
        From an exchange: the head of its response is written.
        """
        if self._begun is not None:
            self._begun(exchange, self._clock.seconds())

    def responseSent(self, exchange: ServerExchange) -> None:
        """
        From the exchange: the response is written.
        """
        connection = self._connection
        unread = connection.state is BODY
        self._exchange = None                 # as _detachExchange does
        self._paused = self._atDoor = False
        exchange.finished = True
        timer = connection.timer
        now = timer.now()
        notes = self._notes
        if (
            notes is not None and type(exchange.context) is float and exchange.status == OK
            and len(notes.seconds) < notes.most
        ):
            notes.seconds.append(now - exchange.context)
            notes.octets += exchange.octets
        elif self._done is not None:
            self._done(exchange, now)
        if unread and not exchange.untilClose:
            self._discard()
        elif unread or not self.keepAlive:
            connection.close()
        else:
            connection.state = IDLE
            idle = self._timeouts.idle
            self._quietSince = now
            if timer.due <= now + idle:
                timer.deadline = now + idle   # as set() does; it would be a call for each request
            else:
                timer.set(idle)
            if (self._reader.buffer or connection.readPaused) and not self._looping:
                self._loop()

    def abort(self) -> None:
        """
        From the exchange: reset the connection.
        """
        self._detachExchange()
        self._connection.abort()

    def handOff(self) -> TakenOverRequest:
        """
        From the exchange: the connection belongs to another protocol from now on.
        """
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        exchange.receiver = NULL_RECEIVER     # the receiver refers to the exchange: neither waits for the garbage collector
        return TakenOverRequest(
            head=exchange.head, leftover=self._reader.take_buffer(),
            transport=self._connection.handOff(), certificate=exchange.certificate,
        )

    def leave(self) -> IExchangeTransport:
        """
        Leave a connection on which nothing has arrived yet to another protocol.

        @return: its transport.
        """
        return self._connection.handOff()

    def _detachExchange(self) -> None:
        """
        The exchange is over.
        """
        exchange, self._exchange = self._exchange, None
        self._paused = False
        self._atDoor = False
        if exchange is not None:
            exchange.finished = True
            if self._done is not None:
                self._done(exchange, self._clock.seconds())

    def _discard(self) -> None:
        """
        The response is sent, but not all of the request has arrived: let the peer read it before the connection is closed.
        """
        connection = self._connection
        if connection.readEnded:
            connection.close()
            return
        rest = self._reader.take_buffer()
        connection.state = DISCARDING
        connection.timer.set(LINGER)
        connection.endWriting()
        self._drop(rest)
        self._updateReading()

    def _drop(self, data: bytes) -> None:
        """
        Read some more of a request that is answered.  As long as it flows it may continue, within a bound; octets that do not
        belong to its body gain no time.
        """
        reader = self._reader
        self._discarded += len(data)
        if data and not reader.ended and self._discarded <= DISCARDED_OCTETS:
            try:
                reader.read_body(data)
            except BadMessage:
                reader.ended = True
                return
            reader.take_buffer()
            self._connection.timer.set(LINGER)

    # the peer's end, and deadlines

    def readConnectionLost(self) -> None:
        """
        The peer has ended its direction, but may still read: a request that is whole is answered.
        """
        connection, exchange = self._connection, self._exchange
        connection.readEnded = True
        self.keepAlive = False
        state = connection.state
        if state is RAW and exchange is not None:
            exchange.receiver.ended(())
            if connection.writeEnded and not exchange.finished:
                self._detachExchange()
                connection.close()
        elif state is RESPONDING:
            connection.timer.set(self._timeouts.ending)
        elif state is BODY:
            self._failRequest(FailureKind.CLIENT_CLOSED)
        else:
            connection.close()

    def writeConnectionLost(self) -> None:
        """
        Our direction is ended.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is lost.
        """
        connection, exchange = self._connection, self._exchange
        if exchange is None:
            connection.release()
            return
        connection.lost()
        self._detachExchange()
        if exchange.producer is not None:
            exchange.producer.stopProducing()
        if exchange.raw and reason.check(ConnectionDone) and not connection.readEnded:
            exchange.receiver.ended(())     # a clean end where there are no half-closes
            self._surviving = exchange.receiver
            connection.timer.set(self._timeouts.ending)
        else:
            exchange.receiver.failed(ExchangeFailed(FailureKind.CLIENT_CLOSED, reason=reason.value))
            connection.release()

    def drain(self) -> None:
        """
        Serve no further request, and close the connection when it is idle.
        """
        self.keepAlive = False
        if self._connection.state is IDLE and not self._reader.buffer:
            self._connection.close()

    @property
    def idleSince(self) -> float:
        """
        When the peer last sent something, if it could send and does not: a connection that is kept for another request, or a
        body of unknown length that has paused.  In seconds of the clock; infinite for all others.
        """
        state = self._connection.state
        if state is IDLE or (state is BODY and self._flowing and not self._paused):
            return self._quietSince
        return inf

    def _failRequest(self, kind: FailureKind) -> None:
        """
        The request will never be whole: call its receiver, then answer if that is still possible.
        """
        exchange = self._exchange
        assert exchange is not None
        exchange.receiver.failed(ExchangeFailed(kind))
        exchange.cancel(kind)

    def timedOut(self) -> None:
        """
        From the connection: what it waits for did not happen in time.
        """
        connection = self._connection
        state = connection.state
        if state is BODY:
            self._failRequest(FailureKind.REQUEST_TIMEOUT)
        elif state is RESPONDING:
            self._checkProgress()
        elif state is HEAD:
            self._reject(ExchangeFailed(FailureKind.REQUEST_TIMEOUT))
        elif self._surviving is not None:
            self._surviving.failed(ExchangeFailed(FailureKind.CLIENT_CLOSED))
        elif state is CLOSED:
            self.transport.abortConnection()
        else:
            connection.close()

    def _checkProgress(self) -> None:
        """
        The peer reads nothing any more, or has ended its direction and is sent nothing.
        """
        exchange = self._exchange
        assert exchange is not None
        if exchange.octets != self._progress and not self.full:
            self._progress = exchange.octets
            self._connection.timer.set(self._timeouts.ending)
        else:
            self._failRequest(FailureKind.CLIENT_CLOSED)

"""
The edge's end of one exchange on a lane: the request as chunks, and the response of the agent.

::

    state       until
    ----------  ------------------------------------------------------
    new         the head is given
    waiting     there is an idle lane
    open        the response has ended, or failed
    finished

Deadlines (L{Timeouts<tunnelstack.exchange.traits.Timeouts>}) are C{first} from the end of the request to the head of the
response, C{interim} beside it, and C{idle} for a response of known length and while the agent does not read.

A request that the agent has certainly not processed is sent once more, on another lane: the agent has reset the lane with
C{REFUSED_STREAM}, which it does as well when a request crosses the end of an idle lane.  Agents of others may only end the
lane, so a request with a safe method is then repeated, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProducer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.jetty.grpc_edge_lane import EdgeLane
from tunnelstack.dialect.jetty.kept_body import KeptBody
from tunnelstack.dialect.jetty.registration import UpstreamOf, ownUpstream
from tunnelstack.errors import UsageError
from tunnelstack.exchange.client import INTERIM, REPEATED
from tunnelstack.exchange.errors import Busy, ExchangeFailed, FailureKind, unreadableResponse
from tunnelstack.exchange.forward import CONTINUE
from tunnelstack.exchange.producers import RequestPressure, requestProducer
from tunnelstack.exchange.traits import Timeouts, Traits
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.stream.errors import OpenTimeout, TooManyStreams
from tunnelstack.transport.http2.errors import HTTP2StreamFailed
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.wire.grpc import CallResult
from tunnelstack.wire.http1.framing import outgoing_framing
from tunnelstack.wire.http1.head import BadMessage, Fields, HeadLimits, RequestHead
from tunnelstack.wire.protobuf import encode_message
from tunnelstack.wire.records.jetty_chunks import (
    MessageChunks,
    encode_data,
    read_response_untrusted,
    read_trailers_untrusted,
    request_record,
)
from tunnelstack.wire.records.jetty_grpc import (
    DATA,
    HEADERS,
    TRAILERS,
    ErrorInfo,
    HTTPChunk,
    ResponseHead,
    headers_of,
)

REFUSAL_SECONDS = 1.0
"""Seconds for C{REFUSED_STREAM} to arrive after an agent has ended a lane on which it had not answered."""

SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
"""Methods of requests that may be repeated although the agent may have processed them."""

ABORT_KINDS = {"upstream_timeout": FailureKind.GATEWAY_TIMEOUT, "busy": FailureKind.BUSY}
"""Kinds of failures by the code of ABORT; the others are C{BROKEN}."""


class ExchangeOwner(Protocol):
    """
    The tunnel of an exchange.

    @ivar timer: the deadlines of its exchanges.
    @ivar limits: of the heads of responses.
    @ivar chunkOctets: octets of DATA in one chunk.
    @ivar mostBody: octets of the largest body of a request; 0: no limit.
    """

    timer: SharedTimer
    chunkOctets: int
    mostBody: int

    @property
    def timeouts(self) -> Timeouts: ...
    @property
    def responseLimits(self) -> HeadLimits: ...

    def takeLane(self) -> Deferred[EdgeLane]:
        """
        @return: a C{Deferred} of a lane; it fails as L{IdleLanes.take<tunnelstack.session.lane_pool.IdleLanes.take>} does.
        """

    def exchangeEnded(self, exchange: GRPCExchange) -> None:
        """
        An exchange is over.
        """


@implementer(IExchange, IPushProducer)
class GRPCExchange:
    """
    One request to be sent.

    @ivar receiver: receives the response.
    @ivar raw: both directions are those of another protocol now.
    @ivar finished: nothing is written, and the receiver is called no more.
    """

    __slots__ = (
        "_endSent", "_ended", "_expected", "_finalBefore", "_full", "_halfClosed", "_head", "_id", "_interim", "_kept",
        "_lane", "_owner", "_paused", "_producer", "_remaining", "_responding", "_response", "_sent", "_taking", "_target",
        "_timeouts", "_trailers", "_upgrade", "_visitor", "finished", "raw", "receiver", "traits",
    )  # fmt: skip

    def __init__(
        self, receiver: IExchangeReceiver, owner: ExchangeOwner, traits: Traits, *, requestId: str,
        upstream: UpstreamOf = ownUpstream, visitor: tuple[str, str] = ("", ""),
    ) -> None:
        """
        @param upstream: chooses the server that the agent is to use.
        @param visitor: its address and port, and the scheme of the request.
        """
        self.receiver = receiver
        self.traits = traits
        self.raw = False
        self.finished = False
        self._owner = owner
        self._id = requestId
        self._target = upstream
        self._visitor = visitor
        self._timeouts = owner.timeouts
        self._head: RequestHead | None = None
        self._lane: EdgeLane | None = None
        self._taking: Deferred[None] | None = None
        self._producer: IPushProducer | None = None
        self._upgrade = False                 # the request is for another protocol
        self._remaining = 0                   # octets of the request's body that are missing; -1 if that is not known
        self._sent = 0                        # octets of it that were written
        self._ended = False                   # the request is whole, or our direction of another protocol
        self._endSent = False                 # the lane has the end of our direction
        self._trailers: Fields = []
        self._kept = KeptBody()
        self._full = False                    # the lane accepts no more for now
        self._paused = False                  # the response is not read
        self._response = MessageChunks(True)
        self._responding = False              # the head of the response has arrived
        self._expected = False                # more of a response of known length is to come
        self._halfClosed = False              # the agent has ended the lane before it answered
        self._interim = 0                     # interim responses that count
        self._finalBefore: float | None = None     # when the final response must have begun, after the first interim one

    # The request

    def sendHead(self, head: RequestHead) -> None:
        """
        Send the head as soon as there is a lane.

        @raise UsageError: it was sent before.
        """
        if self.finished:
            return
        if self._head is not None:
            raise UsageError("the head of a request is sent once")
        self._head = head
        framing = outgoing_framing(head)
        self._upgrade = bool(framing.upgrade)
        self._remaining = max(-1, framing.body)
        if 0 < self._owner.mostBody < self._remaining:
            self.fail(ExchangeFailed(FailureKind.TOO_LARGE))
        else:
            self._take()

    def _take(self) -> None:
        """
        Wait for a lane.
        """
        taking = self._owner.takeLane()
        self._taking = taking.addCallbacks(self._begin, self._noLane)

    def _noLane(self, reason: Failure) -> None:
        self._taking = None
        if reason.check(CancelledError) or self.finished:
            return
        if reason.check(OpenTimeout, TooManyStreams):
            self.fail(Busy())
        else:
            kind = FailureKind.BROKEN if self._kept.sent else FailureKind.ABSENT
            self.fail(ExchangeFailed(kind, reason=reason.value))

    def _begin(self, lane: EdgeLane) -> None:
        """
        Send what there is of the request.
        """
        assert self._head is not None
        self._taking = None
        self._lane = lane
        lane.carry(self)
        self._response = MessageChunks(True, self._id, self._head.method == b"HEAD")
        self._sendHead(lane, self._head)
        if self._paused:
            lane.call.pauseProducing()
        for octets in self._kept.pieces:
            self._sendData(octets)
        self._kept.begin(self._owner.timer.seconds())
        if self._ended and not self._upgrade:
            self._sendEnd()
        if self._ended:
            self._setDeadline(self._timeouts.first)
        else:
            self._owner.timer.discard(self)
        if self._head.framing is not None and self._head.framing.expect_continue and not self._sent:
            self.receiver.informational(CONTINUE)
        self._attachProducer(lane)

    def _sendHead(self, lane: EdgeLane, head: RequestHead) -> None:
        address, scheme = self._visitor
        record = request_record(
            head, upstream=self._target(head), timeout_ms=int(self._timeouts.first * 1000), remote_addr=address, scheme=scheme,
        )
        self._endSent = not self._upgrade and not self._remaining and not self._kept.pieces and not self._trailers
        lane.call.send(encode_message(HTTPChunk(request_id=self._id, type=HEADERS, request=record, end=self._endSent)))

    def write(self, octets: bytes) -> None:
        """
        Send some of the body, or of another protocol.

        @raise UsageError: the body is longer than its C{Content-Length}.
        """
        if self.finished or not octets:
            return
        if self._remaining >= 0 and not self.raw:
            self._remaining -= len(octets)
            if self._remaining < 0:
                self.cancel(FailureKind.BROKEN)
                raise UsageError("the body is longer than its Content-Length")
        self._sent += len(octets)
        if 0 < self._owner.mostBody < self._sent and not self.raw:
            self._break(ExchangeFailed(FailureKind.TOO_LARGE))
            return
        self._kept.add(octets, self._lane is not None)
        self._sendData(octets)

    def _sendData(self, octets: bytes) -> None:
        if self._lane is None:
            return
        most = self._owner.chunkOctets
        if len(octets) <= most:
            self._lane.call.send(encode_data(octets))
            return
        for start in range(0, len(octets), most):
            self._lane.call.send(encode_data(octets[start : start + most]))

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        The request is whole; of another protocol, our direction is.  A request that is shorter than its C{Content-Length} is
        reset.
        """
        if self.finished or (self._ended and not self.raw):
            return
        if not self.raw and self._remaining > 0:
            self.cancel(FailureKind.BROKEN)
            return
        self._ended = True
        self._trailers = list(trailers) if self.traits.trailers else []
        if self._lane is None:
            return
        if self.raw or not self._upgrade:
            self._sendEnd()
        if not self._responding:
            self._setDeadline(self._timeouts.first)
        elif self.raw and self._response.ended:
            self._finishRaw()

    def _sendEnd(self) -> None:
        if self._endSent or self._lane is None:
            return
        self._endSent = True
        if self._trailers and not self.raw:
            chunk = HTTPChunk(type=TRAILERS, trailers=headers_of(self._trailers), end=True)
            self._lane.call.send(encode_message(chunk))
        else:
            self._lane.call.send(EMPTY_END)

    def cancel(self, kind: FailureKind) -> None:
        if not self.finished:
            lane = self._lane
            self._finish()
            if lane is not None:
                lane.reset()

    # From the lane

    def chunkReceived(self, chunk: HTTPChunk) -> None:
        """
        A chunk of the agent's.

        @raise BadChunk: of L{tunnelstack.wire.records.jetty_chunks}; it is not allowed here.
        """
        self._kept.forget()
        if not self._response.receive(chunk):
            return
        try:
            if chunk.type == HEADERS and chunk.response is not None:
                self._headReceived(chunk.response, chunk.end)
            elif chunk.type == DATA:
                self._dataReceived(chunk.data, chunk.end)
            elif chunk.type == TRAILERS:
                self._responseEnded(read_trailers_untrusted(chunk.trailers))
            else:
                self._aborted(chunk.abort or ErrorInfo())
        except BadMessage as bad:
            self._break(unreadableResponse(bad))

    def _headReceived(self, record: ResponseHead, ended: bool) -> None:
        assert self._head is not None
        head = read_response_untrusted(record, ended, self._head.method, self._owner.responseLimits)
        if not self._response.begun:
            self._countInterim(head.status)
            self.receiver.informational(head)
            return
        if head.status == 101 and not self._upgrade:
            raise BadMessage("the response changes the protocol, which the request did not offer", 502)
        self._responding = True
        self.raw = self._response.raw
        self._expected = head.framing.body > 0
        self._owner.timer.discard(self)
        self._armIdle()
        if self._upgrade and not self.raw:
            self._sendEnd()
        self.receiver.headReceived(head)
        if ended and not self.finished:
            self._responseEnded([])

    def _countInterim(self, status: int) -> None:
        """
        An interim response shows that the server works: the final one is waited for as long again, within a bound.
        """
        self._interim += status not in REPEATED
        if self._interim > INTERIM:
            raise BadMessage("too many interim responses")
        if self._ended:
            now = self._owner.timer.seconds()
            if self._finalBefore is None:
                self._finalBefore = now + self._timeouts.interim
            self._setDeadline(max(0.0, min(self._timeouts.first, self._finalBefore - now)))

    def _dataReceived(self, octets: bytes, ended: bool) -> None:
        self._armIdle()
        if octets:
            self.receiver.bodyReceived(octets)
        if ended and not self.finished:
            self._responseEnded([])

    def _responseEnded(self, trailers: Fields) -> None:
        if self.raw:
            self.receiver.ended(())
            if self._endSent:
                self._finishRaw()
            return
        lane, sent = self._lane, self._endSent
        self._finish()
        if lane is not None:
            if sent:
                lane.release()
            else:
                lane.retire()
        self.receiver.ended(trailers)

    def _finishRaw(self) -> None:
        lane = self._lane
        if self.finished or lane is None:
            return
        self._finish()
        lane.retire(queued=True)

    def _aborted(self, error: ErrorInfo) -> None:
        kind = ABORT_KINDS.get(error.code, FailureKind.BROKEN)
        self._break(ExchangeFailed(kind, code=error.code, problem=error.message))

    def laneHalfClosed(self) -> None:
        """
        The agent sends nothing more on the lane.
        """
        if self.finished or self._response.ended:
            return
        if self._responding or self.raw:
            self._break(ExchangeFailed(FailureKind.BROKEN, problem="the agent ended a response before it was complete"))
        elif self._head is not None and self._head.method in SAFE and self._mayRepeat():
            lane, self._lane = self._lane, None
            if lane is not None:
                lane.drop()
                lane.reset()
            self._repeat()
        else:
            self._halfClosed = True
            self._setDeadline(REFUSAL_SECONDS)

    def laneLost(self, result: CallResult, reason: Exception | None) -> None:
        """
        The lane has ended.
        """
        if self.finished:
            return
        self._lane = None
        unprocessed = isinstance(reason, HTTP2StreamFailed) and reason.unprocessed
        if unprocessed and self._mayRepeat():
            self._repeat()
        else:
            self.fail(ExchangeFailed(FailureKind.BROKEN, reason=reason or result.message))

    def _mayRepeat(self) -> bool:
        return not self._responding and self._kept.repeat(self._owner.timer.seconds())

    def _repeat(self) -> None:
        """
        Send the request once more.
        """
        self._full = self._halfClosed = self._endSent = False
        if self._producer is not None:
            self._producer.pauseProducing()
        self._owner.timer.discard(self)
        self._take()

    def _armIdle(self) -> None:
        if self._expected and not self._paused:
            self._setDeadline(self._timeouts.idle)

    # The end

    def _break(self, failed: ExchangeFailed) -> None:
        lane = self._lane
        self.fail(failed)
        if lane is not None:
            lane.reset()

    def fail(self, failed: ExchangeFailed) -> None:
        """
        The exchange broke.
        """
        if self.finished:
            return
        producer = self._producer
        self._finish()
        if producer is not None:
            producer.stopProducing()
        self.receiver.failed(failed)

    def _finish(self) -> None:
        self.finished = True
        self._kept.forget()
        self._producer = None
        lane, self._lane = self._lane, None
        taking, self._taking = self._taking, None
        if taking is not None:
            taking.cancel()
        if lane is not None:
            lane.drop()
        self._owner.timer.discard(self)
        self._owner.exchangeEnded(self)

    def _setDeadline(self, seconds: float) -> None:
        timer = self._owner.timer
        timer.add(self, timer.seconds() + seconds)

    def timedOut(self, now: float) -> None:
        """
        From the timer: what is waited for did not happen in time.
        """
        kind = FailureKind.BROKEN if self._halfClosed else FailureKind.GATEWAY_TIMEOUT
        self._break(ExchangeFailed(kind))

    # The producer of the request

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Register what writes the request.

        @raise UsageError: it is a pull producer.
        """
        if self.finished:
            producer.stopProducing()
            return
        self._producer = requestProducer(producer, streaming, self._producer)
        if self._lane is None:
            self._producer.pauseProducing()
        else:
            self._lane.call.registerProducer(RequestPressure(self), True)

    def _attachProducer(self, lane: EdgeLane) -> None:
        if self._producer is not None and not self.finished:
            lane.call.registerProducer(RequestPressure(self), True)
            if not self._full:
                self._producer.resumeProducing()

    def unregisterProducer(self) -> None:
        if self._producer is not None and self._lane is not None:
            self._lane.call.unregisterProducer()
        self._producer = None

    def writingPaused(self) -> None:
        """
        From the lane: it accepts no more for now.
        """
        self._full = True
        if not self.raw:
            self._setDeadline(self._timeouts.idle)
        if self._producer is not None:
            self._producer.pauseProducing()

    def writingResumed(self) -> None:
        """
        From the lane: it accepts more again.
        """
        self._full = False
        if self.finished:
            return
        if not self.raw:
            self._owner.timer.discard(self)
            if self._responding:
                self._armIdle()
            elif self._ended:
                self._setDeadline(self._timeouts.first)
        if self._producer is not None:
            self._producer.resumeProducing()

    # The response's body, as a producer

    def pauseProducing(self) -> None:
        self._paused = True
        if self._lane is not None:
            if self._expected:
                self._owner.timer.discard(self)
            self._lane.call.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._lane is not None:
            self._armIdle()
            self._lane.call.resumeProducing()

    def stopProducing(self) -> None:
        """
        The near side is closed; the receiver's C{failed} is called as well.
        """


EMPTY_END = encode_data(b"", True)

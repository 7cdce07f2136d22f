"""
The agent's end of one exchange on a lane: the request as it arrives, and the response as chunks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, cast

from twisted.internet.interfaces import IAddress, IProducer, IPushProducer, ITransport
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.exchange.bounds import ExchangeBounds, earlier
from tunnelstack.exchange.error_page import ErrorPages, respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.producers import WatchedProducer
from tunnelstack.exchange.traits import Traits
from tunnelstack.interfaces import IExchangeReceiver, IServerExchange
from tunnelstack.records import TakenOverRequest
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.transport.stream_scheduler import HIGH
from tunnelstack.wire.http1.framing import Framing, outgoing_framing
from tunnelstack.wire.http1.head import Fields, RequestHead, ResponseHead
from tunnelstack.wire.protobuf import encode_message
from tunnelstack.wire.records.jetty_chunks import encode_data, response_record
from tunnelstack.wire.records.jetty_grpc import (
    ABORT,
    DATA,
    HEADERS,
    TRAILERS,
    ErrorInfo,
    HTTPChunk,
    headers_of,
)

ABORT_CODES = {FailureKind.GATEWAY_TIMEOUT: "upstream_timeout", FailureKind.UNREACHABLE: "upstream_refused"}
"""Codes of ABORT; the others are C{upstream_failed}."""


class ExchangeOwner(Protocol):
    """
    The session of an exchange.

    @ivar pages: makes error pages.
    @ivar timer: the deadlines of exchanges.
    @ivar chunkOctets: octets of DATA in one chunk.
    """

    pages: ErrorPages
    timer: SharedTimer
    chunkOctets: int
    traits: Traits

    @property
    def bounds(self) -> ExchangeBounds: ...
    @property
    def transport(self) -> ITransport: ...


class ExchangeLane(Protocol):
    """
    The lane of an exchange.

    @ivar call: its call.
    """

    call: GRPCCall

    def exchangeDone(self) -> None:
        """
        The response is complete.
        """

    def abandon(self) -> None:
        """
        The response is broken, and the edge was told: half-close.
        """

    def reset(self) -> None:
        """
        End the lane at once.
        """


@implementer(IServerExchange, IPushProducer)
class GRPCServerExchange:
    """
    One request that was received, to be answered.

    @ivar receiver: receives the request's body, once the server has given it.
    @ivar raw: both directions are those of another protocol now.
    """

    __slots__ = (
        "_bodyless", "_identifier", "_lane", "_owner", "_paused", "_rawEnded", "_remaining", "_requestEnded", "_seconds",
        "context", "finished", "framing", "head", "octets", "peer", "raw", "receiver", "status", "trace", "traits",
    )  # fmt: skip

    certificate = None
    context: Any

    def __init__(
        self, owner: ExchangeOwner, lane: ExchangeLane, head: RequestHead, identifier: str, peer: IAddress, seconds: float
    ) -> None:
        """
        @param identifier: of the request, which the edge has chosen.
        @param peer: the visitor's address.
        @param seconds: for the response to begin; 0: no limit.
        """
        framing: Framing = head.framing
        self._owner = owner
        self._lane = lane
        self.traits = owner.traits
        self.head = head
        self.framing = framing
        self.peer = peer
        self.trace = self._identifier = identifier
        self.receiver: IExchangeReceiver | None = None
        self.context = None
        self.status = 0
        self.octets = 0
        self.raw = False
        self.finished = False
        self._seconds = earlier(seconds)
        self._requestEnded = False
        self._paused = False                  # the request is not read
        self._remaining = -1                  # octets of the response's body that are missing, if its head names a length
        self._bodyless = False                # the response has no body, whatever its head says
        self._rawEnded = False                # our direction of another protocol is over

    @property
    def transport(self) -> ITransport:
        return self._owner.transport

    @property
    def host(self) -> bytes:
        return self.framing.host

    # The request

    def served(self) -> None:
        """
        From the lane: the server has the request, and has given the receiver of its body.
        """
        if self.receiver is not None and self.framing.upgrade and not self.finished and not self.raw:
            self._awaitResponse()
            self.receiver.ended(())
        elif not self.finished and self.framing.body > 0:
            self._setDeadline(self._owner.bounds.idleSeconds)

    def requestContinued(self, octets: bytes) -> None:
        """
        From the lane: some of the body, or of another protocol.
        """
        if self.receiver is None or self.finished:
            return
        if self.framing.body > 0 and not self.raw:
            self._setDeadline(self._owner.bounds.idleSeconds)
        if octets:
            self.receiver.bodyReceived(octets)

    def requestEnded(self, trailers: Fields) -> None:
        """
        From the lane: the request is whole, or the visitor's direction of another protocol.
        """
        self._requestEnded = True
        if self.receiver is None or self.finished:
            return
        if not self.raw and self.framing.upgrade:
            return                            # the request was whole with its head
        if not self.raw:
            self._awaitResponse()
        self.receiver.ended(trailers)
        if self._rawEnded and not self.finished:
            self._finish()
            self._lane.exchangeDone()

    def _awaitResponse(self) -> None:
        if self._seconds > 0 and not self.status:
            self._setDeadline(self._seconds)
        else:
            self._owner.timer.discard(self)

    def laneLost(self, reason: object) -> None:
        """
        From the lane: it has ended.
        """
        if self.finished:
            return
        self._finish()
        if self.receiver is not None:
            self.receiver.failed(ExchangeFailed(FailureKind.CLIENT_CLOSED, reason=reason))

    def timedOut(self, now: float) -> None:
        """
        From the timer: what is waited for did not happen in time.
        """
        late = self._requestEnded or self.framing.upgrade
        failed = ExchangeFailed(FailureKind.GATEWAY_TIMEOUT if late else FailureKind.REQUEST_TIMEOUT)
        if not self.finished:
            if self.receiver is not None:
                self.receiver.failed(failed)
            self.cancel(failed.kind)

    def _setDeadline(self, seconds: float) -> None:
        timer = self._owner.timer
        timer.add(self, timer.seconds() + seconds)

    # The response

    def informational(self, head: ResponseHead) -> None:
        if not self.finished and not self.status:
            self._sendHead(head)

    def sendHead(self, head: ResponseHead) -> None:
        """
        As in L{IServerExchange}.  The head is sent with what follows in the same turn.
        """
        if self.finished:
            return
        status = head.status
        if self.status or (status < 200 and status != 101):
            raise UsageError("a final head is sent once", status=status)
        if status == 101 and not self.framing.upgrade:
            self.cancel(FailureKind.INVALID_RESPONSE)
            return
        self.status = status
        self.raw = status == 101
        body = outgoing_framing(head).body
        self._bodyless = status in (204, 304) or self.head.method == b"HEAD"
        self._remaining = -1 if self._bodyless or body < 0 or self.raw else body
        if self._requestEnded or self.framing.body <= 0:
            self._owner.timer.discard(self)
        self._sendHead(head)

    def _sendHead(self, head: ResponseHead) -> None:
        self._send(HTTPChunk(request_id=self._identifier, type=HEADERS, response=response_record(head)))

    def _send(self, chunk: HTTPChunk) -> None:
        self._lane.call.send(encode_message(chunk))

    def respond(self, head: ResponseHead, octets: bytes) -> None:
        self.sendHead(head)
        self.write(octets)
        self.end()

    def write(self, octets: bytes) -> None:
        if self.finished or not octets:
            return
        if not self.status:
            raise UsageError("the head comes first")
        if self._bodyless:
            return
        if self._remaining >= 0:
            self._remaining -= len(octets)
            if self._remaining < 0:
                self.cancel(FailureKind.BROKEN)
                raise UsageError("the body is longer than its Content-Length")
        self.octets += len(octets)
        call, most = self._lane.call, self._owner.chunkOctets
        if len(octets) <= most:
            call.send(encode_data(octets))
            return
        for start in range(0, len(octets), most):
            call.send(encode_data(octets[start : start + most]))

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        The response is whole; of another protocol, our direction is.  A response that is shorter than its C{Content-Length} is
        broken off.
        """
        if self.finished or self._rawEnded:
            return
        if not self.status:
            raise UsageError("the head comes first")
        if self._remaining > 0:
            self.cancel(FailureKind.BROKEN)
            return
        fields = list(trailers)
        if fields and not self.raw and self.traits.trailers:
            self._send(HTTPChunk(type=TRAILERS, trailers=headers_of(fields), end=True))
        else:
            self._send(HTTPChunk(type=DATA, end=True))
        if self.raw and not self._requestEnded:
            self._rawEnded = True
            return
        self._finish()
        self._lane.exchangeDone()

    def cancel(self, kind: FailureKind) -> None:
        """
        Give up: with a page if nothing was sent, else by ABORT, or by resetting the lane if that would wait.
        """
        if self.finished:
            return
        if not self.status and kind is not FailureKind.CLIENT_CLOSED:
            respondWithPage(self, self._owner.pages, ExchangeFailed(kind), self.trace)
            return
        self._finish()
        if kind is FailureKind.CLIENT_CLOSED or self._lane.call.queued > HIGH:
            self._lane.reset()
            return
        error = ErrorInfo(code=ABORT_CODES.get(kind, "upstream_failed"), message=kind.sentence)
        self._send(HTTPChunk(request_id=self._identifier, type=ABORT, end=True, abort=error))
        self._lane.abandon()

    def _finish(self) -> None:
        self.finished = True
        self._lane.call.unregisterProducer()
        self._owner.timer.discard(self)
        if self._paused:
            self._paused = False
            self._lane.call.resumeProducing()

    def onRequest(self) -> TakenOverRequest:
        """
        A lane cannot be taken over.

        @raise UsageError: always.
        """
        raise UsageError("a lane cannot be taken over")

    # The producer of the response

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self.finished:
            producer.stopProducing()
        elif streaming:
            self._lane.call.registerProducer(WatchedProducer(self, cast(IPushProducer, producer)), True)
        else:
            self._lane.call.registerProducer(producer, False)

    def unregisterProducer(self) -> None:
        if not self.finished:
            self._lane.call.unregisterProducer()

    def writingPaused(self) -> None:
        """
        The lane accepts no more for now.
        """
        if self._remaining > 0:
            self._setDeadline(self._owner.bounds.idleSeconds)

    def writingResumed(self) -> None:
        """
        The lane accepts more again.
        """
        if self.status and (self._requestEnded or self.framing.body < 0):
            self._owner.timer.discard(self)

    # The request's body, as a producer

    def pauseProducing(self) -> None:
        if not self.finished:
            self._paused = True
            self._owner.timer.discard(self)
            self._lane.call.pauseProducing()

    def resumeProducing(self) -> None:
        if not self.finished:
            self._paused = False
            if not self._requestEnded and self.framing.body > 0:
                self._setDeadline(self._owner.bounds.idleSeconds)
            self._lane.call.resumeProducing()

    def stopProducing(self) -> None:
        """
        The far side is closed; the receiver's C{failed} is called as well.
        """

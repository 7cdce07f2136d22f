"""
The serving side of one exchange over HTTP/2: the response as it is written, and the state of its request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, cast

from OpenSSL.crypto import X509
from twisted.internet.interfaces import IAddress, IProducer, IPushProducer, ITransport
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.exchange.error_page import ErrorPages, respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.producers import WatchedProducer
from tunnelstack.exchange.traits import STREAMED, Timeouts, Traits
from tunnelstack.interfaces import IExchangeReceiver, IServerExchange
from tunnelstack.records import TakenOverRequest
from tunnelstack.transport.http2.stream import HTTP2Stream
from tunnelstack.transport.peers import peerOf
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.wire.http1.framing import Framing, outgoing_framing
from tunnelstack.wire.http1.head import BadMessage, Fields, RequestHead, ResponseHead
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.message_fields import trailers_to_http2
from tunnelstack.wire.http2.translation import response_to_http2


class ExchangeOwner(Protocol):
    """
    The connection of an exchange.

    @ivar pages: makes error pages.
    @ivar timer: the deadlines of the exchanges of this connection.
    """

    pages: ErrorPages
    timeouts: Timeouts
    timer: SharedTimer

    @property
    def transport(self) -> ITransport:
        """
        The transport of the connection.
        """

    def responseBegun(self, exchange: HTTP2ServerExchange) -> None:
        """
        The head of a response is written.
        """

    def exchangeDone(self, exchange: HTTP2ServerExchange) -> None:
        """
        An exchange is over.
        """


@implementer(IServerExchange, IPushProducer)
class HTTP2ServerExchange:
    """
    One request that was received, to be answered.

    @ivar receiver: receives the request's body, once the server has given it.
    @ivar raw: both directions are those of a WebSocket now.
    """

    __slots__ = (
        "_bodyBegun", "_bodyless", "_failure", "_full", "_owner", "_paused", "_rawEnded", "_remaining", "_requestEnded",
        "_stream", "context", "finished", "framing", "head", "octets", "raw", "receiver", "status", "trace",
    )  # fmt: skip

    traits: Traits = STREAMED
    context: Any

    def __init__(self, owner: ExchangeOwner, stream: HTTP2Stream, head: RequestHead) -> None:
        framing: Framing = head.framing
        self._owner = owner
        self._stream = stream
        self.head = head
        self.framing = framing
        self.receiver: IExchangeReceiver | None = None
        self.trace = ""
        self.context = None
        self.status = 0
        self.octets = 0
        self.raw = False
        self.finished = False
        self._requestEnded = False
        self._bodyBegun = False               # some of the request's body has arrived
        self._paused = False                  # the request is not read
        self._full = False                    # the stream accepts no more for now
        self._remaining = -1                  # octets of the response's body that are missing, if its head names a length
        self._bodyless = False                # the response has no body, whatever its head says
        self._rawEnded = False                # our direction of a WebSocket is over
        self._failure: ExchangeFailed | None = None     # the receiver is to be told, once there is one

    @property
    def transport(self) -> ITransport:
        return self._owner.transport

    @property
    def host(self) -> bytes:
        return self.framing.host

    @property
    def peer(self) -> IAddress:
        return peerOf(self.transport)

    @property
    def certificate(self) -> X509 | None:
        return getattr(self.transport, "getPeerCertificate", lambda: None)()

    # the request

    def requestBegun(self, ended: bool) -> None:
        """
        From the reader: the head has arrived.

        @param ended: it is the whole request.
        """
        self._requestEnded = ended
        if self.framing.upgrade:
            self._stream.pauseProducing()     # what a WebSocket carries waits for the 101
        elif not ended:
            self._awaitBody()

    def served(self) -> None:
        """
        From the reader: the server has the request, and has given the receiver of its body.
        """
        receiver = self.receiver
        if receiver is None:
            return
        if self._failure is not None:
            receiver.failed(self._failure)
        elif self.framing.upgrade and not self.finished and not self.raw:
            receiver.ended(())

    def _awaitBody(self) -> None:
        """
        Set the deadline of a body of which nothing has arrived.
        """
        framing, timeouts = self.framing, self._owner.timeouts
        if framing.body >= 0 or framing.expect_continue:
            self._setDeadline(timeouts.idle)
        elif self._paused or framing.trailers:
            self._owner.timer.discard(self)
        else:
            self._setDeadline(timeouts.head)

    def _setDeadline(self, seconds: float) -> None:
        timer = self._owner.timer
        timer.add(self, timer.seconds() + seconds)

    def requestContinued(self, octets: bytes) -> None:
        """
        From the reader: some of the body, or of a WebSocket.
        """
        if self.finished or self.receiver is None:
            return
        if not self.raw:
            self._bodyBegun = True
            if self.framing.body >= 0:
                self._setDeadline(self._owner.timeouts.idle)
            else:
                self._owner.timer.discard(self)
        self.receiver.bodyReceived(octets)

    def requestEnded(self, trailers: Fields) -> None:
        """
        From the reader: the request is whole, or the visitor's direction of a WebSocket.
        """
        self._requestEnded = True
        self._owner.timer.discard(self)
        if self.receiver is None or (self.finished and not self.raw):
            return
        self.receiver.ended(trailers)
        if self._rawEnded and not self.finished:
            self._finish()

    def requestFailed(self, failed: ExchangeFailed) -> None:
        """
        From the reader, and at a deadline: the request will never be whole.
        """
        if self.finished:
            return
        self._failReceiver(failed)
        self.cancel(failed.kind)

    def streamFailed(self, reason: Exception) -> None:
        """
        From the reader: the visitor has reset the stream, or the connection is lost.
        """
        if not self.finished:
            self._finish()
            self._failReceiver(ExchangeFailed(FailureKind.CLIENT_CLOSED, reason=reason))

    def _failReceiver(self, failed: ExchangeFailed) -> None:
        if self.receiver is None:
            self._failure = failed
        else:
            self.receiver.failed(failed)

    def timedOut(self, now: float) -> None:
        """
        From the timer: what is waited for did not happen in time.
        """
        self.requestFailed(ExchangeFailed(
            FailureKind.CLIENT_CLOSED if self._requestEnded else FailureKind.REQUEST_TIMEOUT
        ))

    # the response

    def informational(self, head: ResponseHead) -> None:
        if self.finished or self.status:
            return
        if head.status == 100:
            self.framing.expect_continue = False
        self._stream.sendInformational(response_to_http2(head, self.head))

    def sendHead(self, head: ResponseHead) -> None:
        """
        As in L{IServerExchange}.  A 101 opens a WebSocket, if it answers the request for one; otherwise the visitor receives
        an error page.
        """
        if self.finished:
            return
        status = head.status
        if self.status or (status < 200 and status != 101):
            raise UsageError("a final head is sent once", status=status)
        try:
            fields = response_to_http2(head, self.head)
        except BadMessage as bad:
            self._rejectResponse(bad)
            return
        self.status = status
        self._owner.responseBegun(self)
        if status == 101:
            self._upgrade(fields)
            return
        body = outgoing_framing(head).body
        self._bodyless = status in (204, 304) or self.head.method == b"HEAD"
        self._remaining = -1 if self._bodyless or body < 0 else body
        self._stream.sendHeaders(fields, endStream=self._bodyless or not body)

    def _rejectResponse(self, bad: BadMessage) -> None:
        failed = ExchangeFailed(FailureKind.INVALID_RESPONSE, problem=str(bad))
        self._failReceiver(failed)
        respondWithPage(self, self._owner.pages, failed, self.trace)

    def _upgrade(self, fields: Fields) -> None:
        self.raw = True
        self._stream.sendHeaders(fields)
        if not self._paused:
            self._stream.resumeProducing()

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
        self._stream.write(octets)

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        The response is whole; of a WebSocket, our direction is.  A response that is shorter than its C{Content-Length} resets
        the stream.
        """
        if self.finished or self._rawEnded:
            return
        if not self.status:
            raise UsageError("the head comes first")
        if self._remaining > 0:
            self.cancel(FailureKind.BROKEN)
            return
        self._stream.end(trailers_to_http2(trailers))
        if self.raw and not self._requestEnded:
            self._rawEnded = True
            return
        self._finish()
        if not self._requestEnded:
            self._stream.stopReading()

    def cancel(self, kind: FailureKind) -> None:
        """
        Give up: with a page if nothing was sent, else by resetting the stream.
        """
        if self.finished:
            return
        if not self.status and kind is not FailureKind.CLIENT_CLOSED:
            respondWithPage(self, self._owner.pages, ExchangeFailed(kind), self.trace)
            return
        self._finish()
        self._stream.reset(ErrorCode.CANCEL if kind is FailureKind.CLIENT_CLOSED else ErrorCode.INTERNAL_ERROR)

    def _finish(self) -> None:
        self.finished = True
        self._owner.exchangeDone(self)

    def onRequest(self) -> TakenOverRequest:
        """
        A stream cannot be taken over: the client is told to use HTTP/1.1, and most do so at once.

        @raise UsageError: always.
        """
        if not self.finished and not self.status:
            self._finish()
            self._stream.reset(ErrorCode.HTTP_1_1_REQUIRED)
        raise UsageError("a stream of HTTP/2 cannot be taken over")

    # the producer of the response

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self.finished:
            producer.stopProducing()
        elif streaming:
            self._stream.registerProducer(WatchedProducer(self, cast(IPushProducer, producer)), True)
        else:
            self._stream.registerProducer(producer, False)

    def unregisterProducer(self) -> None:
        if not self.finished:
            self._stream.unregisterProducer()

    def writingPaused(self) -> None:
        """
        The stream accepts no more for now.
        """
        if self._remaining > 0:
            self._setDeadline(self._owner.timeouts.idle)

    def writingResumed(self) -> None:
        """
        The stream accepts more again.
        """
        if self._requestEnded or self.framing.body < 0:
            self._owner.timer.discard(self)
        else:
            self._setDeadline(self._owner.timeouts.idle)

    # the request's body, as a producer

    def pauseProducing(self) -> None:
        self._pauseReading(True)

    def resumeProducing(self) -> None:
        self._pauseReading(False)

    def _pauseReading(self, paused: bool) -> None:
        if self.finished:
            return
        self._paused = paused
        if self.framing.upgrade and not self.raw:
            return                            # nothing is read before the 101
        if not self._requestEnded and not self._bodyBegun and not self.raw:
            self._awaitBody()
        (self._stream.pauseProducing if paused else self._stream.resumeProducing)()

    def stopProducing(self) -> None:
        """
        The far side is closed; the receiver's C{failed} is called as well.
        """

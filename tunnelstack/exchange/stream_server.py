"""
Exchanges that have a stream each, whose heads are not those of HTTP/1.1: the serving side.

The head of the request was read before, and names the length of the body that follows.  The response is a head, then the body,
then the end of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProducer,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.exchange._connection import IExchangeTransport
from tunnelstack.exchange.error_page import ErrorPages, respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.moving_timeout import MovingTimeout
from tunnelstack.exchange.stream_client import ONE_STREAM
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts, Traits
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.records import TakenOverRequest
from tunnelstack.wire.http1.framing import Framing, outgoing_framing
from tunnelstack.wire.http1.head import RequestHead, ResponseHead


@implementer(IServerExchange, IPushProducer)
class StreamServerExchange:
    """
    One request that was received on a stream of its own, to be answered there.
    """

    traits: Traits = ONE_STREAM
    certificate = None

    def __init__(
        self, transport: IExchangeTransport, head: RequestHead, framing: Framing, encodeHead: Callable[[ResponseHead], bytes],
        pages: ErrorPages, ended: Callable[[IServerExchange], object],
    ) -> None:
        """
        @param ended: called once, when the exchange is over.
        """
        self.transport = transport
        self.head = head
        self.framing = framing
        self.trace = ""
        self.context: Any = None
        self.status = 0
        self.octets = 0
        self.finished = False
        self._encodeHead = encodeHead
        self._pages = pages
        self._ended = ended
        self._remaining = -1                  # octets of the body that are missing, if the head names a length
        self._bodyless = False
        self._pull = False                    # a pull producer writes the response

    @property
    def host(self) -> bytes:
        return self.framing.host

    @property
    def peer(self) -> IAddress:
        return self.transport.getPeer()

    def informational(self, head: ResponseHead) -> None:
        """
        The format has no interim responses: nothing is sent.
        """

    def sendHead(self, head: ResponseHead) -> None:
        if self.finished:
            return
        if self.status or head.status < 200:
            raise UsageError("a final head is sent once", status=head.status)
        body = outgoing_framing(head).body
        self.status = head.status
        self._bodyless = self.head.method == b"HEAD" or head.status in (204, 304)
        self._remaining = body if body >= 0 and not self._bodyless else -1
        self.transport.write(self._encodeHead(head))

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
        self.transport.write(octets)

    def respond(self, head: ResponseHead, octets: bytes) -> None:
        self.sendHead(head)
        self.write(octets)
        self.end()

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        The response is whole, and the stream ends.  A response that is shorter than its C{Content-Length} resets it.
        """
        if self.finished:
            return
        if not self.status:
            raise UsageError("the head comes first")
        if self._remaining > 0:
            self.cancel(FailureKind.BROKEN)
            return
        self.finish()
        self.transport.loseConnection()

    def cancel(self, kind: FailureKind) -> None:
        """
        Give up: with an error response if nothing was sent, else by resetting the stream.
        """
        if self.finished:
            return
        if not self.status and kind is not FailureKind.CLIENT_CLOSED:
            respondWithPage(self, self._pages, ExchangeFailed(kind), self.trace)
            return
        self.finish()
        self.transport.abortConnection()

    def finish(self) -> None:
        """
        From the protocol of the stream, too: the exchange is over.
        """
        self.finished = True
        self.transport.unregisterProducer()
        self._ended(self)

    def onRequest(self) -> TakenOverRequest:
        """
        @raise UsageError: always: a stream cannot be taken over.
        """
        raise UsageError("this exchange cannot be taken over")

    # the producer of the response, and the body of the request

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self.finished:
            producer.stopProducing()
        else:
            self.transport.registerProducer(cast(IPushProducer, producer), streaming)

    def unregisterProducer(self) -> None:
        if not self.finished:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        if not self.finished:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        if not self.finished:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """
        The far side is closed; the receiver's C{failed} is called as well.
        """


@implementer(IHalfCloseableProtocol)
class StreamServerProtocol(Protocol):
    """
    The protocol of the stream of one exchange, from the end of the request's head on.
    """

    log = Logger()
    transport: IExchangeTransport

    def __init__(
        self,
        server: IExchangeServer,
        head: RequestHead,
        framing: Framing,
        encodeHead: Callable[[ResponseHead], bytes],
        *,
        clock: IReactorTime,
        pages: ErrorPages,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        ended: Callable[[IServerExchange], object] = lambda exchange: None,
    ) -> None:
        """
        @param framing: of the request, whose body has a length.
        @param encodeHead: gives the octets of the head of a response.
        @param pages: makes error responses.
        @param ended: called with the exchange when it is over, answered or not.
        """
        self._server = server
        self._head = head
        self._framing = framing
        self._encodeHead = encodeHead
        self._pages = pages
        self._ended = ended
        self._missing = framing.body          # octets of the request's body
        self._timeouts = timeouts
        self._timer = MovingTimeout(clock, self._bodyTimedOut)
        self._receiver: IExchangeReceiver | None = None

    def connectionMade(self) -> None:
        self._exchange = exchange = StreamServerExchange(
            self.transport, self._head, self._framing, self._encodeHead, self._pages, self._ended
        )
        try:
            self._receiver = self._server.exchangeReceived(self._head, exchange)
        except Exception:
            self.log.failure("{server} failed to serve a request", server=self._server)
            exchange.cancel(FailureKind.BROKEN)
            return
        if self._missing:
            self._timer.set(self._timeouts.idle)
        elif not exchange.finished:
            self._receiver.ended(())

    def dataReceived(self, data: bytes) -> None:
        """
        Some of the request's body.  What follows the body is dropped.
        """
        data = data[: self._missing]
        if not data or self._exchange.finished or self._receiver is None:
            return
        self._missing -= len(data)
        self._receiver.bodyReceived(data)
        if self._missing:
            self._timer.set(self._timeouts.idle)
            return
        self._timer.stop()
        if not self._exchange.finished:
            self._receiver.ended(())

    def readConnectionLost(self) -> None:
        """
        The peer sends nothing more; it may still read the response.
        """
        if self._missing:
            self._failRequest(FailureKind.MALFORMED)

    def writeConnectionLost(self) -> None:
        """
        Our direction has ended with the response.
        """

    def _bodyTimedOut(self) -> None:
        self._failRequest(FailureKind.REQUEST_TIMEOUT)

    def _failRequest(self, kind: FailureKind) -> None:
        self._timer.stop()
        exchange = self._exchange
        if self._receiver is not None and not exchange.finished:
            self._receiver.failed(ExchangeFailed(kind))
            exchange.cancel(kind)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._timer.stop()
        exchange = self._exchange
        if not exchange.finished:
            exchange.finish()
            if self._receiver is not None:
                self._receiver.failed(ExchangeFailed(FailureKind.CLIENT_CLOSED))

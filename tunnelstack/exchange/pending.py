"""
An exchange that begins before it is known what carries it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IProducer, IPushProducer
from zope.interface import implementer

from tunnelstack.errors import Unavailable, UsageError
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.producers import requestProducer
from tunnelstack.exchange.traits import STREAMED, Traits
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.wire.http1.head import Fields, RequestHead

OpenExchange = Callable[[IExchangeReceiver], IExchange]


@implementer(IExchange, IPushProducer)
class PendingExchange:
    """
    One request.  It is held, and its producer is paused, until L{attach}; after that this exchange is not on the path of the
    body, since C{write} and C{end} are those of the other.

    @ivar receiver: receives the response.
    @ivar finished: it was cancelled, or has failed, before it was attached.
    """

    __slots__ = ("_exchange", "_head", "_held", "_paused", "_producer", "_trailers", "end", "finished", "receiver", "write")

    traits: Traits = STREAMED

    def __init__(self, receiver: IExchangeReceiver) -> None:
        self.receiver = receiver
        self.finished = False
        self._exchange: IExchange | None = None
        self._producer: IPushProducer | None = None
        self._head: RequestHead | None = None
        self._held: list[bytes] = []
        self._trailers: Fields | None = None
        self._paused = False
        self.write: Callable[[bytes], None] = self._keep
        self.end: Callable[..., None] = self._keepEnd

    def attach(self, open: OpenExchange) -> None:
        """
        Let another exchange carry the request.

        @param open: begins it; may raise L{Unavailable}, which the receiver is given.
        """
        if self.finished:
            return
        try:
            self._exchange = exchange = open(self.receiver)
        except Unavailable as reason:
            self.fail(reason if isinstance(reason, ExchangeFailed) else ExchangeFailed(FailureKind.UNREACHABLE, reason=reason))
            return
        self.write, self.end = exchange.write, exchange.end
        if self._paused:
            exchange.pauseProducing()
        producer = self._producer
        if producer is not None:
            exchange.registerProducer(producer, True)
        if self._head is not None:
            exchange.sendHead(self._head)
            for octets in self._held:
                exchange.write(octets)
            if self._trailers is not None:
                exchange.end(self._trailers)
        self._held.clear()

    def fail(self, failed: ExchangeFailed) -> None:
        """
        Nothing carries the request.
        """
        if self.finished or self._exchange is not None:
            return
        self.finished = True
        self._held.clear()
        if self._producer is not None:
            self._producer.stopProducing()
        self.receiver.failed(failed)

    def sendHead(self, head: RequestHead) -> None:
        """
        As in L{IExchange}.
        """
        if self._exchange is not None:
            self._exchange.sendHead(head)
        elif not self.finished:
            if self._head is not None:
                raise UsageError("the head of a request is sent once")
            self._head = head

    def _keep(self, octets: bytes) -> None:
        if octets and not self.finished:
            self._held.append(octets)

    def _keepEnd(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        if not self.finished:
            self._trailers = list(trailers)

    def cancel(self, kind: FailureKind) -> None:
        self.finished = True
        self._held.clear()
        if self._exchange is not None:
            self._exchange.cancel(kind)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self._exchange is not None:
            self._exchange.registerProducer(producer, streaming)
        elif self.finished:
            producer.stopProducing()
        else:
            self._producer = requestProducer(producer, streaming, self._producer)
            self._producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        if self._exchange is not None:
            self._exchange.unregisterProducer()

    def pauseProducing(self) -> None:
        self._paused = True
        if self._exchange is not None:
            self._exchange.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._exchange is not None:
            self._exchange.resumeProducing()

    def stopProducing(self) -> None:
        """
        The near side is closed; the receiver's C{failed} is called as well.
        """

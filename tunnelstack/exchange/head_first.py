"""
An exchange whose carrier is chosen by the head of its request.
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
from tunnelstack.wire.http1.head import RequestHead


@implementer(IExchange, IPushProducer)
class HeadFirstExchange:
    """
    One request.  The exchange that carries it begins with L{sendHead}; after that this one is not on the path of the body,
    since C{write} and C{end} are those of the other.

    @ivar traits: those of the exchange that will carry it.
    """

    __slots__ = ("_exchange", "_finished", "_open", "_paused", "_prepare", "_producer", "_receiver", "end", "traits", "write")

    def __init__(
        self, receiver: IExchangeReceiver, open: Callable[[RequestHead], IExchange], traits: Traits = STREAMED,
        prepare: Callable[[RequestHead], RequestHead] | None = None,
    ) -> None:
        """
        @param receiver: receives the response.
        @param open: of the head, gives the exchange that carries the request to C{receiver}; raises L{ExchangeFailed} or
            another L{Unavailable}, which C{receiver} is given.
        @param prepare: of the head, gives the one that C{open} gets and that is sent; raises as C{open} does.
        """
        self._receiver = receiver
        self._open = open
        self._prepare = prepare
        self._exchange: IExchange | None = None
        self._producer: IPushProducer | None = None
        self._paused = False
        self._finished = False
        self.traits = traits
        self.write: Callable[[bytes], None] = self._drop
        self.end: Callable[..., None] = self._drop

    def sendHead(self, head: RequestHead) -> None:
        if self._finished:
            return
        if self._exchange is not None:
            raise UsageError("the head of a request is sent once")
        try:
            if self._prepare is not None:
                head = self._prepare(head)
            self._exchange = exchange = self._open(head)
        except (ExchangeFailed, Unavailable) as reason:
            self._finished = True
            self._receiver.failed(
                reason if isinstance(reason, ExchangeFailed) else ExchangeFailed(FailureKind.UNREACHABLE, reason=reason)
            )
            return
        self.write, self.end = exchange.write, exchange.end
        if self._paused:
            exchange.pauseProducing()
        if self._producer is not None:
            exchange.registerProducer(self._producer, True)
        exchange.sendHead(head)

    def _drop(self, octets: bytes | Iterable[tuple[bytes, bytes]] = b"") -> None:
        """
        Nothing carries the request: it failed, or its head was not sent.
        """

    def cancel(self, kind: FailureKind) -> None:
        self._finished = True
        if self._exchange is not None:
            self._exchange.cancel(kind)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self._exchange is not None:
            self._exchange.registerProducer(producer, streaming)
        else:
            self._producer = requestProducer(producer, streaming, self._producer)

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

"""
What writes the requests and responses of exchanges, and how an exchange learns of its pauses.

The usual exchange, over HTTP/1.1, checks its producer itself, which spares it a call for each request.
"""

from __future__ import annotations

from typing import Protocol, cast

from twisted.internet.interfaces import IProducer, IPushProducer
from zope.interface import implementer

from tunnelstack.errors import UsageError


class PausedExchange(Protocol):
    """
    An exchange, as its producer sees it.
    """

    def writingPaused(self) -> None:
        """
        The transport accepts no more for now.
        """

    def writingResumed(self) -> None:
        """
        The transport accepts more again.
        """


def requestProducer(producer: IProducer, streaming: bool, registered: IPushProducer | None) -> IPushProducer:
    """
    Check what was given to C{registerProducer}.

    @param registered: the producer that the exchange has already.
    @return: C{producer}.
    @raise UsageError: it is a pull producer.
    @raise RuntimeError: another one is registered, as in Twisted's transports.
    """
    if not streaming:
        raise UsageError("requests are written by push producers")
    if registered is not None:
        raise RuntimeError(f"cannot register {producer!r}: {registered!r} was never unregistered")
    return cast(IPushProducer, producer)


@implementer(IPushProducer)
class RequestPressure:
    """
    The producer that a transport has for an exchange: it passes the transport's pressure to the exchange.
    """

    __slots__ = ("pauseProducing", "resumeProducing")

    def __init__(self, exchange: PausedExchange) -> None:
        self.pauseProducing = exchange.writingPaused
        self.resumeProducing = exchange.writingResumed

    def stopProducing(self) -> None:
        """
        The transport is closed; the exchange is told as well.
        """


@implementer(IPushProducer)
class WatchedProducer:
    """
    The producer of a response, whose pauses its exchange knows.
    """

    __slots__ = ("_exchange", "_producer", "stopProducing")

    def __init__(self, exchange: PausedExchange, producer: IPushProducer) -> None:
        self._exchange = exchange
        self._producer = producer
        self.stopProducing = producer.stopProducing

    def pauseProducing(self) -> None:
        self._exchange.writingPaused()
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._exchange.writingResumed()
        self._producer.resumeProducing()

"""
Twisted's two kinds of producers as one.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IDelayedCall, IProducer, IPullProducer, IPushProducer, IReactorTime
from zope.interface import implementer


@implementer(IPushProducer)
class PullProducerAdapter:
    """
    Makes a push producer of a pull producer, by asking it for one piece each turn of the reactor until it is paused.
    """

    def __init__(self, producer: IPullProducer, clock: IReactorTime) -> None:
        self._producer = producer
        self._clock = clock
        self._call: IDelayedCall | None = None

    def resumeProducing(self) -> None:
        if self._call is None:
            self._call = self._clock.callLater(0, self._resume)

    def pauseProducing(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def stopProducing(self) -> None:
        self.pauseProducing()
        self._producer.stopProducing()

    def _resume(self) -> None:
        self._call = None
        self.resumeProducing()
        self._producer.resumeProducing()


def pushProducer(producer: IProducer, streaming: bool, clock: IReactorTime) -> IPushProducer:
    """
    @param producer: what was registered, with C{streaming}, as in C{IConsumer}.
    """
    if streaming:
        return cast(IPushProducer, producer)
    return PullProducerAdapter(cast(IPullProducer, producer), clock)

"""
Twisted's two kinds of producers as one.
"""

from __future__ import annotations

from typing import Any


class PullProducerAdapter:
    """
    A producer that must be asked for every piece, as one that is told to stop.
    """

    def __init__(self, producer: Any, clock: Any) -> None:
        self._producer = producer
        self._clock = clock
        self._call: Any = None

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

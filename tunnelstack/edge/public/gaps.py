"""
Services whose agent has just gone, and the requests that wait for it.

An event stream in a browser (C{EventSource}) connects again by itself when its connection ends, but gives up finally at a
response with an error.  So a request for nothing but an event stream waits while an agent starts again.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.wire.http1.head import RequestHead, values

GAP_SECONDS = 5.0
"""Seconds for which a request waits for a service."""

RECENT_SECONDS = 60.0
"""Seconds ago at which the service must have been there."""

EVENT_STREAM = b"text/event-stream"


def acceptsOnlyEvents(head: RequestHead) -> bool:
    """
    @return: whether a request is of a program that accepts only an event stream.
    """
    accepted = [each for value in values(head.fields, b"accept") for each in value.split(b",")]
    return head.method == b"GET" and bool(accepted) and all(
        each.partition(b";")[0].strip(b" \t").lower() == EVENT_STREAM for each in accepted
    )


class ServiceGaps:
    """
    The requests that wait, by the key of their service.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[str, list[Deferred[ExchangeFailed | None]]] = {}

    def __len__(self) -> int:
        """
        How many wait.
        """
        return sum(map(len, self._waiting.values()))

    def wait(self, key: str) -> Deferred[ExchangeFailed | None]:
        """
        @return: fires with C{None} when an agent publishes the service, or with the failure to answer if that takes too long.
        """
        published: Deferred[ExchangeFailed | None] = Deferred()
        self._waiting.setdefault(key, []).append(published)
        deadline = self._clock.callLater(GAP_SECONDS, self._expired, key, published)
        return published.addCallback(self._decided, deadline)

    def nameChanged(self, kind: str, name: str, held: bool) -> None:
        """
        A watcher of the registry.
        """
        if held and kind == "http" and self._waiting:
            for key in [key for key in self._waiting if key.rpartition("/")[2] == name]:
                for published in self._waiting.pop(key):
                    self._clock.callLater(0, published.callback, None)      # after the agent was sent the grant

    def _expired(self, key: str, published: Deferred[ExchangeFailed | None]) -> None:
        waiting = self._waiting.get(key, [])
        if published in waiting:
            waiting.remove(published)
            if not waiting:
                del self._waiting[key]
            published.callback(ExchangeFailed(FailureKind.ABSENT, service=key))

    def _decided(self, failed: ExchangeFailed | None, deadline: IDelayedCall) -> ExchangeFailed | None:
        if deadline.active():
            deadline.cancel()
        return failed

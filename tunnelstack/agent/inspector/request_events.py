"""
The events by which a page follows the list of requests.

What waits for a slow reader is the set of requests that have changed, and not their summaries; so it is as bounded as the list.
"""

from __future__ import annotations

from tunnelstack.agent.inspector.recorded_request import RecordedRequest
from tunnelstack.agent.inspector.report import summaryOf
from tunnelstack.pages.json_octets import asOctets

MOST_EVENTS = 100
"""Events that are written at once."""

MOST_WAITING = 2000
"""Requests that wait for a reader.  Beyond, it is sent C{forgotten}, and reads the list again."""


class RequestEvents:
    """
    What waits for one reader, as L{Events<tunnelstack.pages.event_stream.Events>}.
    """

    def __init__(self) -> None:
        self._changed: dict[int, RecordedRequest] = {}
        self._reset = False

    def __len__(self) -> int:
        return len(self._changed)

    def changed(self, request: RecordedRequest) -> None:
        """
        A request has begun, has a response, or has ended.
        """
        self._changed[request.id] = request
        if len(self._changed) > MOST_WAITING:
            self.reset()

    def reset(self) -> None:
        """
        Requests were forgotten: the reader shall read the list again.
        """
        self._changed.clear()
        self._reset = True

    def waiting(self) -> bool:
        return bool(self._changed) or self._reset

    def take(self) -> bytes:
        pieces = [b"event: forgotten\ndata: {}\n\n"] if self._reset else []
        self._reset = False
        for request in [*self._changed.values()][:MOST_EVENTS]:
            del self._changed[request.id]
            if not request.forgotten:
                pieces.append(b"event: request\ndata: " + asOctets(summaryOf(request)) + b"\n\n")
        return b"".join(pieces)

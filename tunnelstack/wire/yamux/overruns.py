"""
Streams that were reset because the peer sent more than its credit, and what may still arrive for them.
"""

from __future__ import annotations

from tunnelstack.wire.yamux.errors import WindowOverrun

OVERRUNS_REMEMBERED = 64    # streams whose further payload is counted; the oldest is forgotten first


class OverrunTable:
    """
    A Go peer may have one window more on its way when its stream is reset for an overrun, not two: payload beyond that ends
    the session.

    @ivar left: for each stream, the octets that may still arrive.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.left)

    def add(self, stream_id: int, window: int) -> None:
        """
        A stream is reset for an overrun.

        @param window: octets of its window, hence octets that may still arrive.
        """
        if len(self.left) >= OVERRUNS_REMEMBERED:
            del self.left[next(iter(self.left))]
        self.left[stream_id] = window

    def count(self, stream_id: int, octets: int) -> None:
        """
        Payload beyond credit has arrived.  Nothing happens for a stream that is not in the table.

        @raise WindowOverrun: more than may still arrive.
        """
        left = self.left.get(stream_id)
        if left is None:
            return
        if octets > left:
            raise WindowOverrun("payload far beyond credit", stream=stream_id, octets=octets, tolerated=left)
        self.left[stream_id] = left - octets

    def forget(self, stream_id: int) -> None:
        """
        The peer has ended the stream, or opens it anew.
        """
        self.left.pop(stream_id, None)

    def clear(self) -> None:
        """
        The session is over.
        """
        self.left.clear()

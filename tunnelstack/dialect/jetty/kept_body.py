"""
What was written of the body of a request, as long as the request may be sent once more.
"""

from __future__ import annotations

REPEATABLE_OCTETS = 64 * 1024
"""Octets that are kept once the request is being sent."""

RETRY_SECONDS = 5.0
"""Within which a request is sent once more."""


class KeptBody:
    """
    The pieces of the body so far.

    @ivar pieces: none once they are too long, or are not needed any more.
    """

    __slots__ = ("_first", "_octets", "_repeatable", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._octets = 0
        self._repeatable = True
        self._first: float | None = None      # when the request was sent first

    @property
    def sent(self) -> bool:
        """
        Whether the request was sent at all.
        """
        return self._first is not None

    def begin(self, now: float) -> None:
        """
        The request is sent, perhaps again.
        """
        if self._first is None:
            self._first = now
        self._bound()

    def add(self, octets: bytes, sending: bool) -> None:
        """
        A piece was written.

        @param sending: it was sent as well; before, all is kept, since the producer is paused.
        """
        if self._repeatable:
            self.pieces.append(octets)
            self._octets += len(octets)
            if sending:
                self._bound()

    def forget(self) -> None:
        """
        The request is not sent again.
        """
        self._repeatable = False
        self.pieces.clear()

    def repeat(self, now: float) -> bool:
        """
        @return: whether the request may be sent once more now.  It may be only once.
        """
        if not self._repeatable or self._first is None or self._first < 0 or now - self._first > RETRY_SECONDS:
            return False
        self._first = -1.0
        return True

    def _bound(self) -> None:
        if self._octets > REPEATABLE_OCTETS:
            self.forget()

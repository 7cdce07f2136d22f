"""
Waits that grow by a factor, each varied by a share of itself.
"""

from __future__ import annotations

from collections.abc import Callable


class ExponentialBackoff:
    """
    The waits between attempts.

    Source: the defaults of C{cenkalti/backoff}, which many agents in Go use.
    """

    def __init__(
        self, random: Callable[[], float], *, first: float = 0.5, factor: float = 1.5, spread: float = 0.5, most: float = 60.0
    ) -> None:
        """
        @param random: gives a number from 0 to 1.
        @param first: seconds of the first wait.
        @param factor: by which each wait is longer than the one before.
        @param spread: the share of a wait by which it is at most longer or shorter.
        @param most: seconds of the longest wait, before it is varied.
        """
        self._random = random
        self._first = first
        self._factor = factor
        self._spread = spread
        self._most = most
        self._seconds = first

    def reset(self) -> None:
        """
        Begin with the first wait again.
        """
        self._seconds = self._first

    def next(self) -> float:
        """
        @return: seconds to wait now.
        """
        seconds = self._seconds
        self._seconds = min(self._most, seconds * self._factor)
        return seconds * (1.0 - self._spread + 2.0 * self._spread * self._random())

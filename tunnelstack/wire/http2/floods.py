"""
Counting frames that cost a receiver more than they cost their sender.

A peer may send each kind of them as often as its traffic needs, which is added up in advance.  What it sends in excess fills a
bucket, which empties with time; a bucket that overflows ends the connection.

Sources: CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316 and CVE-2025-8671.
"""

from __future__ import annotations

from tunnelstack.wire.http2.errors import HTTP2Flood
from tunnelstack.wire.http2.limits import HTTP2Limits

OCTETS_PER_UPDATE = 512
"""Octets of payload that were sent, for which one WINDOW_UPDATE frame may be needed: Go sends two for 4096."""

UPDATES_PER_DATA = 4
"""WINDOW_UPDATE frames that one DATA frame may need beside these."""

PINGS_PER_DATA = 1
"""PING frames that one DATA frame may need: gRPC measures how fast its peer sends by a ping for what it has received."""

UPDATES_NEEDED = 100_000
"""How many may be needed at most that have not come yet: for some 50 MiB."""

FRAMES_PER_STREAM = 4
"""PRIORITY frames that one stream may need, and WINDOW_UPDATE frames: gRPC sends some as soon as it has opened a stream."""


class Flood:
    """
    The bucket of one kind of frame.
    """

    __slots__ = ("_at", "_drain", "_level", "_limit", "_most", "_needed", "_what")

    def __init__(self, what: str, limit: int, seconds: float, most: int = 0) -> None:
        """
        @param what: the frames, in words, for the reason of the end.
        @param limit: how many at once.
        @param seconds: in which a full bucket empties.
        @param most: how many the traffic may need that the peer has not sent yet; C{limit} unless given.
        """
        self._what = what
        self._limit = limit
        self._drain = limit / seconds
        self._most = most or limit
        self._needed = 0
        self._level = 0.0
        self._at = 0.0

    def count(self, now: float) -> None:
        """
        One more.

        @raise HTTP2Flood: that is too many.
        """
        if self._needed:
            self._needed -= 1
            return
        level = self._level - (now - self._at) * self._drain
        self._level = level = (level if level > 0.0 else 0.0) + 1.0
        self._at = now
        if level > self._limit:
            raise HTTP2Flood(self._what, self._limit)

    def make_up(self, frames: int) -> None:
        """
        The traffic needs so many.
        """
        self._needed = min(self._needed + frames, self._most)


class FloodGuard:
    """
    The buckets of one connection.
    """

    __slots__ = ("empty_frames", "pings", "priorities", "resets", "settings", "window_updates")

    def __init__(self, limits: HTTP2Limits) -> None:
        seconds = limits.flood_seconds
        self.resets = Flood("resets", limits.resets, seconds)
        self.pings = Flood("PING frames", limits.pings, seconds)
        self.settings = Flood("SETTINGS frames", limits.settings, seconds)
        self.empty_frames = Flood("frames without content", limits.empty_frames, seconds)
        self.window_updates = Flood("WINDOW_UPDATE frames", limits.window_updates, seconds, UPDATES_NEEDED)
        self.priorities = Flood("PRIORITY frames and frames of unknown kinds", limits.priorities, seconds)

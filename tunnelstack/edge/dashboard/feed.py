"""
The events by which pages follow the state of an edge.

All pages share one snapshot, which is made anew while there is at least one of them; without a page there is no timer.  What
waits for a page that does not read is the newest snapshot, and no older one.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.edge.slices import SlicedWork, Steps
from tunnelstack.pages.event_stream import EventStream, EventStreams
from tunnelstack.pages.json_octets import asOctets

INTERVAL_SECONDS = 2.0
"""Seconds from one snapshot to the next."""


class Snapshots:
    """
    What waits for one page, as L{Events<tunnelstack.pages.event_stream.Events>}.
    """

    def __init__(self) -> None:
        self._newest = b""

    def offer(self, event: bytes) -> None:
        """
        Replace the snapshot that waits.
        """
        self._newest = event

    def waiting(self) -> bool:
        return bool(self._newest)

    def take(self) -> bytes:
        newest, self._newest = self._newest, b""
        return newest


class StatusFeed:
    """
    Sends snapshots to the pages that are open.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, work: SlicedWork, read: Callable[[], Steps[dict[str, object]]]) -> None:
        """
        @param read: makes a snapshot.
        """
        self._clock = clock
        self._work = work
        self._read = read
        self._streams = EventStreams(clock)
        self._pages: dict[Snapshots, EventStream] = {}
        self._newest = b""
        self._timer: IDelayedCall | None = None
        self._reading = False

    def follow(self) -> EventStream:
        """
        @return: the stream for one more page.
        @raise Refusal: too many pages are open.
        """
        snapshots = Snapshots()
        stream = self._streams.open(snapshots, lambda: self._left(snapshots))
        self._pages[snapshots] = stream
        if self._timer is not None:           # the last snapshot is not old
            snapshots.offer(self._newest)
        elif not self._reading:
            self._makeSnapshot()
        return stream

    def end(self) -> None:
        """
        End all streams.
        """
        self._streams.end()

    def _left(self, snapshots: Snapshots) -> None:
        self._pages.pop(snapshots, None)
        timer = self._timer
        if not self._pages and timer is not None:
            self._timer, self._newest = None, b""
            timer.cancel()

    def _makeSnapshot(self) -> None:
        self._timer = None
        self._reading = True
        self._work.do(self._read()).addCallbacks(self._snapshotMade, self._snapshotFailed)

    def _snapshotMade(self, snapshot: dict[str, object]) -> None:
        self._reading = False
        if not self._pages:
            return
        self._newest = b"event: status\ndata: " + asOctets(snapshot) + b"\n\n"
        for snapshots, stream in list(self._pages.items()):
            snapshots.offer(self._newest)
            stream.wake()
        self._timer = self._clock.callLater(INTERVAL_SECONDS, self._makeSnapshot)

    def _snapshotFailed(self, failure: Failure) -> None:
        self._reading = False
        self.log.failure("the state of the edge could not be read", failure=failure)
        if self._pages:
            self._timer = self._clock.callLater(INTERVAL_SECONDS, self._makeSnapshot)

"""
The events of a C{text/event-stream}, read as an observer: an event is kept up to a bound.

Source: the WHATWG's HTML standard, section 9.2.5.
"""

from __future__ import annotations

import re

from attrs import define

LINE_END = re.compile(rb"\r\n|\n|\r")


@define
class StreamEvent:
    """
    One event, with its lines as they are.

    @ivar octets: its length.
    @ivar kept: its beginning; each line ends with a line feed.
    """

    octets: int
    kept: bytes

    @property
    def cut(self) -> bool:
        """
        Not all of the event is kept.
        """
        return len(self.kept) < self.octets


class EventStreamReader:
    """
    Divides a stream into events.
    """

    def __init__(self, keep: int) -> None:
        """
        @param keep: octets of each event that are kept.
        """
        self._keep = keep
        self._kept = bytearray()
        self._octets = 0
        self._line = 0                # octets of the present line
        self._carriage_return = False

    def receive_data(self, octets: bytes) -> list[StreamEvent]:
        """
        Octets of the stream, cut anywhere.

        @return: the events that have ended.
        """
        if not octets:
            return []
        if self._carriage_return and octets[:1] == b"\n":
            octets = octets[1:]
        self._carriage_return = octets.endswith(b"\r")
        found: list[StreamEvent] = []
        *lines, rest = LINE_END.split(octets)
        for line in lines:
            self._add(line)
            self._end_line(found)
        self._add(rest)
        return found

    def _add(self, octets: bytes) -> None:
        self._line += len(octets)
        self._octets += len(octets)
        self._kept += octets[: max(0, self._keep - len(self._kept))]

    def _end_line(self, found: list[StreamEvent]) -> None:
        if self._line:
            self._line = 0
            self._add(b"\n")
            self._line = 0
        elif self._octets:
            found.append(StreamEvent(self._octets, bytes(self._kept)))
            self._kept.clear()
            self._octets = 0

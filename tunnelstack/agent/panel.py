"""
The panel of an agent on a terminal: a few lines that are redrawn in place, and above them the log.  The lines are sessions,
published services, requests that are open, and the last requests.  Where standard output is not a terminal, status lines are
written instead, one for each change.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from tunnelstack.agent.panel_layout import Line, columnsOf, cut, limited, rowsOf
from tunnelstack.control.access_log import AccessRecord, Output
from tunnelstack.control.process.line_times import LineTime, timeOfDay
from tunnelstack.control.process.status_log import (
    COLUMN,
    LEVEL_NAMES,
    isStatus,
    oneLine,
    statusWord,
    withTraceback,
)
from tunnelstack.wire.printable_text import LINE, printable

REQUESTS = 6
"""How many requests that have ended are shown."""

OPEN_SECONDS = 1.0
"""Seconds after which a request that has not ended is shown."""

POLL_SECONDS = 1.0
"""Seconds from one look at the open requests to the next."""

ABOVE_LINES = 1000
"""How many lines of the log may wait while the terminal takes no text; the oldest are dropped."""

DRAW_SECONDS = 0.1
"""The least time between two drawings, in seconds."""

NO_COLOURS = {"good": "", "bad": "", "dim": "", "": ""}
COLOURS = {"good": "\x1b[32m", "bad": "\x1b[31m", "dim": "\x1b[2m", "": "\x1b[0m"}


def canRedraw(out: Output, environ: Mapping[str, str]) -> bool:
    """
    Whether lines on this output can be redrawn in place.
    """
    return out.isatty() and environ.get("TERM", "dumb") not in ("", "dumb")


@implementer(ILogObserver)
class Panel:
    """
    Draws what happens to an agent: an observer of its log, which is given requests as well.

    A drawing never has more rows than the terminal, so that the next one can replace all of it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        write: Callable[[str], object],
        size: Callable[[], tuple[int, int]],
        *,
        colours: bool = True,
        pending: Callable[[], bool] = lambda: False,
        openRequests: Callable[[], Iterable[AccessRecord]] | None = None,
        lineTime: LineTime = timeOfDay,
    ) -> None:
        """
        @param write: writes text to the terminal.
        @param size: gives the present rows and columns of the terminal.
        @param colours: whether to use colours.
        @param pending: whether the terminal has not taken all of the text that was written.
        @param openRequests: gives the requests that have not ended, the oldest first; called every L{POLL_SECONDS}.
        @param lineTime: gives the beginning of lines of the log.
        """
        self._clock = clock
        self._write = write
        self._size = size
        self._colours = COLOURS if colours else NO_COLOURS
        self._sessions: dict[str, Line] = {}                   # by edge
        self._services: dict[str, str] = {}
        self._unpublished: dict[str, str] = {}
        self._requests: deque[AccessRecord] = deque(maxlen=REQUESTS)
        self._above: deque[str] = deque()
        self._leftOut = 0
        self._pending = pending
        self._time = lineTime
        self._openRequests = openRequests
        self._drawn: list[Line] = []
        self._timer: IDelayedCall | None = None
        if openRequests is not None:
            clock.callLater(POLL_SECONDS, self._poll)

    def __call__(self, event: LogEvent) -> None:
        if not isStatus(event):
            if event["log_level"] in LEVEL_NAMES:
                self._appendMessage(LEVEL_NAMES[event["log_level"]], withTraceback(event), event["log_time"])
            return
        text = oneLine(event)
        if "edge" in event and (event.get("status") == "session" or "session with" in event["log_format"]):
            good = event["log_level"] is LogLevel.info
            self._sessions[str(event["edge"])] = (_labelled("session", text), "good" if good else "bad")
        elif "where" in event and "target" in event:
            self._serviceChanged(str(event["status"]), text if event["where"] else "")
        elif "unpublished" in event and event["log_level"] is not LogLevel.info:
            self._unpublished[str(event["unpublished"])] = text
            self._services.pop(str(event["unpublished"]), None)
        else:
            self._appendMessage(statusWord(event) or LEVEL_NAMES[event["log_level"]], text, event["log_time"])
        self._scheduleDraw()

    def _serviceChanged(self, name: str, text: str) -> None:
        """
        A service was published, or withdrawn if there is no text.
        """
        self._unpublished.pop(name, None)
        if text:
            self._services[name] = text
        else:
            self._services.pop(name, None)

    def requestDone(self, access: AccessRecord) -> None:
        """
        Show a request that has ended.
        """
        self._requests.append(access)
        self._scheduleDraw()

    def resized(self) -> None:
        """
        The terminal has another size.
        """
        self._scheduleDraw()

    def _poll(self) -> None:
        """
        Draw if the open requests have changed.
        """
        self._clock.callLater(POLL_SECONDS, self._poll)
        if self._lines(*self._size()) != self._drawn:
            self._scheduleDraw()

    def _appendMessage(self, word: str, text: str, seconds: float) -> None:
        self._above += f"{self._time(seconds)}{_labelled(word, text)}".split("\n")[:40]
        while len(self._above) > ABOVE_LINES:
            self._above.popleft()
            self._leftOut += 1
        self._scheduleDraw()

    def _scheduleDraw(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(DRAW_SECONDS, self.draw)

    def draw(self) -> None:
        """
        Draw the present state.  While the terminal has not taken the previous drawing, because it is stopped, the drawing is
        postponed.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._pending():
            self._scheduleDraw()
            return
        rows, columns = self._size()
        lines = self._lines(rows, columns)
        above, self._above = self._above, deque()
        if self._leftOut:
            dropped = _labelled("warning", f"{self._leftOut} lines were dropped here: the terminal was stopped")
            above.appendleft(self._time(time.time()) + dropped)
            self._leftOut = 0
        self._write(
            self._erase(rows, columns) + "".join(f"{printable(line, LINE)}\n" for line in above)
            + "".join(f"{self._coloured(line)}\n" for line in lines)
        )
        self._drawn = lines

    def _erase(self, rows: int, columns: int) -> str:
        """
        Move to the beginning of the last drawing, and erase it.  If the terminal has become narrower since, it has wrapped the
        lines; if it has fewer rows, the first of them have left it.
        """
        up = min(sum(rowsOf(columnsOf(text), columns) for text, _ in self._drawn), rows - 1)
        return f"\x1b[{up}A\r\x1b[J" if up > 0 else ""

    def _coloured(self, line: Line) -> str:
        text, mark = line
        return f"{self._colours[mark]}{text}{self._colours['']}" if mark else text

    def _lines(self, rows: int, columns: int) -> list[Line]:
        """
        The lines of a drawing: as many as fit above the row of the cursor.
        """
        room, width = max(1, rows - 1), max(1, columns - 1)
        waiting, recent = self._open(width), [self._finished(access, width) for access in self._requests]
        lines = limited(list(self._sessions.values()), max(1, room // 3), "sessions")
        room -= len(lines)
        reserved = min(len(waiting) + len(recent) + 1, room // 3) if waiting or recent else 0
        lines += limited(self._serviceLines(), room - reserved, "services")
        room = max(1, rows - 1) - len(lines) - 1
        if room > 0 and (waiting or recent):
            shown = limited(waiting, max(1, room - min(len(recent), room // 2)), "open requests")
            last = recent[len(recent) - min(len(recent), room - len(shown)) :]
            lines += [("", ""), *shown, *last]
        return [(cut(printable(text, LINE), width), mark) for text, mark in lines]

    def _serviceLines(self) -> list[Line]:
        """
        The services, those that no edge publishes first.
        """
        bad = [(_labelled(name, text), "bad") for name, text in self._unpublished.items()]
        return [*bad, *((_labelled(name, text), "") for name, text in self._services.items())]

    def _open(self, width: int) -> list[Line]:
        """
        The requests that have been open for some time, such as WebSockets and long downloads.
        """
        requests = () if self._openRequests is None else self._openRequests()
        return [
            (_request(access, f"open {access.seconds:.0f} s", width), "good")
            for access in requests
            if access.seconds >= OPEN_SECONDS
        ]

    def _finished(self, access: AccessRecord, width: int) -> Line:
        text = _request(access, f"{access.seconds * 1000:.1f} ms", width)
        return text, "bad" if access.status >= 500 else "dim"


def _labelled(word: str, text: str) -> str:
    return f"{word:<{COLUMN - 1}} {text}"


def _request(access: AccessRecord, duration: str, width: int) -> str:
    """
    A request in at most C{width} columns; its target is cut first.
    """
    end = f"  {access.status or '---'}  {duration:>11}"
    request = cut(printable(_labelled(access.service, f"{access.method:<6} {access.target}")), max(0, width - len(end)))
    return request.ljust(min(width - len(end), 60)) + end

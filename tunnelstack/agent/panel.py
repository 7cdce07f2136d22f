"""
The panel of an agent on a terminal: a few lines that are redrawn in place, and above them the log.  The lines are sessions,
services, figures, requests that are open, and the last requests.  Where standard output is not a terminal, status lines are
written instead, one for each change.

The texts of sessions and services are those of log events.  What changes without an event is read from the agent: which of them
are up, the round trips, and the time of the next attempt.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from tunnelstack.agent.panel_figures import Figures
from tunnelstack.agent.panel_layout import Line, columnsOf, cut, cutMark, encodable, fitting, limited, rowsOf
from tunnelstack.agent.panel_state import LinkState, ServiceState
from tunnelstack.control.access_record import AccessRecord
from tunnelstack.control.process.line_times import LineTime, timeOfDay
from tunnelstack.control.process.status_log import (
    COLUMN,
    LEVEL_NAMES,
    isStatus,
    oneLine,
    statusWord,
    withTraceback,
)
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.wire.printable_text import LINE, printable

REQUESTS = 6
"""How many requests that have ended are shown."""

OPEN_SECONDS = 1.0
"""Seconds after which a request that has not ended is shown."""

POLL_SECONDS = 1.0
"""Seconds from one look at the agent to the next."""

NARROW = 50
"""Columns of a terminal below which a request is shown without its time and its service."""

VERY_NARROW = 24
"""Columns below which a session is shown without its first word."""

REQUEST_COLUMNS = 60
"""Columns of service, method and target of requests whose text is shorter."""

ABOVE_LINES = 1000
"""How many lines of the log may wait while the terminal takes no text; the oldest are dropped."""

DRAW_SECONDS = 0.1
"""The least time between two drawings, in seconds."""

COLOURS = {"good": "\x1b[32m", "wait": "\x1b[33m", "bad": "\x1b[31m", "dim": "\x1b[2m", "": "\x1b[0m"}
NO_COLOURS = dict.fromkeys(COLOURS, "")


class PanelState(Protocol):
    """
    What a panel reads of its agent, such as an L{AgentState<tunnelstack.agent.panel_state.AgentState>}.
    """

    def links(self) -> Sequence[LinkState]: ...

    def services(self) -> Sequence[ServiceState]: ...

    def openRequests(self) -> Iterable[AccessRecord]: ...

    def octets(self) -> tuple[int, int]: ...

    def measure(self) -> None: ...


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
        state: PanelState | None = None,
        encoding: str = "utf-8",
        lineTime: LineTime = timeOfDay,
    ) -> None:
        """
        @param write: writes text to the terminal.
        @param size: gives the present rows and columns of the terminal.
        @param colours: whether to use colours.
        @param pending: whether the terminal has not taken all of the text that was written.
        @param state: gives the state of the agent; read every L{POLL_SECONDS}.
        @param encoding: of the terminal.
        @param lineTime: gives the beginning of lines of the log and of requests.
        """
        self._clock = clock
        self._write = write
        self._size = size
        self._colours = COLOURS if colours else NO_COLOURS
        self._sessions: dict[str, LogEvent] = {}               # the last event, by edge
        self._services: dict[str, str] = {}
        self._unpublished: dict[str, str] = {}
        self._down: dict[str, tuple[float, str]] = {}          # services whose local server did not answer: when, and why
        self._requests: deque[tuple[float, AccessRecord]] = deque(maxlen=REQUESTS)     # with when they ended
        self._figures = Figures()
        self._above: deque[str] = deque()
        self._leftOut = 0
        self._pending = pending
        self._time = lineTime
        self._state = state
        self._encoding, self._cutMark = encoding, cutMark(encoding)
        self._drawn: list[Line] = []
        self._timer: IDelayedCall | None = None
        if state is not None:
            self._figures.sample(clock.seconds(), *state.octets())
            clock.callLater(POLL_SECONDS, self._poll, state)

    def __call__(self, event: LogEvent) -> None:
        if not isStatus(event):
            if event["log_level"] in LEVEL_NAMES:
                self._appendMessage(LEVEL_NAMES[event["log_level"]], withTraceback(event), event["log_time"])
            return
        text = oneLine(event)
        if "edge" in event and (event.get("status") == "session" or "session with" in event["log_format"]):
            self._sessions[str(event["edge"])] = event
        elif "where" in event and "target" in event:
            self._serviceChanged(str(event["status"]), text if event["where"] else "")
        elif "unpublished" in event and event["log_level"] is not LogLevel.info:
            self._unpublished[str(event["unpublished"])] = text
            self._services.pop(str(event["unpublished"]), None)
        else:
            if event.get("down") is True:
                self._down[str(event["service"])] = event["log_time"], text.partition(";")[0]
            elif event.get("down") is False:
                self._down.pop(str(event["service"]), None)
            self._appendMessage(statusWord(event) or LEVEL_NAMES[event["log_level"]], text, event["log_time"])
        self._scheduleDraw()

    def _serviceChanged(self, name: str, text: str) -> None:
        """
        A service was published, or withdrawn if there is no text.
        """
        self._unpublished.pop(name, None)
        if self._services.get(name, text) != text:     # another target
            self._down.pop(name, None)
        if text:
            self._services[name] = text
        else:
            self._services.pop(name, None)

    def requestDone(self, access: AccessRecord) -> None:
        """
        Show a request that has ended.
        """
        now = time.time()
        self._requests.append((now, access))
        self._figures.requestDone(access)
        if isinstance(access.failed, ExchangeFailed) and access.failed.kind is FailureKind.UNREACHABLE:
            self._down[access.service] = now, access.failed.sentence
        else:
            self._down.pop(access.service, None)
        self._scheduleDraw()

    def resized(self) -> None:
        """
        The terminal has another size.
        """
        self._scheduleDraw()

    def _poll(self, state: PanelState) -> None:
        """
        Draw if the state has changed.
        """
        self._clock.callLater(POLL_SECONDS, self._poll, state)
        state.measure()
        self._figures.sample(self._clock.seconds(), *state.octets())
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
            self._erase(rows, columns) + "".join(f"{self._visible(line)}\n" for line in above)
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
        waiting, recent = self._open(width), [self._finished(at, access, width) for at, access in self._requests]
        lines = limited(self._sessionLines(width), max(1, room // 3), "sessions")
        room -= len(lines)
        figures = self._figureLines(width)[: max(0, room - 1)]
        reserved = min(len(waiting) + len(recent) + 1, room // 3) if waiting or recent else 0
        lines += limited(self._serviceLines(), room - reserved - len(figures), "services") + figures
        room = max(1, rows - 1) - len(lines) - 1
        if room > 0 and (waiting or recent):
            shown = limited(waiting, max(1, room - min(len(recent), room // 2)), "open requests")
            last = recent[len(recent) - min(len(recent), room - len(shown)) :]
            lines += [("", ""), *shown, *last]
        return [(cut(self._visible(text), width, self._cutMark), mark) for text, mark in lines]

    def _visible(self, text: str) -> str:
        return encodable(printable(text, LINE), self._encoding)

    def _sessionLines(self, width: int) -> list[Line]:
        """
        A line for each edge.
        """
        links = {} if self._state is None else {link.edge: link for link in self._state.links()}
        lines = [_sessionLine(edge, self._sessions.get(edge), links.get(edge)) for edge in {**links, **self._sessions}]
        return lines if width < VERY_NARROW else [(_labelled("session", text), mark) for text, mark in lines]

    def _serviceLines(self) -> list[Line]:
        """
        The services, those that visitors do not reach first.
        """
        states: dict[str, ServiceState] = {}
        for state in () if self._state is None else self._state.services():
            if state.name not in states or state.published:     # a name may be used for services of several kinds
                states[state.name] = state
        names = dict.fromkeys([*self._unpublished, *self._services, *states])
        lines = [self._serviceLine(name, states.get(name)) for name in names]
        return sorted(lines, key=lambda line: line[1] != "bad")

    def _serviceLine(self, name: str, state: ServiceState | None) -> Line:
        """
        One service: refused, waiting for a session, down, or published.
        """
        if name in self._unpublished:
            return _labelled(name, self._unpublished[name]), "bad"
        text = self._services.get(name) or (state.target if state is not None else "")
        if state is not None and not state.published:
            return (_labelled(name, state.refused), "bad") if state.refused else (_labelled(name, f"waiting   {text}"), "wait")
        if name in self._down:
            at, reason = self._down[name]
            return _labelled(name, f"down   {self._time(at)}{reason}   {text}"), "bad"
        return _labelled(name, text), "good"

    def _figureLines(self, width: int) -> list[Line]:
        """
        The totals and rates, as far as they fit.
        """
        pieces = self._figures.pieces()
        return [(_labelled("requests", fitting(pieces, width - COLUMN)), "")] if pieces else []

    def _open(self, width: int) -> list[Line]:
        """
        The requests that have been open for some time, such as WebSockets and long downloads.
        """
        requests = () if self._state is None else self._state.openRequests()
        now = time.time()
        return [
            (self._request(now - access.seconds, access, f"open {access.seconds:.0f} s", width), "good")
            for access in requests
            if access.seconds >= OPEN_SECONDS
        ]

    def _finished(self, at: float, access: AccessRecord, width: int) -> Line:
        text = self._request(at, access, f"{access.seconds * 1000:.1f} ms", width)
        return text, "bad" if access.status >= 500 else "dim"

    def _request(self, at: float, access: AccessRecord, duration: str, width: int) -> str:
        """
        A request in at most C{width} columns; its target is cut first.
        """
        if width < NARROW:
            when, end, request = "", f" {access.status or '---'} {duration}", f"{access.method} {access.target}"
        else:
            when, end = self._time(at), f"  {access.status or '---'}  {duration:>11}"
            request = _labelled(access.service, f"{access.method:<6} {access.target}")
        room = max(0, width - len(when) - len(end))
        return when + cut(self._visible(request), room, self._cutMark).ljust(min(room, REQUEST_COLUMNS)) + end


def _sessionLine(edge: str, event: LogEvent | None, link: LinkState | None) -> Line:
    """
    @param event: the last one of this session; C{None} if there was none.
    @param link: its state; C{None} if it is not known.
    @return: the line without its first word.
    """
    good = event is not None and event["log_level"] is LogLevel.info
    if event is not None and (link is None or (link.up and good)):
        shown = {**event, "rtt": f"{link.rtt * 1000:.1f}ms"} if link is not None and link.rtt is not None else event
        return oneLine(shown), "good" if good else "bad"
    if link is None or link.up:
        return f"up   edge={edge}", "good"
    reason = oneLine(event) if event is not None and not good else f"no session with {edge}"
    if link.retry is not None:
        return f"retry in {ceil(link.retry)} s   {reason}", "bad"
    if link.dialling:
        return f"connecting   {reason}", "wait" if event is None else "bad"
    return f"closed   {reason}", "dim"


def _labelled(word: str, text: str) -> str:
    return f"{word:<{COLUMN - 1}} {text}"

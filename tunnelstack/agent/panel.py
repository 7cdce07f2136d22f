"""
The panel of an agent on a terminal: a few lines that are redrawn in place (sessions, published services, the last requests),
and above them the log.  Where standard output is not a terminal, status lines are written instead, one for each change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from tunnelstack.control.access_log import AccessRecord, Output
from tunnelstack.control.process.status_log import COLUMN, LEVEL_NAMES, isStatus, oneLine, withTraceback
from tunnelstack.wire.printable_text import LINE, printable

REQUESTS = 6
"""How many requests are shown."""

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
    """

    def __init__(
        self,
        clock: IReactorTime,
        write: Callable[[str], object],
        columns: Callable[[], int],
        *,
        colours: bool = True,
        pending: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        @param write: writes text to the terminal.
        @param columns: gives the present width of the terminal.
        @param colours: whether to use colours.
        @param pending: whether the terminal has not taken all of the text that was written.
        """
        self._clock = clock
        self._write = write
        self._columns = columns
        self._colours = COLOURS if colours else NO_COLOURS
        self._sessions: dict[str, tuple[str, str]] = {}        # by edge: the text and its colour
        self._services: dict[str, str] = {}
        self._requests: deque[AccessRecord] = deque(maxlen=REQUESTS)
        self._above: deque[str] = deque()
        self._leftOut = 0
        self._pending = pending
        self._drawn = 0
        self._timer: IDelayedCall | None = None

    def __call__(self, event: LogEvent) -> None:
        if not isStatus(event):
            if event["log_level"] in LEVEL_NAMES:
                self._appendMessage(LEVEL_NAMES[event["log_level"]], withTraceback(event))
            return
        text = oneLine(event)
        if "edge" in event and (event.get("status") == "session" or "session with" in event["log_format"]):
            good = event["log_level"] is LogLevel.info
            self._sessions[str(event["edge"])] = (text, "good" if good else "bad")
        elif "where" in event and "target" in event:
            self._serviceChanged(str(event["status"]), text if event["where"] else "")
        else:
            self._appendMessage(str(event.get("status") or LEVEL_NAMES[event["log_level"]]), text)
        self._scheduleDraw()

    def _serviceChanged(self, name: str, text: str) -> None:
        """
        A service was published, or withdrawn if there is no text.
        """
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

    def _appendMessage(self, word: str, text: str) -> None:
        self._above += f"{word:<{COLUMN - 1}} {text}".split("\n")[:40]
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
        lines = self._lines()
        above, self._above = self._above, deque()
        if self._leftOut:
            above.appendleft(f"{'warning':<{COLUMN - 1}} {self._leftOut} lines were dropped here: the terminal was stopped")
            self._leftOut = 0
        up = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        self._write(up + "".join(f"{printable(line, LINE)}\n" for line in above) + "".join(f"{line}\n" for line in lines))
        self._drawn = len(lines)

    def _lines(self) -> list[str]:
        width = max(20, self._columns() - 1)
        lines = [self._line(f"{'session':<{COLUMN - 1}} {text}", mark, width) for text, mark in self._sessions.values()]
        lines += [self._line(f"{name:<{COLUMN - 1}} {text}", "", width) for name, text in self._services.items()]
        if self._requests:
            lines.append("")
            lines += [self._request(access, width) for access in self._requests]
        return lines

    def _request(self, access: AccessRecord, width: int) -> str:
        end = f"  {access.status or '---'}  {access.seconds * 1000:8.1f} ms"
        request = printable(f"{access.service:<{COLUMN - 1}} {access.method:<6} {access.target}")
        room = max(0, width - len(end))
        return self._line(request[:room].ljust(min(room, 60)) + end, "bad" if access.status >= 500 else "dim", width)

    def _line(self, text: str, mark: str, width: int) -> str:
        marks = self._colours
        cut = printable(text, LINE)[:width]
        return f"{marks[mark]}{cut}{marks['']}" if mark else cut

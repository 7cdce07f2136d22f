"""
The access log: a line for each request that is over, on the edge and on the agent, with the identifier that both share.

A request costs some microseconds here: lines are made without the logger, and written together a few times a second.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import IO, Any, Protocol

from tunnelstack.errors import ConfigurationError
from tunnelstack.wire.printable_text import LINE, printable

FLUSH_SECONDS = 0.2
"""Seconds that a line may wait."""

FLUSH_LINES = 256
"""Lines that may wait."""


class AccessRecord(Protocol):
    """
    A request that is over.

    @ivar status: of the response; C{0} if there was none.
    @ivar octets: of the response's body.
    @ivar seconds: from the request's head to the end of the response.
    @ivar trace: the request's identifier.
    @ivar failed: why there was no whole response, or C{None}.
    """

    method: str
    host: str
    target: str
    visitor: str
    service: str
    trace: str
    status: int
    octets: int
    seconds: float
    failed: Any


def formatJSON(access: AccessRecord, now: float) -> str:
    """
    A request as a JSON object, like those of the log.
    """
    time = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    failed = "" if access.failed is None else f', "reason": {quoted(str(access.failed))}'
    return (
        f'{{"time": "{time}", "level": "info", "logger": "tunnelstack.access", "request": {quoted(access.trace)}, '
        f'"method": {quoted(access.method)}, "host": {quoted(access.host)}, "target": {quoted(access.target)}, '
        f'"status": {access.status}, "octets": {access.octets}, "seconds": {access.seconds:.6f}, '
        f'"service": {quoted(access.service)}, "visitor": {quoted(access.visitor)}{failed}}}\n'
    ).replace("\x7f", "\\u007f")


def formatText(access: AccessRecord, now: float) -> str:
    """
    A request as people read it: one line of visible characters.
    """
    where = quoted(access.host + access.target)[1:-1]
    line = (
        f"{'access':<9} {access.status} {quoted(access.method)[1:-1]} {where}   {access.octets} octets, "
        f"{access.seconds * 1000:.1f} ms, for {access.visitor or 'somebody'} (request {access.trace})"
    )
    return printable(line, LINE) + "\n"


class AccessLog:
    """
    Takes requests that are over, and writes them down.
    """

    def __init__(
        self, clock: Any, open: Callable[[], IO[str]], form: Callable[[AccessRecord, float], str], now: Callable[[], float]
    ) -> None:
        """
        @param open: gives what is written into; called again by L{reopen}.
        @param form: makes a line.
        @param now: the time of day, in seconds.
        """
        self._clock = clock
        self._open = open
        self._format = form
        self._now = now
        self._file = open()
        self._lines: list[str] = []
        self._timer: Any = None

    def __call__(self, access: AccessRecord) -> None:
        """
        A request is over.
        """
        self._lines.append(self._format(access, self._now()))
        if len(self._lines) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(FLUSH_SECONDS, self._timerFired)

    def _timerFired(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """
        Write what waits.  A disk that is full costs lines and not requests.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        lines, self._lines = self._lines, []
        try:
            self._file.write("".join(lines))
            self._file.flush()
        except (OSError, ValueError):
            return

    def reopen(self) -> None:
        """
        Begin with a new file, because somebody has moved the old one away.

        @raise ConfigurationError: it cannot be opened; the old one is written on.
        """
        self.flush()
        self._file = self._open()


def fileOpener(path: str) -> Callable[[], IO[str]]:
    """
    @return: opens a file to be continued; it raises L{ConfigurationError} if that cannot be.
    """

    def open_() -> IO[str]:
        try:
            return open(path, "a", encoding="utf-8")
        except OSError as wrong:
            raise ConfigurationError(f"access_log: {path} cannot be written: {wrong.strerror}") from None

    return open_


def accessLog(clock: Any, where: str, form: str, err: IO[str], now: Callable[[], float]) -> AccessLog | None:
    """
    @param where: C{""} for none, C{"-"} for standard error, or a path.
    @param form: C{"json"}, C{"text"}, or C{"auto"}: text on a terminal.
    @param err: standard error.
    """
    if not where:
        return None
    text = form == "text" or (form == "auto" and where == "-" and err.isatty())
    return AccessLog(clock, (lambda: err) if where == "-" else fileOpener(where), formatText if text else formatJSON, now)

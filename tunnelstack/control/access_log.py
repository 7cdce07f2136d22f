"""
The access log: one line for each finished request, on the edge and on the agent, with the identifier that both share.

This code runs once per request.  It therefore keeps the records of a fifth of a second, formats their L{lines
<tunnelstack.control.access_lines>} together and without the logger, and passes them to the
L{writer<tunnelstack.control.process.log_writer>} as one text.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tunnelstack.control.access_lines import LineFormat, jsonLines, textLines
from tunnelstack.control.access_record import AccessRecord
from tunnelstack.control.process.line_times import lineTime
from tunnelstack.control.process.log_writer import Descriptor, LogWriter, jsonReport, timedReport
from tunnelstack.errors import ConfigurationError

FLUSH_SECONDS = 0.2
"""Seconds until a line is passed on."""

FLUSH_LINES = 1024
"""Lines after which all are passed on at once.  Work that is done for many lines together costs much less than the same work
for each, and all these take the reactor a millisecond."""


class Output(Protocol):
    """
    The destination of a log.
    """

    def write(self, text: str) -> object:
        """
        @param text: whole lines.
        """

    def isatty(self) -> bool: ...


class AccessLog:
    """
    Writes a line for each record that it is given.

    @ivar output: where lines are written.
    """

    def __init__(
        self,
        clock: IReactorTime,
        output: Output,
        form: LineFormat,
        now: Callable[[], float],
        reopen: Callable[[], object] | None = None,
    ) -> None:
        """
        @param clock: the clock of the records.
        @param form: formats records as lines.
        @param now: gives the current time, in seconds since 1970.
        @param reopen: called by L{reopen}, after all earlier lines were passed to C{output}.
        """
        self._clock = clock
        self.output = output
        self._format = form
        self._now = now
        self._reopen = reopen
        self._waiting: list[AccessRecord] = []
        self._timer: IDelayedCall | None = None

    def add(self, access: AccessRecord) -> None:
        """
        Write a line for a record: a L{RequestObserver<tunnelstack.control.access_record.RequestObserver>}.
        """
        waiting = self._waiting
        waiting.append(access)
        if len(waiting) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(FLUSH_SECONDS, self._timerFired)

    def _timerFired(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """
        Format all lines, which costs least at a time, and pass them to the output.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.output.write(self._format(waiting, self._now() - self._clock.seconds()))

    def reopen(self) -> None:
        """
        Open the file again, because it was renamed or removed.

        @raise ConfigurationError: it cannot be opened; lines go to the old file.
        """
        self.flush()
        if self._reopen is not None:
            self._reopen()


def openToAppend(path: str) -> Descriptor:
    """
    Open a log file, or a FIFO.  A FIFO that no process reads is an error: opening it would block.

    @raise ConfigurationError: it cannot be opened.
    """
    try:
        number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as wrong:
        reason = "no process reads this FIFO" if wrong.errno == errno.ENXIO else wrong.strerror
        raise ConfigurationError(f"access_log: {path} cannot be written: {reason}") from None
    os.set_blocking(number, True)
    return Descriptor(number)


def accessLog(clock: IReactorTime, where: str, form: str, standard: Output, now: Callable[[], float]) -> AccessLog | None:
    """
    @param where: C{""} for no log, C{"-"} for C{standard}, or a path.
    @param form: C{"json"}, C{"text"}, or C{"auto"}: text on a terminal.
    @param standard: standard error, or C{twistd}'s log.
    """
    if not where:
        return None
    text = form == "text" or (form == "auto" and where == "-" and standard.isatty())
    time = lineTime(where == "-" and standard.isatty())
    shape: LineFormat = partial(textLines, time=time) if text else jsonLines
    if where == "-":
        return AccessLog(clock, standard, shape, now)
    writer = LogWriter(openToAppend(where), timedReport(time) if text else jsonReport)
    return AccessLog(clock, writer, shape, now, lambda: writer.replace(openToAppend(where)))

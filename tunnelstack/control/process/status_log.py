"""
What people and programs see of a running process: status lines, one for each change of state, and the log.

An event with the field C{status}, a short word, is a status line; so is every warning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from twisted.logger import ILogObserver, LogLevel, eventAsText, formatEvent
from zope.interface import implementer

from tunnelstack.control.log_writer import LogWriter
from tunnelstack.wire.printable_text import LINE, printable, printable_lines

COLUMN = 10
"""Where the text of a status line begins."""

LEVEL_NAMES = {LogLevel.warn: "warning", LogLevel.error: "error", LogLevel.critical: "error"}


def isStatus(event: Mapping[str, Any]) -> bool:
    """
    Whether people are to see the event as a line.
    """
    return "log_failure" not in event and bool(_statusWord(event) or (_isOurs(event) and event["log_level"] in LEVEL_NAMES))


def _statusWord(event: Mapping[str, Any]) -> str:
    """
    The word of a status line; the C{status} of a response is a number and none.
    """
    status = event.get("status")
    return status if isinstance(status, str) else ""


def _isOurs(event: Mapping[str, Any]) -> bool:
    return str(event.get("log_namespace", "")).startswith("tunnelstack")


@implementer(ILogObserver)
class StatusLineObserver:
    """
    Status lines as text.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, event: Any) -> None:
        """
        As in C{ILogObserver}.
        """
        if isStatus(event):
            word = _statusWord(event) or LEVEL_NAMES[event["log_level"]]
            self._write(f"{word:<{COLUMN - 1}} {oneLine(event)}\n")


@implementer(ILogObserver)
class TextLogObserver:
    """
    A log for a terminal that shows status lines already: what they leave out and somebody must know, with its traceback.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, event: Any) -> None:
        """
        As in C{ILogObserver}.
        """
        if not isStatus(event) and event["log_level"] in LEVEL_NAMES:
            self._write(f"{LEVEL_NAMES[event['log_level']]:<{COLUMN - 1}} {withTraceback(event)}\n")


def oneLine(event: Any) -> str:
    """
    The sentence of an event as one line of visible characters, whatever peers have put into its fields.
    """
    return printable(formatEvent(event), LINE)


def withTraceback(event: Any) -> str:
    """
    An event with its traceback, if it has one; the lines after the first are indented.
    """
    return printable_lines(eventAsText(event, includeTimestamp=False), " " * COLUMN)


@implementer(ILogObserver)
class JSONLogObserver:
    """
    A log for programs: a JSON object a line, with the time, the level, the sentence and every field of the event.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, event: Any) -> None:
        """
        As in C{ILogObserver}.
        """
        level = event["log_level"]
        if level in LEVEL_NAMES or (level is LogLevel.info and _isOurs(event)):
            self._write(formatEventAsJSON(event) + "\n")


def formatEventAsJSON(event: dict[str, Any]) -> str:
    """
    An event as JSON, without a line's end.  What JSON has no word for is written as text.
    """
    shown: dict[str, Any] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": event["log_level"].name,
        "logger": event.get("log_namespace", ""),
        "message": eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False),
    }
    shown.update((key, value) for key, value in event.items() if not key.startswith("log_") and key not in shown)
    if "log_failure" in event:
        shown["traceback"] = event["log_failure"].getTraceback()
    return json.dumps(shown, default=str).replace("\x7f", "\\u007f")   # of all controls, JSON lets DEL stand as it is


FORMATS = ("auto", "text", "json")
"""How a log may be written: C{auto} is text on a terminal, and JSON elsewhere."""


def makeObservers(out: LogWriter, err: LogWriter, form: str = "auto", lines: ILogObserver | None = None) -> list[ILogObserver]:
    """
    The observers of a process: status lines to C{out}, the log to C{err}; for people on a terminal, for programs elsewhere.
    Where both are the same writer, each event is there once.

    @param form: one of C{FORMATS}.
    @param lines: shows status lines, instead of plain text on C{out}.
    """
    if lines is not None:
        return [lines] if err.isatty() else [lines, JSONLogObserver(err.write)]
    if form == "text" or (form == "auto" and err.isatty()):
        return [StatusLineObserver(out.write), TextLogObserver(err.write)]
    if out is err:
        return [JSONLogObserver(err.write)]
    return [StatusLineObserver(out.write), JSONLogObserver(err.write)]

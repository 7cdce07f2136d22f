"""
The output of a running process for people and programs: status lines, one for each change of state, and the log.

An event with the field C{status}, a short word, is a status line.  So is every warning.  Lines of a log begin with their
L{time<tunnelstack.control.process.line_times>}.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, formatEvent
from zope.interface import implementer

from tunnelstack.control.process.line_times import LineTime, lineTime, noTime, timeOfDay, utcTime
from tunnelstack.control.process.log_writer import LogWriter
from tunnelstack.wire.printable_text import LINE, printable, printable_lines

COLUMN = 10
"""The column of a status line where its text begins."""

LEVEL_NAMES = {LogLevel.warn: "warning", LogLevel.error: "error", LogLevel.critical: "error"}


def isStatus(event: LogEvent) -> bool:
    """
    @return: whether the event is a status line.
    """
    return "log_failure" not in event and bool(statusWord(event) or (_isOurs(event) and event["log_level"] in LEVEL_NAMES))


def statusWord(event: LogEvent) -> str:
    """
    @return: the first word of a status line; C{""} for other events, such as one with the C{status} of a response, a number.
    """
    status = event.get("status")
    return status if isinstance(status, str) else ""


def _isOurs(event: LogEvent) -> bool:
    return str(event.get("log_namespace", "")).startswith("tunnelstack")


@implementer(ILogObserver)
class StatusLineObserver:
    """
    Writes status lines as text.
    """

    def __init__(self, write: Callable[[str], object], time: LineTime = noTime) -> None:
        """
        @param time: gives the beginning of each line.
        """
        self._write = write
        self._time = time

    def __call__(self, event: LogEvent) -> None:
        if isStatus(event):
            self._write(f"{self._time(event['log_time'])}{statusLine(event)}\n")


@implementer(ILogObserver)
class TextLogObserver:
    """
    Writes a log for people: warnings and errors, with tracebacks, and the status lines unless another output that is read
    together with this one shows them.
    """

    def __init__(self, write: Callable[[str], object], time: LineTime = noTime, *, statusLines: bool = False) -> None:
        """
        @param time: gives the beginning of the first line of each event.
        @param statusLines: whether to write status lines, too.
        """
        self._write = write
        self._time = time
        self._statusLines = statusLines

    def __call__(self, event: LogEvent) -> None:
        if not isStatus(event):
            if event["log_level"] in LEVEL_NAMES:
                self._write(f"{self._time(event['log_time'])}{logLines(event)}\n")
        elif self._statusLines:
            self._write(f"{self._time(event['log_time'])}{statusLine(event)}\n")


def statusLine(event: LogEvent) -> str:
    """
    @return: an event for which L{isStatus} is true, as one line: its word, and its message.
    """
    return f"{statusWord(event) or LEVEL_NAMES[event['log_level']]:<{COLUMN - 1}} {oneLine(event)}"


def logLines(event: LogEvent) -> str:
    """
    @return: a warning or an error: its word, its message, and its traceback.
    """
    return f"{LEVEL_NAMES[event['log_level']]:<{COLUMN - 1}} {withTraceback(event)}"


def oneLine(event: LogEvent) -> str:
    """
    @return: the message of an event as one line of visible characters, whatever peers have sent as its fields.
    """
    return printable(message(event), LINE)


def message(event: LogEvent) -> str:
    """
    @return: the text of an event, as from C{formatEvent}.  That takes twenty times as long for what nearly all formats are,
        names of fields in braces.
    """
    template = event.get("log_format")
    if type(template) is str and "(" not in template and "log_flattened" not in event:
        try:
            return template.format_map(event)
        except Exception:                     # a field is missing, or cannot be formatted: it says so
            return formatEvent(event)
    return formatEvent(event)


def withTraceback(event: LogEvent) -> str:
    """
    @return: the message of an event with its traceback, if it has one.  All lines except the first are indented.
    """
    return printable_lines(eventAsText(event, includeTimestamp=False), " " * COLUMN)


@implementer(ILogObserver)
class JSONLogObserver:
    """
    Writes a log for programs: one JSON object per line, with time, level, message and all fields of the event.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, event: LogEvent) -> None:
        level = event["log_level"]
        if level in LEVEL_NAMES or (level is LogLevel.info and _isOurs(event)):
            self._write(formatEventAsJSON(event) + "\n")


def formatEventAsJSON(event: LogEvent) -> str:
    """
    @return: an event as JSON, without a line ending.  Values that JSON does not have are written as text.
    """
    shown: dict[str, object] = {
        "time": f"{utcTime(int(event['log_time'] * 1000))}+00:00",
        "level": event["log_level"].name,
        "logger": event.get("log_namespace", ""),
        "message": message(event),
    }
    for key, value in event.items():
        if key not in shown and not key.startswith("log_"):
            shown[key] = value
    if "log_failure" in event:
        shown["traceback"] = event["log_failure"].getTraceback()
    # Most values are text: an encoder of the whole takes twice as long.
    members = [
        f"{quoted(key)}: {quoted(value) if type(value) is str else _ENCODER.encode(value)}" for key, value in shown.items()
    ]
    return f"{{{', '.join(members)}}}".replace("\x7f", "\\u007f")      # the only control that JSON does not escape


_ENCODER = json.JSONEncoder(default=str)

FORMATS = ("auto", "text", "json")
"""Formats of a log: C{auto} is text on a terminal, and JSON otherwise."""


def makeObservers(out: LogWriter, err: LogWriter, form: str = "auto", lines: ILogObserver | None = None) -> list[ILogObserver]:
    """
    Make the log observers of a process: status lines go to C{out}, the log to C{err}.  If both are the same writer, or both
    are terminals, each event is written once.

    @param form: one of C{FORMATS}.
    @param lines: shows status lines instead of C{out}.
    """
    if lines is not None:
        return [lines] if err.isatty() else [lines, JSONLogObserver(err.write)]
    text = form == "text" or (form == "auto" and err.isatty())
    if out is err:
        time = lineTime(err.isatty())
        return [StatusLineObserver(err.write, time), TextLogObserver(err.write, time)] if text else [JSONLogObserver(err.write)]
    status = StatusLineObserver(out.write, timeOfDay if out.isatty() else noTime)
    if not text:
        return [status, JSONLogObserver(err.write)]
    both = out.isatty() and err.isatty()
    return [status, TextLogObserver(err.write, lineTime(err.isatty()), statusLines=not both)]

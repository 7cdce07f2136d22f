"""
The access log: one line for each finished request, on the edge and on the agent, with the identifier that both share.

This code runs once per request.  It therefore keeps the records of a fifth of a second, formats their lines together and
without the logger, and passes them to the L{writer<tunnelstack.control.process.log_writer>} as one text.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import starmap
from json.encoder import encode_basestring_ascii as quoted
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tunnelstack.control.process.line_times import LineTime, dateAndTime, lineTime, utcSecond
from tunnelstack.control.process.log_writer import Descriptor, LogWriter, jsonReport, timedReport
from tunnelstack.control.request_times import RequestTimes
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IExchangeReceiver
from tunnelstack.wire.printable_text import LINE, printable

FLUSH_SECONDS = 0.2
"""Seconds until a line is passed on."""

FLUSH_LINES = 256
"""Lines after which all are passed on at once."""

CACHED = 256
"""Parts of lines that are kept for later lines, of each kind."""

CLIENT_CLOSED = 499
"""The status in the log of a request whose visitor closed the connection before the response began."""

LOGGED_SECONDS = 0.001
"""A step of a request that was done earlier than this is not logged, except for the first octet of the response."""


class AccessRecord(RequestTimes):
    """
    One request, on the edge or on the agent: its steps, and what is logged of it.  It does not change once the request has
    ended, except that a step may still be done.

    @ivar host: from the request's C{Host} field, as received.
    @ivar target: the request target in visible ASCII.
    @ivar visitor: the visitor's IP address; C{""} if it is not known.
    @ivar service: the service that the request was routed to; C{""} if there is none.
    @ivar trace: the request's identifier, the same on both sides.
    @ivar role: the program that served it: C{"edge"} or C{"agent"}.
    @ivar status: of the response; C{0} if there was none, L{CLIENT_CLOSED} if the visitor closed the connection first.
    @ivar octets: of the response's body.
    @ivar seconds: from the request's head to the end of the response.
    @ivar protocol: with which the request arrived, C{HTTP/1.1}, C{HTTP/1.0} or C{HTTP/2.0}.
    """

    method = host = target = visitor = service = trace = ""
    role = "edge"
    status = octets = 0
    seconds = 0.0
    protocol = "HTTP/1.1"


class SampledRequest(Protocol):
    """
    A request of which a sample is kept when it has ended.
    """

    def ended(self, status: int, octets: int, seconds: float) -> None:
        """
        @param status: of the response.
        @param octets: of its body.
        @param seconds: from the head of the request to the end of the response.
        """

    def counting(self, receiver: IExchangeReceiver) -> IExchangeReceiver:
        """
        @return: a receiver of the request's body that counts it.
        """


class ObservedRequest(AccessRecord):
    """
    A request on an edge.

    @ivar method: C{""} if the request is not logged.
    @ivar sample: of the request; C{None} if none is kept.
    """

    sample: SampledRequest | None = None


RequestObserver = Callable[[AccessRecord], object]
"""Called with the record of each request that has ended."""


def together(*observers: RequestObserver | None) -> RequestObserver | None:
    """
    @return: an observer that calls all that are not C{None}; C{None} if there are none.
    """
    present = [observer for observer in observers if observer is not None]
    if len(present) < 2:
        return present[0] if present else None

    def observe(access: AccessRecord) -> None:
        for observer in present:
            observer(access)

    return observe


@lru_cache(maxsize=8)
def protocolText(version: tuple[int, int]) -> str:
    """
    @param version: of the head of a request.
    @return: the protocol as a record has it.
    """
    return f"HTTP/{version[0]}.{version[1]}"


def formatJSON(access: AccessRecord, now: float) -> str:
    """
    @return: the request as a JSON object, with the same members for time, level and logger as the log.
    """
    milliseconds = int(now * 1000)
    failed = "" if access.failed is None else f', "reason": {quoted(str(access.failed))}'
    seconds = f"{access.seconds:.6f}"
    span, first = access.span, access.first
    steps = "" if span is None else f'"trace": "{span.context.trace_id}", '
    if first >= 0:
        steps += f'"first": {seconds if first == access.seconds else format(first, ".6f")}, '
    if access.routed >= LOGGED_SECONDS or access.opened >= LOGGED_SECONDS or access.whole >= LOGGED_SECONDS:
        steps += _slowSteps(access)
    return (
        f'{{"time": "{utcSecond(milliseconds // 1000)}.{milliseconds % 1000:03d}+00:00", "level": "info", '
        f'"logger": "tunnelstack.access", "role": "{access.role}", "request": {quoted(access.trace)}, '
        f'{_methodAndHost(access.method, access.host)}, "target": {quoted(access.target)}, "protocol": "{access.protocol}", '
        f'"status": {access.status}, "octets": {access.octets}, "seconds": {seconds}, {steps}'
        f'{_serviceAndVisitor(access.service, access.visitor)}{failed}}}\n'
    ).replace("\x7f", "\\u007f")


# Cached, because most lines have them from a line before.


@lru_cache(maxsize=CACHED)
def _methodAndHost(method: str, host: str) -> str:
    return f'"method": {quoted(method)}, "host": {quoted(host)}'


@lru_cache(maxsize=CACHED)
def _serviceAndVisitor(service: str, visitor: str) -> str:
    return f'"service": {quoted(service)}, "visitor": {quoted(visitor)}'


def _slowSteps(access: AccessRecord) -> str:
    """
    @return: the steps of a request that took long, as members of a JSON object, without those that were done after its end.
    """
    steps = (("routed", access.routed), ("opened", access.opened), ("whole", access.whole))
    return "".join(
        f'"{name}": {seconds:.6f}, ' for name, seconds in steps if LOGGED_SECONDS <= seconds <= access.seconds
    )


def formatText(access: AccessRecord, now: float, time: LineTime = dateAndTime) -> str:
    """
    @param time: gives the beginning of the line.
    @return: the request as one line of visible characters.
    """
    where = quoted(access.host + access.target)[1:-1]
    protocol = "" if access.protocol == "HTTP/1.1" else f"{access.protocol}, "
    line = (
        f"{'access':<9} {access.status} {quoted(access.method)[1:-1]} {where}   {protocol}{access.octets} octets, "
        f"{access.seconds * 1000:.1f} ms, for {access.visitor or 'an unknown address'} (request {access.trace})"
    )
    return f"{time(now)}{printable(line, LINE)}\n"


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
    Writes a line for each record that it is called with.

    @ivar output: where lines are written.
    """

    def __init__(
        self,
        clock: IReactorTime,
        output: Output,
        form: Callable[[AccessRecord, float], str],
        now: Callable[[], float],
        reopen: Callable[[], object] | None = None,
    ) -> None:
        """
        @param form: formats a record, with the time, as a line.
        @param now: gives the current time, in seconds since 1970.
        @param reopen: called by L{reopen}, after all earlier lines were passed to C{output}.
        """
        self._clock = clock
        self.output = output
        self._format = form
        self._now = now
        self._reopen = reopen
        self._waiting: list[tuple[AccessRecord, float]] = []     # with when it ended
        self._timer: IDelayedCall | None = None

    def __call__(self, access: AccessRecord) -> None:
        waiting = self._waiting
        waiting.append((access, self._now()))
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
            self.output.write("".join(starmap(self._format, waiting)))

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
    shape = partial(formatText, time=time) if text else formatJSON
    if where == "-":
        return AccessLog(clock, standard, shape, now)
    writer = LogWriter(openToAppend(where), timedReport(time) if text else jsonReport)
    return AccessLog(clock, writer, shape, now, lambda: writer.replace(openToAppend(where)))

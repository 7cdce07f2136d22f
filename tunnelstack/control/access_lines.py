"""
The lines of the access log.

They are formatted many at a time, without a call of a Python function for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted

from tunnelstack.control.access_record import AccessRecord, RequestDescription
from tunnelstack.control.process.line_times import LineTime, dateAndTime, utcTime
from tunnelstack.wire.printable_text import LINE, printable

LOGGED_SECONDS = 0.001
"""A step of a request that was done earlier than this is not logged, except for the first octet of the response."""

THREE_DIGITS = tuple(f"{number:03d}" for number in range(1000))
"""Digits are looked up, because each line would format them twice."""

LineFormat = Callable[[Iterable[AccessRecord], float], str]
"""
Gives the lines of requests that have ended.  The second argument is the time at which the reactor's clock was zero, in seconds
since 1970.
"""


def jsonLines(records: Iterable[AccessRecord], epoch: float) -> str:
    """
    @return: each request as a JSON object, with the same members for time, level and logger as the log.
    """
    lines = []
    last, time = -1, ""
    for access in records:
        milliseconds = int((epoch + access.ended) * 1000)
        if milliseconds != last:
            last = milliseconds
            time = f'{{"time": "{utcTime(milliseconds)}+00:00", '
        begin, middle, end = access.description.json or _describe(access.description)
        seconds, first, steps = access.seconds, access.first, ""
        if 0 <= seconds < 0.999999:           # as :.6f, for most requests
            micro = int(seconds * 1_000_000 + 0.5)
            taken = f"0.{THREE_DIGITS[micro // 1000]}{THREE_DIGITS[micro % 1000]}"
        else:
            taken = f"{seconds:.6f}"
        if first >= 0:
            steps = f'"first": {taken if first == seconds else format(first, ".6f")}, '
        if access.span is not None:
            steps = f'"trace": "{access.span.context.trace_id}", {steps}'
        if access.routed >= LOGGED_SECONDS or access.opened >= LOGGED_SECONDS or access.whole >= LOGGED_SECONDS:
            steps += _slowSteps(access)
        reason = "" if access.failed is None else f', "reason": {quoted(str(access.failed))}'
        lines.append(
            f"{time}{begin}{quoted(access.trace)}{middle}{_size(access.status, access.octets)}{taken}, {steps}{end}{reason}}}\n"
        )
    text = "".join(lines)
    return text.replace("\x7f", "\\u007f") if "\x7f" in text else text


@lru_cache(maxsize=512)
def _size(status: int, octets: int) -> str:
    return f'{status}, "octets": {octets}, "seconds": '


def _describe(description: RequestDescription) -> tuple[str, str, str]:
    """
    @return: what stands before the identifier of the request, before its status, and at the end.
    """
    begin = f'"level": "info", "logger": "tunnelstack.access", "role": "{description.role}", "request": '
    middle = (
        f', "method": {quoted(description.method)}, "host": {quoted(description.host)}, '
        f'"target": {quoted(description.target)}, "protocol": "{description.protocol}", "status": '
    )
    end = f'"service": {quoted(description.service)}, "visitor": {quoted(description.visitor)}'
    description.json = parts = begin, middle, end
    return parts


def _slowSteps(access: AccessRecord) -> str:
    """
    @return: the steps of a request that took long, as members of a JSON object, without those that were done after its end.
    """
    steps = (("routed", access.routed), ("opened", access.opened), ("whole", access.whole))
    return "".join(
        f'"{name}": {seconds:.6f}, ' for name, seconds in steps if LOGGED_SECONDS <= seconds <= access.seconds
    )


def textLines(records: Iterable[AccessRecord], epoch: float, time: LineTime = dateAndTime) -> str:
    """
    @param time: gives the beginning of a line.
    @return: each request as one line of visible characters.
    """
    return "".join([f"{time(epoch + access.ended)}{_text(access)}\n" for access in records])


def _text(access: AccessRecord) -> str:
    description = access.description
    where = quoted(description.host + description.target)[1:-1]
    protocol = "" if description.protocol == "HTTP/1.1" else f"{description.protocol}, "
    return printable(
        f"{'access':<9} {access.status} {quoted(description.method)[1:-1]} {where}   {protocol}{access.octets} octets, "
        f"{access.seconds * 1000:.1f} ms, for {description.visitor or 'an unknown address'} (request {access.trace})", LINE,
    )

"""
The time at the beginning of a line of text.

On a terminal it is the local time of day, because there is little room and the reader knows the date.  In files and pipes it is
date and time in UTC (RFC 3339), so that lines of several processes and machines can be sorted together.

Status lines on standard output that is not a terminal have no time: they are for programs, which read their first word.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

LineTime = Callable[[float], str]
"""Gives the beginning of a line, with a blank at its end, from seconds since 1970."""


def noTime(seconds: float) -> str:
    """
    @return: C{""}.
    """
    return ""


def timeOfDay(seconds: float) -> str:
    """
    @return: such as C{"09:53:12 "}.
    """
    return _localSecond(int(seconds))


def dateAndTime(seconds: float) -> str:
    """
    @return: such as C{"2026-11-29T09:53:12.345Z "}.
    """
    return f"{utcTime(int(seconds * 1000))}Z "


def utcTime(milliseconds: int) -> str:
    """
    @param milliseconds: since 1970.
    @return: date and time in UTC, without zone, such as C{"2026-11-29T09:53:12.345"}.
    """
    second, rest = divmod(milliseconds, 1000)
    return f"{_utcSecond(second)}.{rest:03d}"


def lineTime(isTerminal: bool) -> LineTime:
    """
    @return: for the lines of a log on a terminal, or elsewhere.
    """
    return timeOfDay if isTerminal else dateAndTime


# Cached, because most lines are written in the same second as the one before.


@lru_cache(maxsize=8)
def _localSecond(second: int) -> str:
    return time.strftime("%H:%M:%S ", time.localtime(second))


@lru_cache(maxsize=8)
def _utcSecond(second: int) -> str:
    """
    @return: date and time in UTC, without fraction and zone.
    """
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")

"""
Identifiers for requests and connections, which the logs of both sides show.
"""

from __future__ import annotations

from itertools import count
from secrets import token_hex


class TraceIdentifiers:
    """
    Gives a new identifier at each call.  It is unique in this process, and almost certainly everywhere.
    """

    __slots__ = ("_numbers", "_process")

    def __init__(self) -> None:
        self._process = token_hex(5)
        self._numbers = count(1)

    def __call__(self) -> str:
        return f"{self._process}-{next(self._numbers):x}"

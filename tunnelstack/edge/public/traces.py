"""
Identifiers for requests and connections, which the logs of both sides show.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from secrets import token_hex


def traceIdentifiers() -> Callable[[], str]:
    """
    @return: gives a new identifier at each call.  It is unique in this process, and almost certainly everywhere.
    """
    return map(f"{token_hex(5)}-{{:x}}".format, count(1)).__next__

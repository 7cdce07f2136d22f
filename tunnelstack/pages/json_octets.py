"""
JSON, for pages and for programs, and the octets of heads as its text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

JSONValue = str | int | float | bool | None | Sequence["JSONValue"] | dict[str, "JSONValue"]
JSONObject = dict[str, JSONValue]


def asOctets(value: object) -> bytes:
    """
    @return: JSON in ASCII.
    """
    return json.dumps(value, separators=(",", ":")).encode()


def textOf(octets: bytes) -> str:
    """
    @return: a part of a head as text.
    """
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")

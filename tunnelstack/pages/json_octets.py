"""
JSON, for pages and for programs.
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

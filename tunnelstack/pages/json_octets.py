"""
JSON, for pages and for programs.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence

JSONValue = str | int | float | bool | None | Sequence["JSONValue"] | dict[str, "JSONValue"]
JSONObject = dict[str, JSONValue]


STEP = 64
"""Items of a list that are encoded in one step."""


def asOctets(value: object) -> bytes:
    """
    @return: JSON in ASCII.
    """
    return json.dumps(value, separators=(",", ":")).encode()


def octetsInSteps(value: Mapping[str, object]) -> Generator[None, None, bytes]:
    """
    As L{asOctets}, for an object with long lists: other work may be done wherever this yields.
    """
    members = []
    for name, member in value.items():
        octets = (yield from _list(member)) if isinstance(member, list) else asOctets(member)
        members.append(asOctets(name) + b":" + octets)
    return b"{" + b",".join(members) + b"}"


def _list(items: list[object]) -> Generator[None, None, bytes]:
    pieces = []
    for start in range(0, len(items), STEP):
        pieces.append(asOctets(items[start : start + STEP])[1:-1])
        yield
    return b"[" + b",".join(pieces) + b"]"

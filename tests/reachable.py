"""
What an object keeps alive, counted without its private attributes.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from types import FrameType, FunctionType, ModuleType, TracebackType

LEFT_OUT = (type, ModuleType, FunctionType, FrameType, TracebackType, re.Pattern)


def reachable(root: object) -> Iterator[object]:
    """
    Every object that C{root} leads to, itself included.  Classes, modules, functions and patterns are left out,
    and the frames in which an exception was raised.
    """
    seen: set[int] = set()
    pending = [root]
    while pending:
        found = pending.pop()
        if id(found) not in seen and not isinstance(found, LEFT_OUT):
            seen.add(id(found))
            yield found
            pending += gc.get_referents(found)


def objectsOf(root: object) -> int:
    """
    How many objects there are.
    """
    return sum(1 for _ in reachable(root))


def octetsOf(root: object) -> int:
    """
    The octets of all C{bytes} among them.
    """
    return sum(len(found) for found in reachable(root) if isinstance(found, (bytes, bytearray)))

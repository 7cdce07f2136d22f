"""
What records can do without methods of their own: be compared, be hashed, and be shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from attrs import Attribute, AttrsInstance, fields


class Record:
    """
    The base of records that are seldom compared, which are attrs classes with C{eq=False} and C{repr=False}.

    attrs compiles these methods for each class, which takes two fifths of the time in which such a class is made, and a quarter
    of its memory.  These methods are slower than those of attrs: a record that each request compares has its own.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash((self.__class__, *self._compared()))

    def __repr__(self) -> str:
        shown = [each.name for each in self._attributes() if each.repr]
        parts = (f"{name}={getattr(self, name)!r}" for name in shown)      # C{repr}: for programmers
        return f"{self.__class__.__qualname__}({', '.join(parts)})"

    def _compared(self) -> tuple[object, ...]:
        return tuple(getattr(self, each.name) for each in self._attributes() if each.eq)

    def _attributes(self) -> Iterator[Attribute[object]]:
        return iter(fields(cast(type[AttrsInstance], self.__class__)))

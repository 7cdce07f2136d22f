"""
Which part of a list is asked for: C{?filter=TEXT&from=N&limit=N&slow=1}.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl

from attrs import frozen

from tunnelstack.errors import Denied
from tunnelstack.settings.record import Record

T = TypeVar("T")

MOST_FIELDS = 8
LONGEST = 256
"""Characters of the text of a filter."""


@frozen(eq=False, repr=False)
class ListQuery(Record):
    """
    A part of a list.

    @ivar text: in lower case; only records with this text are wanted.
    @ivar start: the first record.
    @ivar limit: how many records; C{None} is all.
    @ivar slow: only streams that wait for one of their sides.
    """

    text: str = ""
    start: int = 0
    limit: int | None = None
    slow: bool = False

    @property
    def end(self) -> int | None:
        """
        The record after the last; C{None} if that is the end of the list.
        """
        return None if self.limit is None else self.start + self.limit

    def matches(self, words: Iterable[str]) -> bool:
        """
        @return: whether a record with these words is wanted.
        """
        return not self.text or any(self.text in word.lower() for word in words)

    def part(self, records: Sequence[T]) -> Sequence[T]:
        """
        @param records: those that match.
        """
        return records[self.start : self.end]


ALL = ListQuery()


def readQuery(target: bytes) -> ListQuery:
    """
    @param target: of a request.
    @raise Denied: C{malformed}: the query is not one of a list.
    """
    _, _, query = target.partition(b"?")
    try:
        fields = dict(parse_qsl(query.decode(), max_num_fields=MOST_FIELDS))
    except ValueError:
        raise Denied("malformed", "the query cannot be read") from None
    limit = _number(fields, "limit")
    return ListQuery(fields.get("filter", "")[:LONGEST].lower(), _number(fields, "from") or 0, limit, fields.get("slow") == "1")


def _number(fields: dict[str, str], name: str) -> int | None:
    text = fields.get(name)
    if text is None:
        return None
    if not (text.isdecimal() and text.isascii() and len(text) <= 9):
        raise Denied("malformed", f"{name} must be a number, and is not")
    return int(text)

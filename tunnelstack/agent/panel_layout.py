"""
The layout of lines on a terminal: how wide a text is, where it is cut, and how many of several lines are shown.

Source: Unicode Standard Annex 11 (East Asian Width); lines of terminals that wrap long lines again when their width changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import combining, east_asian_width

from tunnelstack.wire.printable_text import CUT

Line = tuple[str, str]
"""A text of visible characters, and its mark: C{"good"}, C{"wait"}, C{"bad"}, C{"dim"} or C{""}."""


def columnsOf(text: str) -> int:
    """
    @param text: visible characters.
    @return: how many columns a text takes.
    """
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def encodable(text: str, encoding: str) -> str:
    """
    @param text: visible characters.
    @return: the text as a terminal with that encoding can show it: other characters are escapes, and C{...} is the mark of a
        cut.
    """
    if text.isascii():
        return text
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.replace(CUT, cutMark(encoding)).encode(encoding, "backslashreplace").decode(encoding)
    return text


def cutMark(encoding: str) -> str:
    """
    @return: the mark where a text was cut.
    """
    try:
        CUT.encode(encoding)
    except UnicodeEncodeError:
        return "..."
    return CUT


def fitting(pieces: Sequence[str], columns: int, between: str = "   ") -> str:
    """
    @return: as many of the first pieces as fit into some columns, but at least one.
    """
    text = "".join(pieces[:1])
    for piece in pieces[1:]:
        if columnsOf(text) + len(between) + columnsOf(piece) > columns:
            break
        text += between + piece
    return text


def cut(text: str, columns: int, mark: str = CUT) -> str:
    """
    @param mark: where it is cut.
    @return: the text, or as much of it as fits into some columns with a mark.
    """
    if columnsOf(text) <= columns:
        return text
    room = columns - columnsOf(mark)
    kept = ""
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept += character
    return (kept + mark)[:max(0, columns)]


def rowsOf(columns: int, width: int) -> int:
    """
    @param columns: of a line.
    @param width: of the terminal.
    @return: how many rows the line takes.
    """
    return max(1, -(-columns // max(1, width)))


def limited(lines: Sequence[Line], room: int, noun: str) -> list[Line]:
    """
    @param room: how many lines may be shown.
    @param noun: of what each line shows, in plural.
    @return: the lines; if they are too many, the first of them and how many there are beyond these.
    """
    if len(lines) <= room:
        return list(lines)
    if room <= 0:
        return []
    left = len(lines) - (room - 1)
    return [*lines[: room - 1], (f"{CUT} {left} {'more ' if room > 1 else ''}{noun}", "dim")]

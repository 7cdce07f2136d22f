"""
The layout of lines on a terminal: how wide a text is, where it is cut, and how many of several lines are shown.

Source: Unicode Standard Annex 11 (East Asian Width); lines of terminals that wrap long lines again when their width changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import combining, east_asian_width

from tunnelstack.wire.printable_text import CUT

Line = tuple[str, str]
"""A text of visible characters, and its mark: C{"good"}, C{"bad"}, C{"dim"} or C{""}."""


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


def cut(text: str, columns: int) -> str:
    """
    @return: the text, or as much of it as fits into some columns with a mark where it was cut.
    """
    if columnsOf(text) <= columns:
        return text
    room = columns - columnsOf(CUT)
    kept = ""
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept += character
    return kept + CUT if columns > 0 else ""


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

r"""
Text of peers, made fit for terminals and text logs.

A peer chooses names, reasons, versions and paths.  Written as they are, they could clear a screen, retitle a window, reorder a
line (bidirectional controls), hide in it (zero-width characters), or end it and forge the next one.  Whatever is not plainly
visible is therefore written as an escape, as in a string of Python: C{\x1b}, C{\n}, C{\u202e}.

Source: Unicode Technical Report 36, sections 2.7 and 3.7; RFC 4251, section 9.2.
"""

from __future__ import annotations

import re

LIMIT = 1024
"""Characters of one text of a peer that are shown, unless the caller has another bound."""

LINE = 8192
"""Characters of the longest line of a log."""

LINES = 200
"""LineReader of the longest text that may have several, such as a traceback."""

CUT = "\N{HORIZONTAL ELLIPSIS}"
"""Where a text was cut."""

#: C{str.isprintable} calls these printable, and yet they leave no mark: fillers, joiners, and selectors of variations
#: (C{Default_Ignorable_Code_Point} in DerivedCoreProperties.txt), and the empty Braille pattern.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)


def printable(text: str, limit: int = LIMIT) -> str:
    r"""
    A text as one line of visible characters: controls (C0, DEL, C1), format characters, line and paragraph separators, blanks
    other than the space, surrogates, and what Unicode has not assigned are escaped.  A backslash stays as it is, so that a text
    may pass through here more than once.

    @param limit: characters of the result; a longer text is cut, never within an escape, and ends with L{CUT} beyond them.
    """
    if len(text) <= limit and text.isprintable() and (text.isascii() or not _INVISIBLE.search(text)):
        return text
    pieces: list[str] = []
    room = limit
    for character in text[: limit + 1]:
        piece = _visible(character)
        room -= len(piece)
        if room < 0:
            return "".join(pieces) + CUT
        pieces.append(piece)
    return "".join(pieces)


def quoted(text: str | bytes, limit: int = LIMIT) -> str:
    """
    @return: a word that a person or a peer has written, L{printable} and between quotation marks, for messages.
    """
    text = text if isinstance(text, str) else text.decode("utf-8", "backslashreplace")
    return f"'{printable(text, limit)}'"


def printable_lines(text: str, indent: str = "", limit: int = LINE) -> str:
    """
    A text of several lines, such as a traceback, in which a peer may have a part.

    @param indent: begins every line but the first, so that none can pass for a line of its own.
    @param limit: characters of each line.
    @return: at most L{LINES} lines, joined by line feeds, without one at the end.
    """
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    kept = [printable(line, limit) for line in lines[:LINES]]
    if len(lines) > LINES:
        kept.append(f"{CUT} {len(lines) - LINES} more lines")
    return f"\n{indent}".join(kept)


def _visible(character: str) -> str:
    if character.isprintable() and not _INVISIBLE.match(character):
        return character
    return character.encode("unicode_escape").decode("ascii")

"""
What a terminal shows after a text was written to it, as far as our programs use it.
"""

from __future__ import annotations

import re
from unicodedata import east_asian_width

WIDE = "\0"

PIECE = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[\?\d+[hl]|[\r\n]|[^\x1b\r\n]+|.", re.DOTALL)


class Screen:
    """
    A screen with rows and columns: text wraps at its right edge, and lines leave at the top for the scrollback, from which they
    do not come back.

    @ivar scrollback: the lines that have left.
    """

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self.rows, self.columns = rows, columns
        self.scrollback: list[str] = []
        self._lines = [""]
        self._wrapped = [False]           # whether a line goes on in the next one
        self._row = self._column = 0

    def write(self, text: str) -> None:
        """
        Write some text.
        """
        for found in PIECE.finditer(text):
            piece, number, command = found[0], int(found[1] or 1), found[2]
            if command == "A":
                self._row = max(0, self._row - number)
            elif command == "J":
                del self._lines[self._row + 1 :], self._wrapped[self._row + 1 :]
                self._wrapped[self._row] = False
                self._lines[self._row] = self._lines[self._row][: self._column]
            elif command == "K":
                self._lines[self._row] = self._lines[self._row][: self._column]
            elif piece == "\r":
                self._column = 0
            elif piece == "\n":
                self._nextLine(wrapped=False)
            elif not piece.startswith("\x1b"):
                self._put(piece)

    def _put(self, text: str) -> None:
        """
        Write visible characters; a wide one takes two cells, the second of which is C{WIDE}.
        """
        for character in text:
            cells = character + WIDE if east_asian_width(character) in "WF" else character
            if self._column + len(cells) > self.columns:
                self._nextLine(wrapped=True)
            line = self._lines[self._row].ljust(self._column)
            self._lines[self._row] = line[: self._column] + cells + line[self._column + len(cells) :]
            self._column += len(cells)

    def _nextLine(self, *, wrapped: bool) -> None:
        self._wrapped[self._row] = wrapped
        self._column = 0
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append("")
            self._wrapped.append(False)
        self._scroll()

    def _scroll(self) -> None:
        while len(self._lines) > self.rows:
            self.scrollback.append(self._lines.pop(0).replace(WIDE, "").rstrip())
            self._wrapped.pop(0)
            self._row = max(0, self._row - 1)

    def resize(self, rows: int, columns: int) -> None:
        """
        Another size: lines are wrapped anew, as most terminals do.
        """
        self.rows, self.columns = rows, columns
        lines, wrapped, logical, before = [], [], "", 0
        row, column = 0, 0
        for number, line in enumerate(self._lines):
            if number == self._row:
                before = len(logical) + self._column
                row, column = len(lines) + before // columns, before % columns
            logical += line
            if not self._wrapped[number]:
                pieces = [logical[at : at + columns] for at in range(0, len(logical), columns)] or [""]
                lines += pieces
                wrapped += [True] * (len(pieces) - 1) + [False]
                logical = ""
        self._lines, self._wrapped, self._row, self._column = lines, wrapped, min(row, len(lines) - 1), column
        self._scroll()

    def lines(self) -> list[str]:
        """
        What it shows now, without blanks at the end of a line.
        """
        return [line.replace(WIDE, "").rstrip() for line in self._lines]

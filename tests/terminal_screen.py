"""
What a terminal shows after a text was written to it, as far as our programs use it.
"""

from __future__ import annotations

import re

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
                del self._lines[self._row + 1 :]
                self._lines[self._row] = self._lines[self._row][: self._column]
            elif command == "K":
                self._lines[self._row] = self._lines[self._row][: self._column]
            elif piece == "\r":
                self._column = 0
            elif piece == "\n":
                self._nextLine()
            elif not piece.startswith("\x1b"):
                self._put(piece)

    def _put(self, text: str) -> None:
        for character in text:
            if self._column == self.columns:
                self._nextLine()
            line = self._lines[self._row].ljust(self._column)
            self._lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1

    def _nextLine(self) -> None:
        self._column = 0
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append("")
        self._scroll()

    def _scroll(self) -> None:
        while len(self._lines) > self.rows:
            self.scrollback.append(self._lines.pop(0))
            self._row = max(0, self._row - 1)

    def resize(self, rows: int, columns: int) -> None:
        """
        Another size: lines that are too long now are wrapped, as most terminals do.
        """
        self.rows, self.columns = rows, columns
        wrapped: list[str] = []
        for number, line in enumerate(self._lines):
            pieces = [line[at : at + columns] for at in range(0, len(line), columns)] or [""]
            wrapped += pieces
            if number == self._row:
                row = len(wrapped) - 1
        self._lines, self._row = wrapped, row
        self._column = min(self._column, columns)
        self._scroll()

    def lines(self) -> list[str]:
        """
        What it shows now, without blanks at the end of a line.
        """
        return [line.rstrip() for line in self._lines]

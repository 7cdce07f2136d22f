"""
The line of each key in a TOML document.  The parser of the standard library does not report lines.

The index is made only of documents that this parser has accepted, so it need not check them.  It follows headers, keys, and
values that may span lines (arrays and long strings).  Keys inside an inline table are on the line of their table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_TOKEN = re.compile(
    r"""\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''.*?'''|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[\]{}]|\n""", re.DOTALL
)


class LineIndex:
    """
    Finds the lines of keys in a document.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        counts: dict[Path, int] = {}
        table: Path = ()
        for number, line in _statements(text.replace("\r\n", "\n")):
            header, key = _HEADER.match(line), _KEY.match(line)
            if header:
                table = _parts(header.group(2))
                if header.group(1) == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    self._lines.setdefault(table, number)
                table = _within(table, counts)
                self._lines[table] = number
            elif key:
                self._lines[table + _parts(key.group(1))] = number

    def lineOf(self, path: Path) -> int:
        """
        @param path: keys and indices, such as C{("agent", 1, "allow", 0)}.
        @return: the line, counted from one, of this key, or of the nearest table or array that contains it.
        """
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _within(table: Path, counts: dict[Path, int]) -> Path:
    """
    @return: the path with indices: C{("agent", "extra")} is C{("agent", 1, "extra")} after the second C{[[agent]]}.
    """
    path: Path = ()
    for end in range(len(table)):
        path += (table[end],)
        if table[: end + 1] in counts:
            path += (counts[table[: end + 1]],)
    return path


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """
    @return: the statements, each with the number of its first line.
    """
    line = start = 1
    depth = begin = 0
    for token in _TOKEN.finditer(text):
        seen = token.group()
        if seen in "[{":
            depth += 1
        elif seen in "]}":
            depth -= 1
        elif seen == "\n":
            line += 1
            if depth <= 0:
                yield start, text[begin : token.start()]
                start, begin, depth = line, token.end(), 0
        else:
            line += seen.count("\n")
    yield start, text[begin:]

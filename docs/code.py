"""
Writes the code of examples into the pages that show it, so that pages are complete wherever they are read::

    python docs/code.py

A block of code after a comment C{<!-- code: FILE -->} is the file of that name below C{docs/examples}; after
C{<!-- code: FILE from "TEXT" -->} it begins with the line that begins with this text.  A test fails when they differ.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE / "examples"

BLOCK = re.compile(r'(<!-- code: (?P<file>\S+)(?: from "(?P<start>[^"]+)")? -->\n\n)```python\n.*?```\n', re.DOTALL)


def withCode(page: str) -> str:
    """
    @return: the text of a page with the present code of the examples.
    """
    return BLOCK.sub(lambda found: f"{found[1]}```python\n{code(found['file'], found['start'])}```\n", page)


def code(name: str, start: str | None) -> str:
    """
    @param start: the beginning of the first line that is shown; C{None} shows all.
    """
    text = (EXAMPLES / name).read_text()
    return text if start is None else text[text.index(f"\n{start}") + 1 :]


def pages() -> list[Path]:
    """
    @return: all pages.
    """
    return [path for path in HERE.rglob("*.md") if "_build" not in path.parts]


if __name__ == "__main__":
    for path in pages():
        path.write_text(withCode(path.read_text()))

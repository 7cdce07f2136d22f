"""
Writes the man pages in man/ from the option tables of the programs::

    python docs/man.py

A test fails when pages and tables differ.  The pages are part of the wheel.
"""

from __future__ import annotations

from pathlib import Path

from tunnelstack.commands.man_pages import manPages

FOLDER = Path(__file__).resolve().parent / "man"


def write() -> None:
    """
    Write all pages, and remove those of commands that do not exist any more.
    """
    FOLDER.mkdir(exist_ok=True)
    pages = manPages()
    for old in FOLDER.glob("*.1"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    write()

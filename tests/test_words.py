"""
The words of the project: one meaning each, and no private ones.

C{docs/contributing/glossary.md} has the words that are used; C{retired_words.txt} has those that once stood for them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tunnelstack"
RETIRED = frozenset((Path(__file__).parent / "retired_words.txt").read_text().split())


def identifiers(path: Path) -> Iterator[str]:
    """
    What a module defines: classes, functions, parameters, attributes of C{self} and variables, and its own name.
    """
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def words(identifier: str) -> Iterator[str]:
    """
    C{"_askAgain"} is C{"ask"} and C{"again"}.
    """
    for part in identifier.split("_"):
        yield from (word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", part))


def retired(identifier: str) -> bool:
    """
    A retired word in lower case may be no word of an identifier; one with a capital or an underscore may be no identifier.
    """
    return identifier in RETIRED or any(word in RETIRED for word in words(identifier))


class WordTests(SynchronousTestCase):
    """
    Every identifier and file name of the package.
    """

    def test_noRetiredWordIsUsed(self) -> None:
        wrong = sorted(
            f"{path.relative_to(PACKAGE)}: {identifier}"
            for path in PACKAGE.rglob("*.py")
            for identifier in set(identifiers(path))
            if retired(identifier)
        )
        self.assertEqual(wrong, [])

    def test_aPublicClassHasANameOfItsOwn(self) -> None:
        """
        In the floors and services.  Dialects name their parts alike where they do alike, and every command has its C{Options}.
        """
        homes: dict[str, list[str]] = {}
        for path in sorted(PACKAGE.rglob("*.py")):
            module = path.relative_to(PACKAGE).as_posix()
            if not module.startswith(("dialect/", "wire/records/")):
                for node in ast.parse(path.read_text(), str(path)).body:
                    if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name != "Options":
                        homes.setdefault(node.name, []).append(module)
        self.assertEqual({name: places for name, places in homes.items() if len(places) > 1}, {})

    def test_noPythonReprReachesAPerson(self) -> None:
        """
        Words of people and peers are quoted by L{quoted<tunnelstack.wire.printable_text.quoted>}, in messages and in formats of
        logs.  A C{RuntimeError} is for programmers.
        """
        wrong = [
            f"{path.relative_to(PACKAGE)}:{number}"
            for path in sorted(PACKAGE.rglob("*.py"))
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if re.search(r"![rsa]\}|%r|\brepr\(", line) and not re.search(r"RuntimeError|NewToken\(|C\{repr\}", line)
        ]
        self.assertEqual(wrong, [])

    def test_aRetiredWordIsFound(self) -> None:
        for identifier in ("knock", "_knock", "lastKnock", "knock_path", "KNOCK", "letGo"):
            self.assertTrue(retired(identifier), identifier)
        for identifier in ("knockout", "let", "go", "unlock"):
            self.assertFalse(retired(identifier), identifier)

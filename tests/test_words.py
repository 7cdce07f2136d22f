"""
The words of the project: one meaning each, and no private ones.

C{docs/contributing/glossary.md} has the words that are used; C{retired_words.txt} has those that once stood for them.
C{docs/contributing/style.md} has the rules for prose.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import propositions

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


OF_PEOPLE = re.compile(
    r"\b([Ss]omebody|[Nn]obody|[Ee]verybody|[Ww]hoever|[Ww]hom|himself|herself|[Ss]ays|[Ss]aid|[Tt]ells|[Tt]old|[Ww]ants|wanted"
    r"|[Kk]nows|[Hh]ears|[Hh]eard|knocks|knocked)\b"
)
"""Words for people, with which no sentence about a program is written."""


def prose(page: Path) -> Iterator[str]:
    """
    The lines of a page outside of its code.
    """
    fenced = False
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield re.sub(r"`[^`]*`", "", line)


def messages(module: Path) -> Iterator[str]:
    """
    The strings of a module that have several words and are no docstrings.
    """
    tree = ast.parse(module.read_text(), str(module))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings and " " in node.value:
            yield node.value


class TestNameTests(SynchronousTestCase):
    """
    The names of all tests, see L{tests.propositions}.
    """

    def test_everyNameHasAVerb(self) -> None:
        tests = Path(__file__).parent
        wrong = [
            f"{path.relative_to(tests)}: {name}"
            for path in sorted(tests.rglob("*.py"))
            for name in propositions.names(path)
            if not propositions.isProposition(name) and name not in propositions.OF_TWISTED
        ]
        self.assertEqual(wrong, [], "fragments, or words that tests/propositions.py does not have")

    def test_fragmentsAreFound(self) -> None:
        for name in ("test_trailers", "test_bad", "test_theLastRequests", "test_whatIsNone", "test_notForEver"):
            self.assertFalse(propositions.isProposition(name), name)
        for name in ("test_aClosedStreamRefusesWrites", "test_trailersArrive", "test_whatIsNoneIsRejected", "test_itMayWait"):
            self.assertTrue(propositions.isProposition(name), name)


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

    def test_programsDoNotSpeak(self) -> None:
        """
        In the documentation, in messages and in C{--help}: programs, peers and visitors send, report and require.
        """
        pages = [path for path in (ROOT / "docs").rglob("*.md") if path.name != "style.md"]
        wrong = [
            f"{path.relative_to(ROOT)}: {sentence}"
            for path, sentences in (
                *((page, prose(page)) for page in (*pages, ROOT / "README.md")),
                *((module, messages(module)) for module in PACKAGE.rglob("*.py")),
            )
            for sentence in sentences
            if OF_PEOPLE.search(sentence)
        ]
        self.assertEqual(wrong, [])

    def test_speakingProgramsAreFound(self) -> None:
        for sentence in ("the edge says no", "Nobody reads it", "whoever has a token", "the agent told it"):
            self.assertTrue(OF_PEOPLE.search(sentence), sentence)
        for sentence in ("the edge sends a reset", "essays"):
            self.assertFalse(OF_PEOPLE.search(sentence), sentence)
        page = Path(self.mktemp())
        page.write_text("One.\n```\nnobody\n```\n\n    nobody\nTwo `nobody`.\n")
        self.assertEqual(list(prose(page)), ["One.", "", "Two ."])
        page.write_text('"""\nIt says.\n"""\nname = "says"\nlog("it says {x}")\n')
        self.assertEqual(list(messages(page)), ["it says {x}"])

    def test_aRetiredWordIsFound(self) -> None:
        for identifier in ("knock", "_knock", "lastKnock", "knock_path", "KNOCK", "letGo"):
            self.assertTrue(retired(identifier), identifier)
        for identifier in ("knockout", "let", "go", "unlock"):
            self.assertFalse(retired(identifier), identifier)

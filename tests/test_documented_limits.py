"""
Every limit that the page of configuration documents is changed by a test which sees the effect through an edge and an agent.

A limit that has a second, fixed copy somewhere on the way, or no user at all, is in the documentation and does nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reference" / "configuration.md"
FILES = {"## An edge's file": "edge", "## An agent's file": "agent"}
ROW = re.compile(r"\| `(\w+)` \| (?:whole )?number: ")

NO_LIMITS = {
    "edge [[koding.port]] port", "edge [[godoxy.service]] port", "agent [[service]] remote_port", "agent [[shellhub]] version",
    "agent [[godoxy]] port",
}  # fmt: skip
"""Numbers that bound nothing."""

OF_DTLS = {"agent [[godoxy]] flows", "agent [[godoxy]] flow_idle_seconds"}
"""Limits that are passed to a port of DTLS, whose tests see their effects (L{tests.transport.test_dtls})."""


def documented() -> Iterator[str]:
    """
    Each setting of the page that is a number.
    """
    file = table = ""
    for line in PAGE.read_text().splitlines():
        file = FILES.get(line, file)
        if line.startswith("### "):
            table = line.removeprefix("### ")
        elif row := ROW.match(line):
            yield f"{file} {table} {row[1]}"


def changed() -> Iterator[str]:
    """
    Each setting that a test is marked with.
    """
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _marks(node)


def _marks(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "changes":
            assert test.name.startswith("test_"), test.name
            yield from (ast.literal_eval(each) for each in mark.args)


class DocumentedLimitTests(SynchronousTestCase):
    """
    The page and the marks.
    """

    def test_everyLimitIsChangedByATest(self) -> None:
        limits = set(documented()) - NO_LIMITS - OF_DTLS
        self.assertGreater(len(limits), 40)
        self.assertEqual(sorted(limits - set(changed())), [])

    def test_whatIsChangedIsDocumented(self) -> None:
        self.assertEqual(sorted(set(changed()) - set(documented())), [])

    def test_whatIsNoLimitIsDocumented(self) -> None:
        self.assertEqual((NO_LIMITS | OF_DTLS) - set(documented()), set())

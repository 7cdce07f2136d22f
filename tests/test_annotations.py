"""
Types say something: how often C{Any} stands in the code.
"""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = Path(__file__).resolve().parent.parent / "tunnelstack"

MOST = 15
"""C{Any} in 1 000 lines with code of the whole package, and of each folder; imports and docstrings do not count."""

MOST_OF_DIALECT = 10
"""The same for each of L{DIALECTS}, and for the modules that all dialects share."""

DIALECTS = ("agentserver", "koding", "native", "shellhub")

LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING,
}  # fmt: skip


def linesOf(nodes: Iterable[ast.stmt]) -> set[int]:
    """
    The lines that statements cover.
    """
    return {line for node in nodes for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def isDocstring(node: ast.AST) -> bool:
    """
    Whether a statement is a string and nothing else.
    """
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def count(path: Path) -> tuple[int, int]:
    """
    @return: how often C{Any} stands in a module, and its lines with code.
    """
    nodes = list(ast.walk(ast.parse(path.read_text())))
    prose = linesOf(node for node in nodes if isinstance(node, ast.Expr) and isDocstring(node))
    imports = linesOf(node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)))
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in LAYOUT]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - prose
    return sum(token.string == "Any" and token.start[0] not in imports for token in tokens), len(lines)


def densityOf(paths: Iterable[Path]) -> float:
    """
    @return: C{Any} in 1 000 lines with code of several modules.
    """
    found, lines = (sum(column) for column in zip(*map(count, paths), strict=True))
    return 1000 * found / lines if lines else 0.0


class AnyTests(SynchronousTestCase):
    """
    The density of C{Any}.
    """

    def test_thePackageHasFewParametersAndAttributesOfAnyType(self) -> None:
        self.assertLess(densityOf(PACKAGE.rglob("*.py")), MOST)

    def test_noFolderHasMoreThanItsShare(self) -> None:
        for folder in sorted(path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()):
            self.assertLess(densityOf(folder.rglob("*.py")), MOST, folder.name)

    def test_dialectsHaveFewer(self) -> None:
        self.assertLess(densityOf((PACKAGE / "dialect").glob("*.py")), MOST_OF_DIALECT)
        for name in DIALECTS:
            self.assertLess(densityOf((PACKAGE / "dialect" / name).glob("*.py")), MOST_OF_DIALECT, name)

    def test_importsAndDocstringsDoNotCount(self) -> None:
        module = Path(self.mktemp())
        module.write_text('"""\nAny\n"""\nfrom typing import Any\n\n# Any\none: Any = 1\ntwo: list[Any] = [\n    2,\n]\n')
        self.assertEqual(count(module), (2, 5))

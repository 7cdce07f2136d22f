"""
Every fuzz target takes its seeds, what was once found, and a few hundred bent inputs; and the runner finds what is there.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.mutate import LIMIT, mutate
from tests.fuzz.run import Finding, attempt, fuzz, targets
from tunnelstack.errors import PeerError

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
WIRE = ROOT / "tunnelstack" / "wire"
READS = re.compile(r"^ *def (?:\w+_untrusted|receive_data|feed|read_\w+|decode\w*)\(", re.MULTILINE)
"""The names of functions that read octets of peers."""


def importsOf(path: Path) -> set[str]:
    """
    The modules of C{wire/} and C{transport/} that a module imports.
    """
    nodes = ast.walk(ast.parse(path.read_text()))
    names = {f"{node.module}.{each.name}" for node in nodes if isinstance(node, ast.ImportFrom) for each in node.names}
    return {found for name in names for found in (name, name.rpartition(".")[0]) if pathOf(found).is_file()}


def pathOf(name: str) -> Path:
    """
    The file of a module of C{tunnelstack.wire} or C{tunnelstack.transport}; a folder for any other name.
    """
    known = name.startswith(("tunnelstack.wire.", "tunnelstack.transport."))
    return (ROOT / name.replace(".", "/")).with_suffix(".py") if known else ROOT


def brittle(data: bytes) -> int:
    """
    A decoder that trusts its length field.
    """
    if data[:2] != b"ok":
        raise PeerError("not ours")
    return data[3 + data[2]] if len(data) > 2 else 0


class TargetTests(SynchronousTestCase):
    """
    The gate's share of C{make fuzz}.
    """

    def test_seedsAndFindingsAreTaken(self) -> None:
        for name, module in targets().items():
            self.assertTrue(module.SEEDS, name)
            for data in [*module.SEEDS, *getattr(module, "FOUND", [])]:
                answer = attempt(module.target, data)
                if isinstance(answer, Finding):
                    self.fail(f"{name}: {data.hex()}\n{answer.error}")

    def test_everyDecoderHasATarget(self) -> None:
        """
        A module of C{wire/} with a function that reads a peer's octets is imported by a target, or by a module that is.
        """
        imported = {name for path in FOLDER.glob("*.py") for name in importsOf(path)}
        seen: set[str] = set()
        while imported - seen:
            name = (imported - seen).pop()
            seen.add(name)
            imported |= importsOf(pathOf(name))
        modules = {str(path.relative_to(ROOT).with_suffix("")).replace("/", "."): path for path in WIRE.rglob("*.py")}
        missing = {name for name, path in modules.items() if name not in seen and READS.search(path.read_text())}
        self.assertEqual(missing, set())

    def test_bentInputsAreTaken(self) -> None:
        for name, module in targets().items():
            report = fuzz(name, module.target, list(module.SEEDS), 0.5, seed=1)
            self.assertEqual([(found.data.hex(), found.error) for found in report.findings], [], name)


class RunnerTests(SynchronousTestCase):
    """
    The runner can fail.
    """

    def test_findsAndShrinks(self) -> None:
        report = fuzz("brittle", brittle, [b"ok\x01ab and what follows"], 30, seed=1)
        (found,) = report.findings
        self.assertEqual(found.kind, "IndexError")
        self.assertEqual(found.data[:2], b"ok")
        self.assertEqual(len(found.data), 3)

    def test_peerErrorIsAFairAnswer(self) -> None:
        self.assertEqual(attempt(brittle, b"no"), "PeerError")

    def test_inputsAreBounded(self) -> None:
        random, corpus = Random(1), [b"", b"x" * LIMIT]
        for _ in range(200):
            self.assertLessEqual(len(mutate(corpus, random)), LIMIT)

"""
Every fuzz target takes its seeds, what was once found, and a few hundred bent inputs; and the runner finds what is there.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.mutate import LIMIT, mutate
from tests.fuzz.run import Finding, attempt, fuzz, targets
from tunnelstack.errors import PeerError


def brittle(data: bytes) -> int:
    """
    A decoder that trusts its length field.
    """
    if data[:2] != b"ok":
        raise PeerError("not ours")
    return data[3 + data[2]] if len(data) > 2 else 0


class TargetTests(SynchronousTestCase):
    """
    The gate's share of C{tox -e fuzz}.
    """

    def test_seedsAndFindingsAreTaken(self) -> None:
        for name, module in targets().items():
            self.assertTrue(module.SEEDS, name)
            for data in [*module.SEEDS, *getattr(module, "FOUND", [])]:
                answer = attempt(module.target, data)
                if isinstance(answer, Finding):
                    self.fail(f"{name}: {data.hex()}\n{answer.error}")

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

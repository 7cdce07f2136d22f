"""
Every benchmark runs in its smallest size and has all its figures, and a run is kept, joined and drawn.

No test looks at how much a figure is.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import SkipTest

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import __main__ as program
from benchmarks import _shares
from benchmarks._chain import Chain
from benchmarks._curves import slope
from benchmarks._parts import build
from benchmarks._results import merged, reached, read, rowsOf, write
from benchmarks._sides import DEFAULT, GO, SCALES, Figures, Side
from benchmarks._table import cell, mark
from benchmarks._works import WORKS

DOCS = Path(__file__).resolve().parent.parent / "docs"
SMALLEST = SCALES["smallest"]


def go() -> str:
    """
    The Go program.

    @raise SkipTest: it cannot be built, and nobody requires it.
    """
    try:
        return build()
    except (OSError, subprocess.SubprocessError) as problem:
        if os.environ.get("TUNNELSTACK_REQUIRE_PEERS") == "1":
            raise AssertionError(getattr(problem, "stderr", "") or problem) from problem
        raise SkipTest(f"the Go twins cannot be built: {problem}") from problem


Measured = tuple[dict[str, list[Figures]], str]


class RowTests(SynchronousTestCase):
    """
    Each benchmark, with the Go twins and with the default reactor.

    @cvar running: all of them.  Two run at the same time, since starting processes takes longest.
    """

    running: dict[str, Future[Measured]]

    @classmethod
    def setUpClass(cls) -> None:
        present = [Side(side, go()) for side in (*GO, DEFAULT)]
        executor = ThreadPoolExecutor(2)
        cls.addClassCleanup(executor.shutdown, cancel_futures=True)
        cls.running = {
            name: executor.submit(program.measure, name, present, SMALLEST, 1)
            for name in sorted(WORKS, key=nameOfTest) if WORKS[name].needs()      # as the tests wait for them
        }

    def figures(self, name: str) -> None:
        """
        Look at the rows of one.
        """
        if name not in self.running:
            raise SkipTest("a program that it needs is not installed")
        rounds, wrong = self.running[name].result()
        self.assertEqual(wrong, "")
        rows = rowsOf(name, rounds, wrong)
        expected = {figure.id for figure in WORKS[name].figures}
        self.assertLessEqual(expected, {row["id"] for row in rows})
        self.assertEqual(bool(WORKS[name].points), len(rows) > len(expected))
        for row in rows:
            alone = row["id"].startswith("http-unpooled")
            taking = {DEFAULT, *(side for side in GO if side in WORKS[name].who and not (alone and side == "tuned"))}
            self.assertEqual(set(row["sides"]), taking, row["id"])
            self.assertTrue(all(map(math.isfinite, row["sides"].values())), row)
        self.assertEqual({figure for one in rounds[DEFAULT] for figure in one}, {row["id"] for row in rows})


def nameOfTest(name: str) -> str:
    """
    The name of the test of a benchmark.
    """
    return f"test_{name.replace('-', '_')}_hasFigures"


def _add(name: str) -> None:
    def test(self: RowTests) -> None:
        self.figures(name)

    test.__name__ = nameOfTest(name)
    setattr(RowTests, test.__name__, test)


for _name in WORKS:
    _add(_name)


def row(**fields: Any) -> dict[str, Any]:
    """
    A row of a result.
    """
    ours, theirs = fields.pop("ours", 2.0), fields.pop("go", 1.0)
    figures = {DEFAULT: [{"churn-1": ours}], "go": [{"churn-1": theirs}]}
    return {**rowsOf("churn-1", figures, "")[0], **fields}


def result(name: str, ours: float, date: str = "now") -> dict[str, Any]:
    """
    A result with one benchmark.
    """
    rows = rowsOf(name, {DEFAULT: [{name: ours}], "go": [{name: 1.0}]}, "")
    about = {"date": date, "commit": "c0ffee", "scale": "quick", "peers": [], "rounds": 1, "load": 0.1}
    return {"about": about, "works": {name: {"seconds": 1.0}}, "results": rows}


class ResultTests(SynchronousTestCase):
    """
    What follows from rounds.
    """

    def test_aRatioIsTheMedianOfThoseOfTheRounds(self) -> None:
        values = {DEFAULT: (2.0, 30.0, 4.0), "go": (1.0, 10.0, 4.0)}
        found = rowsOf("churn-1", {side: [{"churn-1": one} for one in of] for side, of in values.items()}, "")[0]
        self.assertEqual((found["ratio"], found["spread"], found["ours"], found["go"]), (2.0, [1.0, 3.0], 4.0, 4.0))

    def test_aMarkIsReachedFromItsBetterSide(self) -> None:
        self.assertEqual([reached(row(mark=mark)) for mark in (None, 1.9, 2.0, 2.1)], [None, True, True, False])
        self.assertEqual([reached(row(mark=mark, better="less")) for mark in (1.9, 2.0)], [False, True])
        self.assertIs(reached(row(mark=1.0, of="")), True)
        self.assertIsNone(reached(row(mark=1.0, of="frp")))

    def test_aRowThatFallsShortIsMarked(self) -> None:
        self.assertEqual(mark(row(mark=3.0)), ">= 3 x go  MISSED")
        self.assertEqual(mark(row(mark=1.0)), ">= 1 x go")

    def test_aFailureStaysInTheRows(self) -> None:
        self.assertEqual(rowsOf("churn-1", {DEFAULT: []}, "busypoll: gone")[0]["error"], "busypoll: gone")

    def test_theLastResultOfABenchmarkCounts(self) -> None:
        joined = merged([result("churn-1", 2.0, "first"), result("bulk-ws", 3.0), result("churn-1", 5.0, "last")])
        self.assertEqual([(row["id"], row["ours"]) for row in joined["results"]], [("bulk-ws", 3.0), ("churn-1", 5.0)])
        self.assertEqual((joined["about"]["date"], list(joined["works"])), ("last", ["bulk-ws", "churn-1"]))

    def test_aResultIsReadAsItWasWritten(self) -> None:
        path = Path(self.mktemp())
        write(path, result("churn-1", 2.0))
        self.assertEqual(read(path), json.loads(json.dumps(result("churn-1", 2.0))))

    def test_numbersHaveThreePlaces(self) -> None:
        self.assertEqual([cell(value) for value in (None, 0.5, 12.34, 1234.5, -3.0)], ["-", "0.50", "12.3", "1,234", "-3.00"])

    def test_theSlopeIsOneWhereEachCostsTheSame(self) -> None:
        self.assertAlmostEqual(slope({1: 5.0, 10: 5.0, 100: 5.0}), 1.0)
        self.assertAlmostEqual(slope({10: 1.0, 1_000: 100.0}), 2.0)


class ShareTests(SynchronousTestCase):
    """
    What a part costs that can be switched on.
    """

    def test_theCostIsTheMedianOfPairsInBothOrders(self) -> None:
        turns: list[str] = []
        rates = iter((100.0, 90.0, 45.0, 50.0, 10.0, 1.0))      # the machine becomes slower, and is disturbed in the end

        @contextmanager
        def chain(side: object, wanted: object = None) -> Iterator[Chain]:
            yield Chain("plain" if wanted is None else "other", None, None)

        def measured(side: object, tunnel: Chain, *_: object, **__: object) -> dict[str, float]:
            turns.append(tunnel.address)
            return {"rate": next(rates), "processor": 1.0 if tunnel.address == "plain" else 1.2}

        self.patch(_shares, "chain", chain)
        self.patch(_shares, "measured", measured)
        self.patch(_shares, "visit", lambda *_, **__: None)
        figures = _shares.observed(Side(DEFAULT, ""), evolve(SMALLEST, pairs=3))
        self.assertEqual(turns, ["plain", "other", "other", "plain", "plain", "other"])
        self.assertAlmostEqual(figures["http-keep-observed"], 10.0)
        self.assertAlmostEqual(figures["http-keep-observed-cpu"], 20.0)


class PageTests(SynchronousTestCase):
    """
    docs/topics/performance.md.
    """

    def setUp(self) -> None:
        spec = importlib.util.spec_from_file_location("performance", DOCS / "performance.py")
        assert spec is not None and spec.loader is not None
        self.script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.script)

    def test_thePageIsThatOfTheKeptResult(self) -> None:
        written = (DOCS / "topics" / "performance.md").read_text()
        self.assertEqual(written, self.script.page(read(self.script.KEPT)), "run: python docs/performance.py")

    def test_everyRowHasASection(self) -> None:
        titles = {title for title, _ in self.script.SECTIONS}
        for work in WORKS.values():
            for figure in work.figures:
                if not figure.id.startswith("curve-"):
                    self.assertIn(self.script.section(figure.id), titles, figure.id)

    def test_rowsThatTheReactorLosesAreNamed(self) -> None:
        def rows(name: str, better: float) -> list[dict[str, Any]]:
            return rowsOf("http-keep" if "http" in name else name, {DEFAULT: [{name: 100.0}], "epoll": [{name: better}]}, "")

        text = self.script.lost([*rows("churn-1", 104.0), *rows("churn-64", 110.0), *rows("http-keep-cpu", 90.0)])
        self.assertIn(": `churn-64`, `http-keep-cpu`.", text)

    def test_aFailureIsOnThePage(self) -> None:
        failed = {**result("churn-1", 2.0), "results": rowsOf("churn-1", {}, "busypoll: gone\nlast words")}
        about = dict.fromkeys(("processors", "system", "python", "libraries", "go"), "unknown")
        failed["about"] = {**about, **failed["about"]}
        self.assertIn("`churn-1` failed for busypoll: gone\n", self.script.page(failed))


class ProgramTests(SynchronousTestCase):
    """
    C{python -m benchmarks}.
    """

    def test_aBenchmarkThatIsThereIsNotMeasuredAgain(self) -> None:
        path = Path(self.mktemp())
        write(path, result("churn-1", 2.0))
        chosen = program.options(["--quick", "--only", "churn-1", "--json", str(path), "--resume"])
        again = program.run(chosen, [], [])
        self.assertEqual([row["ours"] for row in again["results"]], [2.0])

    def test_sidesTakeTurnsInBothOrders(self) -> None:
        turns: list[str] = []

        class Turns:
            who, once = frozenset({"go"}), False

            def takes(self, side: Side, kinds: object) -> bool:
                return True

            def run(self, side: Side, scale: object) -> dict[str, float]:
                turns.append(side.name)
                return {"x": 1.0}

        self.patch(program, "WORKS", {"x": Turns()})
        program.measure("x", [Side(name, "") for name in ("go", "busypoll", "uvloop")], SMALLEST, 2)
        self.assertEqual(turns, ["go", "busypoll", "uvloop", "busypoll", "go"])

    def test_plotsOfAnyResultAreDrawn(self) -> None:
        from benchmarks._plot import plot

        curve = {DEFAULT: [{"curve-agents-10": 1.0, "curve-agents-100": 1.5, "curve-agents-slope": 1.1}]}
        drawn = {**result("churn-1", 2.0)}
        drawn["results"] = [*drawn["results"], *rowsOf("curve-agents", curve, ""), *rowsOf("churn-1", {}, "failed")]
        with tempfile.TemporaryDirectory() as folder:
            plot(drawn, Path(folder, "plots"))
            files = {path.name for path in Path(folder, "plots").iterdir()}
        self.assertEqual(files, {"ratios.png", "ratios.svg", "curves.png", "curves.svg"})

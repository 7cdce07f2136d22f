"""
Run the benchmarks: ours, the Go twins and the programs of others in turns; a table on stdout, and JSON and plots on request.

A rate is better when it is more, a latency, a size or processor time when it is less.  A ratio is ours/theirs: the median of
the ratios of all rounds, with the reactor that the commands use, and after it the least and the greatest of those to Go.  Of
each side the median of its rounds is shown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

from benchmarks import _peers
from benchmarks._parts import PartFailed, build
from benchmarks._results import Result, about, merged, read, rowsOf, write
from benchmarks._sides import DEFAULT, GO, SCALES, Figures, Scale, Side
from benchmarks._table import Table
from benchmarks._works import WORKS

SELDOM = "uvloop"
"""Has its turn in the first round only: it is printed beside, and no ratio depends on it."""


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    The command line.
    """
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, and one round")
    parser.add_argument("--only", metavar="IDS", default="", help=f"separated by commas, of: {', '.join(WORKS)}")
    parser.add_argument("--rounds", metavar="N", type=int, help="how often each side has its turn (3, quick: 1)")
    parser.add_argument("--peers", action="store_true", help=f"build and measure other programs: {', '.join(_peers.PEERS)}")
    parser.add_argument("--json", metavar="PATH", type=Path, help="write the results here, after each benchmark")
    parser.add_argument("--resume", action="store_true", help="leave out the benchmarks that --json has already")
    parser.add_argument("--merge", metavar="PATH", type=Path, nargs="+", help="measure nothing; join these results into one")
    parser.add_argument("--plot", metavar="FOLDER", type=Path, help="write plots (PNG and SVG) into this folder")
    chosen = parser.parse_args(arguments)
    chosen.ids = chosen.only.split(",") if chosen.only else list(WORKS)
    unknown = [name for name in chosen.ids if name not in WORKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(WORKS)}")
    if chosen.resume and not chosen.json:
        parser.error("--resume needs --json PATH")
    chosen.scale = SCALES["quick" if chosen.quick else "full"]
    return chosen


def _without(what: str, problem: Exception) -> None:
    said = str(getattr(problem, "stderr", None) or problem).strip().splitlines()
    print(f"{what}: {' / '.join(said[-3:])}", file=sys.stderr)


def sides() -> list[Side]:
    """
    The Go twins and ours, in the order of their turns.
    """
    present: list[Side] = []
    go = ""
    try:
        go = build()
    except (OSError, subprocess.SubprocessError) as problem:
        _without("without the Go twins, ours alone is measured", problem)
    else:
        present += [Side(name, go) for name in GO]
    present += [Side("epoll", go), Side("busypoll", go)]
    if find_spec("uvloop") is None:
        print("uvloop is not installed", file=sys.stderr)
    else:
        present.append(Side("uvloop", go))
    return present


def peers(go: str) -> tuple[list[Side], list[str]]:
    """
    The programs of others that can be had, and their versions.
    """
    present, versions = [], []
    for name in _peers.PEERS:
        try:
            version = _peers.obtain(name)
            versions += [version] if version not in versions else []
        except (OSError, subprocess.SubprocessError) as problem:
            _without(f"without {name}", problem)
        else:
            present.append(Side(name, go))
    return present, versions


def measure(name: str, present: Sequence[Side], scale: Scale, rounds: int) -> tuple[dict[str, list[Figures]], str]:
    """
    Let the sides take turns, in each second round in the opposite order.

    @return: the figures of each side's rounds, and what went wrong, if anything did.
    """
    work = WORKS[name]
    taking = [side for side in present if work.takes(side, _kinds(side))]
    measured: dict[str, list[Figures]] = {side.name: [] for side in taking}
    wrong = ""
    for number in range(1 if work.once else rounds):
        for side in taking if number % 2 == 0 else reversed(taking):
            if side.name == SELDOM and number:
                continue
            try:
                measured[side.name].append(work.run(side, scale))
            except PartFailed as failed:
                wrong = f"{side.name}: {failed}"
    return measured, wrong


def _kinds(side: Side) -> frozenset[str]:
    return _peers.PEERS[side.name].kinds if side.name in _peers.PEERS else frozenset()


def leftOut(name: str, present: Sequence[Side]) -> str:
    """
    Why a benchmark cannot be run; empty if it can.
    """
    if WORKS[name].needsGo and not present[0].go:
        return "its origin and its visitors are Go programs"
    return "" if WORKS[name].needs() else "a program that it needs is not installed"


def run(chosen: argparse.Namespace, present: Sequence[Side], versions: Sequence[str]) -> Result:
    """
    Measure what was asked for, and print it.
    """
    rounds = chosen.rounds or chosen.scale.rounds
    result: Result = {"about": about(chosen.scale, rounds, versions), "works": {}, "results": []}
    if chosen.resume and chosen.json.exists():
        result = merged([read(chosen.json), result])
    table = Table([side.name for side in present if side.name in _peers.PEERS])
    table.head()
    for name in chosen.ids:
        if name in result["works"]:
            continue
        if reason := leftOut(name, present):
            print(f"{name:18}left out: {reason}", flush=True)
            continue
        began = monotonic()
        rows = rowsOf(name, *measure(name, present, chosen.scale, rounds))
        for row in rows:
            table.show(row)
        result["works"][name] = {"seconds": round(monotonic() - began, 1)}
        result["results"] += rows
        if chosen.json:
            write(chosen.json, result)
    print(f"{sum(work['seconds'] for work in result['works'].values()) / 60:.1f} minutes", flush=True)
    return result


def show(result: Result) -> None:
    """
    Print a result that was read.
    """
    table = Table([name for name in _peers.PEERS if any(name in row.get("sides", {}) for row in result["results"])])
    table.head()
    for row in result["results"]:
        table.show(row)


def main() -> int:
    """
    Do what was asked for.

    @return: the exit code: 1 if a benchmark of ours could not be run.
    """
    chosen = options()
    if chosen.merge:
        result = merged([read(path) for path in chosen.merge])
        show(result)
        if chosen.json:
            write(chosen.json, result)
    else:
        present = sides()
        others, versions = peers(present[0].go) if chosen.peers and present[0].go else ([], [])
        if versions:
            print(f"beside {', '.join(versions)}")
        result = run(chosen, [*present, *others], versions)
    if chosen.plot:
        from benchmarks._plot import plot

        plot(result, chosen.plot)
    return 1 if any("error" in row and not row.get("rounds", {}).get(DEFAULT) for row in result["results"]) else 0


if __name__ == "__main__":
    sys.exit(main())

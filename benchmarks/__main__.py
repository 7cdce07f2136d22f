"""
Run the benchmarks: ours and the Go twins in turns, a table on stdout, and JSON where it is asked for.

A rate is better when it is more, a latency or a size when it is less.  The ratio is ours/Go: the median of the ratios of all
rounds, with the reactor that the commands use, and after it the least and the greatest of them.  Of each side the median of its
rounds is shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks._parts import PartFailed, build
from benchmarks._sides import FULL, QUICK, Figures, Scale, Side
from benchmarks._works import WORKS, Figure

COLUMNS = ("go", "epoll", "uvloop", "busypoll")
DEFAULT = "busypoll"    # the reactor of the commands


def options() -> argparse.Namespace:
    """
    The command line.
    """
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds: some minutes")
    parser.add_argument("--only", metavar="IDS", help=f"separated by commas, of: {', '.join(WORKS)}")
    parser.add_argument("--json", metavar="PATH", type=Path, help="write the results here as well")
    chosen = parser.parse_args()
    ids = chosen.only.split(",") if chosen.only else list(WORKS)
    unknown = [name for name in ids if name not in WORKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(WORKS)}")
    chosen.ids = ids
    return chosen


def sides() -> list[Side]:
    """
    Who takes part, in the order of their turns.
    """
    present: list[Side] = []
    go = ""
    try:
        go = build()
    except (OSError, subprocess.SubprocessError) as problem:
        said = str(getattr(problem, "stderr", None) or problem).strip().splitlines()
        print(f"without the Go twins, ours alone is measured: {' / '.join(said[-3:])}", file=sys.stderr)
    else:
        present.append(Side("go", go))
    present += [Side("epoll", go), Side("busypoll", go)]
    if find_spec("uvloop") is None:
        print("uvloop is not installed", file=sys.stderr)
    else:
        present.append(Side("uvloop", go))
    return present


def measure(name: str, present: list[Side], scale: Scale) -> tuple[dict[str, list[Figures]], str]:
    """
    Let the sides take turns.

    @return: the figures of each side's rounds, and what went wrong, if anything did.
    """
    taking = [side for side in present if not (WORKS[name].alone and side.name == "go")]
    rounds: dict[str, list[Figures]] = {side.name: [] for side in taking}
    wrong = ""
    for _ in range(scale.rounds):
        for side in taking:
            try:
                rounds[side.name].append(WORKS[name].run(side, scale))
            except PartFailed as failed:
                wrong = f"{side.name}: {failed}"
    return rounds, wrong


def row(figure: Figure, rounds: dict[str, list[Figures]], wrong: str) -> dict[str, Any]:
    """
    One line of the result.
    """
    of = {side: [one[figure.id] for one in runs] for side, runs in rounds.items()}
    ours, theirs = of[DEFAULT], of.get("go", [])
    ratios = [mine / go for mine, go in zip(ours, theirs, strict=False) if go]
    result = {
        "id": figure.id,
        "unit": figure.unit,
        "better": figure.better,
        "ours": _median(ours),
        "ratio": _median(ratios),
        "spread": [min(ratios), max(ratios)] if ratios else None,
        "mark": figure.mark,
        "absolute": figure.absolute,
        **{side: _median(values) for side, values in of.items()},
    }
    return {**result, "error": wrong} if wrong else result


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _cell(value: float | None, width: int = 10) -> str:
    if value is None:
        return "-".rjust(width)
    return f"{value:{width},.2f}" if value < 100 else f"{value:{width},.0f}"


def show(result: dict[str, Any]) -> None:
    """
    Print one line of the table.
    """
    ratio, spread = "", ""
    if result["ratio"] is not None:
        ratio, spread = f"{result['ratio']:.2f}", "{:.2f}-{:.2f}".format(*result["spread"])
    mark = "" if result["mark"] is None else f"{'>=' if result['better'] == 'more' else '<='} {result['mark']:g}"
    if result["absolute"]:
        mark += f" {result['unit']}"
    cells = [_cell(result.get(side)) for side in COLUMNS]
    print(f"{result['id']:18}{result['unit']:>12}{''.join(cells)}{ratio:>8}{spread:>12}   {mark}", flush=True)
    if "error" in result:
        print(f"    {result['error']}", flush=True)


def main() -> int:
    """
    Run what was asked for.

    @return: the exit code: 1 if a benchmark could not be run.
    """
    chosen = options()
    scale = QUICK if chosen.quick else FULL
    present = sides()
    print(f"{'':30}{''.join(side.rjust(10) for side in COLUMNS)}{'ratio':>8}{'spread':>12}   mark")
    results = []
    for name in chosen.ids:
        if WORKS[name].needsGo and not present[0].go:
            print(f"{name:18}left out: its origin and its visitors are Go programs", flush=True)
            continue
        if not WORKS[name].needs():
            print(f"{name:18}left out: a program that it needs is not installed", flush=True)
            continue
        rounds, wrong = measure(name, present, scale)
        for figure in WORKS[name].figures:
            results.append(row(figure, rounds, wrong))
            show(results[-1])
    if chosen.json:
        chosen.json.write_text(json.dumps({"results": results}, indent=2) + "\n")
    return 1 if any("error" in result for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())

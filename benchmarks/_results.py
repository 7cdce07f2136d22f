"""
What a run has measured: its rounds, the rows that follow from them, and the file that has both.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks._parts import ROOT
from benchmarks._sides import DEFAULT, Figures, Scale
from benchmarks._works import WORKS, Figure

Row = dict[str, Any]
Result = dict[str, Any]
"""What is known of a run: C{about} it, the C{works} it has done with their seconds, and the rows, C{results}."""


def about(scale: Scale, rounds: int, programs: Sequence[str]) -> dict[str, Any]:
    """
    Where and of what a run is.

    @param programs: the versions of programs of others.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"),
        "scale": scale.name,
        "rounds": rounds,
        "processors": f"{_processors()} of {_model()}",
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(f"{name} {version(name)}" for name in ("Twisted", "autobahn")),
        "go": _said("go", "version").removeprefix("go version "),
        "peers": list(programs),
    }


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _processors() -> int:
    return Path("/proc/cpuinfo").read_text().count("processor\t:")


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def rowsOf(name: str, rounds: Mapping[str, Sequence[Figures]], wrong: str) -> list[Row]:
    """
    The rows of one benchmark.

    @param rounds: the figures of each side's rounds.
    @param wrong: what went wrong, if anything did.
    """
    ids = {figure for runs in rounds.values() for one in runs for figure in one}
    figures = WORKS[name].rows(ids)
    rows = [_row(name, figure, rounds) for figure in figures]
    if wrong:
        rows = [{**row, "error": wrong} for row in rows] or [{"id": name, "work": name, "error": wrong}]
    return rows


def _row(name: str, figure: Figure, rounds: Mapping[str, Sequence[Figures]]) -> Row:
    of = {side: [_rounded(one[figure.id]) for one in runs if figure.id in one] for side, runs in rounds.items()}
    of = {side: values for side, values in of.items() if values}
    ours = of.get(DEFAULT, [])
    ratios = {side: _ratios(ours, theirs) for side, theirs in of.items() if side != DEFAULT and figure.of}
    spread = ratios.get("go", ours)
    return {
        "id": figure.id,
        "work": name,
        "unit": figure.unit,
        "better": figure.better,
        "ours": _median(ours),
        "go": _median(of.get("go", [])),
        "ratio": _median(ratios.get("go", [])),
        "spread": [min(spread), max(spread)] if spread else None,
        "mark": figure.mark,
        "of": figure.of,
        "sides": {side: _median(values) for side, values in of.items()},
        "ratios": {side: _median(values) for side, values in ratios.items()},
        "rounds": of,
    }


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """
    Of each round.
    """
    return [_rounded(mine / other) for mine, other in zip(ours, theirs, strict=False) if other]


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def reached(row: Row) -> bool | None:
    """
    Whether a row has its mark; C{None} if it has none, or nothing was measured.
    """
    if row.get("mark") is None:
        return None
    value = row["ratios"].get(row["of"]) if row["of"] else row["ours"]
    if value is None:
        return None
    return value >= row["mark"] if row["better"] == "more" else value <= row["mark"]


def read(path: Path) -> Result:
    """
    The result in a file.
    """
    return json.loads(path.read_text())


def write(path: Path, result: Result) -> None:
    """
    Write a result, a line for each row, so that an interruption leaves the last one.
    """
    fresh = path.with_name(f"{path.name}.new")
    head = "".join(f"{json.dumps(name)}: {json.dumps(part, indent=1)},\n" for name, part in result.items() if name != "results")
    rows = ",\n".join(json.dumps(row) for row in result["results"])
    fresh.write_text(f'{{\n{head}"results": [\n{rows}\n]\n}}\n')
    fresh.replace(path)


def merged(results: Sequence[Result]) -> Result:
    """
    One result of several: of a benchmark that more than one of them has, the last.
    """
    works: dict[str, Any] = {}
    rows: dict[str, list[Row]] = {}
    peers: dict[str, None] = {}
    for result in results:
        works |= result["works"]
        peers |= dict.fromkeys(result["about"]["peers"])
        for name in result["works"]:
            rows[name] = [row for row in result["results"] if row["work"] == name]
    ordered = [name for name in WORKS if name in works]
    return {
        "about": {**results[-1]["about"], "peers": list(peers)},
        "works": {name: works[name] for name in ordered},
        "results": [row for name in ordered for row in rows[name]],
    }

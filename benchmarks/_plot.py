"""
Plots of a result: the ratios of all rows, and the curves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks._curves import points
from benchmarks._results import Result, Row, reached
from benchmarks._sides import DEFAULT, GO

matplotlib.use("Agg")

from matplotlib import pyplot

STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "tunnelstack", "font.size": 9.0,
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip
FORMATS = ("png", "svg")

COLOURS = {DEFAULT: "#1f6f8b", "go": "#8a8a8a", "tuned": "#c07a2c"}
NAMES = {DEFAULT: "tunnelstack", "go": "Go", "tuned": "Go, tuned"}

CURVES = {
    "curve-streams-opened": "a stream that is opened, us",
    "curve-streams-memory": "an idle stream, octets",
    "curve-streams-beside": "a question beside idle streams, us",
    "curve-streams-busy": "a question, all streams busy, us",
    "curve-agents": "an agent that connects, ms",
    "curve-agents-memory": "an idle agent, octets",
    "curve-visitors": "a request, us",
    "curve-visitors-p50": "time until the response, ms",
}
"""What each curve shows: the cost of one, by how many there are."""


def plot(result: Result, folder: Path, forms: Sequence[str] = FORMATS) -> None:
    """
    Write the plots of a result.

    @param folder: made if it is not there.
    @param forms: each plot is written in all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with pyplot.rc_context(STYLE):
        _write(_ratios(result["results"]), folder, "ratios", forms)
        _write(_curves(result["results"]), folder, "curves", forms)


def _write(figure: Any, folder: Path, name: str, forms: Sequence[str]) -> None:
    for form in forms:
        kept = {"Date": None} if form == "svg" else {"Software": None}      # the same result gives the same file
        figure.savefig(folder / f"{name}.{form}", metadata=kept, dpi=120)
    pyplot.close(figure)


def _advantage(row: Row, ratio: float) -> float:
    """
    A ratio that is more where ours is better.
    """
    return ratio if row["better"] == "more" else 1 / ratio


def _ratios(rows: Iterable[Row]) -> Any:
    """
    How much better ours is, of each row that has a Go twin and is no curve.
    """
    shown = [row for row in rows if row.get("ratios", {}).get("go") and not row["id"].startswith("curve-")][::-1]
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.2 * max(1, len(shown))), layout="constrained")
    for number, row in enumerate(shown):
        for side, shift in zip(GO, (0.18, -0.18), strict=True):
            if ratio := row["ratios"].get(side):
                axes.barh(number + shift, _advantage(row, ratio) - 1, left=1, height=0.34, color=COLOURS[side])
        ends = sorted(_advantage(row, end) for end in row["spread"])
        axes.plot(ends, [number + 0.18] * 2, color="black", linewidth=0.8)
        if row["mark"] and row["of"] == "go":
            colour = "#2e8b57" if reached(row) else "#b03030"
            axes.plot([_advantage(row, row["mark"])] * 2, [number - 0.4, number + 0.4], color=colour, linewidth=1.6)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(shown)), [row["id"] for row in shown])
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlabel("times better than the default Go twin (grey) and the tuned one (orange); a tick is the first mark")
    return figure


def _curves(rows: Iterable[Row]) -> Any:
    """
    A panel for each curve, with logarithmic axes.
    """
    known = {row["id"]: row for row in rows if "sides" in row}
    figure, panels = pyplot.subplots(2, 4, figsize=(13, 6), layout="constrained")
    for axes, (curve, title) in zip(panels.flat, CURVES.items(), strict=True):
        for side in NAMES:
            of = points(known, curve, side)
            if of:
                slope = known.get(f"{curve}-slope", {}).get("sides", {}).get(side)
                label = NAMES[side] + ("" if slope is None else f", slope {slope:.2f}")
                axes.plot(list(of), list(of.values()), marker="o", markersize=3, color=COLOURS[side], label=label)
        axes.set_title(title, fontsize=9)
        axes.set_visible(bool(axes.lines))
        if axes.lines:
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.legend(fontsize=7, frameon=False)
    return figure

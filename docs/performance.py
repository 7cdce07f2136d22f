"""
Writes topics/performance.md and its plots from the result of a run of the benchmarks::

    make bench JSON=result.json
    python docs/performance.py result.json

Of several results it makes one, as C{--merge} of the benchmarks does.  The result is kept in C{benchmarks/latest.json}; without
an argument the page is made from there.  A test fails when the page and the kept result differ.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks._parts import ROOT
from benchmarks._peers import PEERS
from benchmarks._results import Result, Row, merged, reached, read, write
from benchmarks._sides import DEFAULT, GO, REACTORS
from benchmarks._table import cell

HERE = Path(__file__).resolve().parent
PAGE = HERE / "topics" / "performance.md"
PLOTS = HERE / "topics" / "performance"
KEPT = ROOT / "benchmarks" / "latest.json"

PREFACE = """\
# Performance

The figures of one run of `make bench`, whether they are good or not. [Run the benchmarks](../howto/benchmarks.md) describes the
rows, the sides that are compared, and how to measure on your machine. [Reactors](reactors.md) and [Sizing](sizing.md) draw
conclusions.

This page is generated from the result of the run (`docs/performance.py`).
"""

QUICK = """
**This was a quick run: small sizes, and one round. Its ratios are rough, and its verdicts are provisional.**
"""

BUSY = """
**Other programs ran on the machine. Its figures depend on them; processor time and calls do so least.**
"""

QUIET = 1.0
"""The load average of a machine on which nothing else runs is less."""

ABOUT = """
| | |
|---|---|
| date, commit | {date}, {commit} |
| machine | {processors}, {system}; load average before the run: {load} |
| ours | {python}, {libraries}, reactor `busypoll` |
| Go | {go} |
| others | {others} |
| rounds | {rounds} |
| took | {minutes:.0f} minutes |

A ratio is ours/theirs, the median of the ratios of all rounds: bigger is better for rates, smaller for times, sizes and
processor time. "Go" is the twin with the default configuration of its modules, "tuned" the same after an engineer has measured
it: writes are joined, buffers are large and kept. A row that ends in `-cpu` is processor time: of edge and agent together, or
of client and server.
"""

SECTIONS = (
    ("One session between two processes", ("bulk-", "rpc-", "beside-", "churn-")),
    ("HTTP through edge and agent", ("http-keep", "http-unpooled", "http-new", "http-one", "http-big", "h2-")),
    ("Ports through edge and agent", ("tcp-", "udp-")),
    ("The carriers of Jetty", ("carrier-",)),
    (
        "What logs, metrics and the inspector cost",
        ("http-keep-same", "http-keep-logged", "http-keep-observed", "http-keep-inspected", "scrape"),
    ),
    ("Many agents, and nothing to do", ("storm", "idle-", "ready-", "resident-")),
    ("Calls of Python functions", ("calls-",)),
)
"""The beginnings of the ids of each section; the longest that fits counts."""

CURVES = """
## How cost grows

The cost of one among many: of a stream on a session, an agent at an edge, a request of one of many visitors. The slope is that
of the cost of all on logarithmic axes. It is 1 if one among many costs as much as one among few, and less if it costs less.

![Curves](performance/curves.svg)
"""

RATIOS = """
![Ratios](performance/ratios.svg)
"""

PEERS_TEXT = """
## Beside other programs

frp parses HTTP for its host names. By default it encrypts between its programs (`frp-tls`). chisel and bore do not parse HTTP;
they carry the octets of a port. chisel always encrypts. All others do not encrypt.
"""

REACTORS_TEXT = """
## Reactors

Ours on each [reactor](reactors.md). `uvloop` has one round only.
"""

WORSE = 1.05
"""By less a reactor is neither better nor worse than another: that much is chance."""


def section(name: str) -> str:
    """
    The section of a row.
    """
    fitting = [(len(start), title) for title, starts in SECTIONS for start in starts if name.startswith(start)]
    return max(fitting, default=(0, ""))[1]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """
    A table.
    """
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)) + "\n"


def ratio(row: Row, side: str) -> str:
    """
    A ratio, with the spread of that to Go.
    """
    value = row["ratios"].get(side)
    if value is None:
        return ""
    low, high = row["spread"]
    return f"{value:.2f}" + (f" ({low:.2f}-{high:.2f})" if side == "go" and low != high else "")


def verdict(row: Row) -> str:
    """
    The mark of a row, and whether it is reached.
    """
    if row["mark"] is None:
        return ""
    what = f" x {row['of']}" if row["of"] else f" {row['unit']}"
    found = {True: "reached", False: "**missed**", None: "not measured"}[reached(row)]
    return f"{'≥' if row['better'] == 'more' else '≤'} {row['mark']:g}{what}: {found}"


def compared(rows: Iterable[Row]) -> str:
    """
    Ours beside the Go twins.
    """
    lines = [
        [
            f"`{row['id']}`", row["unit"], *(cell(row["sides"].get(side)) for side in (DEFAULT, *GO)),
            *(ratio(row, side) for side in GO), verdict(row),
        ]
        for row in rows
    ]  # fmt: skip
    return table(["", "", "ours", "Go", "tuned", "ours/Go", "ours/tuned", "first mark"], lines)


def alone(rows: Iterable[Row]) -> str:
    """
    Rows that have no twin.
    """
    lines = [[f"`{row['id']}`", cell(row["ours"]), row["unit"], verdict(row)] for row in rows]
    return table(["", "ours", "", "first mark"], lines)


def columns(rows: Iterable[Row], sides: Sequence[str], other: str) -> str:
    """
    The figures of some sides.

    @param other: the side with which ours is compared.
    """
    lines = [
        [f"`{row['id']}`", row["unit"], *(cell(row["sides"].get(side)) for side in sides), ratio(row, other)] for row in rows
    ]
    return table(["", "", *(f"`{side}`" for side in sides), f"ours/`{other}`"], lines)


def lost(rows: Iterable[Row]) -> str:
    """
    The rows in which the reactor of the commands is worse than that of Twisted.
    """
    worse = [
        f"`{row['id']}`" for row in rows
        if (found := row["ratios"].get("epoll")) and (1 / found if row["better"] == "more" else found) > WORSE
    ]  # fmt: skip
    named = ", ".join(worse) or "none"
    return f"\nRows in which `epoll` is better than `{DEFAULT}` by more than {(WORSE - 1) * 100:.0f} %: {named}.\n"


def summary(rows: Sequence[Row]) -> str:
    """
    Which rows reach their marks.
    """
    judged = [row for row in rows if reached(row) is not None]
    missed = [f"`{row['id']}`" for row in judged if not reached(row)]
    text = f"\n{len(judged) - len(missed)} of {len(judged)} rows with a mark reach it."
    return text + (f" These do not: {', '.join(missed)}.\n" if missed else "\n")


def failures(rows: Iterable[Row]) -> str:
    """
    What could not be run.
    """
    wrong = {row["work"]: row["error"].splitlines()[0] for row in rows if "error" in row}
    return "".join(f"\n`{name}` failed for {reason}\n" for name, reason in wrong.items())


def page(result: Result) -> str:
    """
    The whole page.
    """
    about, rows = result["about"], [row for row in result["results"] if "sides" in row]
    minutes = sum(work["seconds"] for work in result["works"].values()) / 60
    others = ", ".join(about["peers"]) or "not measured"
    parts = [PREFACE, QUICK if about["scale"] != "full" else "", BUSY if about["load"] > QUIET else ""]
    parts += [ABOUT.format(**about, others=others, minutes=minutes)]
    parts += [summary(rows), failures(result["results"]), RATIOS]
    for title, _ in SECTIONS:
        mine = [row for row in rows if section(row["id"]) == title]
        twins = any(side in row["sides"] for row in mine for side in GO)
        parts += [f"\n## {title}\n\n", (compared if twins else alone)(mine)] if mine else []
    growing = [row for row in rows if row["id"].startswith("curve-")]
    parts += [CURVES, "\n", compared(growing)] if growing else []
    beside = [row for row in rows if any(side in row["sides"] for side in PEERS)]
    parts += [PEERS_TEXT, "\n", columns(beside, [DEFAULT, *GO, *PEERS], "frp")] if beside else []
    reacting = [row for row in rows if "epoll" in row["sides"]]
    parts += [REACTORS_TEXT, lost(reacting), "\n", columns(reacting, REACTORS, "epoll")] if reacting else []
    return "".join(parts)


def main(files: Sequence[str]) -> None:
    """
    Keep the result, and write the page and its plots.
    """
    if files:
        write(KEPT, merged([read(Path(file)) for file in files]))
    result = read(KEPT)
    PAGE.write_text(page(result))
    from benchmarks._plot import plot

    plot(result, PLOTS, ("svg",))


if __name__ == "__main__":
    main(sys.argv[1:])

"""
The table on stdout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks._results import Row, reached
from benchmarks._sides import GO, REACTORS

WIDTH = 10


class Table:
    """
    Prints rows, as they come.
    """

    def __init__(self, peers: Sequence[str]) -> None:
        """
        @param peers: the names of their columns.
        """
        self._columns = (*GO, *REACTORS, *peers)

    def head(self) -> None:
        """
        Print the names of the columns.
        """
        columns = "".join(side.rjust(WIDTH) for side in self._columns)
        print(f"{'':36}{columns}{'x go':>8}{'x tuned':>8}{'spread':>14}   mark", flush=True)

    def show(self, row: Row) -> None:
        """
        Print one row.
        """
        if "sides" in row:
            cells = "".join(cell(row["sides"].get(side)).rjust(WIDTH) for side in self._columns)
            ratios = "".join(_ratio(row["ratios"].get(side)).rjust(8) for side in GO)
            print(f"{row['id']:26}{row['unit']:>10}{cells}{ratios}{_spread(row):>14}   {mark(row)}", flush=True)
        if "error" in row:
            print(f"    {row['error']}", flush=True)


def cell(value: float | None) -> str:
    """
    A number in three or more places.
    """
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _spread(row: dict[str, Any]) -> str:
    if row["spread"] is None or row["spread"][0] == row["spread"][1]:
        return ""
    return "-".join(cell(end) for end in row["spread"])


def mark(row: Row) -> str:
    """
    The mark of a row, and whether it is reached.
    """
    if row["mark"] is None:
        return ""
    what = f"x {row['of']}" if row["of"] else row["unit"]
    verdict = {True: "", False: "  MISSED", None: "  not measured"}[reached(row)]
    return f"{'>=' if row['better'] == 'more' else '<='} {row['mark']:g} {what}{verdict}"

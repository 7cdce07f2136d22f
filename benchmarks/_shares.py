"""
What a part of the programs costs that can be switched on and off.

Two chains of ours are up at the same time, one without it and one with it, and have their turns in short windows, now the one
first and now the other.  What disturbs the machine disturbs neighbouring windows alike.  So each pair gives a ratio, and the
median of these counts.  Processor time is measured beside: it hardly depends on what else runs.  Two processes of the same
program differ by one or two per cent as long as they live, so there are new chains several times.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks._chain import PLAIN, VISITORS, Chain, Wanted, chain, measured, visit
from benchmarks._http import WARM
from benchmarks._sides import Figures, Scale, Side

RATIOS = "rate", "processor"


def same(side: Side, scale: Scale) -> Figures:
    """
    Nothing: by so much two chains differ that are alike.
    """
    return _costs("http-keep-same", side, scale, PLAIN)


def logged(side: Side, scale: Scale) -> Figures:
    """
    The access logs that the programs write unless they are told not to.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _costs("http-keep-logged", side, scale, Wanted(log=("--access-log", str(Path(folder, "access.log")))))


def observed(side: Side, scale: Scale) -> Figures:
    """
    Metrics, which are scraped as often as is usual.
    """
    return _costs("http-keep-observed", side, scale, Wanted(observed=True))


def inspected(side: Side, scale: Scale) -> Figures:
    """
    The inspector of the agent.
    """
    return _costs("http-keep-inspected", side, scale, Wanted(inspected=True))


def _costs(name: str, side: Side, scale: Scale, wanted: Wanted) -> Figures:
    """
    @return: by how much the rate is less, and the processor time of a request is more, both in per cent.
    """
    pairs = [pair for _ in range(scale.starts) for pair in _pairs(side, scale, wanted)]
    rate, processor = (statistics.median(having[what] / without[what] for without, having in pairs) for what in RATIOS)
    return {name: (1 - rate) * 100, f"{name}-cpu": (processor - 1) * 100}


def _pairs(side: Side, scale: Scale, wanted: Wanted) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """
    @return: what was measured of two new chains, the plain one and the other.
    """
    with chain(side) as plain, chain(side, wanted) as other:
        for tunnel in plain, other:
            visit(side, tunnel.address, connections=VISITORS, duration=WARM)
        for number in range(scale.pairs):
            order = (plain, other) if number % 2 == 0 else (other, plain)
            windows = {id(tunnel): _window(side, tunnel, scale) for tunnel in order}
            yield windows[id(plain)], windows[id(other)]


def _window(side: Side, tunnel: Chain, scale: Scale) -> dict[str, float]:
    return measured(side, tunnel, scale.window, connections=VISITORS)

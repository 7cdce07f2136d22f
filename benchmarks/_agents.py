"""
Many agents at one edge: what they cost while they connect, and what each costs while it has nothing to do.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import monotonic

from benchmarks._chain import TOKEN, portOf
from benchmarks._metrics import METRICS, scrape
from benchmarks._parts import Part, python
from benchmarks._sides import Figures, Scale, Side
from tunnelstack.control.auth.tokens import newToken

SCRAPES = 10            # of which the quickest counts

CONNECTED = 120.0       # seconds within which all agents of a group must have connected

CONFIG = """
[edge]
listen = ["tcp:0:interface=127.0.0.1"]
[limits]
connections_per_second = 0
"""

Come = Callable[[int], AbstractContextManager[Part]]
"""Lets a group of agents connect, by its number; the block runs when all of them have."""


@contextmanager
def _arrival(command: list[str]) -> Iterator[Part]:
    with Part(command) as agents:
        agents.says(CONNECTED)
        yield agents


@contextmanager
def _goEdge(side: Side, groups: Sequence[int]) -> Iterator[tuple[Part, Come]]:
    with Part(side.twin("edge", f"--token={TOKEN}")) as edge:
        agent = side.twin("agent", f"--edge=127.0.0.1:{edge.says()['port']}", f"--token={TOKEN}", "--origin=none")
        yield edge, lambda group: _arrival([*agent, f"--host=group{group}.localhost", f"--count={groups[group]}"])


@contextmanager
def ourEdge(
    side: Side, groups: Sequence[int], settings: str = "", folder: str = ""
) -> Iterator[tuple[Part, Come]]:
    """
    Each agent has a token and a service of its own.

    @param settings: further tables of the edge's file.
    @param folder: the state folder; one of its own by default.
    """
    with tempfile.TemporaryDirectory() as own:
        folder = folder or own
        config, records = Path(folder, "edge.toml"), []
        for group, count in enumerate(groups):
            tokens = [newToken() for _ in range(count)]
            Path(folder, f"group{group}").write_text("\n".join(token.token for token in tokens))
            records += [
                f'[[agent]]\nname = "agent{group}-{number}"\ntoken_sha256 = "{token.tokenSha256}"\nallow = ["http:*"]\n'
                for number, token in enumerate(tokens)
            ]
        config.write_text(CONFIG + settings + "".join(records))
        program = python("benchmarks.ours.console", side.name, "edge", "--config", str(config))
        with Part(program, {**os.environ, "STATE_DIRECTORY": folder}, reads=False) as edge:
            url = f"http://127.0.0.1:{portOf(edge.line())}"
            yield edge, lambda group: _arrival(python("benchmarks.ours.agents", url, str(Path(folder, f"group{group}"))))


def edgeOf(side: Side, *groups: int) -> AbstractContextManager[tuple[Part, Come]]:
    """
    An edge, and the way to let groups of so many agents connect.
    """
    return (_goEdge if side.isGo else ourEdge)(side, groups)


def idle(side: Side, scale: Scale) -> Figures:
    """
    What an agent that is connected and has nothing to do costs the edge, in octets of resident memory.
    """
    with edgeOf(side, max(1, scale.agents // 10), scale.agents) as (edge, come), come(0):
        before = edge.memory()
        with come(1):
            return {"idle-agents": (edge.memory() - before) / scale.agents}


def storm(side: Side, scale: Scale) -> Figures:
    """
    Processor time of the edge for each of many agents that connect, and how that grows with their number: the slope on
    logarithmic axes.
    """
    few, many = scale.storm
    small, large = _arrivalTime(side, few), _arrivalTime(side, many)
    return {"storm": large / many * 1e3, "storm-slope": math.log(large / small) / math.log(many / few)}


def _arrivalTime(side: Side, agents: int) -> float:
    with edgeOf(side, agents) as (edge, come):
        before = edge.processorTime()
        with come(0):
            return edge.processorTime() - before


def scrapes(side: Side, scale: Scale) -> Figures:
    """
    How long a scrape of an edge with a thousand agents takes (fewer on a smaller scale), in milliseconds: without and with
    their names.
    """
    agents = min(1000, scale.agents)
    figures = {}
    for figure, settings in (("scrape", METRICS), ("scrape-per-service", f"{METRICS}per_service = true\n")):
        with tempfile.TemporaryDirectory() as folder, ourEdge(side, [agents], settings, folder) as (_, come), come(0):
            took = []
            for _ in range(SCRAPES):
                began = monotonic()
                scrape(folder)
                took.append(monotonic() - began)
        figures[figure] = min(took) * 1000
    return figures

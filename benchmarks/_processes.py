"""
What a process of ours costs when it begins, and when it has nothing to do.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from time import perf_counter

from benchmarks._chain import chain
from benchmarks._parts import Part, python
from benchmarks._sides import MIB, Figures, Scale, Side

BASE = "from twisted.internet import reactor, ssl; import autobahn.twisted.websocket"
"""What every program of this kind imports: the processes are measured above it."""


def idleProcess(side: Side, scale: Scale) -> Figures:
    """
    Resident memory of an edge and of an agent that have nothing to do, and the time until they are ready, above those of an
    interpreter with L{BASE}.
    """
    base = [_started([sys.executable, "-c", f"{BASE}; print(flush=True); input()"], {}) for _ in range(scale.starts)]
    memory, ready = (statistics.median(figures) for figures in zip(*base, strict=True))
    edges, agents = [], []
    for _ in range(scale.starts):
        with tempfile.TemporaryDirectory() as folder:
            program, environment = python("benchmarks.ours.console", side.name), {"STATE_DIRECTORY": folder}
            began = perf_counter()
            with Part([*program, "edge", "--dev", "--port", "0"], {**os.environ, **environment}, reads=False) as edge:
                edge.line()
                edges.append((edge.memory(), perf_counter() - began))
                agents.append(_started([*program, "agent", "--dev", "http", "9"], environment))
    figures = {}
    for name, measured in (("edge", edges), ("agent", agents)):
        octets, seconds = (statistics.median(column) for column in zip(*measured, strict=True))
        figures[f"idle-{name}"] = (octets - memory) / MIB
        figures[f"ready-{name}"] = seconds - ready
    return figures


def resident(side: Side, scale: Scale) -> Figures:
    """
    Resident memory of an edge and of an agent that have served one request.
    """
    with chain(side) as tunnel:
        return {"resident-edge": tunnel.edge.memory() / MIB, "resident-agent": tunnel.agent.memory() / MIB}


def _started(command: list[str], environment: dict[str, str]) -> tuple[int, float]:
    """
    @return: octets of resident memory once it has printed a line, and seconds until then.
    """
    began = perf_counter()
    with Part(command, {**os.environ, **environment}, reads=False) as part:
        part.line()
        return part.memory(), perf_counter() - began

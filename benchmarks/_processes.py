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
    with tempfile.TemporaryDirectory() as compiled:
        # As an installation has it: without this, a checkout whose modules may not be compiled is measured with the compiler.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        rounds = [_starts(side, environment) for _ in range(scale.starts + 1)][1:]      # the first one compiles
    octets, seconds = (
        {name: statistics.median(started[name][which] for started in rounds) for name in rounds[0]} for which in (0, 1)
    )
    return {
        **{f"idle-{name}": (octets[name] - octets["base"]) / MIB for name in ("edge", "agent")},
        **{f"ready-{name}": seconds[name] - seconds["base"] for name in ("edge", "agent")},
    }


def _starts(side: Side, environment: dict[str, str]) -> dict[str, tuple[int, float]]:
    """
    Start one process of each kind.
    """
    program = python("benchmarks.ours.console", side.name)
    found = {"base": _started([sys.executable, "-c", f"{BASE}; print(flush=True); input()"], environment)}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**environment, "STATE_DIRECTORY": folder}
        began = perf_counter()
        with Part([*program, "edge", "--dev", "--port", "0"], environment, reads=False) as edge:
            edge.line()
            found["edge"] = edge.memory(), perf_counter() - began
            found["agent"] = _started([*program, "agent", "--dev", "http", "9"], environment)
    return found


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
    with Part(command, environment, reads=False) as part:
        part.line()
        return part.memory(), perf_counter() - began

"""
The carriers of Jetty between an edge and an agent, beside grpcio, one after the other in each round.
"""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks._parts import Part, python
from benchmarks._sides import MB, Figures, Scale, Side

PARALLEL = 32
"""Requests at a time."""

BLOCK = 32 * 1024
"""Octets of a message; a large response has a whole number of them."""


def available() -> bool:
    """
    Whether there is grpcio.
    """
    return find_spec("grpc") is not None


def carriers(side: Side, scale: Scale) -> Figures:
    """
    Small requests, many at a time, and one large response.
    """
    figures: Figures = {}
    for name in ("websocket", "grpc", "grpcio"):
        figures |= _measured(name, side, scale)
    return figures


def _measured(name: str, side: Side, scale: Scale) -> Figures:
    octets = scale.big // BLOCK * BLOCK
    if name == "grpcio":
        program, more = python("benchmarks.grpcio_lanes"), [f"--parallel={PARALLEL}", f"--octets={octets}"]
    else:
        program, more = python("benchmarks.ours.carriers", "--reactor", side.name, "--carrier", name), []
    asking = ["edge", f"--seconds={scale.seconds}", f"--parallel={PARALLEL}", f"--octets={octets}"]
    with Part([*program, *asking]) as edge, Part([*program, "agent", f"--port={edge.says()['port']}", *more]) as agent:
        agent.says()
        before = edge.processorTime() + agent.processorTime()
        small = edge.says()
        processor = edge.processorTime() + agent.processorTime() - before
        large = edge.says(120)
    return {
        f"carrier-{name}": small["count"] / small["seconds"], f"carrier-{name}-cpu": processor / small["count"] * 1e6,
        f"carrier-{name}-big": large["octets"] / large["seconds"] / MB,
    }

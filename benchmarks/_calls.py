"""
How many Python functions a piece of work calls, in all our processes together.  There is no twin: the figures of earlier
versions are what they are compared with.
"""

from __future__ import annotations

from benchmarks._http import chain, visit
from benchmarks._parts import Part
from benchmarks._sides import MIB, Figures, Scale, Side

WARM_UP = 50            # requests
BULK = 64 * MIB         # octets of the transfer whose frames are counted
FRAME = 64 * 1024       # octets


def requests(side: Side, scale: Scale) -> Figures:
    """
    Requests of one visitor at a time: on a connection that is kept, and on a new one for each.
    """
    figures = {}
    with chain(side) as tunnel:
        for figure, options in (("calls-warm", {}), ("calls-cold", {"new": "true"})):
            visit(side, tunnel.address, connections=1, count=WARM_UP, **options)
            calls: list[int] = []
            with tunnel.edge.countingCalls(calls), tunnel.agent.countingCalls(calls):
                visit(side, tunnel.address, connections=1, count=scale.counted, **options)
            figures[figure] = sum(calls) / scale.counted
    return figures


def streams(side: Side, scale: Scale) -> Figures:
    """
    Streams one after the other, each with one question; then the 64 KiB pieces of one that is saturated.
    """
    figures = {}
    churn, bulk = {"work": "churn", "duration": f"{scale.seconds}s"}, {"work": "bulk", "octets": BULK}
    for figure, work in (("calls-stream", churn), ("calls-frame", bulk)):
        calls: list[int] = []
        with Part(side.command("server", carrier="ws")) as server:
            address = f"127.0.0.1:{server.says()['port']}"
            with server.countingCalls(calls):
                with Part(side.command("client", carrier="ws", address=address, counted="yes", **work)) as client:
                    result = client.says(60)
        units = result["count"] if figure == "calls-stream" else BULK // FRAME
        figures[figure] = (result["calls"] + sum(calls)) / units
    return figures

"""
How many Python functions a piece of work calls, in all our processes together.  There is no twin: the figures of earlier
versions are what they are compared with.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks._chain import Chain, Wanted, chain, visit
from benchmarks._parts import Part
from benchmarks._sides import Figures, Scale, Side

WARM_UP = 50            # requests
FRAME = 64 * 1024       # octets


def requests(side: Side, scale: Scale) -> Figures:
    """
    Requests of one visitor at a time: on a connection that is kept, and on a new one for each; and how many calls the former
    has more with access logs, metrics or the inspector.
    """
    figures = {}
    with chain(side) as tunnel:
        figures["calls-warm"] = _counted(side, tunnel, scale)
        figures["calls-cold"] = _counted(side, tunnel, scale, new="true")
    with tempfile.TemporaryDirectory() as folder:
        log = ("--access-log", str(Path(folder, "access.log")))
        more = {"logged": Wanted(log=log), "observed": Wanted(observed=True), "inspected": Wanted(inspected=True)}
        for name, wanted in more.items():
            with chain(side, wanted) as tunnel:
                figures[f"calls-{name}"] = _counted(side, tunnel, scale) - figures["calls-warm"]
    return figures


def _counted(side: Side, tunnel: Chain, scale: Scale, **options: object) -> float:
    """
    @return: calls for each request.
    """
    visit(side, tunnel.address, connections=1, count=WARM_UP, **options)
    calls: list[int] = []
    with tunnel.edge.countingCalls(calls), tunnel.agent.countingCalls(calls):
        visit(side, tunnel.address, connections=1, count=scale.counted, **options)
    return sum(calls) / scale.counted


def streams(side: Side, scale: Scale) -> Figures:
    """
    Streams one after the other, each with one question; then the 64 KiB pieces of one that is saturated.
    """
    figures, octets = {}, scale.bulk // 4
    churn, bulk = {"work": "churn", "duration": f"{scale.seconds}s"}, {"work": "bulk", "octets": octets}
    for figure, work in (("calls-stream", churn), ("calls-frame", bulk)):
        calls: list[int] = []
        with Part(side.command("server", carrier="ws")) as server:
            address = f"127.0.0.1:{server.says()['port']}"
            with server.countingCalls(calls):
                with Part(side.command("client", carrier="ws", address=address, counted="yes", **work)) as client:
                    result = client.says(60)
        units = result["count"] if figure == "calls-stream" else octets // FRAME
        figures[figure] = (result["calls"] + sum(calls)) / units
    return figures

"""
HTTP through a whole chain.
"""

from __future__ import annotations

from benchmarks._chain import VISITORS, Chain, Wanted, chain, measured, visit
from benchmarks._sides import MB, Figures, Scale, Side

WARM = "0.3s"


def busy(side: Side, tunnel: Chain, scale: Scale, **options: object) -> dict[str, float]:
    """
    As many small requests as L{VISITORS} at a time can have, after some that do not count.

    @return: as of L{measured}.
    """
    visit(side, tunnel.address, connections=VISITORS, duration=WARM, **options)
    return measured(side, tunnel, scale.seconds, connections=VISITORS, **options)


def keep(side: Side, scale: Scale) -> Figures:
    """
    Small requests of visitors that keep their connections.  The default Go twin also has a turn with a stream for each request;
    ours has one way, which is compared with both.
    """
    with chain(side) as tunnel:
        result = busy(side, tunnel, scale)
    figures = {
        "http-keep": result["rate"], "http-keep-cpu": result["processor"] * 1e6, "http-keep-p50": result["p50"] * 1e3,
        "http-keep-p99": result["p99"] * 1e3,
    }
    if side.name == "go":
        with chain(side, Wanted(pooled=False)) as tunnel:
            result = busy(side, tunnel, scale)
    if side.name == "go" or side.isOurs:
        figures |= {"http-unpooled": result["rate"], "http-unpooled-cpu": result["processor"] * 1e6}
    return figures


def new(side: Side, scale: Scale) -> Figures:
    """
    Small requests, a connection for each.
    """
    with chain(side) as tunnel:
        result = busy(side, tunnel, scale, new="true")
    return {"http-new": result["rate"], "http-new-cpu": result["processor"] * 1e6}


def one(side: Side, scale: Scale) -> Figures:
    """
    One visitor that sends a request as soon as the last is answered.
    """
    with chain(side) as tunnel:
        visit(side, tunnel.address, connections=1, duration=WARM)
        result = measured(side, tunnel, scale.seconds, connections=1)
    return {"http-one": result["p50"] * 1e6, "http-one-p99": result["p99"] * 1e6, "http-one-cpu": result["processor"] * 1e6}


def big(side: Side, scale: Scale) -> Figures:
    """
    One visitor's download, then its upload.
    """
    figures = {}
    with chain(side) as tunnel:
        for figure, way in (("http-big", "download"), ("http-big-upload", "upload")):
            before = tunnel.processorTime()
            result = visit(side, tunnel.address, connections=1, count=1, **{way: scale.big})
            processor = tunnel.processorTime() - before
            figures |= {figure: scale.big / result["seconds"] / MB, f"{figure}-cpu": processor / scale.big * 1e9}
    return figures

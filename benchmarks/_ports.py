"""
Services at a port of the edge, through a whole chain: connections, and datagrams.
"""

from __future__ import annotations

from benchmarks._chain import Wanted, chain, measured, visit
from benchmarks._http import WARM, busy
from benchmarks._sides import Figures, Scale, Side

DATAGRAMS = {"work": "datagrams", "connections": 8, "window": 8, "size": 1200}
"""Eight visitors, each with eight datagrams of 1 200 octets under way: less than the buffer of a socket."""


def echo(side: Side, scale: Scale) -> Figures:
    """
    64 octets there and back over a TCP service, one visitor.
    """
    with chain(side, Wanted("tcp")) as tunnel:
        visit(side, tunnel.address, work="echo", connections=1, duration=WARM)
        result = measured(side, tunnel, scale.seconds, work="echo", connections=1)
    return {"tcp-echo": result["p50"] * 1e6, "tcp-echo-p99": result["p99"] * 1e6, "tcp-echo-cpu": result["processor"] * 1e6}


def small(side: Side, scale: Scale) -> Figures:
    """
    Small requests of HTTP over a TCP service, which does not read them.
    """
    with chain(side, Wanted("tcp", target="http")) as tunnel:
        result = busy(side, tunnel, scale)
    return {"tcp-small": result["rate"], "tcp-small-cpu": result["processor"] * 1e6, "tcp-small-p99": result["p99"] * 1e3}


def datagrams(side: Side, scale: Scale) -> Figures:
    """
    Datagrams there and back over a UDP service.
    """
    with chain(side, Wanted("udp")) as tunnel:
        visit(side, tunnel.address, **DATAGRAMS, duration=WARM)
        result = measured(side, tunnel, scale.seconds, **DATAGRAMS)
    lost = result["lost"] / (result["count"] + result["lost"])
    return {"udp-echo": result["rate"], "udp-echo-cpu": result["processor"] * 1e6, "udp-echo-lost": lost * 100}

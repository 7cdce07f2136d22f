"""
HTTP through a whole chain: visitors, an edge, an agent and an origin, four processes on one machine.

Visitors and origin are the same Go program for both sides; only edge and agent differ.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import monotonic, sleep

from attrs import frozen

from benchmarks._metrics import METRICS, scraped
from benchmarks._parts import START_TIMEOUT, Part, PartFailed, python
from benchmarks._sides import MB, MIB, Figures, Scale, Side

HOST = "bench.localhost"
TOKEN = "only-for-this-run"

QUIET = ("--access-log", "")
"""The Go twin writes no line for a request, so ours write none either."""

BIG = 100 * MIB     # octets of a download and an upload
VISITORS = 32       # at a time


@frozen
class Chain:
    """
    Edge and agent of one side, up.

    @ivar address: for visitors, C{host:port}.
    """

    address: str
    edge: Part
    agent: Part

    def processorTime(self) -> float:
        """
        Seconds of both, so far.
        """
        return self.edge.processorTime() + self.agent.processorTime()


@contextmanager
def _go(go: str, origin: str, pooled: bool) -> Iterator[Chain]:
    """
    Edge and agent of Go.

    @param pooled: streams are kept for later requests.
    """
    with Part([go, "edge", f"--token={TOKEN}", f"--pooled={pooled}"]) as edge:
        address = f"127.0.0.1:{edge.says()['port']}"
        with Part([go, "agent", f"--edge={address}", f"--token={TOKEN}", f"--host={HOST}", f"--origin={origin}"]) as agent:
            agent.says()
            yield Chain(address, edge, agent)


@contextmanager
def _ours(
    side: Side, origin: str, log: Sequence[str] = QUIET, observed: bool = False, options: Sequence[str] = (),
    inspected: bool = False,
) -> Iterator[Chain]:
    """
    C{tunnel-edge} and C{tunnel-agent}, with a state folder of their own.

    @param log: the options that say where the access log goes.
    @param observed: both have metrics, and those of the edge are scraped.
    @param options: further options of the edge.
    @param inspected: the agent has an inspector.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "edge.toml")
        config.write_text(METRICS if observed else "")
        environment = {**os.environ, "STATE_DIRECTORY": folder}
        program = python("benchmarks.ours.console", side.name)
        with Part([*program, "edge", "--dev", "--port", "0", "--config", str(config), *log, *options], environment) as edge:
            address = f"127.0.0.1:{portOf(edge.line())}"
            service = ["http", origin, "--name", HOST.partition(".")[0]]
            metrics = [*(["--metrics", "0"] if observed else ()), *(["--inspect"] if inspected else ())]
            with Part([*program, "agent", "--dev", *log, *metrics, *service], environment) as agent:
                agent.line()
                with scraped(folder) if observed else nullcontext():
                    yield Chain(address, edge, agent)


def portOf(status: str) -> str:
    """
    The port in an edge's first status line.
    """
    found = re.search(r"http://[^/ ]*:(\d+)", status)
    if found is None:
        raise PartFailed(f"the edge said {status!r}")
    return found[1]


@contextmanager
def chain(
    side: Side, pooled: bool = True, log: Sequence[str] = QUIET, observed: bool = False, edge: Sequence[str] = (),
    inspected: bool = False,
) -> Iterator[Chain]:
    """
    An origin with edge and agent of one side before it, up and tried.

    @param edge: further options of our edge.
    """
    with Part([side.go, "origin"]) as origin:
        to = f"127.0.0.1:{origin.says()['port']}"
        with _go(side.go, to, pooled) if side.name == "go" else _ours(
            side, to, log, observed, edge, inspected
        ) as tunnel:
            _untilServed(side, tunnel.address)
            yield tunnel


def _untilServed(side: Side, address: str) -> None:
    """
    Wait until a request comes through.

    @raise PartFailed: none does.
    """
    deadline = monotonic() + START_TIMEOUT
    while True:
        try:
            visit(side, address, connections=1, count=1)
            return
        except PartFailed:
            if monotonic() > deadline:
                raise
            sleep(0.1)


def visit(side: Side, address: str, timeout: float = 60, **options: object) -> dict[str, float]:
    """
    Send the visitors, and hear what they counted.
    """
    words = [f"--{option}={value}" for option, value in options.items()]
    with Part([side.go, "load", f"--address={address}", f"--host={HOST}", *words]) as visitors:
        return visitors.says(timeout)


def keep(side: Side, scale: Scale) -> Figures:
    """
    Small requests of visitors that keep their connections; Go with kept streams, and with a stream for each request.
    """
    figures = {}
    for figure, pooled in (("http-keep", True), ("http-keep-unpooled", False)):
        if side.name == "go" or pooled:
            with chain(side, pooled) as tunnel:
                result = _busy(side, tunnel, scale)
        figures[figure] = result["rate"]                          # ours has one way, which is compared with both
        if pooled:
            figures["http-keep-cpu"] = result["processor"] * 10_000
            figures["http-keep-p99"] = result["p99"] * 1e3
    return figures


def _busy(side: Side, tunnel: Chain, scale: Scale, **options: object) -> dict[str, float]:
    """
    As many small requests as L{VISITORS} at a time can have.

    @return: C{rate} a second, C{processor} seconds of edge and agent for each, and C{p50} and C{p99} in seconds.
    """
    visit(side, tunnel.address, connections=VISITORS, duration="300ms", **options)
    before = tunnel.processorTime()
    result = visit(side, tunnel.address, connections=VISITORS, duration=f"{scale.seconds}s", **options)
    processor = tunnel.processorTime() - before
    return {**result, "rate": result["count"] / result["seconds"], "processor": processor / result["count"]}


def logged(side: Side, scale: Scale) -> Figures:
    """
    As L{keep}, with the access logs that the programs write unless they are told not to, as a share of the rate without.
    """
    if side.name == "go":
        return {"http-keep-logged": 1.0}                          # the Go twin has no access log: the mark is our own rate
    with chain(side) as tunnel:
        quiet = _busy(side, tunnel, scale)
    with tempfile.TemporaryDirectory() as folder, chain(side, log=("--access-log", str(Path(folder, "access.log")))) as tunnel:
        loud = _busy(side, tunnel, scale)
    return {"http-keep-logged": loud["rate"] / quiet["rate"]}


def observed(side: Side, scale: Scale) -> Figures:
    """
    As L{keep}, with metrics, as a share of the rate without.
    """
    with chain(side) as tunnel:
        plain = _busy(side, tunnel, scale)
    with chain(side, observed=True) as tunnel:
        measured = _busy(side, tunnel, scale)
    return {
        "http-keep-observed": measured["rate"] / plain["rate"],
        "http-keep-observed-cpu": measured["processor"] / plain["processor"],
    }


def inspected(side: Side, scale: Scale) -> Figures:
    """
    As L{keep}, with the inspector of the agent, as a share of the rate without.
    """
    if side.name == "go":
        return {"http-keep-inspected": 1.0}                       # the Go twin has no inspector: the mark is our own rate
    with chain(side) as tunnel:
        plain = _busy(side, tunnel, scale)
    with chain(side, inspected=True) as tunnel:
        watched = _busy(side, tunnel, scale)
    return {"http-keep-inspected": watched["rate"] / plain["rate"]}


def new(side: Side, scale: Scale) -> Figures:
    """
    Small requests, a connection for each.
    """
    with chain(side) as tunnel:
        result = _busy(side, tunnel, scale, new="true")
    return {"http-new": result["rate"], "http-new-cpu": result["processor"] * 10_000}


def one(side: Side, scale: Scale) -> Figures:
    """
    One visitor that sends a request as soon as the last is answered.
    """
    with chain(side) as tunnel:
        visit(side, tunnel.address, connections=1, duration="300ms")
        result = visit(side, tunnel.address, connections=1, duration=f"{scale.seconds}s")
    return {"http-one": result["p50"] * 1e6}


def big(side: Side, scale: Scale) -> Figures:
    """
    One visitor's download, then its upload.
    """
    figures = {}
    with chain(side) as tunnel:
        for figure, way in (("http-big", "download"), ("http-big-upload", "upload")):
            result = visit(side, tunnel.address, connections=1, count=1, **{way: BIG})
            figures[figure] = BIG / result["seconds"] / MB
    return figures

"""
A whole chain: visitors, an edge, an agent and an origin, four processes on one machine.

Visitors and origin are the same Go program for all sides; only edge and agent differ.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from attrs import field, frozen

from benchmarks import _peers
from benchmarks._metrics import METRICS, scraped
from benchmarks._parts import START_TIMEOUT, Part, PartFailed, python
from benchmarks._sides import Side

HOST = "bench.localhost"
TOKEN = "only-for-this-run"

QUIET = ("--access-log", "")
"""The Go twin writes no line for a request, so ours write none either."""

VISITORS = 32       # at a time

WORK = {"http": "http", "tcp": "echo", "udp": "datagrams"}
"""What visitors do with each of the origin's ports."""


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


@frozen
class Wanted:
    """
    What a chain must be.

    @ivar kind: what the edge publishes: C{"http"}, a host name; C{"tcp"} or C{"udp"}, a port.
    @ivar target: the port of the origin that is behind it, by the same names.
    @ivar pooled: a Go twin keeps streams for later requests.
    @ivar log: the options of ours that say where the access log goes.
    @ivar edge: further options of our edge.
    @ivar observed: ours have metrics, and those of the edge are scraped.
    @ivar inspected: our agent has an inspector.
    """

    kind: str = "http"
    target: str = field()
    pooled: bool = True
    log: Sequence[str] = QUIET
    edge: Sequence[str] = ()
    observed: bool = False
    inspected: bool = False

    @target.default
    def _same(self) -> str:
        return self.kind


PLAIN = Wanted()


@contextmanager
def _go(side: Side, origin: str, wanted: Wanted) -> Iterator[Chain]:
    """
    Edge and agent of Go.
    """
    ports = () if wanted.kind == "http" else (f"--{wanted.kind}={HOST}",)
    with Part(side.twin("edge", f"--token={TOKEN}", f"--pooled={str(wanted.pooled).lower()}", *ports)) as edge:
        said = edge.says()
        own = [f"--edge=127.0.0.1:{said['port']}", f"--token={TOKEN}", f"--host={HOST}", f"--origin={origin}"]
        with Part(side.twin("agent", *own)) as agent:
            agent.says()
            yield Chain(f"127.0.0.1:{said['port' if wanted.kind == 'http' else wanted.kind]}", edge, agent)


@contextmanager
def _ours(side: Side, origin: str, wanted: Wanted) -> Iterator[Chain]:
    """
    C{tunnel-edge} and C{tunnel-agent}, with a state folder of their own.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "edge.toml")
        config.write_text(METRICS if wanted.observed else "")
        environment = {**os.environ, "STATE_DIRECTORY": folder}
        program, log = python("benchmarks.ours.console", side.name), wanted.log
        options = ["--dev", "--port", "0", "--config", str(config), *log, *wanted.edge]
        with Part([*program, "edge", *options], environment, reads=False) as edge:
            address = f"127.0.0.1:{portOf(edge.line())}"
            metrics = [*(["--metrics", "0"] if wanted.observed else ()), *(["--inspect"] if wanted.inspected else ())]
            service = [wanted.kind, origin, "--name", HOST.partition(".")[0]]
            with Part([*program, "agent", "--dev", *log, *metrics, *service], environment, reads=False) as agent:
                if wanted.kind == "http":
                    agent.line()
                else:
                    address = f"127.0.0.1:{_publishedPort(agent)}"
                with scraped(folder) if wanted.observed else nullcontext():
                    yield Chain(address, edge, agent)


def portOf(status: str) -> str:
    """
    The port in an edge's first status line.
    """
    found = re.search(r"http://[^/ ]*:(\d+)", status)
    if found is None:
        raise PartFailed(f"the edge said {status!r}")
    return found[1]


def _publishedPort(agent: Part) -> str:
    while True:
        if found := re.search(r"(?:tcp|udp):[\w.-]+:(\d+) +-> ", agent.line()):
            return found[1]


@contextmanager
def _peer(side: Side, origin: str, wanted: Wanted) -> Iterator[Chain]:
    """
    The programs of others.
    """
    with _peers.PEERS[side.name].run(origin, wanted.kind, HOST) as (address, edge, agent):
        yield Chain(address, edge, agent)


def _maker(side: Side) -> Callable[[Side, str, Wanted], AbstractContextManager[Chain]]:
    if side.isGo:
        return _go
    return _ours if side.isOurs else _peer


@contextmanager
def chain(side: Side, wanted: Wanted = PLAIN) -> Iterator[Chain]:
    """
    An origin with edge and agent of one side before it, up and tried.
    """
    with Part([side.go, "origin"]) as origin:
        to = f"127.0.0.1:{origin.says()[wanted.target]}"
        with _maker(side)(side, to, wanted) as tunnel:
            _untilServed(side, tunnel.address, WORK[wanted.target])
            yield tunnel


def _untilServed(side: Side, address: str, work: str) -> None:
    """
    Wait until a request comes through.

    @raise PartFailed: none does.
    """
    deadline = monotonic() + START_TIMEOUT
    while True:
        try:
            visit(side, address, work=work, connections=1, count=1)
            return
        except PartFailed:
            if monotonic() > deadline:
                raise
            sleep(0.1)


def _visitors(side: Side, address: str, **options: object) -> Part:
    words = [f"--{option}={value}" for option, value in options.items()]
    return Part([side.go, "load", f"--address={address}", f"--host={HOST}", *words])


def visit(side: Side, address: str, timeout: float = 60, **options: object) -> dict[str, Any]:
    """
    Send the visitors, and hear what they counted.
    """
    with _visitors(side, address, **options) as visitors:
        return visitors.says(timeout)


def measured(side: Side, tunnel: Chain, duration: float, **options: object) -> dict[str, float]:
    """
    Send the visitors as long as this, and measure edge and agent.

    @param duration: seconds.
    @return: what they counted, C{rate} a second, and C{processor}: seconds of edge and agent for each request.
    """
    before = tunnel.processorTime()
    result = visit(side, tunnel.address, duration=f"{duration}s", **options)
    return _perRequest(result, tunnel.processorTime() - before)


def prepared(side: Side, tunnel: Chain, duration: float, **options: object) -> dict[str, float]:
    """
    As L{measured}, without what it costs that the visitors connect.
    """
    with _visitors(side, tunnel.address, duration=f"{duration}s", prepared="true", **options) as visitors:
        visitors.says(60)
        before = tunnel.processorTime()
        result = visitors.says(60)
        return _perRequest(result, tunnel.processorTime() - before)


def _perRequest(result: dict[str, float], processor: float) -> dict[str, float]:
    if not result["count"]:
        raise PartFailed("no request was answered")
    return {**result, "rate": result["count"] / result["seconds"], "processor": processor / result["count"]}

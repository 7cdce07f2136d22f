"""
HTTP through a whole chain: visitors, an edge, an agent and an origin, four processes on one machine.

Visitors and origin are the same Go program for both sides; only edge and agent differ.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from benchmarks._parts import START_TIMEOUT, Part, PartFailed, python
from benchmarks._sides import MB, MIB, Figures, Scale, Side
from tunnelstack.control.auth.tokens import newToken

HOST = "bench.localhost"
TOKEN = "only-for-this-run"

QUIET = ("--access-log", "")
"""The Go twin writes no line for a request, so ours write none either."""

BIG = 100 * MIB     # octets of a download and an upload
VISITORS = 32       # at a time


@contextmanager
def _go(go: str, origin: str, pooled: bool) -> Iterator[str]:
    """
    Edge and agent of Go.

    @param pooled: streams are kept for later requests.
    @return: the address for visitors.
    """
    with Part([go, "edge", f"--token={TOKEN}", f"--pooled={pooled}"]) as edge:
        address = f"127.0.0.1:{edge.says()['port']}"
        with Part([go, "agent", f"--edge={address}", f"--token={TOKEN}", f"--host={HOST}", f"--origin={origin}"]) as agent:
            agent.says()
            yield address


@contextmanager
def _ours(side: Side, origin: str) -> Iterator[str]:
    """
    C{tunnel-edge} and C{tunnel-agent}, with a state folder of their own.

    @return: the address for visitors.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "STATE_DIRECTORY": folder}
        program = python("benchmarks.ours.console", side.name)
        with Part([*program, "edge", "--dev", "--port", "0", *QUIET], environment) as edge:
            address = f"127.0.0.1:{_port(edge.line())}"
            service = ["http", origin, "--name", HOST.partition(".")[0]]
            with Part([*program, "agent", "--dev", *QUIET, *service], environment) as agent:
                agent.line()
                yield address


CONFIG = """
[edge]
listen = ["tcp:0:interface=127.0.0.1"]
[limits]
connections_per_second = 0
"""


def idleAgents(side: Side, scale: Scale) -> Figures:
    """
    What an agent that is connected and has nothing to do costs the edge, in octets of resident memory.
    """
    run = _idleGo if side.name == "go" else _idleOurs
    return {"idle-agents": run(side, scale.agents // 10, scale.agents) / scale.agents}


def _idleGo(side: Side, few: int, many: int) -> int:
    """
    @return: by how much the edge grows with C{many} agents, after C{few}.
    """
    with Part([side.go, "edge", f"--token={TOKEN}"]) as edge:
        where = f"--edge=127.0.0.1:{edge.says()['port']}"
        agents = [side.go, "agent", where, f"--token={TOKEN}", "--origin=none"]
        with Part([*agents, "--host=few.localhost", f"--count={few}"]) as first:
            first.says(60)
            before = edge.memory()
            with Part([*agents, f"--host={HOST}", f"--count={many}"]) as rest:
                rest.says(60)
                return edge.memory() - before


def _idleOurs(side: Side, few: int, many: int) -> int:
    """
    The same of C{tunnel-edge}: each agent has a token and a service of its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        tokens = [newToken() for _ in range(few + many)]
        records = [
            f'[[agent]]\nname = "agent{number}"\ntoken_sha256 = "{token.tokenSha256}"\nallow = ["http:*"]\n'
            for number, token in enumerate(tokens)
        ]
        config, first, rest = (Path(folder, name) for name in ("edge.toml", "few", "many"))
        config.write_text(CONFIG + "".join(records))
        first.write_text("\n".join(token.token for token in tokens[:few]))
        rest.write_text("\n".join(token.token for token in tokens[few:]))
        program = python("benchmarks.ours.console", side.name, "edge", "--config", str(config))
        with Part(program, {**os.environ, "STATE_DIRECTORY": folder}) as edge:
            url = f"http://127.0.0.1:{_port(edge.line())}"
            with Part(python("benchmarks.ours.agents", url, str(first))) as some:
                some.says(60)
                before = edge.memory()
                with Part(python("benchmarks.ours.agents", url, str(rest))) as others:
                    others.says(60)
                    return edge.memory() - before


def _port(status: str) -> str:
    """
    The port in an edge's first status line.
    """
    found = re.search(r"http://[^/ ]*:(\d+)", status)
    if found is None:
        raise PartFailed(f"the edge said {status!r}")
    return found[1]


@contextmanager
def _chain(side: Side, pooled: bool = True) -> Iterator[str]:
    """
    An origin with edge and agent of one side before it, up and tried.

    @return: the address for visitors.
    """
    with Part([side.go, "origin"]) as origin:
        to = f"127.0.0.1:{origin.says()['port']}"
        with _go(side.go, to, pooled) if side.name == "go" else _ours(side, to) as address:
            _untilServed(side, address)
            yield address


def _untilServed(side: Side, address: str) -> None:
    """
    Wait until a request comes through.

    @raise PartFailed: none does.
    """
    deadline = monotonic() + START_TIMEOUT
    while True:
        try:
            _visit(side, address, connections=1, count=1)
            return
        except PartFailed:
            if monotonic() > deadline:
                raise
            sleep(0.1)


def _visit(side: Side, address: str, timeout: float = 60, **options: object) -> dict[str, float]:
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
            with _chain(side, pooled) as address:
                _visit(side, address, connections=VISITORS, duration="300ms")
                result = _visit(side, address, connections=VISITORS, duration=f"{scale.seconds}s")
        figures[figure] = result["count"] / result["seconds"]     # ours has one way, which is compared with both
    return figures


def new(side: Side, scale: Scale) -> Figures:
    """
    Small requests, a connection for each.
    """
    with _chain(side) as address:
        result = _visit(side, address, connections=VISITORS, duration=f"{scale.seconds}s", new="true")
    return {"http-new": result["count"] / result["seconds"]}


def big(side: Side, scale: Scale) -> Figures:
    """
    One visitor's download, then its upload.
    """
    figures = {}
    with _chain(side) as address:
        for figure, way in (("http-big", "download"), ("http-big-upload", "upload")):
            result = _visit(side, address, connections=1, count=1, **{way: BIG})
            figures[figure] = BIG / result["seconds"] / MB
    return figures

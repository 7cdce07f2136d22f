"""
What is measured: each benchmark runs one side once, from fresh processes, and gives its figures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from attrs import frozen

from benchmarks import _agents, _calls, _http, _http2, _processes
from benchmarks._parts import Part
from benchmarks._secrets import selfSigned
from benchmarks._sides import MB, Figures, Scale, Side


@frozen
class Figure:
    """
    One row of the table.

    @ivar id: the benchmark's name, as it is asked for and printed.
    @ivar better: C{"more"} or C{"less"}; the ratio is ours/Go in both cases.
    @ivar mark: the ratio that a first good version shows; C{None} if there is none.
    @ivar absolute: the mark is for our own figure, and not for the ratio.
    """

    id: str
    unit: str
    better: str
    mark: float | None
    absolute: bool = False


@frozen
class Work:
    """
    A benchmark: what it shows and how one side is run.

    @ivar needsGo: its origin and its visitors are Go programs, whichever side is measured.
    @ivar alone: there is no Go twin.
    @ivar needs: whether the programs of others that it needs are installed.
    """

    figures: tuple[Figure, ...]
    run: Callable[[Side, Scale], Figures]
    needsGo: bool = False
    alone: bool = False
    needs: Callable[[], bool] = lambda: True


@contextmanager
def _certified(carrier: str) -> Iterator[dict[str, str]]:
    """
    The options of a TLS server, if the carrier needs them.
    """
    if carrier != "wss":
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = selfSigned(Path(folder))
        yield {"certificate": str(certificate), "key": str(key)}


def _session(side: Side, carrier: str, timeout: float, **work: object) -> dict[str, float]:
    """
    A server and a client of one side; the client works, and says what it measured.
    """
    with _certified(carrier) as tls, Part(side.command("server", carrier=carrier, **tls)) as server:
        address = f"127.0.0.1:{server.says()['port']}"
        trusted = tls.get("certificate")
        with Part(side.command("client", carrier=carrier, address=address, certificate=trusted, **work)) as client:
            return client.says(timeout)


def _bulk(carrier: str, side: Side, scale: Scale) -> Figures:
    result = _session(side, carrier, 120, work="bulk", octets=scale.bulk)
    return {f"bulk-{carrier}": scale.bulk / result["seconds"] / MB}


def _rpc(side: Side, scale: Scale) -> Figures:
    result = _session(side, "ws", 30, work="rpc", duration=f"{scale.seconds}s")
    return {"rpc-ws": result["p50"] * 1e6, "rpc-ws-p99": result["p99"] * 1e6}


def _beside(side: Side, scale: Scale) -> Figures:
    result = _session(side, "ws", 30, work="beside", duration=f"{scale.seconds}s")
    return {"beside-bulk": result["p99"] * 1e6, "beside-bulk-rate": result["octets"] / scale.seconds / MB}


def _churn(parallel: int, side: Side, scale: Scale) -> Figures:
    result = _session(side, "ws", 30, work="churn", parallel=parallel, duration=f"{scale.seconds}s")
    return {f"churn-{parallel}": result["count"] / result["seconds"]}


def _idleStreams(side: Side, scale: Scale) -> Figures:
    with Part(side.command("server", carrier="ws")) as server:
        address = f"127.0.0.1:{server.says()['port']}"
        few = scale.streams // 10
        memory = []
        for count in few, few + scale.streams:      # the difference leaves out what a first session costs
            with Part(side.command("client", carrier="ws", address=address, work="idle", count=count)) as client:
                client.says(60)
                memory.append(server.memory())
    return {"idle-streams": (memory[1] - memory[0]) / scale.streams}


WORKS: dict[str, Work] = {
    "bulk-tcp": Work((Figure("bulk-tcp", "MB/s", "more", 1.1),), partial(_bulk, "tcp")),
    "bulk-ws": Work((Figure("bulk-ws", "MB/s", "more", 1.3),), partial(_bulk, "ws")),
    "bulk-wss": Work((Figure("bulk-wss", "MB/s", "more", 1.0),), partial(_bulk, "wss")),
    "rpc-ws": Work((Figure("rpc-ws", "us p50", "less", 1.1), Figure("rpc-ws-p99", "us p99", "less", 1.1)), _rpc),
    "beside-bulk": Work((Figure("beside-bulk", "us p99", "less", 0.5),), _beside),
    "churn-1": Work((Figure("churn-1", "streams/s", "more", 1.8),), partial(_churn, 1)),
    "churn-64": Work((Figure("churn-64", "streams/s", "more", 4.0),), partial(_churn, 64)),
    "http-keep": Work(
        (
            Figure("http-keep", "requests/s", "more", 1.0), Figure("http-keep-unpooled", "requests/s", "more", 3.0),
            Figure("http-keep-cpu", "s/10 000", "less", 1.0), Figure("http-keep-p99", "ms p99", "less", 1.2),
        ),
        _http.keep,
        needsGo=True,
    ),
    "http-keep-logged": Work(
        (Figure("http-keep-logged", "share", "more", 0.92, True),), _http.logged, needsGo=True, alone=True,
    ),
    "http-keep-observed": Work(
        (
            Figure("http-keep-observed", "share", "more", 0.98, True),
            Figure("http-keep-observed-cpu", "share", "less", 1.02, True),
        ),
        _http.observed, needsGo=True, alone=True,
    ),
    "http-keep-inspected": Work(
        (Figure("http-keep-inspected", "share", "more", 0.75, True),), _http.inspected, needsGo=True, alone=True,
    ),
    "http-new": Work(
        (Figure("http-new", "requests/s", "more", 1.0), Figure("http-new-cpu", "s/10 000", "less", 1.0)),
        _http.new,
        needsGo=True,
    ),
    "http-one": Work((Figure("http-one", "us p50", "less", 1.0),), _http.one, needsGo=True),
    "http-big": Work(
        (Figure("http-big", "MB/s", "more", 1.0), Figure("http-big-upload", "MB/s", "more", 1.0)),
        _http.big,
        needsGo=True,
    ),
    "scrape": Work(
        (Figure("scrape", "ms", "less", 50, True), Figure("scrape-per-service", "ms", "less", None)),
        _agents.scrapes,
        alone=True,
    ),
    "h2-keep": Work(
        (Figure("h2-keep", "requests/s", "more", 0.4), Figure("h2-keep-cpu", "s/10 000", "less", None)),
        _http2.keep,
        needsGo=True,
        needs=_http2.available,
    ),
    "h2-big": Work((Figure("h2-big", "MB/s", "more", 0.7),), _http2.big, needsGo=True, needs=_http2.available),
    "storm": Work(
        (Figure("storm", "ms an agent", "less", 1.2, True), Figure("storm-slope", "log-log", "less", 1.1, True)),
        _agents.storm,
    ),
    "idle-agents": Work((Figure("idle-agents", "octets", "less", 0.7),), _agents.idle),
    "idle-streams": Work((Figure("idle-streams", "octets", "less", 2.0),), _idleStreams),
    "idle-process": Work(
        (
            Figure("idle-edge", "MiB", "less", 6.0, True), Figure("idle-agent", "MiB", "less", 6.0, True),
            Figure("ready-edge", "s", "less", 0.1, True), Figure("ready-agent", "s", "less", 0.1, True),
        ),
        _processes.idleProcess,
        alone=True,
    ),
    "calls": Work(
        (Figure("calls-warm", "calls", "less", 130, True), Figure("calls-cold", "calls", "less", 280, True)),
        _calls.requests,
        needsGo=True,
        alone=True,
    ),
    "calls-streams": Work(
        (Figure("calls-stream", "calls", "less", None), Figure("calls-frame", "calls", "less", None)),
        _calls.streams,
        alone=True,
    ),
}

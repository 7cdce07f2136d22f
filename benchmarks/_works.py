"""
What is measured: each benchmark runs one side once, from fresh processes, and gives its figures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import frozen

from benchmarks import (
    _agents,
    _calls,
    _carriers,
    _curves,
    _http,
    _http2,
    _ports,
    _processes,
    _sessions,
    _shares,
)
from benchmarks._sides import DEFAULT, Figures, Scale, Side

EVERYONE = frozenset({"go", "tuned", "epoll", "uvloop"})
TWIN = frozenset({"go"})
TWINS = frozenset({"go", "tuned"})
ALONE: frozenset[str] = frozenset()


@frozen
class Figure:
    """
    One row of the table.

    @ivar id: the figure's name.
    @ivar better: C{"more"} or C{"less"}; a ratio is ours/theirs in both cases.
    @ivar mark: what a first good version shows; C{None} if there is none.
    @ivar of: what has to reach the mark: our ratio to a side of that name, or, if it is empty, our own figure.
    """

    id: str
    unit: str
    better: str
    mark: float | None = None
    of: str = "go"


@frozen
class Work:
    """
    A benchmark: what it shows and how one side is run.

    @ivar figures: its rows.
    @ivar points: rows of a curve: there is one for each number, which follows the id.
    @ivar who: the sides that take part beside our default one.
    @ivar kind: as what our peers publish the origin; empty if they do not take part.
    @ivar needsGo: its origin and its visitors are Go programs, whichever side is measured.
    @ivar needs: whether the programs of others that it needs are installed.
    @ivar once: one round is enough, since noise hardly changes the figures, or each has many windows of its own.
    """

    figures: tuple[Figure, ...]
    run: Callable[[Side, Scale], Figures]
    points: tuple[Figure, ...] = ()
    who: frozenset[str] = EVERYONE
    kind: str = ""
    needsGo: bool = False
    needs: Callable[[], bool] = lambda: True
    once: bool = False

    def takes(self, side: Side, kinds: frozenset[str]) -> bool:
        """
        Whether a side has its turn.

        @param kinds: what the side can publish, if it is a peer.
        """
        return side.name == DEFAULT or side.name in self.who or self.kind in kinds

    def rows(self, ids: set[str]) -> list[Figure]:
        """
        The rows of a run.

        @param ids: the figures that there are.
        """
        numbered = [
            Figure(name, point.unit, point.better, point.mark, point.of)
            for point in self.points
            for name in sorted((one for one in ids if _isPoint(one, point.id)), key=_number)
        ]
        return [figure for figure in self.figures if figure.id in ids] + numbered


def _isPoint(name: str, curve: str) -> bool:
    return name.rpartition("-")[0] == curve and name.rpartition("-")[2].isdigit()


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _cost(name: str, unit: str, mark: float | None = None) -> Figure:
    """
    The row of the processor time that belongs to another row.
    """
    return Figure(f"{name}-cpu", unit, "less", mark)


def _bulk(carrier: str, mark: float) -> Work:
    name = f"bulk-{carrier}"
    return Work((Figure(name, "MB/s", "more", mark), _cost(name, "s/GB")), partial(_sessions.bulk, carrier))


def _churn(parallel: int, mark: float) -> Work:
    name = f"churn-{parallel}"
    return Work((Figure(name, "streams/s", "more", mark), _cost(name, "us")), partial(_sessions.churn, parallel))


def _share(name: str, mark: float | None, run: Callable[[Side, Scale], Figures]) -> Work:
    figures = Figure(name, "% less", "less", mark, ""), Figure(f"{name}-cpu", "% more", "less", mark, "")
    return Work(figures, run, who=ALONE, needsGo=True)


def _growth(*names: str, mark: float = 1.1) -> tuple[Figure, ...]:
    return tuple(Figure(f"{name}-slope", "log-log", "less", mark, "") for name in names)


WORKS: dict[str, Work] = {
    "bulk-tcp": _bulk("tcp", 1.1),
    "bulk-ws": _bulk("ws", 1.3),
    "bulk-wss": _bulk("wss", 1.0),
    "rpc-ws": Work(
        (Figure("rpc-ws", "us p50", "less", 1.1), Figure("rpc-ws-p99", "us p99", "less", 1.1), _cost("rpc-ws", "us")),
        _sessions.rpc,
    ),
    "beside-bulk": Work(
        (
            Figure("beside-bulk", "us p99", "less", 0.7), Figure("beside-bulk-p50", "us p50", "less"),
            Figure("beside-bulk-rate", "MB/s", "more"), _cost("beside-bulk-rate", "s/GB"),
        ),
        _sessions.beside,
    ),
    "churn-1": _churn(1, 1.8),
    "churn-64": _churn(64, 4.0),
    "http-keep": Work(
        (
            Figure("http-keep", "requests/s", "more", 1.0), _cost("http-keep", "us", 1.0),
            Figure("http-keep-p50", "ms p50", "less"), Figure("http-keep-p99", "ms p99", "less", 1.2),
            Figure("http-unpooled", "requests/s", "more", 3.0), _cost("http-unpooled", "us"),
        ),
        _http.keep, kind="http", needsGo=True,
    ),
    "http-new": Work(
        (Figure("http-new", "requests/s", "more", 1.0), _cost("http-new", "us", 1.0)), _http.new, kind="http", needsGo=True,
    ),
    "http-one": Work(
        (Figure("http-one", "us p50", "less", 1.0), Figure("http-one-p99", "us p99", "less"), _cost("http-one", "us")),
        _http.one, kind="http", needsGo=True,
    ),
    "http-big": Work(
        (
            Figure("http-big", "MB/s", "more", 1.0), _cost("http-big", "s/GB"),
            Figure("http-big-upload", "MB/s", "more", 1.0), _cost("http-big-upload", "s/GB"),
        ),
        _http.big, kind="http", needsGo=True,
    ),
    "tcp-echo": Work(
        (
            Figure("tcp-echo", "us p50", "less", 1.0, "frp"), Figure("tcp-echo-p99", "us p99", "less"),
            _cost("tcp-echo", "us"),
        ),
        _ports.echo, kind="tcp", needsGo=True,
    ),
    "tcp-small": Work(
        (
            Figure("tcp-small", "requests/s", "more", 1.0, "frp"), _cost("tcp-small", "us"),
            Figure("tcp-small-p99", "ms p99", "less"),
        ),
        _ports.small, kind="tcp", needsGo=True,
    ),
    "udp-echo": Work(
        (
            Figure("udp-echo", "datagrams/s", "more"), _cost("udp-echo", "us"),
            Figure("udp-echo-lost", "%", "less", None, ""),
        ),
        _ports.datagrams, kind="udp", needsGo=True,
    ),
    "h2-keep": Work(
        (Figure("h2-keep", "requests/s", "more", 0.4), _cost("h2-keep", "us")),
        _http2.keep, needsGo=True, needs=_http2.available,
    ),
    "h2-big": Work(
        (Figure("h2-big", "MB/s", "more", 0.7), _cost("h2-big", "s/GB")),
        _http2.big, needsGo=True, needs=_http2.available,
    ),
    "carriers": Work(
        tuple(
            figure for name in ("websocket", "grpc", "grpcio") for figure in (
                Figure(f"carrier-{name}", "requests/s", "more", None, ""), _cost(f"carrier-{name}", "us"),
                Figure(f"carrier-{name}-big", "MB/s", "more", None, ""),
            )
        ),
        _carriers.carriers, who=ALONE, needs=_carriers.available,
    ),
    "http-keep-same": _share("http-keep-same", None, _shares.same),
    "http-keep-logged": _share("http-keep-logged", 8, _shares.logged),
    "http-keep-observed": _share("http-keep-observed", 2, _shares.observed),
    "http-keep-inspected": _share("http-keep-inspected", 25, _shares.inspected),
    "scrape": Work(
        (Figure("scrape", "ms", "less", 50, ""), Figure("scrape-per-service", "ms", "less", None, "")),
        _agents.scrapes, who=ALONE, once=True,
    ),
    "storm": Work(
        (Figure("storm", "ms an agent", "less", 1.2, ""), Figure("storm-slope", "log-log", "less", 1.1, "")),
        _agents.storm, who=TWIN,
    ),
    "idle-agents": Work((Figure("idle-agents", "octets", "less", 0.7),), _agents.idle, who=TWIN),
    "idle-streams": Work((Figure("idle-streams", "octets", "less", 2.0),), _sessions.idleStreams, who=TWIN),
    "idle-process": Work(
        (
            Figure("idle-edge", "MiB", "less", 6.0, ""), Figure("idle-agent", "MiB", "less", 6.0, ""),
            Figure("ready-edge", "s", "less", 0.1, ""), Figure("ready-agent", "s", "less", 0.1, ""),
        ),
        _processes.idleProcess, who=ALONE,
    ),
    "resident": Work(
        (Figure("resident-edge", "MiB", "less"), Figure("resident-agent", "MiB", "less")),
        _processes.resident, who=TWINS, kind="http", needsGo=True, once=True,
    ),
    "calls": Work(
        (
            Figure("calls-warm", "calls", "less", 130, ""), Figure("calls-cold", "calls", "less", 280, ""),
            Figure("calls-logged", "calls more", "less", None, ""), Figure("calls-observed", "calls more", "less", None, ""),
            Figure("calls-inspected", "calls more", "less", None, ""),
        ),
        _calls.requests, who=ALONE, needsGo=True, once=True,
    ),
    "calls-streams": Work(
        (Figure("calls-stream", "calls", "less", None, ""), Figure("calls-frame", "calls", "less", None, "")),
        _calls.streams, who=ALONE, once=True,
    ),
    "curve-streams-idle": Work(
        _growth("curve-streams-opened", "curve-streams-memory", "curve-streams-beside"),
        _curves.idleStreams,
        (
            Figure("curve-streams-opened", "us each", "less"), Figure("curve-streams-memory", "octets each", "less"),
            Figure("curve-streams-beside", "us", "less"),
        ),
        who=TWINS, once=True,
    ),
    "curve-streams-busy": Work(
        _growth("curve-streams-busy"), _curves.busyStreams, (Figure("curve-streams-busy", "us each", "less"),),
        who=TWINS, once=True,
    ),
    "curve-agents": Work(
        _growth("curve-agents", "curve-agents-memory"), _curves.agents,
        (Figure("curve-agents", "ms each", "less"), Figure("curve-agents-memory", "octets each", "less")),
        who=TWIN, once=True,
    ),
    "curve-visitors": Work(
        _growth("curve-visitors"), _curves.visitors,
        (Figure("curve-visitors", "us each", "less"), Figure("curve-visitors-p50", "ms p50", "less")),
        who=TWINS, needsGo=True, once=True,
    ),
}  # fmt: skip

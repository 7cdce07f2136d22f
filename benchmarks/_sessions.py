"""
Streams of one session between two processes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._parts import Part
from benchmarks._secrets import selfSigned
from benchmarks._sides import MB, Figures, Scale, Side


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


def _session(side: Side, carrier: str, timeout: float, **work: object) -> dict[str, Any]:
    """
    A server and a client of one side; the client works, and says what it measured.

    @return: that, with the C{processor} time of both.
    """
    with _certified(carrier) as tls, Part(side.command("server", carrier=carrier, **tls)) as server:
        address = f"127.0.0.1:{server.says()['port']}"
        before, trusted = server.processorTime(), tls.get("certificate")
        with Part(side.command("client", carrier=carrier, address=address, certificate=trusted, **work)) as client:
            result = client.says(timeout)
        result["processor"] += server.processorTime() - before
        return result


def bulk(carrier: str, side: Side, scale: Scale) -> Figures:
    """
    One stream into a sink.
    """
    result, name = _session(side, carrier, 120, work="bulk", octets=scale.bulk), f"bulk-{carrier}"
    return {name: scale.bulk / result["seconds"] / MB, f"{name}-cpu": result["processor"] / scale.bulk * 1e9}


def rpc(side: Side, scale: Scale) -> Figures:
    """
    A question of 64 octets after the other, on one stream.
    """
    result = _session(side, "ws", 30, work="rpc", duration=f"{scale.seconds}s")
    return {
        "rpc-ws": result["p50"] * 1e6, "rpc-ws-p99": result["p99"] * 1e6,
        "rpc-ws-cpu": result["processor"] / result["count"] * 1e6,
    }


def beside(side: Side, scale: Scale) -> Figures:
    """
    The same while another stream of the session is saturated.
    """
    result = _session(side, "ws", 30, work="beside", duration=f"{scale.seconds}s")
    return {
        "beside-bulk": result["p99"] * 1e6, "beside-bulk-p50": result["p50"] * 1e6,
        "beside-bulk-rate": result["octets"] / result["seconds"] / MB,
        "beside-bulk-rate-cpu": result["processor"] / result["octets"] * 1e9,
    }


def churn(parallel: int, side: Side, scale: Scale) -> Figures:
    """
    Streams that ask once, some at a time.
    """
    result, name = _session(side, "ws", 30, work="churn", parallel=parallel, duration=f"{scale.seconds}s"), f"churn-{parallel}"
    return {name: result["count"] / result["seconds"], f"{name}-cpu": result["processor"] / result["count"] * 1e6}


def idleStreams(side: Side, scale: Scale) -> Figures:
    """
    What an open stream that has nothing to do costs the server, in octets of resident memory.
    """
    with Part(side.command("server", carrier="ws")) as server:
        address = f"127.0.0.1:{server.says()['port']}"
        few = max(1, scale.streams // 10)
        memory = []
        for count in few, few + scale.streams:      # the difference leaves out what a first session costs
            with Part(side.command("client", carrier="ws", address=address, work="many", count=count)) as client:
                client.says(60)
                memory.append(server.memory())
    return {"idle-streams": (memory[1] - memory[0]) / scale.streams}

"""
Visitors that use HTTP/2, without TLS: the program C{h2load} of nghttp2 for both sides.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from benchmarks._chain import HOST, Chain, Wanted, chain
from benchmarks._parts import PartFailed
from benchmarks._sides import MB, Figures, Scale, Side

STREAMS = 32        # requests at a time, on one connection
TIMEOUT = 120.0     # seconds

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_FINISHED = re.compile(r"^finished in ([0-9.]+)(us|ms|s), ([0-9.]+) req/s", re.MULTILINE)
_SUCCEEDED = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored")


def available() -> bool:
    """
    Whether there is an C{h2load}.
    """
    return shutil.which("h2load") is not None


def _load(tunnel: Chain, path: str, *options: str) -> tuple[float, float]:
    """
    @return: requests that succeeded, and seconds.
    @raise PartFailed: a request failed, or there was none.
    """
    port = tunnel.address.rpartition(":")[2]
    command = ["h2load", "--clients=1", *options, f"--connect-to={tunnel.address}", f"http://{HOST}:{port}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    finished, counted = _FINISHED.search(done.stdout), _SUCCEEDED.search(done.stdout)
    if finished is None or counted is None or counted[1] == "0" or (counted[2], counted[3]) != ("0", "0"):
        raise PartFailed(f"h2load: {done.stdout}{done.stderr}")
    return int(counted[1]), float(finished[1]) * _UNITS[finished[2]]


def keep(side: Side, scale: Scale) -> Figures:
    """
    Small requests on one connection, L{STREAMS} at a time.
    """
    with chain(side, Wanted(edge=("--h2c",))) as tunnel:
        streams = f"--max-concurrent-streams={STREAMS}"
        _load(tunnel, "/", streams, f"--requests={STREAMS * 10}")
        before = tunnel.processorTime()
        count, seconds = _load(tunnel, "/", streams, f"--requests={scale.counted * 5}")
        processor = tunnel.processorTime() - before
    return {"h2-keep": count / seconds, "h2-keep-cpu": processor / count * 1e6}


def big(side: Side, scale: Scale) -> Figures:
    """
    One large download.
    """
    with chain(side, Wanted(edge=("--h2c",))) as tunnel:
        before = tunnel.processorTime()
        windows = "--window-bits=24", "--connection-window-bits=24"
        _, seconds = _load(tunnel, f"/octets?count={scale.big}", "--requests=1", *windows)
        processor = tunnel.processorTime() - before
    return {"h2-big": scale.big / seconds / MB, "h2-big-cpu": processor / scale.big * 1e9}

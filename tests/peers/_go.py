"""
Genuine Go programs as subprocesses of a test: built once for each state of their sources, and driven by lines of JSON.

Without a Go toolchain, or without a way to its modules, the tests that need one are skipped with the reason; with
C{TUNNELSTACK_REQUIRE_PEERS=1} they fail instead.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IProcessProtocol
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

PROGRAMS = Path(__file__).parent / "go"
BUILD_TIMEOUT = 300  # seconds; a cold module cache has everything to fetch and compile
ANSWER_TIMEOUT = 60  # seconds

_unavailable: dict[str, str] = {}  # system -> why its program cannot be had; asked once a run


class GoError(Exception):
    """
    The Go program answered with an error.

    @ivar kind: its name, such as C{"ConnectionReset"} (the C{kind} function of the program).
    @ivar said: the whole answer.
    """

    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__(f"{said['kind']}: {said['error']}")
        self.kind: str = said["kind"]
        self.said = said


class GoPeerGone(Exception):
    """
    The Go program ended before it answered.
    """


def program(system: str, package: str = ".") -> Path:
    """
    The executable of C{tests/peers/go/<system>}, built if its sources have changed.

    @param package: the folder of its main package, from that of the module.
    @raise SkipTest: there is no Go, or the build failed, and nobody requires the peers.
    """
    if system not in _unavailable:
        try:
            return _built(PROGRAMS / system, package)
        except (OSError, subprocess.SubprocessError) as problem:
            _unavailable[system] = _reason(system, problem)
    if os.environ.get("TUNNELSTACK_REQUIRE_PEERS") == "1":
        raise AssertionError(_unavailable[system])
    raise SkipTest(_unavailable[system])


def _reason(system: str, problem: Exception) -> str:
    said = getattr(problem, "stderr", None) or str(problem)
    lines = [line for line in said.strip().splitlines() if not line.startswith("go: downloading ")]
    return f"no genuine Go peer for {system}: " + " / ".join(lines[-2:])


def _built(sources: Path, package: str) -> Path:
    digest = hashlib.sha256()
    for source in sorted([*sources.rglob("*.go"), sources / "go.mod", sources / "go.sum"]):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    folder = sources / "bin"
    name = "peer" if package == "." else Path(package).name
    executable = folder / f"{name}-{digest.hexdigest()[:16]}"
    if executable.exists():
        return executable
    go = shutil.which("go")
    if go is None:
        raise FileNotFoundError("go is not on the PATH")
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:  # test runs side by side build once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not executable.exists():
            for old in folder.glob(f"{name}-*"):
                old.unlink()
            fresh = folder / "building"
            command = [go, "build", "-trimpath", "-o", str(fresh), package if package == "." else f"./{package}"]
            subprocess.run(command, cwd=sources, check=True, capture_output=True, text=True, timeout=BUILD_TIMEOUT)
            fresh.rename(executable)
    return executable


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"{value!r} does not fit into a command")


@implementer(IProcessProtocol)
class GoPeer(ProcessProtocol):
    """
    One running Go program.  Start it with L{GoPeer.start}; it is killed when the test ends.

    @ivar errors: what it wrote to stderr.
    """

    def __init__(self) -> None:
        self.errors = b""
        self._pending: dict[int, Deferred[dict[str, Any]]] = {}
        self._asked = 0
        self._pieces: list[bytes] = []        # of a line that is not whole
        self._gone = False
        self._ended: Deferred[None] = Deferred()

    @classmethod
    def start(cls, case: TestCase, system: str = "yamux", package: str = ".") -> GoPeer:
        """
        Start the program of C{tests/peers/go/<system>} for one test.

        @param package: as of L{program}.
        """
        executable = str(program(system, package))
        peer = cls()
        life = "1800s" if os.environ.get("TUNNELSTACK_SOAK") == "1" else "300s"
        reactor.spawnProcess(peer, executable, [executable, "-life", life], env={})
        case.addCleanup(peer.kill)
        return peer

    def call(self, do: str, timeout: float = ANSWER_TIMEOUT, **parameters: Any) -> Deferred[dict[str, Any]]:
        """
        Send one command.

        @param timeout: seconds to wait for the answer.
        @param parameters: its fields; C{bytes} travel as base64.
        @return: its answer (C{data} as C{bytes}); fails with L{GoError} or L{GoPeerGone}.
        """
        self._asked += 1
        answer: Deferred[dict[str, Any]] = Deferred()
        if self._gone:
            answer.errback(GoPeerGone(self.errors.decode(errors="replace")))
            return answer
        self._pending[self._asked] = answer
        line = json.dumps({"id": self._asked, "do": do, **parameters}, default=_plain)
        self.transport.write(line.encode() + b"\n")
        return answer.addTimeout(timeout, reactor, lambda result, seconds: self._late(do, result, seconds))

    def _late(self, do: str, result: object, seconds: float) -> object:
        raise AssertionError(f"the Go peer did not answer {do!r} within {seconds} s; stderr: {self.errors!r}")

    def kill(self) -> Deferred[None]:
        """
        End it at once, as C{kill -9} does.

        @return: fires when it has gone; at once if it had.
        """
        ended: Deferred[None] = Deferred()
        if self._gone:
            ended.callback(None)
        else:
            self._ended.chainDeferred(ended)
            self.transport.signalProcess("KILL")
        return ended

    def freeze(self) -> None:
        """
        Stop its clock and all its goroutines, as a hung machine would; its sockets stay.
        """
        os.kill(self.transport.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """
        Let it go on.
        """
        os.kill(self.transport.pid, signal.SIGCONT)

    def outReceived(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = b"".join((*self._pieces, line))
            self._pieces.clear()
            self._answered(json.loads(whole))
        self._pieces.append(rest)

    def _answered(self, said: dict[str, Any]) -> None:
        answer = self._pending.pop(said["id"])
        if answer.called:
            return  # its caller has stopped waiting
        if not said["ok"]:
            answer.errback(GoError(said))
            return
        if isinstance(said.get("data"), str):
            said["data"] = base64.b64decode(said["data"])
        answer.callback(said)

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Failure) -> None:
        reason.trap(ProcessDone, ProcessTerminated, ConnectionDone)
        self._gone = True
        pending, self._pending = self._pending, {}
        for answer in pending.values():
            if not answer.called:
                answer.errback(GoPeerGone(self.errors.decode(errors="replace")))
        self._ended.callback(None)

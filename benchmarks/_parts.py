"""
The processes of a benchmark: each says one line of JSON when it is up or done, and is gone when the measurement is.
"""

from __future__ import annotations

import hashlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parent.parent
GO_SOURCES = Path(__file__).parent / "go"
BUILD_TIMEOUT = 300.0    # seconds; a cold module cache has everything to fetch and compile
START_TIMEOUT = 60.0     # seconds
END_TIMEOUT = 2.0        # seconds


_PROCESS_CLOCK = 2
"""CPUCLOCK_SCHED: the kernel's number of a process's clock is its complement, shifted by three, and this."""


class PartFailed(Exception):
    """
    A process ended early or said nothing in time; the message has the last of its stderr.
    """


class Part:
    """
    One process of a benchmark.

    It ends when its stdin does, or is killed.

    @ivar name: the beginning of its command line.
    """

    def __init__(
        self, command: list[str], environment: dict[str, str] | None = None, reads: bool = True, speaks: bool = True
    ) -> None:
        """
        @param reads: it reads its stdin, and ends by itself.
        @param speaks: its stdout has lines to read; otherwise they are thrown away.
        """
        self.name = " ".join([Path(command[0]).name, *command[1:5]])
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the part
        self._rest = b""
        self._reads = reads
        output = subprocess.PIPE if speaks else subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=self._errors
        )

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """
        The process's own number.
        """
        return self._process.pid

    def line(self, timeout: float = START_TIMEOUT) -> str:
        """
        The next line of its stdout.

        @raise PartFailed: there is none within C{timeout} seconds.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise PartFailed(f"{self.name}: nothing was said within {timeout:g} s{self._said()}")
                octets = self._process.stdout.read1()
                if not octets:
                    raise PartFailed(f"{self.name}: ended with status {self._process.wait()}{self._said()}")
                self._rest += octets
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def says(self, timeout: float = START_TIMEOUT) -> dict[str, Any]:
        """
        The next line as JSON.
        """
        return json.loads(self.line(timeout))

    def _said(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return "".join(f"\n    {line}" for line in lines[-8:])

    def memory(self) -> int:
        """
        Octets of memory that are resident.
        """
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise PartFailed(f"{self.name}: has no resident memory")

    def processorTime(self) -> float:
        """
        Seconds of processor time of all its threads, user and system, so far.
        """
        return time.clock_gettime((~self.pid << 3) | _PROCESS_CLOCK)

    @contextmanager
    def countingCalls(self, into: list[int]) -> Iterator[None]:
        """
        Count the calls of Python functions while the block runs.  Only L{benchmarks.ours} and its console can do that.

        @param into: the number is appended here.
        """
        os.kill(self.pid, signal.SIGPROF)
        self._counter()
        yield
        os.kill(self.pid, signal.SIGPROF)
        into.append(self._counter()["calls"])

    def _counter(self) -> dict[str, Any]:
        """
        The next line of the counter, among those that the program prints itself.
        """
        while not (line := self.line()).startswith("{"):
            pass
        return json.loads(line)

    def close(self) -> None:
        """
        End it.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=END_TIMEOUT if self._reads else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


def build() -> str:
    """
    The Go program, built if its sources have changed.

    @return: its path.
    @raise OSError: there is no Go.
    @raise subprocess.SubprocessError: it cannot be built.
    """
    digest = hashlib.sha256()
    for source in sorted([*GO_SOURCES.glob("*.go"), GO_SOURCES / "go.mod", GO_SOURCES / "go.sum"]):
        digest.update(source.read_bytes())
    executable = GO_SOURCES / "bin" / f"bench-{digest.hexdigest()[:16]}"
    if not executable.exists():
        go = shutil.which("go")
        if go is None:
            raise FileNotFoundError("go is not on the PATH")
        executable.parent.mkdir(exist_ok=True)
        for old in executable.parent.glob("bench-*"):
            old.unlink()
        fresh = executable.with_name(f"building-{os.getpid()}")
        command = [go, "build", "-trimpath", "-o", str(fresh), "."]
        subprocess.run(command, cwd=GO_SOURCES, check=True, capture_output=True, text=True, timeout=BUILD_TIMEOUT)
        fresh.rename(executable)
    return str(executable)


def python(module: str, *arguments: str) -> list[str]:
    """
    The command line of one of our modules.
    """
    return [sys.executable, "-m", module, *arguments]

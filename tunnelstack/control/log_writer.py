"""
Writing to standard output, standard error and log files without ever blocking the reactor.

A write blocks while a pipe is not read, a terminal is stopped, or a disk is slow.  C{O_NONBLOCK} is no remedy: it has no effect
on disks, and it belongs to the file description, which other processes share.  So a thread does the writing, and what waits for
it is bounded.  Lines beyond the bound are dropped, and one line in their place reports how many there were.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, Protocol
from weakref import WeakSet

from attrs import define

QUEUE_OCTETS = 4 << 20
"""Octets that may wait for one writer: more than a second of a busy access log."""

BATCH_OCTETS = 1 << 16
"""Octets that are written at once, if there are so many."""

FINISH_SECONDS = 1.0
"""How long the end of the process may wait for all its writers."""

NOT_READ = "the output is not read fast enough"


class Target(Protocol):
    """
    What a writer's thread writes into.  Each method but C{isatty} may block.
    """

    def write(self, octets: memoryview) -> int:
        """
        @return: how many octets were written, at least one.
        @raise OSError: none can be written now.
        """

    def close(self) -> None:
        """
        Nothing more is written into it.
        """

    def isatty(self) -> bool:
        """
        Whether it is a terminal.
        """


class Descriptor:
    """
    An open file, by its number.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, octets: memoryview) -> int:
        while True:
            try:
                return os.write(self._number, octets)
            except BlockingIOError:
                # Another process has set the description that we share non-blocking.
                writable = select.poll()
                writable.register(self._number, select.POLLOUT)
                writable.poll()

    def close(self) -> None:
        os.close(self._number)

    def isatty(self) -> bool:
        return os.isatty(self._number)


@define
class _Gap:
    """
    A place in the queue where lines were dropped.
    """

    lines: int = 0


class LogWriter:
    """
    Writes text in the order in which it comes, from a thread of its own, which starts with the first text unless it is held.

    C{write} may be called in any thread, and neither blocks nor raises.
    """

    def __init__(
        self,
        target: Target,
        report: Callable[[int, str], str],
        *,
        encoding: str = "utf-8",
        limit: int = QUEUE_OCTETS,
        delayStart: bool = False,
    ) -> None:
        """
        @param report: makes the line about lines that were dropped, of their number and the reason.
        @param limit: octets that may wait.
        @param delayStart: start no thread before L{release}, because the process is going to fork and go on in its child.
        """
        self._target = target
        self._replacement: Target | None = None
        self._form = report
        self._encoding = encoding
        self._limit = limit
        self._deadline: float | None = None
        self._keep = delayStart
        self._lost = 0                # lines that were dropped and not reported yet; this and the next two belong to the thread
        self._reason = ""
        self._cut = False             # whether the last octet that was written is inside a line
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        # A reentrant lock: a log event may come from a finalizer that interrupts one of the methods below.
        self._condition = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._waiting: deque[bytes | _Gap | Callable[[], None]] = deque()
        self._held = 0                # octets that wait or are being written
        self._busy = False

    def afterFork(self) -> None:
        """
        Begin anew in a child process, where the thread does not run.  The parent writes what was waiting, if it has a thread.
        """
        if self._thread is not None:
            self._begin()
            if self._replacement is not None:
                self._target, self._replacement = self._replacement, None

    def write(self, text: str) -> None:
        """
        Have whole lines written, or drop them if too much waits.  After L{finish}, wait for them until its deadline.
        """
        octets = text.encode(self._encoding, "backslashreplace")
        with self._condition:
            gap = self._waiting[-1] if self._waiting and isinstance(self._waiting[-1], _Gap) else None
            # Once lines are dropped, more are until half of the queue is free: one gap is better than many.
            if self._held + len(octets) <= (self._limit if gap is None else self._limit // 2):
                self._held += len(octets)
                self._append(octets)
            elif gap is None:
                self._append(_Gap(_lines(octets)))
            else:
                gap.lines += _lines(octets)
        if self._deadline is not None:
            self.drain(max(0.0, self._deadline - time.monotonic()))

    def call(self, function: Callable[[], None]) -> None:
        """
        Call a function in the thread, after what was written until now.  An C{OSError} that it raises is ignored.
        """
        with self._condition:
            self._append(function)

    def replace(self, target: Target) -> None:
        """
        Write what comes from now on into another target, and close the present one.
        """
        with self._condition:
            unused, self._replacement = self._replacement, target
            if unused is None:
                self._append(self._switch)
        if unused is not None:
            unused.close()

    def release(self) -> None:
        """
        Hold the thread no longer.
        """
        with self._condition:
            self._keep = False
            self._start()

    @property
    def pending(self) -> bool:
        """
        Whether something has not been written yet.
        """
        return bool(self._waiting) or self._busy

    def isatty(self) -> bool:
        """
        Whether the target is a terminal.
        """
        return self._target.isatty()

    def drain(self, seconds: float) -> bool:
        """
        Block until all is written, for so long at most.

        @return: whether all is written.
        """
        if threading.current_thread() is self._thread:
            return False
        with self._condition:
            self._keep = False
            self._start()
            if self._thread is None:              # the interpreter is ending and starts no more threads
                while self._waiting:
                    self._perform(self._take())
            return self._condition.wait_for(lambda: not self.pending, seconds)

    def finish(self, seconds: float) -> bool:
        """
        The process is about to end: L{drain}, and from now on let L{write} wait until the same deadline.

        @return: whether all is written.
        """
        self._deadline = time.monotonic() + seconds
        return self.drain(seconds)

    def _append(self, work: bytes | _Gap | Callable[[], None]) -> None:
        self._waiting.append(work)
        self._start()
        self._condition.notify_all()

    def _start(self) -> None:
        if self._thread is None and self._waiting and not self._keep:
            thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            with suppress(RuntimeError):          # there can be no more threads now; the next write tries again
                thread.start()
                self._thread = thread

    # In the thread

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                while not self._waiting:
                    self._condition.wait()
                work = self._take()
                self._busy = True
            self._perform(work)

    def _take(self) -> bytes | _Gap | Callable[[], None]:
        """
        The next thing to do; texts that follow each other are one.
        """
        work = self._waiting.popleft()
        if not isinstance(work, bytes):
            return work
        batch, size = [work], len(work)
        while self._waiting and isinstance(text := self._waiting[0], bytes) and (size := size + len(text)) <= BATCH_OCTETS:
            batch.append(text)
            self._waiting.popleft()
        return b"".join(batch)

    def _perform(self, work: bytes | _Gap | Callable[[], None]) -> None:
        if isinstance(work, bytes):
            self._lost += self._output(work) if self._report() else _lines(work)
            with self._condition:
                self._held -= len(work)
        elif isinstance(work, _Gap):
            self._lost += work.lines
            self._reason = NOT_READ
            self._report()
        else:
            with suppress(OSError):
                work()

    def _report(self) -> bool:
        """
        Report what was dropped.

        @return: whether nothing is left to be reported.
        """
        if self._lost:
            text = self._form(self._lost, self._reason).encode(self._encoding, "backslashreplace")
            if self._output(b"\n" + text if self._cut else text):
                return False
            self._lost = 0
        return True

    def _output(self, octets: bytes) -> int:
        """
        @return: how many lines could not be written.
        """
        rest = memoryview(octets)
        try:
            while rest:
                count = self._target.write(rest)
                self._cut = rest[count - 1] != 10
                rest = rest[count:]
        except (OSError, ValueError) as error:
            self._reason = getattr(error, "strerror", None) or str(error)
            return _lines(bytes(rest))
        return 0

    def _switch(self) -> None:
        with self._condition:
            target, self._replacement = self._replacement, None
        if target is not None:
            before, self._target = self._target, target
            self._cut = False
            before.close()


def _lines(octets: bytes) -> int:
    return octets.count(b"\n") or 1


_writers: WeakSet[LogWriter] = WeakSet()


def finishAll(seconds: float = FINISH_SECONDS) -> None:
    """
    The process is about to end: let all its writers L{finish<LogWriter.finish>} within this time.
    """
    deadline = time.monotonic() + seconds
    writers = list(_writers)
    for writer in writers:                        # all of them write while the first one is waited for
        writer.release()
    for writer in writers:
        writer.finish(max(0.0, deadline - time.monotonic()))


def _afterFork() -> None:
    for writer in list(_writers):
        writer.afterFork()


os.register_at_fork(after_in_child=_afterFork)


def textReport(lines: int, reason: str) -> str:
    """
    A report of dropped lines as a status line.
    """
    return f"{'warning':<9} {_sentence(lines, reason)}\n"


def jsonReport(lines: int, reason: str) -> str:
    """
    A report of dropped lines as a JSON object.
    """
    shown = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": "warn", "logger": __name__,
        "message": _sentence(lines, reason), "dropped": lines,
    }  # fmt: skip
    return json.dumps(shown) + "\n"


def _sentence(lines: int, reason: str) -> str:
    return f"{lines} {'line was' if lines == 1 else 'lines were'} dropped here: {reason}"


def standardWriters(out: IO[str] | None, err: IO[str] | None, form: str = "auto") -> tuple[LogWriter, LogWriter]:
    """
    The writers of a process's standard output and standard error.  Where both are the same file it is one writer, which keeps
    the order.

    @param out: standard output, or C{None} if the process was started without one.
    @param err: the same for standard error.
    @param form: of the log: C{"json"}, C{"text"}, or C{"auto"}, which is text on a terminal.
    """
    first, second = _number(out), _number(err)
    text = form == "text" or (form == "auto" and os.isatty(second))
    errors = LogWriter(Descriptor(second), textReport if text else jsonReport, encoding=_encoding(err))
    if os.path.sameopenfile(first, second):
        return errors, errors
    return LogWriter(Descriptor(first), textReport, encoding=_encoding(out)), errors


def _number(stream: IO[str] | None) -> int:
    return os.open(os.devnull, os.O_WRONLY) if stream is None else stream.fileno()


def _encoding(stream: IO[str] | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"

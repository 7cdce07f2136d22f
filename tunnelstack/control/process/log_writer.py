"""
Writing to standard output, standard error and log files without ever blocking the reactor.

A write blocks while a pipe is not read, a terminal is stopped, or a disk is slow.  C{O_NONBLOCK} does not help: it has no
effect on disks, and it belongs to the file description, which other processes share.  Therefore a thread writes, from a queue
with a bound.  Lines beyond the bound are dropped, and one line in their place reports how many.
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

from tunnelstack.control.process.line_times import LineTime, lineTime, timeOfDay

QUEUE_OCTETS = 4 << 20
"""Bound of the queue of one writer: more than a second of a busy access log."""

BATCH_OCTETS = 1 << 16
"""Octets that are written at once, at most, when lines are joined."""

GATHER_SECONDS = 0.005
"""Seconds after a write until the next one, unless a batch or half of the queue waits, or somebody does.  The first of many
lines is written at once, and the others do not each take the interpreter from the reactor."""

FINISH_SECONDS = 1.0
"""Seconds that the process waits for all its writers when it exits."""

NOT_READ = "the output is not read fast enough"


class OutputFile(Protocol):
    """
    The file that a writer's thread writes to.  All methods except C{isatty} may block.
    """

    def write(self, octets: memoryview) -> int:
        """
        @return: how many octets were written, at least one.
        @raise OSError: none can be written now.
        """

    def close(self) -> None: ...

    def isatty(self) -> bool: ...


class Descriptor:
    """
    A target that is a file descriptor.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, octets: memoryview) -> int:
        while True:
            try:
                return os.write(self._number, octets)
            except BlockingIOError:
                # Another process has made the file description non-blocking, which this process shares.
                writable = select.poll()
                writable.register(self._number, select.POLLOUT)
                writable.poll()

    def close(self) -> None:
        os.close(self._number)

    def isatty(self) -> bool:
        return os.isatty(self._number)


@define(eq=False, repr=False)
class _Gap:
    """
    A place in the queue where lines were dropped.
    """

    lines: int = 0


class LogWriter:
    """
    Writes text in order, from a thread of its own.  The thread starts with the first text, unless C{delayStart} is set.

    C{write} may be called from any thread.  It neither blocks nor raises an exception.

    @ivar encoding: of the text.
    """

    def __init__(
        self,
        target: OutputFile,
        report: Callable[[int, str], str],
        *,
        encoding: str = "utf-8",
        limit: int = QUEUE_OCTETS,
        delayStart: bool = False,
    ) -> None:
        """
        @param report: formats the line that reports dropped lines, from their number and the reason.
        @param limit: octets in the queue.
        @param delayStart: start no thread before L{release}, because the process is about to fork and to continue in the child.
        """
        self._target = target
        self._replacement: OutputFile | None = None
        self._form = report
        self.encoding = encoding
        self._limit = limit
        self._deadline: float | None = None
        self._keep = delayStart
        self._lost = 0                # dropped lines that are not reported yet; only the thread uses this and the next two
        self._reason = ""
        self._cut = False             # the last octet that was written did not end a line
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        # A reentrant lock: a log event may come from a finalizer that interrupts one of the methods below.
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._waiting: deque[bytes | _Gap | Callable[[], None]] = deque()
        self._held = 0                # octets in the queue or being written
        self._busy = False
        self._asleep = False          # the thread waits for work, and has to be told of it
        self._draining = 0            # callers that wait until all is written

    def afterFork(self) -> None:
        """
        Start again with an empty queue in a child process, where the thread does not run.  The parent writes the queue, if it
        has a thread.
        """
        if self._thread is not None:
            self._begin()
            if self._replacement is not None:
                self._target, self._replacement = self._replacement, None

    def write(self, text: str) -> None:
        """
        Queue whole lines, or drop them if the queue is full.  After L{finish}, wait until they are written or its deadline
        passes.
        """
        octets = text.encode(self.encoding, "backslashreplace")
        with self._lock:              # a condition enters it by calls of Python functions
            gap = self._waiting[-1] if self._waiting and isinstance(self._waiting[-1], _Gap) else None
            # Once lines are dropped, continue until half of the queue is free: one gap is better than many.
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
        Call a function in the thread, after all earlier writes.  An C{OSError} that it raises is ignored.
        """
        with self._condition:
            self._append(function)

    def replace(self, target: OutputFile) -> None:
        """
        Write later text to another target, and close the present one.
        """
        with self._condition:
            unused, self._replacement = self._replacement, target
            if unused is None:
                self._append(self._switch)
        if unused is not None:
            unused.close()

    def release(self) -> None:
        """
        Let the thread start; see C{delayStart}.
        """
        with self._condition:
            self._keep = False
            self._start()

    @property
    def pending(self) -> bool:
        """
        Whether text is not written yet.
        """
        return bool(self._waiting) or self._busy

    def isatty(self) -> bool:
        return self._target.isatty()

    def drain(self, seconds: float) -> bool:
        """
        Block until all text is written, or until C{seconds} have passed.

        @return: whether all text is written.
        """
        if threading.current_thread() is self._thread:
            return False
        with self._condition:
            self._keep = False
            self._start()
            if self._thread is None:              # the interpreter is exiting and starts no more threads
                while self._waiting:
                    self._perform(self._take())
            self._draining += 1
            self._condition.notify_all()
            try:
                return self._condition.wait_for(lambda: not self.pending, seconds)
            finally:
                self._draining -= 1

    def finish(self, seconds: float) -> bool:
        """
        L{drain} before the process exits.  From now on L{write} waits too, until the same deadline.

        @return: whether all text is written.
        """
        self._deadline = time.monotonic() + seconds
        return self.drain(seconds)

    def _append(self, work: bytes | _Gap | Callable[[], None]) -> None:
        self._waiting.append(work)
        if self._thread is None:
            self._start()
        if self._asleep or self._held > self._limit // 2:
            self._asleep = False
            self._condition.notify_all()

    def _start(self) -> None:
        if self._thread is None and self._waiting and not self._keep:
            thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            with suppress(RuntimeError):          # no thread can be started now; the next write tries again
                thread.start()
                self._thread = thread

    # Called in the thread

    def _run(self) -> None:
        while True:
            with self._condition:
                self._awaitWork()
                work = self._take()
                self._busy = True
            self._perform(work)
            with self._condition:
                self._busy = False
                if self._draining:
                    self._condition.notify_all()
                elif self._held < min(BATCH_OCTETS, self._limit // 2):
                    self._condition.wait(GATHER_SECONDS)

    def _awaitWork(self) -> None:
        while not self._waiting:
            self._asleep = True
            self._condition.wait()
        self._asleep = False

    def _take(self) -> bytes | _Gap | Callable[[], None]:
        """
        @return: the next item of the queue; consecutive texts are joined.
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
        Write the report of dropped lines, if there are any.

        @return: whether there is nothing left to report.
        """
        if self._lost:
            text = self._form(self._lost, self._reason).encode(self.encoding, "backslashreplace")
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
    L{Finish<LogWriter.finish>} all writers of the process, before it exits.
    """
    deadline = time.monotonic() + seconds
    writers = list(_writers)
    for writer in writers:                        # all of them write while this thread waits for the first one
        writer.release()
    for writer in writers:
        writer.finish(max(0.0, deadline - time.monotonic()))


def _afterFork() -> None:
    for writer in list(_writers):
        writer.afterFork()


os.register_at_fork(after_in_child=_afterFork)


def textReport(lines: int, reason: str) -> str:
    """
    @return: a report of dropped lines as a status line.
    """
    return f"{'warning':<9} {_sentence(lines, reason)}\n"


def timedReport(begin: LineTime) -> Callable[[int, str], str]:
    """
    @param begin: gives the beginning of a line.
    @return: makes such a report with the time.
    """
    return lambda lines, reason: begin(time.time()) + textReport(lines, reason)


def jsonReport(lines: int, reason: str) -> str:
    """
    @return: a report of dropped lines as a JSON object.
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
    @return: the writers of standard output and standard error.  If both are the same file, they are one writer, which keeps the
        order of lines.

    @param out: standard output, or C{None} if the process was started without one.
    @param err: the same for standard error.
    @param form: the format of the log: C{"json"}, C{"text"}, or C{"auto"}, which is text on a terminal.
    """
    first, second = _number(out), _number(err)
    text = form == "text" or (form == "auto" and os.isatty(second))
    report = timedReport(lineTime(os.isatty(second))) if text else jsonReport
    errors = LogWriter(Descriptor(second), report, encoding=_encoding(err))
    if os.path.sameopenfile(first, second):
        return errors, errors
    status = timedReport(timeOfDay) if os.isatty(first) else textReport
    return LogWriter(Descriptor(first), status, encoding=_encoding(out)), errors


def _number(stream: IO[str] | None) -> int:
    return os.open(os.devnull, os.O_WRONLY) if stream is None else stream.fileno()


def _encoding(stream: IO[str] | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"

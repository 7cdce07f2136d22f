"""
The thread that writes what a process logs: real pipes, files and devices, with a bound for each wait.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tunnelstack.control.process import log_writer
from tunnelstack.control.process.log_writer import (
    BATCH_OCTETS,
    Descriptor,
    LogWriter,
    jsonReport,
    standardWriters,
    textReport,
)

WAIT_SECONDS = 20.0
"""More than any thread needs, on a machine that is busy with other things."""


class Gate:
    """
    A target that takes octets only while it is open, and fails on demand.

    @ivar octets: what was written.
    @ivar error: raised by the next write.
    @ivar most: octets that one write takes at most.
    """

    def __init__(self) -> None:
        self.octets = b""
        self.error: OSError | None = None
        self.most = 1 << 30
        self.closed = False
        self.entered = threading.Event()
        self._open = threading.Event()
        self.open, self.shut = self._open.set, self._open.clear

    def write(self, octets: memoryview) -> int:
        self.entered.set()
        if not self._open.wait(WAIT_SECONDS):
            raise OSError("the test has not opened it")
        if self.error is not None:
            raise self.error
        self.octets += octets[: self.most]
        return min(self.most, len(octets))

    def close(self) -> None:
        self.closed = True

    def isatty(self) -> bool:
        return False

    @property
    def lines(self) -> list[str]:
        return self.octets.decode().splitlines()


class WriterTests(SynchronousTestCase):
    """
    Order, bounds and errors.
    """

    def setUp(self) -> None:
        self.gate = Gate()
        self.addCleanup(self.gate.open)

    def make(self, limit: int = 1000) -> LogWriter:
        return LogWriter(self.gate, textReport, limit=limit)

    def blocked(self, limit: int = 1000) -> LogWriter:
        """
        A writer whose thread is in a write of one line of 10 octets.
        """
        writer = self.make(limit)
        writer.write("first    \n")
        self.assertTrue(self.gate.entered.wait(WAIT_SECONDS))
        return writer

    def finish(self, writer: LogWriter) -> list[str]:
        self.gate.open()
        self.assertTrue(writer.drain(WAIT_SECONDS))
        return self.gate.lines

    def test_textIsWrittenInOrder(self) -> None:
        writer = self.make(1 << 20)
        self.gate.open()
        lines = [f"line {number}" for number in range(5000)]
        for line in lines:
            writer.write(f"{line}\n")
        self.assertEqual(self.finish(writer), lines)

    def test_aTargetMayTakeAFewOctetsAtATime(self) -> None:
        self.gate.most = 3
        writer = self.make()
        writer.write("one two three\n")
        writer.write("four\n")
        self.assertEqual(self.finish(writer), ["one two three", "four"])

    def test_textThatWaitsIsWrittenTogether(self) -> None:
        writer = self.blocked(1 << 20)
        sizes: list[int] = []
        take = self.gate.write
        self.gate.write = lambda octets: (sizes.append(len(octets)), take(octets))[1]  # type: ignore[method-assign]
        for _ in range(100):
            writer.write("x" * (BATCH_OCTETS // 50 - 1) + "\n")
        self.assertEqual(len(self.finish(writer)), 101)
        self.assertEqual(sizes, [BATCH_OCTETS // 50 * 50] * 2)

    def test_aBlockedTargetBlocksOnlyTheThread(self) -> None:
        writer = self.blocked()
        writer.write("second\n")
        self.assertTrue(writer.pending)
        self.assertEqual(self.finish(writer), ["first    ", "second"])
        self.assertFalse(writer.pending)

    def test_linesBeyondTheBoundAreCountedAndReportedInTheirPlace(self) -> None:
        writer = self.blocked(100)
        for number in range(200):
            writer.write(f"line {number:4}\n")
        lines = self.finish(writer)
        self.assertEqual(lines[:10], ["first    ", *(f"line {number:4}" for number in range(9))])
        self.assertEqual(lines[10:], ["warning   191 lines were dropped here: the output is not read fast enough"])
        writer.write("later\n")
        self.assertEqual(self.finish(writer)[11:], ["later"])

    def test_aGapEndsWhenHalfOfTheQueueIsFree(self) -> None:
        writer, second = self.blocked(100), Gate()
        self.addCleanup(second.open)
        for number in range(10):
            writer.write(f"line {number:4}\n")
        self.gate.write = second.write  # type: ignore[method-assign]
        self.gate.open()
        self.assertTrue(second.entered.wait(WAIT_SECONDS))       # room for one line is free now
        writer.write("dropped\n")
        second.open()
        self.assertTrue(writer.drain(WAIT_SECONDS))
        writer.write("later\n")
        self.assertTrue(writer.drain(WAIT_SECONDS))
        report = "warning   2 lines were dropped here: the output is not read fast enough"
        self.assertEqual(second.lines[9:], [report, "later"])

    def test_octetsBeingWrittenCountAgainstTheBound(self) -> None:
        writer = self.blocked(10)
        writer.write("x\n")
        self.assertEqual(self.finish(writer)[1:], ["warning   1 line was dropped here: the output is not read fast enough"])

    def test_severalLinesAtATimeCountAsSeveral(self) -> None:
        writer = self.blocked(10)
        writer.write("a\nb\nc\n")
        self.assertIn("3 lines were", self.finish(writer)[1])

    def test_aTextLongerThanTheBoundIsDroppedAndNothingElse(self) -> None:
        writer = self.make(100)
        writer.write("x" * 101 + "\n")
        writer.write("short\n")
        self.assertEqual(
            self.finish(writer), ["warning   1 line was dropped here: the output is not read fast enough", "short"]
        )

    def test_aSlowTargetGetsFewReports(self) -> None:
        """
        A line for each line that was dropped would make a slow output slower.
        """
        writer = self.blocked(1000)
        self.gate.most = 10
        self.gate.open()
        for number in range(20000):
            writer.write(f"{number:9}\n")
        lines = self.finish(writer)
        reports = [line for line in lines if line.startswith("warning")]
        dropped = sum(int(line.split()[1]) for line in reports)
        self.assertEqual(dropped + len(lines) - len(reports), 20001)
        self.assertLess(len(reports), 1 + len(lines) // 20)

    def resting(self, limit: int = 1000) -> LogWriter:
        """
        A writer whose thread has written a line, and would write no other one for longer than a test takes.
        """
        self.patch(log_writer, "GATHER_SECONDS", 2 * WAIT_SECONDS)
        self.gate.open()
        writer = self.make(limit)
        writer.write("first    \n")
        self.assertTrue(self.gate.entered.wait(WAIT_SECONDS))
        deadline = time.monotonic() + WAIT_SECONDS
        while writer.pending and time.monotonic() < deadline:
            time.sleep(0)                     # the thread needs the interpreter
        self.gate.entered.clear()
        return writer

    def test_linesThatFollowAWriteAreWrittenTogether(self) -> None:
        writer = self.resting()
        writer.write("second\n")
        self.assertFalse(self.gate.entered.wait(0.05))
        writer.write("third\n")
        self.assertFalse(self.gate.entered.wait(0.05))
        began = time.monotonic()
        self.assertEqual(self.finish(writer), ["first    ", "second", "third"])
        self.assertLess(time.monotonic() - began, WAIT_SECONDS)

    def test_halfAQueueIsWrittenAtOnce(self) -> None:
        writer = self.resting(100)
        for _ in range(6):
            writer.write("another  \n")
        self.assertTrue(self.gate.entered.wait(WAIT_SECONDS))
        self.assertEqual(len(self.finish(writer)), 7)

    def test_anErrorDropsLinesUntilWritingGoesOn(self) -> None:
        writer = self.make()
        self.gate.open()
        self.gate.error = OSError(28, "No space left on device")
        for _ in range(3):
            writer.write("lost\n")
            self.assertTrue(writer.drain(WAIT_SECONDS))
        self.gate.error = None
        writer.write("kept\n")
        self.assertEqual(self.finish(writer), ["warning   3 lines were dropped here: No space left on device", "kept"])

    def test_theReportBeginsALineOfItsOwn(self) -> None:
        """
        A disk may have room for half a line.
        """
        self.gate.most = 2
        writer = self.make()
        self.gate.open()
        take = self.gate.write

        def fill(octets: memoryview) -> int:
            taken = take(octets)
            self.gate.error = OSError(28, "No space left on device")
            return taken

        self.gate.write = fill  # type: ignore[method-assign]
        writer.write("half\n")
        self.assertTrue(writer.drain(WAIT_SECONDS))
        self.gate.write, self.gate.error = take, None  # type: ignore[method-assign]
        writer.write("whole\n")
        self.assertEqual(
            self.finish(writer), ["ha", "warning   1 line was dropped here: No space left on device", "whole"]
        )

    def test_anotherTargetGetsWhatComesAfter(self) -> None:
        writer = self.blocked()
        other, unused = Gate(), Gate()
        other.open()
        writer.write("before\n")
        writer.replace(unused)
        writer.replace(other)
        writer.write("after\n")
        self.assertTrue(unused.closed)
        self.assertFalse(self.gate.closed)
        self.assertEqual(self.finish(writer), ["first    ", "before"])
        self.assertEqual(other.lines, ["after"])
        self.assertTrue(self.gate.closed)
        writer.replace(self.gate)
        writer.write("again\n")
        self.assertEqual(self.finish(writer)[-1], "again")

    def test_aCallHasItsPlaceInTheOrder(self) -> None:
        writer = self.blocked()
        seen: list[list[str]] = []

        def rotate() -> None:
            seen.append(self.gate.lines)
            raise OSError("it cannot be renamed")

        writer.call(rotate)
        writer.write("second\n")
        self.assertEqual(self.finish(writer), ["first    ", "second"])
        self.assertEqual(seen, [["first    "]])

    def test_finishingWaitsNoLongerThanItsDeadline(self) -> None:
        writer = self.blocked()
        began = time.monotonic()
        self.assertFalse(writer.finish(0.1))
        writer.write("late\n")
        self.assertLess(time.monotonic() - began, 5)

    def test_afterFinishingEachLineIsWaitedFor(self) -> None:
        writer = self.make()
        self.gate.open()
        self.assertTrue(writer.finish(WAIT_SECONDS))
        writer.write("late\n")
        self.assertEqual(self.gate.lines, ["late"])

    def test_anyTextCanBeWritten(self) -> None:
        writer = LogWriter(self.gate, textReport, encoding="ascii")
        writer.write("caf\xe9 \udcff\n")
        self.assertEqual(self.finish(writer), ["caf\\xe9 \\udcff"])

    def test_manyThreadsMayWrite(self) -> None:
        writer = self.make(1 << 20)
        self.gate.open()

        def write(name: str) -> None:
            for number in range(500):
                writer.write(f"{name} {number}\n")

        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_SECONDS)
        lines = self.finish(writer)
        for name in "abcd":
            self.assertEqual([line for line in lines if line[0] == name], [f"{name} {number}" for number in range(500)])


class FileTests(SynchronousTestCase):
    """
    Pipes and devices of the system.
    """

    def pipe(self) -> tuple[int, int]:
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        return reader, writer

    def test_linesForABrokenPipeAreDropped(self) -> None:
        reader, number = self.pipe()
        writer = LogWriter(Descriptor(number), textReport)
        os.close(reader)
        for _ in range(3):
            writer.write("lost\n")
            self.assertTrue(writer.drain(WAIT_SECONDS))

    def test_linesForAFullDiskAreCounted(self) -> None:
        full = os.open("/dev/full", os.O_WRONLY)
        writer = LogWriter(Descriptor(full), textReport)
        writer.write("lost\n")
        self.assertTrue(writer.drain(WAIT_SECONDS))
        reader, number = os.pipe()
        self.addCleanup(os.close, reader)
        writer.replace(Descriptor(number))
        writer.write("kept\n")
        self.assertTrue(writer.drain(WAIT_SECONDS))
        self.assertEqual(
            os.read(reader, 1000), b"warning   1 line was dropped here: No space left on device\nkept\n"
        )

    def test_aPipeThatAnotherProcessHasSetNonBlocking(self) -> None:
        reader, number = self.pipe()
        self.addCleanup(os.close, reader)
        os.set_blocking(number, False)
        writer = LogWriter(Descriptor(number), textReport)
        wanted = b"".join(b"%9d\n" % count for count in range(20000))
        for line in wanted.splitlines(keepends=True):
            writer.write(line.decode())
        read = b""
        while len(read) < len(wanted):
            read += os.read(reader, 1 << 16)
        self.assertEqual(read, wanted)
        self.assertFalse(os.get_blocking(number))

    def test_noDescriptorIsSetNonBlocking(self) -> None:
        reader, number = self.pipe()
        self.addCleanup(os.close, reader)
        writer = LogWriter(Descriptor(number), textReport)
        writer.write("line\n")
        self.assertTrue(writer.drain(WAIT_SECONDS))
        self.assertTrue(os.get_blocking(number))

    def test_outputsInOneFileHaveOneWriter(self) -> None:
        path = Path(self.mktemp())
        with path.open("w") as out, path.open("a") as err:
            first, second = standardWriters(out, err)
            self.assertIs(first, second)
            first.write("status\n")
            second.write("log\n")
            self.assertTrue(first.drain(WAIT_SECONDS))
        self.assertEqual(path.read_text(), "status\nlog\n")

    def test_aReportIsWrittenLikeTheLog(self) -> None:
        shown = json.loads(jsonReport(2, "No space left on device"))
        self.assertEqual((shown["level"], shown["dropped"]), ("warn", 2))
        self.assertEqual(shown["message"], "2 lines were dropped here: No space left on device")
        self.assertEqual(textReport(1, "x"), "warning   1 line was dropped here: x\n")


class ReactorTests(TestCase):
    """
    Beside a reactor.
    """

    def test_theReactorTurnsWhileAPipeIsNotRead(self) -> object:
        reader, number = os.pipe()
        writer = LogWriter(Descriptor(number), textReport, limit=1 << 18)
        for count in range(50_000):
            writer.write(f"status line {count:7}\n")

        def read(_: object) -> None:
            self.assertTrue(writer.pending)
            os.set_blocking(reader, False)
            text, deadline = b"", time.monotonic() + WAIT_SECONDS
            while writer.pending and time.monotonic() < deadline:
                text += self.read(reader)
            text += self.read(reader)
            lines = text.decode().splitlines()
            kept = [line for line in lines if line.startswith("status")]
            self.assertEqual(kept, [f"status line {count:7}" for count in range(len(kept))])
            self.assertEqual(
                lines[len(kept) :],
                [f"warning   {50_000 - len(kept)} lines were dropped here: the output is not read fast enough"],
            )
            os.close(reader)
            os.close(number)

        return deferLater(reactor, 0.01, read, None)  # type: ignore[arg-type]

    def read(self, reader: int) -> bytes:
        try:
            return os.read(reader, 1 << 16)
        except BlockingIOError:
            return b""


PROGRAM = """
import os, sys, threading
from tunnelstack.control.process.log_writer import Descriptor, LogWriter, finishAll, textReport
writer = LogWriter(Descriptor(1), textReport)
{code}
"""


class ProcessTests(SynchronousTestCase):
    """
    The end of a process, and its forks.
    """

    def start(self, code: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(code=code)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def output(self, code: str) -> bytes:
        return self.start(code).communicate(timeout=WAIT_SECONDS)[0]

    def test_theEndWaitsForWhatCanBeWritten(self) -> None:
        code = "for number in range(10000): writer.write(f'{number}\\n')\nfinishAll(20)"
        self.assertEqual(self.output(code).split(), [b"%d" % number for number in range(10000)])

    def test_aPipeThatIsNotReadDoesNotKeepTheProcess(self) -> None:
        process = self.start("for number in range(100000): writer.write(f'{number}\\n')\nfinishAll(0.2)\nsys.exit(3)")
        self.assertEqual(process.wait(WAIT_SECONDS), 3)

    def test_outputsThatAreStuckCostNoOtherOutputItsLastLines(self) -> None:
        code = (
            "stuck = []\n"
            "for _ in range(8):\n"
            "    stuck.append(LogWriter(Descriptor(os.pipe()[1]), textReport))\n"
            "    stuck[-1].write('x' * 99_999 + '\\n')\n"
            "last = LogWriter(Descriptor(1), textReport, delayStart=True)\nlast.write('last\\n')\n"
            "finishAll(0.5)\nos._exit(0)"
        )
        self.assertEqual(self.output(code), b"last\n")

    def test_aChildProcessWritesWithAThreadOfItsOwn(self) -> None:
        """
        The thread of the parent does not run in it.
        """
        code = (
            "writer.write('parent\\n')\nassert writer.drain(20)\n"
            "if os.fork() == 0:\n    writer.write('child\\n')\n    finishAll(20)\n    os._exit(0)\n"
            "os.wait()\nwriter.write('parent again\\n')\nfinishAll(20)"
        )
        self.assertEqual(self.output(code).splitlines(), [b"parent", b"child", b"parent again"])

    def test_aChildProcessWritesNothingThatItsParentWrites(self) -> None:
        code = (
            "reader, number = os.pipe()\n"
            "blocked = LogWriter(Descriptor(number), textReport)\n"
            "for _ in range(4): blocked.write('x' * 99_999 + '\\n')\n"
            "if os.fork() == 0:\n    os._exit(blocked.pending)\n"
            "print(os.wait()[1], blocked.pending)"
        )
        self.assertEqual(self.output(code), b"0 True\n")

    def test_whatWasHeldIsWrittenByTheChild(self) -> None:
        """
        As a daemon does, which C{twistd} forks after the first lines were logged, and whose parent ends at once.
        """
        code = (
            "writer = LogWriter(Descriptor(1), textReport, delayStart=True)\nwriter.write('before\\n')\n"
            "assert threading.active_count() == 1\n"
            "if os.fork(): os.wait(); os._exit(0)\n"
            "writer.write('after\\n')\nwriter.release()\nfinishAll(20)\nassert threading.active_count() == 2\nos._exit(0)"
        )
        self.assertEqual(self.output(code), b"before\nafter\n")

    def test_whatIsHeldIsWrittenWhenTheInterpreterEnds(self) -> None:
        """
        New interpreters start no thread then.
        """
        code = (
            "import atexit\natexit.register(finishAll, 20)\n"
            "writer = LogWriter(Descriptor(1), textReport, delayStart=True)\nwriter.write('held\\n')\n"
            "def start(thread): raise RuntimeError\n"
            "threading.Thread.start = start"
        )
        self.assertEqual(self.output(code), b"held\n")



"""
The access log.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_log_writer import WAIT_SECONDS
from tunnelstack.control import access_record
from tunnelstack.control.access_lines import jsonLines, textLines
from tunnelstack.control.access_log import FLUSH_LINES, AccessLog, accessLog
from tunnelstack.control.access_record import AccessRecord, Descriptions, RequestDescription
from tunnelstack.control.process import log_writer
from tunnelstack.control.process.line_times import timeOfDay
from tunnelstack.errors import ConfigurationError


def request(**other: Any) -> AccessRecord:
    """
    One that is over.
    """
    usual: dict[str, Any] = {
        "service": "site", "method": "GET", "host": "site.example", "target": "/a?b", "visitor": "192.0.2.1", "trace": "t-1",
        "status": 200, "octets": 12, "seconds": 0.0025,
    }  # fmt: skip
    values = usual | other
    record = AccessRecord()
    described = {name: values[name] for name in RequestDescription.__slots__ if name in values}
    record.description = RequestDescription(**described)
    for name in values.keys() - described.keys() | {"service"}:
        setattr(record, name, values[name])
    return record


class Output:
    """
    Where a log goes.

    @ivar texts: what it was given at a time.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []

    def write(self, text: str) -> None:
        self.texts.append(text)

    def isatty(self) -> bool:
        return False


DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
"""The time of a line in a file."""


class FormTests(SynchronousTestCase):
    """
    Lines.
    """

    def test_aLineOfJSONHoldsTheTextItself(self) -> None:
        line = jsonLines([request(target='/"\\\n\x1b[31mé', failed=ValueError("gone"))], 1_800_000_000.5)
        self.assertEqual(line.count("\n"), 1)
        said = json.loads(line)
        self.assertEqual((said["request"], said["status"], said["octets"]), ("t-1", 200, 12))
        self.assertEqual((said["target"], said["reason"]), ('/"\\\n\x1b[31mé', "gone"))
        self.assertEqual(said["time"], "2027-01-15T08:00:00.500+00:00")
        self.assertEqual(said["seconds"], 0.0025)

    def test_timesAreInMilliseconds(self) -> None:
        for now, shown in (
            (1_800_000_000, "08:00:00.000"), (1_800_000_000.0014, "08:00:00.001"), (1_800_000_000.9999, "08:00:00.999"),
            (1_800_000_001.02, "08:00:01.020"), (1_800_000_000.25, "08:00:00.250"),
        ):  # fmt: skip
            self.assertEqual(json.loads(jsonLines([request()], now))["time"], f"2027-01-15T{shown}+00:00")

    def test_secondsHaveSixDigits(self) -> None:
        for seconds, shown in (
            (0.0, "0.000000"), (0.0000004, "0.000000"), (0.0000006, "0.000001"), (0.001234, "0.001234"), (0.25, "0.250000"),
            (0.9999989, "0.999999"), (0.9999996, "1.000000"), (1.5, "1.500000"), (3600.25, "3600.250000"),
        ):  # fmt: skip
            self.assertIn(f'"seconds": {shown}, "first": {shown}, ', jsonLines([request(seconds=seconds, first=seconds)], 0.0))

    def test_aStepThatIsDoneAfterTheEndIsNotLogged(self) -> None:
        """
        Such as the end of a body that the response did not wait for.
        """
        said = json.loads(jsonLines([request(seconds=0.5, first=0.5, routed=0.25, whole=0.75)], 0.0))
        self.assertEqual((said["seconds"], said["first"], said["routed"]), (0.5, 0.5, 0.25))
        self.assertNotIn("whole", said)

    def test_aLineOfTextIsVisible(self) -> None:
        line = textLines([request(target="/\x1b[31m")], 0)
        self.assertEqual(
            line, "1970-01-01T00:00:00.000Z access    200 GET site.example/\\u001b[31m   12 octets, 2.5 ms, "
            "for 192.0.2.1 (request t-1)\n",
        )

    def test_aLineOnATerminalBeginsWithTheTimeOfDay(self) -> None:
        self.assertRegex(textLines([request()], 7.0, timeOfDay), r"^\d\d:\d\d:07 access    200 ")

    def test_noPartOfATextLineIsMoreThanVisible(self) -> None:
        evil = "x\x1b[2J\u202e\n\x9b\x7f"
        line = textLines([request(target=evil, host=evil, method=evil, visitor=evil, trace=evil, service=evil)], 0)
        self.assertTrue(line[:-1].isprintable(), line)

    def test_JSONHasNoControls(self) -> None:
        evil = "x\x1b\u2028\n\x9b\x7f"
        failed = ValueError(evil)
        line = jsonLines([request(target=evil, host=evil, method=evil, visitor=evil, trace=evil, failed=failed)], 0)
        self.assertTrue(line[:-1].isprintable() and line.isascii(), line)
        self.assertEqual(json.loads(line)["visitor"], evil)


    def test_eachLineHasTheTimeAtWhichItsRequestEnded(self) -> None:
        ended = (1.0, 1.0004, 1.25, 0.5)
        lines = jsonLines([request(ended=each) for each in ended], 1_800_000_000.0).splitlines()
        times = [json.loads(line)["time"][17:23] for line in lines]
        self.assertEqual(times, ["01.000", "01.000", "01.250", "00.500"])
        text = textLines([request(ended=1.25)], 1_800_000_000.0)
        self.assertTrue(text.startswith("2027-01-15T08:00:01.250Z access "), text)


class DescriptionTests(SynchronousTestCase):
    """
    What requests that are alike share.
    """

    def key(self, target: bytes = b"/", host: bytes = b"site.example") -> Any:
        return b"GET", host, target, (1, 1), "192.0.2.1", "site"

    def test_requestsThatAreAlikeShareOne(self) -> None:
        kept = Descriptions("agent")
        one, other = kept[self.key()], kept[self.key(b"/caf\xc3\xa9")]
        self.assertIs(kept[self.key()], one)
        self.assertEqual((one.method, one.host, one.target), ("GET", "site.example", "/"))
        self.assertEqual((one.protocol, one.visitor, one.service, one.role), ("HTTP/1.1", "192.0.2.1", "site", "agent"))
        self.assertEqual(other.target, "/caf%C3%A9")

    def test_theirNumberAndTheirSizeAreBounded(self) -> None:
        kept = Descriptions("edge")
        for number in range(3 * access_record.MOST_DESCRIPTIONS):
            self.assertEqual(kept[self.key(b"/%d" % number)].target, f"/{number}")
            self.assertLessEqual(len(kept), access_record.MOST_DESCRIPTIONS)
        before = len(kept)
        long = b"/" + b"a" * access_record.LONGEST_DESCRIPTION
        self.assertEqual(kept[self.key(long)].target, long.decode())
        self.assertEqual(kept[self.key(host=long)].host, long.decode())
        self.assertEqual(len(kept), before)


class LogTests(SynchronousTestCase):
    """
    Writing.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.out = Output()

    def test_linesAreWrittenSoonAndTogether(self) -> None:
        log = AccessLog(self.clock, self.out, textLines, lambda: 0.0)
        log.add(request())
        log.add(request())
        self.assertEqual(self.out.texts, [])
        self.clock.advance(0.2)
        self.assertEqual([text.count("\n") for text in self.out.texts], [2])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_linesThatWaitAreBounded(self) -> None:
        log = AccessLog(self.clock, self.out, textLines, lambda: 0.0)
        for _ in range(FLUSH_LINES + 1):
            log.add(request())
        self.assertEqual([text.count("\n") for text in self.out.texts], [FLUSH_LINES])

    def open(self, path: object) -> AccessLog:
        log = accessLog(self.clock, str(path), "auto", self.out, lambda: 0.0)
        assert log is not None
        return log

    def drain(self, log: AccessLog) -> None:
        """
        Wait until all lines have been written.
        """
        writer: Any = log.output
        log.flush()
        self.assertTrue(writer.drain(WAIT_SECONDS))

    def test_aFileThatWasMovedAway(self) -> None:
        path = Path(self.mktemp())
        log = self.open(path)
        log.add(request(trace="one"))
        moved = path.rename(f"{path}.1")
        log.reopen()
        log.add(request(trace="two"))
        self.drain(log)
        self.assertEqual([json.loads(each.read_text())["request"] for each in (moved, path)], ["one", "two"])

    def test_theOldFileIsKeptIfItCannotBeOpenedAgain(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        log = self.open(folder / "log")
        log.add(request(trace="one"))
        moved = folder.rename(f"{folder}.1")
        self.assertRaises(ConfigurationError, log.reopen)
        log.add(request(trace="two"))
        self.drain(log)
        lines = (moved / "log").read_text().splitlines()
        self.assertEqual([json.loads(line)["request"] for line in lines], ["one", "two"])

    def test_aFIFOThatNothingReadsIsAnErrorAndNoWait(self) -> None:
        path = self.mktemp()
        os.mkfifo(path)
        error = self.assertRaises(ConfigurationError, self.open, path)
        self.assertIn("no process reads this FIFO", str(error))

    def test_aFIFOIsWrittenAndBlocksAtNoReopening(self) -> None:
        path = self.mktemp()
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        log = self.open(path)
        log.add(request(trace="one"))
        self.drain(log)
        self.assertEqual(json.loads(os.read(reader, 65536))["request"], "one")
        os.close(reader)
        self.assertRaises(ConfigurationError, log.reopen)

    def test_theDestinationIsAFileStandardErrorOrNothing(self) -> None:
        self.assertIsNone(accessLog(self.clock, "", "auto", self.out, lambda: 0.0))
        self.assertRaises(ConfigurationError, accessLog, self.clock, "/nowhere/log", "auto", self.out, lambda: 0.0)
        log = accessLog(self.clock, "-", "auto", self.out, lambda: 0.0)
        assert log is not None
        log.add(request())
        log.flush()
        self.assertTrue(self.out.texts[0].startswith("{"))

    def test_dropsAreReportedInTheFormOfTheLog(self) -> None:
        """
        C{/dev/full} takes nothing; the writer that goes on in another file reports what is missing.
        """
        for form in ("json", "text"):
            log = accessLog(self.clock, "/dev/full", form, self.out, lambda: 0.0)
            assert log is not None
            writer: Any = log.output
            log.add(request())
            self.drain(log)
            path = Path(self.mktemp())
            writer.replace(log_writer.Descriptor(os.open(path, os.O_WRONLY | os.O_CREAT)))
            log.add(request())
            self.drain(log)
            report, line = path.read_text().splitlines()
            sentence = "1 line was dropped here: No space left on device"
            if form == "json":
                self.assertEqual((json.loads(report)["message"], json.loads(report)["dropped"]), (sentence, 1))
                self.assertEqual(json.loads(line)["request"], "t-1")
            else:
                self.assertRegex(report, rf"^{DATE} warning   {sentence}$")

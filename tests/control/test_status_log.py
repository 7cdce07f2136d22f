"""
Status lines and logs: for people on a terminal, for programs elsewhere.
"""

from __future__ import annotations

import json
import os
import pty
import time
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_access_log import DATE
from tunnelstack.control.process.line_times import dateAndTime, timeOfDay
from tunnelstack.control.process.log_writer import finishAll, standardWriters
from tunnelstack.control.process.status_log import (
    COLUMN,
    JSONLogObserver,
    StatusLineObserver,
    TextLogObserver,
    makeObservers,
)
from tunnelstack.wire.printable_text import LINE

EVIL = "\x1b[2J\u202e\nsite      http://bank.example\x7f"
"""What a peer might send as a reason."""


DAY = r"\d\d:\d\d:\d\d"
"""The time of a line on a terminal."""


class TimeTests(SynchronousTestCase):
    """
    The beginning of a line.
    """

    def test_linesOfFilesAreSortedByTheirTime(self) -> None:
        times = [0.0, 0.0009, 0.001, 59.9999, 60.0, 951_782_400.0, 1_795_945_992.345, 4_102_444_800.0]
        begun = [dateAndTime(each) for each in times]
        self.assertEqual(begun, sorted(begun))
        self.assertEqual(begun[-2], "2026-11-29T09:53:12.345Z ")

    def test_aTerminalShowsItsOwnZone(self) -> None:
        before = os.environ.get("TZ")
        self.addCleanup(self.setZone, before)
        self.setZone("XYZ-03:30")
        self.assertEqual(timeOfDay(1_795_945_000.9), "13:06:40 ")

    def setZone(self, zone: str | None) -> None:
        os.environ.pop("TZ", None)
        if zone is not None:
            os.environ["TZ"] = zone
        time.tzset()


class ObserverTests(SynchronousTestCase):
    """
    What of an event is shown where.
    """

    def setUp(self) -> None:
        self.publisher = LogPublisher()
        self.log = Logger("tunnelstack.agent", observer=self.publisher)
        self.other = Logger("twisted.web", observer=self.publisher)
        self.written: list[str] = []

    def observe(self, kind: Any) -> None:
        self.publisher.addObserver(kind(self.written.append))

    def test_statusLinesShowWhatIsForPeople(self) -> None:
        self.observe(StatusLineObserver)
        self.log.info("up   edge={edge} rtt={rtt}ms", edge="localhost:8080", rtt=0.4, status="session")
        self.log.info("not for people", status_="x")
        self.log.warn("nothing listens on {target}", target="localhost:3000")
        self.log.warn("503 for GET /", status=503)
        self.log.critical("the credential is refused")
        self.other.info("Starting factory")
        self.assertEqual(
            self.written,
            [
                "session   up   edge=localhost:8080 rtt=0.4ms\n",
                "warning   nothing listens on localhost:3000\n",
                "warning   503 for GET /\n",
                "error     the credential is refused\n",
            ],
        )

    def test_aPeersTextCannotLeaveItsStatusLine(self) -> None:
        self.observe(StatusLineObserver)
        self.log.warn("{edge} ends the session: {reason}", edge="a", reason=EVIL)
        self.log.info("{reason}", reason="x" * 100_000, status="session")
        forged, long = self.written
        self.assertEqual(forged, "warning   a ends the session: \\x1b[2J\\u202e\\nsite      http://bank.example\\x7f\n")
        self.assertEqual(len(long), COLUMN + LINE + 2)

    def test_aPeersTextInATracebackCannotForgeALine(self) -> None:
        self.observe(TextLogObserver)
        self.log.failure("failed: {reason}", Failure(ValueError(EVIL)), reason=EVIL)
        text = "".join(self.written)
        self.assertNotIn("\x1b", text)
        first, *rest = text.splitlines()
        self.assertTrue(first.startswith("error     [") and first.isprintable(), first)
        self.assertTrue(rest)
        for line in rest:
            self.assertTrue(line.startswith(" " * COLUMN) and line.isprintable(), line)

    def test_JSONHoldsAPeersTextAsItIsAndNoControls(self) -> None:
        self.observe(JSONLogObserver)
        self.log.warn("{reason}", reason=EVIL)
        (line,) = self.written
        self.assertEqual(json.loads(line)["reason"], EVIL)
        self.assertTrue(line[:-1].isascii() and line[:-1].isprintable(), line)

    def test_aTerminalSeesEachEventOnce(self) -> None:
        self.observe(StatusLineObserver)
        self.observe(TextLogObserver)
        self.log.warn("ours")
        self.other.warn("theirs")
        self.log.failure("broken", Failure(ZeroDivisionError("seven")))
        self.assertEqual(len(self.written), 3)
        self.assertIn("theirs", self.written[1])
        self.assertIn("ZeroDivisionError: seven", self.written[2])

    def test_structuredKeepsTheFields(self) -> None:
        self.observe(JSONLogObserver)
        self.log.info("agent {agent} is there", agent="laptop", octets=3, odd={1, 2}.__class__)
        self.other.info("noise")
        self.log.debug("noise")
        self.log.failure("broken", Failure(ZeroDivisionError("seven")), level=LogLevel.error)
        first, second = map(json.loads, self.written)
        self.assertEqual((first["message"], first["agent"], first["octets"]), ("agent laptop is there", "laptop", 3))
        self.assertEqual((first["level"], first["logger"]), ("info", "tunnelstack.agent"))
        self.assertRegex(first["time"], r"^\d{4}-\d\d-\d\dT.*\+00:00$")
        self.assertIn("ZeroDivisionError: seven", second["traceback"])

    def test_aLineBeginsWithItsTime(self) -> None:
        for kind in (StatusLineObserver, TextLogObserver):
            observer = kind(self.written.append, dateAndTime)
            self.publisher.addObserver(lambda event, observer=observer: observer({**event, "log_time": event["at"]}))
        self.log.info("up", status="session", at=1.25)
        self.log.failure("broken", Failure(ZeroDivisionError("seven")), at=2.0)
        status, failed = self.written
        self.assertEqual(status, "1970-01-01T00:00:01.250Z session   up\n")
        self.assertTrue(failed.startswith("1970-01-01T00:00:02.000Z error     "), failed)
        for line in failed.splitlines()[1:]:
            self.assertTrue(line.startswith(" " * COLUMN), "the lines of a traceback belong to the first")

    def test_aWholeLogHasTheStatusLinesAsWell(self) -> None:
        self.publisher.addObserver(TextLogObserver(self.written.append, statusLines=True))
        self.log.info("up", status="session")
        self.log.warn("ours")
        self.other.warn("theirs")
        self.assertEqual([line[:10].rstrip() for line in self.written], ["session", "warning", "warning"])

    def test_aLineIsALine(self) -> None:
        self.observe(JSONLogObserver)
        self.log.info("{said}", said='two\nlines "quoted"')
        self.assertEqual(self.written[0].count("\n"), 1)


class ChoiceTests(SynchronousTestCase):
    """
    Which observers a process has.
    """

    def kinds(self, out: Any, err: Any, form: str = "auto") -> list[type]:
        return [type(observer) for observer in makeObservers(*standardWriters(out, err, form), form)]

    def open(self, descriptor: int) -> Any:
        file = os.fdopen(descriptor, "w")
        self.addCleanup(file.close)
        return file

    def pipe(self) -> Any:
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        return self.open(writer)

    def test_aTerminalShowsStatusLinesAndText(self) -> None:
        near, far = pty.openpty()
        self.addCleanup(os.close, near)
        terminal = self.open(far)
        self.assertEqual(self.kinds(terminal, terminal), [StatusLineObserver, TextLogObserver])
        self.assertEqual(self.kinds(terminal, terminal, "json"), [JSONLogObserver])

    def test_pipesGetStatusLinesAndJSON(self) -> None:
        self.assertEqual(self.kinds(self.pipe(), self.pipe()), [StatusLineObserver, JSONLogObserver])
        self.assertEqual(self.kinds(self.pipe(), self.pipe(), "text"), [StatusLineObserver, TextLogObserver])

    def test_aProcessWithoutStandardOutputHasObservers(self) -> None:
        self.assertEqual(self.kinds(None, self.pipe()), [StatusLineObserver, JSONLogObserver])
        self.assertEqual(self.kinds(self.pipe(), None), [StatusLineObserver, JSONLogObserver])

    def written(self, out: Any, err: Any, form: str) -> None:
        """
        Write one status line and one warning of another package.
        """
        publisher = LogPublisher(*makeObservers(*standardWriters(out, err, form), form))
        Logger("tunnelstack.agent", observer=publisher).info("up", status="session")
        Logger("twisted.web", observer=publisher).warn("theirs")
        finishAll(5.0)

    def shown(self, terminal: int) -> str:
        """
        @return: the two lines on a terminal, which may pass them on one by one.
        """
        octets = b""
        while octets.count(b"\n") < 2:
            octets += os.read(terminal, 4096)
        return octets.decode()

    def test_aTerminalShowsTheTimeOfDay(self) -> None:
        near, far = pty.openpty()
        self.addCleanup(os.close, near)
        terminal = self.open(far)
        self.written(terminal, terminal, "auto")
        self.assertRegex(self.shown(near), rf"^{DAY} session   up\r\n{DAY} warning   .*theirs\r\n$")

    def test_statusLinesOnAPipeHaveNoTimeAndTheLogHasAll(self) -> None:
        """
        The first word of a line on standard output is for programs.
        """
        paths = Path(self.mktemp()), Path(self.mktemp())
        with paths[0].open("w") as out, paths[1].open("w") as err:
            self.written(out, err, "text")
        self.assertEqual(paths[0].read_text(), "session   up\n")
        self.assertRegex(paths[1].read_text(), rf"^{DATE} session   up\n{DATE} warning   .*theirs\n$")

    def test_aTextLogInOneFileHasEachEventOnceWithItsTime(self) -> None:
        path = Path(self.mktemp())
        with path.open("w") as out, path.open("a") as err:
            self.written(out, err, "text")
        self.assertRegex(path.read_text(), rf"^{DATE} session   up\n{DATE} warning   .*theirs\n$")

    def test_aTerminalForTheLogAloneShowsAllOfIt(self) -> None:
        near, far = pty.openpty()
        self.addCleanup(os.close, near)
        path = Path(self.mktemp())
        with path.open("w") as out:
            self.written(out, self.open(far), "auto")
        self.assertEqual(path.read_text(), "session   up\n")
        self.assertRegex(self.shown(near), rf"^{DAY} session   up\r\n{DAY} warning   .*theirs\r\n$")

    def test_inOneFileEachEventIsThereOnce(self) -> None:
        path = Path(self.mktemp())
        with path.open("w") as out, path.open("a") as err:
            self.assertEqual(self.kinds(out, err), [JSONLogObserver])

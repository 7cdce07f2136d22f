"""
Status lines and logs: for people on a terminal, for programs elsewhere.
"""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.process.log_writer import standardWriters
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

    def test_inOneFileEachEventIsThereOnce(self) -> None:
        path = Path(self.mktemp())
        with path.open("w") as out, path.open("a") as err:
            self.assertEqual(self.kinds(out, err), [JSONLogObserver])

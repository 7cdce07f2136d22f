"""
Edges and agents that C{twistd} runs: where they log, and with which code they end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.ports import freePort
from tests.system.stage import BIN, Stage, until


class TwistdStage(Stage):
    """
    A test of processes that C{twistd} runs.
    """

    def twistd(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """
        Run C{twistd} until it ends, or until its daemon runs.
        """
        done = subprocess.run(
            [BIN / "twistd", *arguments], env=self.environ, cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def daemon(self, *arguments: str, access: str = "-") -> int:
        """
        Start an edge as a daemon.

        @return: its process identifier.
        """
        self.port = freePort()
        pidfile = self.home / "edge.pid"
        edge = ("tunnel-edge", "--dev", "--port", str(self.port), "--access-log", access)
        self.twistd(f"--pidfile={pidfile}", *arguments, *edge)
        number = int(pidfile.read_text())
        self.addCleanup(self.end, number)
        return number

    def end(self, number: int) -> None:
        """
        End a daemon, and wait until it has ended.
        """
        try:
            os.kill(number, signal.SIGTERM)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                os.kill(number, 0)
                time.sleep(0.01)
        except ProcessLookupError:
            return
        self.fail("the daemon does not end")

    def requests(self, log: Path) -> list[dict[str, Any]]:
        """
        The lines of the access log in a log.
        """
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["logger"] == "tunnelstack.access"]


class LogTests(TwistdStage):
    """
    The access log follows the log.
    """

    def test_aDaemonLogsRequestsWhereItLogs(self) -> None:
        log = self.home / "edge.log"
        number = self.daemon(f"--logfile={log}")
        self.visit("nothing", "/one")
        [line] = until(lambda: self.requests(log), log.read_text)
        self.assertEqual(line["target"], "/one")
        self.end(number)
        lines = log.read_text().splitlines()
        for sentence in ("starting up.", "ready ", "Server Shut Down."):
            self.assertEqual(len([line for line in lines if sentence in line]), 1, sentence)
        self.assertIn("starting up.", lines[0])
        self.assertIn("Server Shut Down.", lines[-1])

    def test_withoutALogfileItIsThatOfTwistd(self) -> None:
        self.daemon()
        self.visit("nothing", "/one")
        until(lambda: self.requests(self.home / "twistd.log"))

    def test_aDaemonHasAnAccessLogOfItsOwn(self) -> None:
        log, access = self.home / "edge.log", self.home / "access.log"
        number = self.daemon(f"--logfile={log}", access=str(access))
        self.visit("nothing", "/one")
        until(lambda: self.requests(access))
        access.rename(self.home / "old.log")
        os.kill(number, signal.SIGHUP)
        until(access.exists)
        self.visit("nothing", "/two")
        until(lambda: self.requests(access))
        self.assertEqual(self.requests(log), [])

    def test_theLogIsRotatedOnDemand(self) -> None:
        log = self.home / "edge.log"
        number = self.daemon(f"--logfile={log}")
        os.kill(number, signal.SIGUSR1)
        until((self.home / "edge.log.1").exists)
        self.visit("nothing", "/one")
        until(lambda: self.requests(log))

    def test_inTheForegroundItIsStandardError(self) -> None:
        edge = self.program("twistd", "-n", "--pidfile=", "tunnel-edge", "--dev", "--port", "0")
        self.port = int(edge.hears(r"ready +http://localhost:(\d+)")[1])
        self.visit("nothing", "/one")
        [line] = until(lambda: edge.logged(logger="tunnelstack.access"), edge.said)
        self.assertEqual(line["target"], "/one")

    def test_anotherLoggerGetsThemAsEvents(self) -> None:
        (self.home / "other.py").write_text(
            "import sys\n"
            "from twisted.logger import formatEvent\n"
            "def make():\n"
            "    return lambda event: print('other', formatEvent(event), file=sys.__stdout__, flush=True)\n"
        )
        edge = self.program(
            "twistd", "-n", "--pidfile=", "--logger", "other.make", "tunnel-edge", "--dev", "--port", "0",
            PYTHONPATH=f"{self.environ['PYTHONPATH']}{os.pathsep}{self.home}",
        )
        self.port = int(edge.hears(r"ready +http://localhost:(\d+)")[1])
        self.visit("nothing", "/one")
        edge.hears(r'^other \{.*"target": "/one"')


class CodeTests(TwistdStage):
    """
    A start that fails is no success.
    """

    def taken(self) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        return f"tcp:{server.getsockname()[1]}:interface=127.0.0.1"

    def test_aPortThatIsTaken(self) -> None:
        done = self.twistd("-n", "--pidfile=", "tunnel-edge", "--listen", self.taken(), code=75)
        self.assertIn(" is taken", done.stdout)
        self.assertIn("Server Shut Down.", done.stdout.splitlines()[-1])
        self.assertNotIn("Traceback", done.stdout + done.stderr)

    def test_aPortThatIsTakenByADaemon(self) -> None:
        pidfile = self.home / "edge.pid"
        done = self.twistd(
            f"--pidfile={pidfile}", f"--logfile={self.home / 'log'}", "tunnel-edge", "--listen", self.taken(), code=1
        )
        self.assertIn(" is taken", done.stderr)
        self.assertFalse(pidfile.exists())
        log = self.home / "log"
        until(lambda: " is taken" in log.read_text())
        self.assertNotIn("Traceback", log.read_text())

    def test_anAgentThatGivesUp(self) -> None:
        self.environ |= {"TUNNELSTACK_TOKEN": "t"}
        self.twistd(
            "-n", "--pidfile=", "tunnel-agent", "--edge", "http://127.0.0.1:1", "--give-up-after", "0.1", "http", "1", code=69
        )

"""
Whole programs that are told to read their configuration again, while somebody is in the middle of something.
"""

from __future__ import annotations

import http.client
import json
import signal
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.system.stage import Hello, Program, Stage, until

PIECE, PIECES = b"x" * 65_536, 40


class Other(Hello):
    """
    Another web server than L{Hello}.
    """

    def do_GET(self) -> None:
        self.answer(b"other\n")


class ReloadTests(Stage):
    """
    SIGHUP to an agent.
    """

    def setUp(self) -> None:
        super().setUp()
        self.path = self.home / "agent.toml"
        self.go = threading.Semaphore(0)
        self.addCleanup(self.go.release, 2 * PIECES)
        go = self.go

        class Long(BaseHTTPRequestHandler):
            """
            A body of many pieces, all but the first when the test says so.
            """

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(PIECE) * PIECES))
                self.end_headers()
                self.wfile.write(PIECE)
                for _ in range(1, PIECES):
                    go.acquire(timeout=60)
                    self.wfile.write(PIECE)

            def log_message(self, format: str, *arguments: Any) -> None:
                """
                Say nothing.
                """

        self.long = self.origin(Long)
        self.hello, self.other = self.origin(Hello), self.origin(Other)

    def write(self, text: str = "", **services: int) -> None:
        self.path.write_text(text + "".join(
            f'[[service]]\nname = "{name}"\ntarget = "{port}"\n' for name, port in services.items()
        ))

    def start(self) -> Program:
        self.edge = self.startEdge()
        return self.startAgent("--config", str(self.path), "start")

    def download(self, name: str) -> http.client.HTTPResponse:
        """
        Begin one; the first piece of it is here.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.addCleanup(connection.close)
        connection.request("GET", "/", headers={"Host": f"{name}.localhost"})
        response = connection.getresponse()
        self.assertEqual(response.read(len(PIECE)), PIECE)
        return response

    def test_whatChangedIsTakenAndNobodyIsCutOff(self) -> None:
        self.write(long=self.long, gone=self.hello, moved=self.hello)
        agent = self.start()
        for name in ("gone", "moved"):
            self.assertEqual(self.sees(name).body, b"GET /\n")
        download = self.download("long")
        ending = self.download_gone(agent)
        self.write("[agent]\nping_seconds = 7\n", long=self.long, moved=self.other, new=self.other)
        agent.tell(signal.SIGHUP)
        agent.hears(rf"^reload +\[\[service\]\] moved target: {self.hello} becomes {self.other}$")
        agent.hears(r"^reload +\[\[service\]\] new: added$")
        agent.hears(r"^reload +\[\[service\]\] gone: removed$")
        agent.hears(r"^reload +\[agent\] ping_seconds: 30.0 becomes 7.0 when the agent is restarted$")
        agent.hears("^new +http://new.localhost")
        self.assertEqual((self.sees("new").body, self.sees("moved").body), (b"other\n", b"other\n"))
        self.sees("gone", 503)
        self.go.release(2 * (PIECES - 1))
        for response in (download, ending):
            self.assertEqual(response.read(), PIECE * (PIECES - 1))
        self.assertEqual(sum("session " in line and " up " in line for line in agent.out), 1, agent.said())
        self.assertEqual(len([line for line in agent.out if line.startswith("long ")]), 1, agent.said())
        self.assertEqual(agent.end(), 0)
        self.assertNotIn("Traceback", agent.said())

    def download_gone(self, agent: Program) -> http.client.HTTPResponse:
        """
        One of a service that will be gone.
        """
        self.write(long=self.long, gone=self.long, moved=self.hello)
        agent.tell(signal.SIGHUP)
        agent.hears(rf"^gone +http.* -> tcp:localhost:{self.long}$")
        return self.download("gone")

    def test_aBrokenFileIsToldExactlyAndChangesNothing(self) -> None:
        self.write(site=self.hello)
        agent = self.start()
        for text, told in (
            (
                '[[service]]\nname = "site"\ntarget = "1"\nkin = "tcp"\n',
                r"agent\.toml:4: \[\[service\]\] has no key kin; did you mean kind",
            ),
            ("[agent\n", r"agent\.toml:1: not valid TOML"),
            ('[[service]]\nname = "site"\nkind = "serve"\ntarget = "nowhere"\n', "nowhere is not a folder"),
            ("", r"nothing to publish: the configuration file has no \[\[service\]\]"),
        ):
            self.path.write_text(text)
            agent.tell(signal.SIGHUP)
            agent.hears(f"^error +the configuration is unchanged: .*{told}")
            self.assertEqual(self.visit("site").status, 200)
        self.path.unlink()
        agent.tell(signal.SIGHUP)
        agent.hears(r"^error +the configuration is unchanged: .*agent\.toml cannot be read: No such file")
        self.write(site=self.other)
        agent.tell(signal.SIGHUP)
        agent.hears(f"^site .*:{self.other}$")
        self.assertEqual(self.visit("site").body, b"other\n")
        self.assertEqual(agent.end(), 0)

    def test_withoutAFileTheAccessLogIsOpenedAgain(self) -> None:
        log = self.home / "access.log"
        self.startEdge("--access-log", "")
        agent = self.startAgent("http", str(self.hello), "--name", "site", "--access-log", str(log))
        self.assertEqual(self.sees("site", path="/one").status, 200)
        until(log.read_text)
        old = log.rename(self.home / "old.log")
        agent.tell(signal.SIGHUP)
        agent.hears("^reload +no configuration file to read again$")
        self.visit("site", "/two")
        self.assertEqual(self.logged(log), ["/two"])
        self.assertEqual(agent.end(), 0)
        self.assertNotIn("/two", old.read_text())

    def test_theAccessLogIsOpenedAgainEvenIfTheFileIsBroken(self) -> None:
        log = self.home / "access.log"
        self.write(f'[agent]\naccess_log = "{log}"\n', site=self.hello)
        agent = self.start()
        self.assertEqual(self.sees("site").status, 200)
        until(log.read_text)
        log.rename(self.home / "old.log")
        self.path.write_text("[agent\n")
        agent.tell(signal.SIGHUP)
        agent.hears("^error +the configuration is unchanged")
        self.visit("site", "/two")
        self.assertEqual(self.logged(log), ["/two"])
        self.assertEqual(agent.end(), 0)

    def logged(self, path: Path) -> list[str]:
        """
        The targets in an access log, as soon as there are some.
        """
        lines: str = until(lambda: path.exists() and path.read_text())
        return [json.loads(line)["target"] for line in lines.splitlines()]

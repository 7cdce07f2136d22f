"""
agentserver in whole programs: an edge, sandboxes, the commands of operators, and a terminal in a terminal.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import threading
import time
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.system.stage import BIN, PATIENCE, Program, Stage, until

TOKEN = "tok-of-the-sandbox"


class Sandboxes(Stage):
    """
    An edge for sandboxes.
    """

    def edge(self, text: str = "", *arguments: str) -> Program:
        path = self.home / "edge.toml"
        digest = sha256(TOKEN.encode()).hexdigest()
        path.write_text(
            f'[agentserver]\n[[agentserver.sandbox]]\nid = "sbx-1"\nname = "demo"\ntoken_sha256 = "{digest}"\n{text}'
        )
        self.access = self.home / "access.log"
        return self.startEdge("--config", str(path), "--access-log", str(self.access), "--log-format", "json", *arguments)

    def startEdge(self, *arguments: str, port: int = 0, **environ: str) -> Program:
        edge = self.program("tunnel-edge", "--dev", "--port", str(port), *arguments, **environ)
        ready = until(lambda: next((e for e in edge.logged() if "ready" in json.dumps(e) and e.get("url")), None), edge.said)
        self.port = int(re.search(r":(\d+)", ready["url"])[1])  # type: ignore[index]
        return edge

    def tokenFile(self, token: str, name: str = "sandbox.token") -> str:
        path = self.home / name
        path.write_text(token + "\n")
        path.chmod(0o600)
        return str(path)

    def agent(self, *arguments: str, sandbox: str = "sbx-1", token: str = TOKEN) -> Program:
        """
        Start an agent of ours that is a sandbox and nothing else.
        """
        return self.program(
            "tunnel-agent", "agentserver", *arguments, "--edge", f"http://127.0.0.1:{self.port}", "--sandbox", sandbox,
            "--token-file", self.tokenFile(token, f"{sandbox}.token"),
        )

    def tunnelstack(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "tunnelstack", *arguments], env=self.environ, cwd=self.home, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def sandboxes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.tunnelstack("sandbox", "--json").stdout)["sandboxes"]
        return found


class Events(BaseHTTPRequestHandler):
    """
    A web server that sends events when it is told to.
    """

    protocol_version = "HTTP/1.1"
    go = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(2):
            self.wfile.write(b"data: %d\n\n" % number)
            self.wfile.flush()
            self.go.wait(PATIENCE)
        self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """
        Nothing is logged.
        """


class OurSandboxTests(Sandboxes):
    def test_aSandboxServesTheWeb(self) -> None:
        web = self.origin()
        edge = self.edge()
        agent = self.agent(str(web))
        agent.hears(r"^session +up .*dialect=agentserver sandbox=sbx-1")
        self.assertEqual(self.sees("demo", path="/hello?x=1").body, b"GET /hello?x=1\n")
        body = b"x" * 300_000
        self.assertEqual(self.visit("demo", "/echo", method="POST", body=body).body, body)
        (found,) = self.sandboxes()
        self.assertEqual((found["id"], found["connected"], found["configured"]), ("sbx-1", True, True))
        self.assertTrue(found["agent_version"].startswith("tunnelstack/"))
        self.assertEqual(agent.end(), 0)
        self.sees("demo", 503)
        self.assertEqual(edge.end(), 0)
        self.assertNotIn(TOKEN, edge.said() + agent.said() + self.access.read_text())

    def test_eventsAreStreamed(self) -> None:
        Events.go.clear()
        self.addCleanup(Events.go.set)
        self.edge()
        self.agent(str(self.origin(Events))).hears(r"^session +up ")


        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.addCleanup(connection.close)
        connection.request("GET", "/events", headers={"Host": "demo.localhost"})
        response = connection.getresponse()
        self.assertEqual(response.read1(100), b"data: 0\n\n")
        Events.go.set()
        self.assertEqual(response.read(), b"data: 1\n\n")

    def test_sandboxesAreAddedAndRevokedWhileTheEdgeRuns(self) -> None:
        self.edge()
        web = self.origin()
        added = self.tunnelstack("sandbox", "add", "second", "--json")
        said = json.loads(added.stdout)
        identifier, token = said["sandbox"]["id"], said["token"]
        agent = self.agent(str(web), sandbox=identifier, token=token)
        agent.hears(r"^session +up ")
        self.assertEqual(self.sees("second").body, b"GET /\n")
        shown = self.tunnelstack("sandbox").stdout
        self.assertIn("second", shown)
        self.assertNotIn(token, shown)
        revoked = self.tunnelstack("sandbox", "revoke", "second")
        self.assertEqual((revoked.returncode, revoked.stdout), (0, f"second ({identifier}) is revoked\n"))
        agent.hears(r"does not accept the token")
        refused = self.tunnelstack("sandbox", "revoke", "demo")
        self.assertEqual(refused.returncode, 69)
        self.assertIn("belongs to the configuration file", refused.stderr)

    def test_aSandboxKeepsItsTokenWhenItMoves(self) -> None:
        self.edge()
        added = self.tunnelstack("sandbox", "add", "moved", "--id", "sbx-7", "--token-file", self.tokenFile("old-token"))
        self.assertEqual(added.stdout, "sandbox_id    sbx-7\n")
        self.agent(str(self.origin()), sandbox="sbx-7", token="old-token").hears(r"^session +up ")
        self.sees("moved")

    def test_aWrongTokenEndsTheAgent(self) -> None:
        edge = self.edge()
        agent = self.agent("3000", token="wrong-token")
        self.assertEqual(agent.ends(), 77)
        edge.end()
        self.assertNotIn("wrong-token", edge.said() + agent.said() + self.access.read_text())


class TerminalTests(Sandboxes):
    """
    C{tunnelstack terminal} in a terminal of its own.
    """

    def setUp(self) -> None:
        super().setUp()
        self.edge()
        agent = self.agent("--terminal", "--shell", "/bin/sh")
        agent.hears(r"^session +up ")

    def open(self, name: str = "demo", columns: int = 100, rows: int = 30) -> None:
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.process = subprocess.Popen(
            [BIN / "tunnelstack", "terminal", "--dev", name], env=self.environ, cwd=self.home, stdin=slave, stdout=slave,
            stderr=slave, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.shown = b""
        self.addCleanup(self.end, self.process, self.master)

    def end(self, process: subprocess.Popen[bytes], master: int) -> None:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def shows(self, pattern: bytes) -> None:
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.shown):
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} is not shown: {self.shown!r}")
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):          # the other end is closed
                    self.shown += os.read(self.master, 65536)

    def type(self, octets: bytes) -> None:
        os.write(self.master, octets)

    def ends(self) -> int:
        def over() -> bool:
            if select.select([self.master], [], [], 0)[0]:
                with contextlib.suppress(OSError):
                    self.shown += os.read(self.master, 65536)
            return self.process.poll() is not None

        until(over, lambda: self.shown)
        return int(self.process.returncode)

    def test_theShellHasTheSizeOfTheWindow(self) -> None:
        self.open()
        self.shows(rb"[$#] ")
        self.type(b"stty size; echo term=$TERM\r")
        self.shows(rb"30 100\r\n.*term=xterm-256color")
        self.resize(90, 25)
        self.type(b"sleep 0.3; stty size\r")
        self.shows(rb"25 90\r\n")
        self.type(b"exit\r")
        self.assertEqual(self.ends(), 0)

    def test_theEscapeSequenceLeavesTheShell(self) -> None:
        self.open()
        self.shows(rb"[$#] ")
        self.type(b"X=kept\r")
        self.shows(rb"X=kept\r\n.*[$#] ")
        self.type(b"\r~.")
        self.assertEqual(self.ends(), 0)
        self.open()
        self.shows(rb"X=kept")
        self.type(b"echo $X$X\r")
        self.shows(rb"keptkept")

    def test_anAgentThatIsNotThereIsSaid(self) -> None:
        self.open("gone")
        self.shows(b"gone cannot be reached: gone is not connected")
        self.assertEqual(self.ends(), 69)

    def test_theRightIsOfItsOwn(self) -> None:
        token = self.home / "ada.token"
        made = self.tunnelstack("token", "new", "ada", "--allow", "dial:*", "--out", str(token))
        self.assertEqual(made.returncode, 0, made.stderr)
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [BIN / "tunnelstack", "terminal", "demo", "--edge", f"http://localhost:{self.port}", "--token-file", token],
            env=self.environ, cwd=self.home, stdin=slave, stdout=slave, stderr=slave,
        )
        os.close(slave)
        self.shown = b""
        self.addCleanup(self.end, self.process, self.master)
        self.shows(b"the token does not allow terminal:demo")
        self.assertEqual(self.ends(), 77)

"""
The commands C{tunnelstack requests} and C{replay}, against a server that answers as the inspector does.
"""

from __future__ import annotations

import io
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.commands import inspector_client
from tunnelstack.commands.inspector_client import InspectorNotReachable, InspectorRefused, Options, main

SUMMARY = {
    "id": 7, "began": 1_790_000_000.0, "method": "GET", "host": "app.localhost", "target": "/a\x1b[2J", "service": "app",
    "status": 200, "state": "ended", "sent": 2048, "seconds": 0.0125, "replayOf": None,
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """
    An inspector with one request.
    """

    answers: dict[tuple[str, str], tuple[int, object]] = {}
    seen: list[tuple[str, str, str, str]] = []

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((
            self.command, self.path, self.headers.get("Authorization", ""), self.headers.get("X-Tunnelstack", ""),
        ))  # fmt: skip
        status, answer = self.answers.get((self.command, self.path), (404, {"error": "there is no\x1b request"}))
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *arguments: Any) -> None:
        pass


class InspectorClientTests(SynchronousTestCase):
    """
    Both commands.
    """

    def setUp(self) -> None:
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 5)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        detail = {**SUMMARY, "id": 8, "replayOf": 7, "failure": ""}
        self.patch(Handler, "seen", [])
        self.patch(Handler, "answers", {
            ("GET", "/api/requests"): (200, {"requests": [SUMMARY], "forgotten": 0, "redacted": True}),
            ("POST", "/api/requests/7/replay"): (200, {"id": 8}), ("GET", "/api/requests/8"): (200, detail),
        })  # fmt: skip

    def call(self, command: str, *arguments: str, url: str = "") -> str:
        options = Options()
        options.command = command
        options.parseOptions([*arguments, "--inspector", url or self.url])
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        self.assertEqual(main(options), 0)
        return out.getvalue()

    def test_requestsAreListed(self) -> None:
        lines = self.call("requests").splitlines()
        self.assertEqual(lines[0].split()[:4], ["ID", "TIME", "SERVICE", "METHOD"])
        self.assertIn("200     12.5 ms   2.0 KiB  app.localhost/a\\x1b[2J", lines[1])

    def test_anEmptyListHasASentence(self) -> None:
        Handler.answers["GET", "/api/requests"] = 200, {"requests": [], "forgotten": 0, "redacted": True}
        self.assertEqual(self.call("requests"), "no requests yet\n")

    def test_programsReadJSON(self) -> None:
        self.assertEqual(json.loads(self.call("requests", "--json"))["requests"][0]["id"], 7)
        self.assertEqual(json.loads(self.call("replay", "7", "--json"))["replayOf"], 7)

    def test_aReplayShowsItsResult(self) -> None:
        self.assertEqual(self.call("replay", "7"), "request 8 replays request 7: 200, 2.0 KiB in 12.5 ms\n")
        self.assertEqual(Handler.seen[0], ("POST", "/api/requests/7/replay", "", "1"))

    def test_theTokenIsReadFromAFile(self) -> None:
        path = Path(self.mktemp())
        path.write_text("word\n")
        self.call("requests", "--token-file", str(path))
        self.assertEqual(Handler.seen[0][2], "Bearer word")

    def test_refusalsAreReported(self) -> None:
        with self.assertRaises(InspectorRefused) as caught:
            self.call("replay", "9")
        self.assertEqual(str(caught.exception), "there is no\\x1b request")

    def test_anInspectorThatIsAwayIsReported(self) -> None:
        with self.assertRaises(InspectorNotReachable) as caught:
            self.call("requests", url="http://127.0.0.1:1")
        self.assertIn("start the agent with --inspect", str(caught.exception))

    def test_wrongArgumentsAreReported(self) -> None:
        for command, arguments in (("replay", ()), ("replay", ("x",)), ("replay", ("1", "2")), ("requests", ("1",))):
            with self.assertRaises(usage.UsageError):
                self.call(command, *arguments)
        for url in ("ftp://x", "http://x:y", "http://", "http://x/path", "nonsense"):
            with self.assertRaises(usage.UsageError):
                self.call("requests", url=url)

    def test_theURLIsThatOfTheEnvironmentOtherwise(self) -> None:
        options = Options()
        options.command = "requests"
        options.parseOptions([])
        client = inspector_client.makeClient(options, {"TUNNELSTACK_INSPECTOR": "http://localhost:5000"})
        self.assertEqual((client._connection.host, client._connection.port), ("localhost", 5000))

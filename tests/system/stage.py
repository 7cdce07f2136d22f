"""
Whole programs on a stage: started as their users start them, heard line by line, asked over real sockets, and ended.

Nothing waits for a time to pass; everything waits for something to be said, with a bound.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.ports import freePort

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent

ENDS_WITH_US = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
"""Begins a command that is killed if the tests are killed, which then clean up nothing."""

PATIENCE = 30.0
"""Seconds in which anything happens, even on a machine that is busy with other things."""


def until(
    true: Callable[[], Any], said: Callable[[], object] = str, seconds: float = PATIENCE, pause: float = 0.01
) -> Any:
    """
    Wait until C{true()} is, and return what it is.

    @param said: what to show if that never happens.
    @param pause: seconds between two attempts.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = true()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing of the kind within {seconds:g} seconds: {said()}")
        time.sleep(pause)


class Program:
    """
    A process of ours.

    @ivar out: the lines it has said.
    @ivar err: the lines of its standard error.
    """

    def __init__(self, command: Sequence[str], environ: dict[str, str], cwd: str) -> None:
        self.process = subprocess.Popen(
            [*ENDS_WITH_US, *command], env=environ, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace",
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))
        stream.close()

    def said(self) -> str:
        """
        All of it, for a failed test.
        """
        return "\n".join(["", *self.out, "--- standard error", *self.err])

    def hears(self, pattern: str, times: int = 1, seconds: float = PATIENCE) -> re.Match[str]:
        """
        Wait for a line on standard output.

        @return: the match of the one that was the C{times}-th.
        """

        def found() -> re.Match[str] | None:
            matches = [match for line in list(self.out) if (match := re.search(pattern, line))]
            if len(matches) < times and self.process.poll() is not None:
                raise AssertionError(f"it ended without saying {pattern!r}: {self.said()}")
            return matches[times - 1] if len(matches) >= times else None

        match: re.Match[str] = until(found, self.said, seconds)
        return match

    def logged(self, **fields: Any) -> list[dict[str, Any]]:
        """
        @return: the events of its log with these fields.
        """
        events = [json.loads(line) for line in list(self.err) if line.startswith("{")]
        return [event for event in events if all(event.get(name) == value for name, value in fields.items())]

    def tell(self, number: int) -> None:
        """
        Send it a signal.
        """
        self.process.send_signal(number)

    def ends(self, seconds: float = PATIENCE) -> int:
        """
        Wait for its end.

        @return: its exit code.
        """
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.said()}") from None
        for reader in self._readers:
            reader.join(seconds)
        return code

    def end(self, number: int = signal.SIGTERM) -> int:
        """
        Tell it to end, and wait until it has.
        """
        self.tell(number)
        return self.ends()

    def drop(self) -> None:
        """
        Make sure that it is gone.
        """
        if self.process.poll() is None:
            self.process.kill()
        self.ends()


class Answer:
    """
    A response that was read to its end.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.fields = response.headers
        self.body = response.read()


class Stage(TestCase):
    """
    A test of whole programs.  Each has a home of its own, so that nothing of the machine's user is found or left behind.
    """

    timeout = 120

    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir(parents=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUNNELSTACK_", "XDG_", "STATE_"))}
        paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
        self.environ = kept | {"HOME": str(self.home), "PYTHONPATH": os.pathsep.join(paths)}

    # Programs

    def command(self, name: str) -> list[str]:
        """
        How a program of the environment is started.
        """
        return [str(BIN / name)]

    def program(self, name: str, *arguments: str, **environ: str) -> Program:
        """
        Start a program of the environment.
        """
        program = Program([*self.command(name), *arguments], self.environ | environ, str(self.home))
        self.addCleanup(program.drop)
        return program

    def script(self, module: str, *arguments: str) -> Program:
        """
        Start a module of the tests.
        """
        return self.program("python", "-m", module, *arguments)

    def startEdge(self, *arguments: str, port: int = 0, **environ: str) -> Program:
        """
        Start an edge for this machine, and wait for it; C{self.port} is where it listens, and may listen again.
        """
        edge = self.program("tunnel-edge", "--dev", "--port", str(port or freePort()), *arguments, **environ)
        self.port = int(edge.hears(r"^edge +ready +http://localhost:(\d+)")[1])
        return edge

    def startAgent(self, *arguments: str, **environ: str) -> Program:
        """
        Start an agent on the edge that was started before, and wait until it is up.
        """
        agent = self.program("tunnel-agent", "--dev", *arguments, **environ)
        agent.hears(r"^session +up ")
        return agent

    # Visitors

    def visit(
        self, name: str, path: str = "/", *, method: str = "GET", body: bytes | None = None, port: int = 0, seconds: float = 30,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """
        Ask for a page of a service.
        """
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=seconds)
        try:
            connection.request(method, path, body, {"Host": f"{name}.localhost:{port or self.port}", **(headers or {})})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def sees(self, name: str, status: int = 200, path: str = "/") -> Answer:
        """
        Ask until the answer has this status.  Each question takes a program that is starting some of its processor time.
        """
        seen: list[Answer] = []

        def asked() -> Answer | None:
            try:
                seen.append(self.visit(name, path))
            except (OSError, http.client.HTTPException):
                return None
            return seen[-1] if seen[-1].status == status else None

        answer: Answer = until(
            asked, lambda: (name, [(answer.status, answer.body[:200]) for answer in seen[-3:]]), pause=0.05
        )
        return answer

    def origin(self, handler: type[BaseHTTPRequestHandler] | None = None, port: int = 0) -> int:
        """
        Start a web server of the standard library.

        @return: its port, where another may be started when it is gone.
        """
        server = Origin(("127.0.0.1", port or freePort()), handler or Hello)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()

        def stop() -> None:
            if thread.is_alive():
                server.stop()
                thread.join()

        self.stopOrigin = stop
        self.addCleanup(stop)
        return int(server.server_address[1])


class Origin(ThreadingHTTPServer):
    """
    A web server; visitors who go without a word are no news.
    """

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._here: set[Any] = set()

    def get_request(self) -> Any:
        """
        Remember who is here.
        """
        connection, address = super().get_request()
        self._here.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """
        Somebody has gone.
        """
        self._here.discard(request)
        super().shutdown_request(request)

    def stop(self) -> None:
        """
        Be gone, as a process would be that was killed.
        """
        self.shutdown()
        self.server_close()
        for connection in list(self._here):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """
        Say nothing of resets.
        """
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Hello(BaseHTTPRequestHandler):
    """
    Answers with what it was asked.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(f"{self.command} {self.path}\n".encode())

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """
        Say nothing.
        """

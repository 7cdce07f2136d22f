"""
What every case begins with: an edge and agents as their users start them, on loopback, and raw sockets as visitors.

A case is a module of this folder that is run as a program: C{python -m tests.cases.NAME}.  It prints what it saw, and ends
with 0 if the installed commands behave, with 1 if they show the fault that the case is about.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.ports import freePort

BIN = Path(os.environ.get("TUNNELSTACK_BIN") or Path(sys.executable).parent)
"""The folder of the commands, which may be those of another version."""

VISITOR_RULES = """
[[route]]
host = "deny.example.net"
to = "site"
visitors = ["deny 203.0.113.66"]

[[route]]
host = "allow.example.net"
to = "site"
visitors = ["allow 203.0.113.0/24"]
"""
"""Two hosts of the service C{site}: one denies a visitor, and one allows its network only."""


def waitUntil(true: Callable[[], object], seconds: float = 30) -> bool:
    """
    Poll until C{true()} holds.

    @return: whether it did within C{seconds}.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Tunnel:
    """
    An edge on a free port, and agents; each writes to a log of its own in a temporary folder.  A context manager: at its end
    all processes are stopped and the folder is removed.

    @ivar folder: the state folder of edge and agents.
    @ivar port: where the edge listens for HTTP.
    @ivar token: the token that the edge made with C{--dev}.
    """

    def __init__(self, toml: str = "", *listen: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tunnelstack-case-"))
        (self.folder / "edge.toml").write_text(toml)
        self.environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self.environ |= {"STATE_DIRECTORY": str(self.folder), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        self.port = freePort()
        self._running: list[subprocess.Popen[bytes]] = []
        self._listen = [f"tcp:{self.port}:interface=127.0.0.1", *listen]
        self.startEdge("edge")
        waitUntil((self.folder / "dev.toml").exists)
        found = re.search(r'token = "([^"]+)"', (self.folder / "dev.toml").read_text())
        self.token = found[1] if found else ""

    def startEdge(self, name: str) -> None:
        """
        Start the edge, and wait until it is ready.

        @param name: of its log.
        """
        self.edge = self.start(
            name, "tunnel-edge", "--dev", "--config", str(self.folder / "edge.toml"),
            *(word for port in self._listen for word in ("--listen", port)),
        )  # fmt: skip
        self.waitForLog(name, "ready")

    def start(self, name: str, *command: str, **environ: str) -> subprocess.Popen[bytes]:
        """
        Start a program; its output goes to the log of this name.
        """
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command, env=self.environ | environ, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._running.append(process)
        return process

    def log(self, name: str) -> str:
        """
        What the program of this name has printed until now.
        """
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def waitForLog(self, name: str, words: str, seconds: float = 30) -> None:
        """
        Wait until the program of this name has printed C{words}; end the case with an error if it does not.
        """
        if not waitUntil(lambda: words in self.log(name), seconds):
            sys.exit(f"{name} did not print {words!r}: {self.log(name)[-800:]}")

    def startAgent(self, *service: object, name: str) -> subprocess.Popen[bytes]:
        """
        Start an agent with one service, C{"http", 3000}, and wait until the edge has published it.
        """
        process = self.start(name, "tunnel-agent", "--dev", *map(str, service), "--name", name)
        self.waitForLog(name, " -> ")
        return process

    def send(self, octets: bytes, port: int = 0, seconds: float = 30, half: bool = False) -> bytes:
        """
        Send octets to the edge and read until the connection ends.

        @param half: end our direction after sending.
        @return: what arrived, followed by how it ended: C{<end>}, C{<reset>}, or C{<open>} after C{seconds} without an octet.
        """
        with socket.create_connection(("127.0.0.1", port or self.port), seconds) as connection:
            answer = b""
            try:
                connection.sendall(octets)
                if half:
                    connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    answer += piece
            except TimeoutError:
                return answer + b"<open>"
            except OSError:
                return answer + b"<reset>"
            return answer + b"<end>"

    def get(self, host: str, target: bytes = b"/", fields: bytes = b"", port: int = 0, seconds: float = 30) -> bytes:
        """
        The response to a GET request that closes the connection; C{fields} are whole lines.
        """
        request = b"GET %b HTTP/1.1\r\nHost: %b\r\n%bConnection: close\r\n\r\n" % (target, host.encode(), fields)
        return self.send(request, port, seconds)

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self._running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def serve(handle: Callable[[socket.socket], None], host: str = "127.0.0.1") -> int:
    """
    Start a raw TCP server that calls C{handle(connection)} in a thread for each connection.

    @return: its port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.create_server((host, 0), family=family, backlog=64)

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            handle(connection)

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(server.getsockname()[1])


def readHead(connection: socket.socket) -> bytes:
    """
    Read from a connection until an HTTP head has ended; what follows it in the same segment is included.
    """
    octets = b""
    while b"\r\n\r\n" not in octets and (piece := connection.recv(65536)):
        octets += piece
    return octets


def echoHead(connection: socket.socket) -> None:
    """
    Answer a request with 200 and its own head as the body.
    """
    if octets := readHead(connection):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(octets)
        connection.sendall(head + octets)


def status(answer: bytes) -> str:
    """
    The status line of a response.
    """
    return answer.split(b"\r\n")[0].decode("latin-1")

"""
Socket activation: an edge whose file has a listener with TLS and one that redirects takes both from systemd as sockets.  Each
socket keeps the settings of its listener, in their order; one socket too few, and the edge does not start.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from fcntl import F_DUPFD, fcntl
from pathlib import Path

from tests.cases.tunnel import BIN, waitUntil
from tests.transport.test_certificates import write

TOML = """
[edge]
domain = "localhost"

[[listener]]
endpoint = "tls:{folder}:port=443"

[[listener]]
endpoint = "tcp:80"
redirect = true
"""
START = 'export LISTEN_FDS=$0 LISTEN_FDNAMES=$1 LISTEN_PID=$$; shift; exec "$@"'
"""LISTEN_PID has to be the process identifier of the edge, which a shell learns by becoming it."""


def start(folder: str, sockets: list[socket.socket], log: Path) -> subprocess.Popen[bytes]:
    """
    Start an edge to which the sockets are handed over as descriptors 3 and so on.
    """

    kept = [fcntl(each, F_DUPFD, 100) for each in sockets]         # out of the way of what they are copied to

    def place() -> None:
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, 3 + number)

    with open(log, "wb") as out:
        return subprocess.Popen(
            ["bash", "-c", START, str(len(sockets)), ":".join("ab"[: len(sockets)]), BIN / "tunnel-edge", "--config",
             Path(folder, "edge.toml")],
            env=os.environ | {"STATE_DIRECTORY": folder}, stdout=out, stderr=out, close_fds=False, preexec_fn=place,
        )  # fmt: skip


def ask(port: int) -> bytes:
    """
    What a visitor without TLS gets.
    """
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n")
        try:
            return connection.recv(65536)
        except OSError:
            return b""


def main() -> int:
    """
    @return: 0 if nothing was weakened.
    """
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "certificates"), "edge.pem", "localhost")
        Path(folder, "edge.toml").write_text(TOML.format(folder=Path(folder, "certificates")))
        log = Path(folder, "log")
        both = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        edge = start(folder, both, log)
        waitUntil(lambda: edge.poll() is not None or b"ready" in log.read_bytes(), 30)
        plain, redirected = (b"" if edge.poll() is not None else ask(each.getsockname()[1]) for each in both)
        edge.terminate()
        edge.wait(40)
        print(f"without TLS at the first: {plain[:40]!r}; at the second: {redirected[:40]!r}")
        edge = start(folder, both[:1], log)
        waitUntil(lambda: edge.poll() is not None or b"ready" in log.read_bytes(), 30)
        code = edge.poll()
        edge.terminate()
        edge.wait(40)
        print(f"with one socket: code {code}, {log.read_text()[-250:]!r}")
        good = not plain.startswith(b"HTTP/") and redirected.startswith(b"HTTP/1.1 308 ") and code == 78
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

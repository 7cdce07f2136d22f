"""
Normal ends are not reported as failures, and mistakes on the command line end with 64.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys

from tests.cases.tunnel import BIN, Tunnel, serve, waitUntil
from tests.ports import freePort

MISTAKES = (
    ("tunnel-agent", "--edge", "ftp://a.example", "http", "3000"), ("tunnel-agent", "--dev", "tcp", "localhost"),
    ("tunnel-agent", "--dev", "http", "3000", "--name", "Not A Name"), ("tunnel-edge", "--domain", "not a name"),
    ("tunnel-edge", "--listen", "nonsense"), ("tunnelstack", "doctor", "--edge", "ftp://a.example"),
)  # fmt: skip


def stream(connection: socket.socket) -> None:
    """
    Send without an end.
    """
    while True:
        connection.sendall(bytes(65_536))


def ends(tunnel: Tunnel) -> bool:
    """
    A reader of C{connect} that has enough, visitors that reset, and an agent that is stopped.

    @return: whether nothing of it is called a failure.
    """
    agent = tunnel.startAgent("tcp", serve(stream), "--remote-port", port := freePort(), name="db")
    connect = f"{BIN / 'tunnelstack'} connect db --dev </dev/null | head -c 1000 >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", connect], env=tunnel.environ, capture_output=True, text=True, timeout=60)
    print("connect:", done.returncode, done.stderr.strip())
    with socket.create_connection(("127.0.0.1", port), 10) as visitor:
        visitor.recv(1)
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    waitUntil(lambda: "has ended" in tunnel.log("edge"))
    agent.terminate()
    agent.wait(60)
    waitUntil(lambda: "disconnected" in tunnel.log("edge"))
    text = tunnel.log("edge") + tunnel.log("db")
    bad = [line for line in text.splitlines() if "non-clean" in line or "cleanly" in line or "Traceback" in line]
    print(*bad, sep="\n")
    return (done.returncode, done.stderr, bad) == (0, "", [])


def main() -> int:
    """
    @return: 0 if all is right.
    """
    with Tunnel() as tunnel:
        good = ends(tunnel)
        for program, *arguments in MISTAKES:
            done = subprocess.run(
                [BIN / program, *arguments], env=tunnel.environ | {"TUNNELSTACK_TOKEN": "t"}, capture_output=True, text=True,
                timeout=60, cwd=os.fspath(tunnel.folder),
            )  # fmt: skip
            print(program, *arguments, done.returncode, done.stderr.strip().replace("\n", " | "))
            good = good and done.returncode == 64 and "Traceback" not in done.stderr
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

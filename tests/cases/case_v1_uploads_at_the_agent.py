"""
Uploads of 8 MB to a local server that begins to read after ten seconds, sixty at a time.

Kind: as in C{case_v1_stalled_visitors}, at the other end of the tunnel: the agent reset uploads of honest visitors because
together they hold more than one session's budget.  Right: every upload is answered with 200.
"""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import sys
import threading
import time

from tests.cases.tunnel import Tunnel, readHead

UPLOADS = 60
BODY = 8_000_000
WAIT = 10.0


def slowServer() -> int:
    """
    Start a server that reads a request's body C{WAIT} seconds after its head, in small steps.

    @return: its port.
    """
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server.bind(("127.0.0.1", 0))
    server.listen(2 * UPLOADS)

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            left = BODY - len(readHead(connection).partition(b"\r\n\r\n")[2])
            time.sleep(WAIT)
            while left > 0 and (piece := connection.recv(65536)):
                left -= len(piece)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(server.getsockname()[1])


def upload(port: int, statuses: list[bytes]) -> None:
    """
    Upload a body; the status line that came, or what happened instead, goes to C{statuses}.
    """
    head = b"POST / HTTP/1.1\r\nHost: upl.localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % BODY
    try:
        with socket.create_connection(("127.0.0.1", port), 100) as visitor:
            visitor.sendall(head + bytes(BODY))
            statuses.append(readHead(visitor).partition(b"\r\n")[0])
    except OSError as problem:
        statuses.append(repr(problem).encode())


def main() -> int:
    """
    @return: 0 if every upload was answered with 200 and the agent reset none, 1 otherwise.
    """
    with Tunnel() as tunnel:
        tunnel.startAgent("http", slowServer(), name="upl")
        statuses: list[bytes] = []
        uploads = [threading.Thread(target=upload, args=(tunnel.port, statuses), daemon=True) for _ in range(UPLOADS)]
        for one in uploads:
            one.start()
        for one in uploads:
            one.join(120)
        seen = collections.Counter(statuses)
        resets = sum("octets are held" in tunnel.log(name) for name in ("upl", "edge"))
        print(f"{dict(seen)} (all should be 200), programs that reset streams: {resets}")
    return 0 if seen == {b"HTTP/1.1 200 OK": UPLOADS} and not resets else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)                          # threads of the server may still wait

"""
F05: a server answers 401 before it has read the body; a client that first sends all of its request, for more than five seconds,
reads that response.
"""

from __future__ import annotations

import re
import socket
import sys
import time

from tests.cases.tunnel import Tunnel, readHead, serve, status


def refuse(connection: socket.socket) -> None:
    octets = readHead(connection)
    found = re.search(rb"(?i)content-length: (\d+)", octets)
    if found is None:
        return
    connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nwho")
    left = int(found[1]) - len(octets.partition(b"\r\n\r\n")[2])
    while left > 0 and (piece := connection.recv(65536)):
        left -= len(piece)


def upload(port: int, pieces: int = 80) -> str:
    with socket.create_connection(("127.0.0.1", port), 20) as visitor:
        try:
            head = b"POST / HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: %d\r\n\r\n"
            visitor.sendall(head % (pieces * 100_000))
            for _ in range(pieces):
                visitor.sendall(b"x" * 100_000)
                time.sleep(0.1)
            return status(visitor.recv(9999))
        except OSError as error:
            return str(error)


def main() -> int:
    with Tunnel() as tunnel:
        tunnel.startAgent("http", serve(refuse), name="site")
        seen = upload(tunnel.port)
        print(seen)
        return " 401 " not in seen


if __name__ == "__main__":
    sys.exit(main())

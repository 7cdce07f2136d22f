"""
F06: a server that answers 413 to the head and closes at once is heard every time, although the agent is writing the body.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import Counter

from tests.cases.tunnel import Tunnel, readHead, serve, status

UPLOADS = 200
RESPONSE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BODY = bytes(300_000)


def refuse(connection: socket.socket) -> None:
    if readHead(connection):
        connection.sendall(RESPONSE)


def main() -> int:
    seen = Counter[str]()
    request = b"POST / HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY)
    with Tunnel("[limits]\nconnections_per_second = 0\n") as tunnel:
        tunnel.startAgent("http", serve(refuse), name="site")
        for _ in range(UPLOADS):
            with socket.create_connection(("127.0.0.1", tunnel.port), 10) as visitor:
                with contextlib.suppress(OSError):      # it is answered, and has been closed
                    visitor.sendall(request + BODY)
                seen[status(visitor.recv(4096))] += 1
    print(dict(seen))
    return list(seen) != ["HTTP/1.1 413 Content Too Large"]


if __name__ == "__main__":
    sys.exit(main())

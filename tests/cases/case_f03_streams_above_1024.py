"""
F03: with a larger C{session_streams} at the edge, one agent has more than 1 024 connections at a time.
"""

from __future__ import annotations

import resource
import socket
import sys
from collections import Counter

from tests.cases.tunnel import Tunnel, readHead, serve, status

VISITORS = 1100
TOML = "[limits]\nsession_streams = 3000\nconnections_per_second = 0\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: site.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def upgrade(connection: socket.socket) -> None:
    if readHead(connection):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        connection.recv(1)


def main() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (6000, most))
    with Tunnel(TOML) as tunnel:
        tunnel.startAgent("http", serve(upgrade), name="site")
        held, seen = [], Counter[str]()
        for _ in range(VISITORS):
            visitor = socket.create_connection(("127.0.0.1", tunnel.port), 20)
            held.append(visitor)
            visitor.sendall(UPGRADE)
            seen[status(visitor.recv(2000))] += 1
    print(dict(seen))
    return list(seen) != ["HTTP/1.1 101 Switching Protocols"]


if __name__ == "__main__":
    sys.exit(main())

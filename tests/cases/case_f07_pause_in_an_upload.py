"""
F07: an upload of unknown length that has begun may pause for longer than C{idle_seconds}.
"""

from __future__ import annotations

import socket
import sys
import time

from tests.cases.tunnel import Tunnel, readHead, serve, status

POST = b"POST / HTTP/1.1\r\nHost: site.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def gather(connection: socket.socket) -> None:
    octets = readHead(connection)
    while octets and not octets.endswith(b"0\r\n\r\n") and (piece := connection.recv(65536)):
        octets += piece
    if octets:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def main() -> int:
    with Tunnel("[limits]\nidle_seconds = 2\n") as tunnel:
        tunnel.startAgent("http", serve(gather), name="site")
        with socket.create_connection(("127.0.0.1", tunnel.port), 10) as visitor:
            visitor.sendall(POST + b"3\r\nabc\r\n")
            time.sleep(4)
            try:
                visitor.sendall(b"3\r\ndef\r\n0\r\n\r\n")
                answer = visitor.recv(4096)
            except OSError as error:
                answer = repr(error).encode()
    print(status(answer))
    return b" 200 " not in answer


if __name__ == "__main__":
    sys.exit(main())

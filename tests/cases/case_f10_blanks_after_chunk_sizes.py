"""
F10: blanks after the size of a chunk, before its extension or the end of the line, are read in requests and in responses.
"""

from __future__ import annotations

import socket
import sys

from tests.cases.tunnel import Tunnel, readHead, serve, status

BODIES = {
    b"/plain": b"5\r\nhello\r\n",
    b"/extension": b"5 ;a=b\r\nhello\r\n",
    b"/blanks": b"5   \r\nhello\r\n",
    b"/later": b"5\r\nhello\r\n6  \t\r\n world\r\n",
}


def respond(connection: socket.socket) -> None:
    octets = readHead(connection)
    if octets.startswith(b"POST"):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    elif octets:
        body = BODIES[octets.split(b" ")[1]]
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n")


def main() -> int:
    wrong = 0
    with Tunnel() as tunnel:
        tunnel.startAgent("http", serve(respond), name="site")
        for path, body in BODIES.items():
            answer = tunnel.get("site.localhost", path)
            good = " 200 " in status(answer) and answer.endswith(b"0\r\n\r\n<end>")
            print("response", path.decode(), status(answer), "whole" if good else "not whole")
            head = b"POST / HTTP/1.1\r\nHost: site.localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            answer = tunnel.send(head + body + b"0\r\n\r\n")
            print("request", path.decode(), status(answer))
            wrong += (not good) + (" 200 " not in status(answer))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""
F11: responses that have one reading reach the visitor, although the server is not strict; those that have two are 502.
"""

from __future__ import annotations

import socket
import sys

from tests.cases.tunnel import Tunnel, readHead, serve, status

OK, CHUNKS = b"HTTP/1.1 200 OK\r\n", b"5\r\nhello\r\n0\r\n\r\n"

RESPONSES = {
    b"/strict": OK + b"Content-Length: 5\r\n\r\nhello",
    b"/line-feeds": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    b"/length-twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"/chunks-in-1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    b"/chunks-and-length": OK + b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    b"/line-feeds-in-chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    b"/blank-before-colon": OK + b"Content-Length : 5\r\n\r\nhello",
    b"/folded": OK + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
    b"/two-lengths": OK + b"Content-Length: 5\r\nContent-Length: 3\r\n\r\nhello",
}
REFUSED = {b"/two-lengths"}


def respond(connection: socket.socket) -> None:
    if octets := readHead(connection):
        connection.sendall(RESPONSES[octets.split(b" ")[1]])


def main() -> int:
    wrong = 0
    with Tunnel() as tunnel:
        tunnel.startAgent("http", serve(respond), name="site")
        for path in RESPONSES:
            answer = tunnel.get("site.localhost", path)
            good = b" 502 " in answer if path in REFUSED else b" 200 " in answer and b"hello" in answer
            wrong += not good
            print(f"{'ok   ' if good else 'FAULT'} {path.decode()} {status(answer)}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""
A header of the PROXY protocol without addresses: C{PROXY UNKNOWN}, with or without more in its line, and C{LOCAL} of version 2.

A proxy sends it when it does not know who connected, for instance over a Unix socket.  The connection is served with its own
address, whether the header comes in one piece or in two.
"""

from __future__ import annotations

import re
import socket
import sys
import time

from tests.cases.tunnel import Tunnel, echoHead, serve, status
from tests.ports import freePort

REQUEST = b"GET / HTTP/1.1\r\nHost: site.localhost\r\nConnection: close\r\n\r\n"

HEADERS = {
    "PROXY UNKNOWN": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    "PROXY UNKNOWN and a blank": (b"PROXY UNKNOWN \r\n", "127.0.0.1"),
    "PROXY UNKNOWN and addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", "127.0.0.1"),
    "version 2, LOCAL": (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.1"),
    "PROXY TCP4": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 80\r\n", "192.0.2.1"),
}


def inPieces(port: int, octets: bytes) -> bytes:
    """
    Send the first octet alone.
    """
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(octets[:1])
        time.sleep(0.1)
        try:
            connection.sendall(octets[1:])
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        except OSError:
            return b""
        return answer


def visitor(answer: bytes) -> str:
    """
    The address that the server was told.
    """
    found = re.search(rb"\r\nX-Forwarded-For: ([^\r]*)", answer)
    return found[1].decode() if found and "200" in status(answer) else status(answer)


def main() -> int:
    port, wrong = freePort(), 0
    with Tunnel("", f"haproxy:tcp:{port}:interface=127.0.0.1") as tunnel:
        tunnel.startAgent("http", serve(echoHead), name="site")
        for name, (header, expected) in HEADERS.items():
            seen = [visitor(tunnel.send(header + REQUEST, port)), visitor(inPieces(port, header + REQUEST))]
            print(f"{name}: {seen}")
            wrong += seen != [expected] * 2
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

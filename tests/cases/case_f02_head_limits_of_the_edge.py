"""
F02: what C{[limits]} of the edge allows for heads reaches the server, and what a server answers reaches the visitor.

The agent has no bounds of its own that are smaller, the fields of the edge are not counted, and responses may be as large as
those of usual servers.
"""

from __future__ import annotations

import socket
import sys

from tests.cases.tunnel import Tunnel, readHead, serve, status

RAISED = "[limits]\nhead_octets = 131072\nhead_fields = 400\n"
CLOSE = b"Content-Length: 0\r\nConnection: close\r\n\r\n"
RESPONSES = {b"/fields": b"Set-Cookie: a=b\r\n" * 120, b"/long": b"X-Policy: %b\r\n" % (b"x" * 40_000)}


def respond(connection: socket.socket) -> None:
    if octets := readHead(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + RESPONSES.get(octets.split(b" ")[1], b"") + CLOSE)


def main() -> int:
    port, seen = serve(respond), {}
    with Tunnel(RAISED) as tunnel:
        tunnel.startAgent("http", port, name="site")
        seen["Cookie of 40 000 octets, raised"] = tunnel.get("site.localhost", fields=b"Cookie: %b\r\n" % (b"x" * 40_000))
        seen["150 fields, raised"] = tunnel.get("site.localhost", fields=b"X-A: b\r\n" * 148)
        seen["response of 120 fields"] = tunnel.get("site.localhost", b"/fields")
        seen["response of 40 000 octets"] = tunnel.get("site.localhost", b"/long")
    with Tunnel() as tunnel:
        tunnel.startAgent("http", port, name="site")
        seen["100 fields"] = tunnel.get("site.localhost", fields=b"X-A: b\r\n" * 98)
    for what, answer in seen.items():
        print(f"{what}: {status(answer)}")
    return any(" 200 " not in status(answer) for answer in seen.values())


if __name__ == "__main__":
    sys.exit(main())

"""
F04: a route whose path ends in a slash is found whatever the query contains, and whatever is written below the slash.

Only the path decides.  The query may have percent signs, double slashes, backslashes and dot segments.
"""

from __future__ import annotations

import socket
import sys

from tests.cases.tunnel import Tunnel, readHead, serve, status

TOML = """
[[route]]
host = "www.example.net"
path = "/api/"
to = "api"

[[route]]
host = "www.example.net"
to = "rest"
"""

SERVED = {
    "api": (
        b"/api/", b"/api/?q=1", b"/api/?q=a%20b", b"/api/?next=http://x/", b"/api/?f=/.well-known/x",
        b"/api/x?q=a%20b", b"/api/%2e", b"/api/.", b"/api/x/..", b"/api/?\\", b"/api/?x=/../", b"/api/?;",
        b"/api/a%20b", b"/api//x", b"/api/.well-known/x",
    ),
    "rest": (b"/", b"/api", b"/apis", b"/x?y=/api/", b"/x?y=/../api/", b"/x?%2fapi%2f", b"/?next=//api/"),
}  # fmt: skip


def startOrigin(name: str) -> int:
    """
    A server that answers with its name and the request line.

    @return: its port.
    """

    def handle(connection: socket.socket) -> None:
        line = readHead(connection).partition(b"\r\n")[0]
        body = b"%b: %b" % (name.encode(), line)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))

    return serve(handle)


def main() -> int:
    wrong = 0
    with Tunnel(TOML) as tunnel:
        for name in SERVED:
            tunnel.startAgent("http", startOrigin(name), name=name)
        for name, targets in SERVED.items():
            for target in targets:
                answer = tunnel.get("www.example.net", target)
                good = b"\r\n\r\n%b: GET %b HTTP/1.1<end>" % (name.encode(), target) in answer
                wrong += not good
                print(f"{'ok   ' if good else 'FAULT'} {name} {target.decode()} {status(answer)}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

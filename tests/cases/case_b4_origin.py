"""
A server that compares C{Origin} and C{Referer} with C{Host}, as Tornado and Jupyter do, behind C{--rewrite-host}: with
C{--rewrite-origin} it accepts requests of its own pages, and still rejects those of other sites.
"""

from __future__ import annotations

import re
import socket
import sys

from tests.cases.tunnel import Tunnel, readHead, serve, status

CLOSE = b"Content-Length: 0\r\nConnection: close\r\n\r\n"


def compare(connection: socket.socket) -> None:
    """
    Answer 403 if an origin is not that of the C{Host}.
    """
    head = readHead(connection)
    host = re.search(rb"(?im)^host: *(.*?)\r$", head)
    origins = re.findall(rb"(?im)^(?:origin|referer): *(?:https?://)?([^/\r]*)", head)
    same = host is not None and host[1].startswith(b"localhost:") and all(origin == host[1] for origin in origins)
    connection.sendall((b"HTTP/1.1 200 OK\r\n" if same else b"HTTP/1.1 403 Forbidden\r\n") + CLOSE)


def main() -> int:
    """
    @return: 0 if exactly the requests of other sites are rejected.
    """
    port, good = serve(compare), True
    with Tunnel() as tunnel:
        rewrite = ("--rewrite-host", f"localhost:{port}")
        tunnel.startAgent("http", port, *rewrite, name="plain")
        tunnel.startAgent("http", port, *rewrite, "--rewrite-origin", name="site")
        for name, origin, wanted in (
            ("site", "http://{host}", " 200 "), ("site", "http://evil.example", " 403 "), ("site", "null", " 403 "),
            ("site", "https://{host}", " 403 "), ("plain", "http://{host}", " 403 "),
        ):  # fmt: skip
            host = f"{name}.localhost:{tunnel.port}"
            for field in ("Origin: %s\r\n", "Referer: %s/a?b\r\n"):
                line = field % origin.format(host=host)
                answer = status(tunnel.get(host, fields=line.encode()))
                print(f"{name}, {line.strip()}: {answer}")
                good = good and wanted in answer
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

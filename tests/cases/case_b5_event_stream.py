"""
B5: the request of an C{EventSource} waits while the agent of its service starts again; others are 503 at once.
"""

from __future__ import annotations

import socket
import sys

from tests.cases.tunnel import Tunnel, echoHead, serve, status

EVENTS = b"GET / HTTP/1.1\r\nHost: site.localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"


def main() -> int:
    port = serve(echoHead)
    with Tunnel() as tunnel:
        agent = tunnel.startAgent("http", port, name="site")
        agent.terminate()
        agent.wait(30)
        other = tunnel.get("site.localhost")
        with socket.create_connection(("127.0.0.1", tunnel.port), 20) as visitor:
            visitor.sendall(EVENTS)
            tunnel.start("again", "tunnel-agent", "--dev", "http", str(port), "--name", "site")
            answer = visitor.recv(4096)
    print(status(other), status(answer))
    return b" 503 " not in other or b" 200 " not in answer


if __name__ == "__main__":
    sys.exit(main())

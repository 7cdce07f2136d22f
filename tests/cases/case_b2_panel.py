"""
B2: the panel of an agent with 14 services fits into a window of 15 rows, follows its size, lists a WebSocket while it is open,
and marks what it cuts.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time

from tests.cases.tunnel import BIN, Tunnel, readHead, serve, waitUntil
from tests.terminal import TerminalWindow

ROWS, COLUMNS = 15, 80


def check(what: str, good: object) -> int:
    print(what, "->", "good" if good else "WRONG")
    return not good


def origin(connection: socket.socket) -> None:
    octets = readHead(connection)
    if b"Upgrade" in octets:
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        with contextlib.suppress(OSError):
            connection.recv(1)
    elif octets:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def main() -> int:
    wrong = 0
    with Tunnel() as tunnel:
        port = serve(origin)
        config = tunnel.folder / "agent.toml"
        config.write_text("".join(f'[[service]]\nname = "site-{n}"\ntarget = "{port}"\n' for n in range(14)))
        environ = tunnel.environ | {
            "TUNNELSTACK_EDGE": f"http://localhost:{tunnel.port}", "TUNNELSTACK_TOKEN": tunnel.token, "COLUMNS": "200",
        }
        command = [str(BIN / "tunnel-agent"), "--config", str(config), "start"]
        window = TerminalWindow(command, environ, str(tunnel.folder), ROWS, COLUMNS)
        wrong += check("the panel is there", waitUntil(lambda: "http://site-0" in window.text(), 10))
        for number in range(20):
            tunnel.get("site-0.localhost", b"/" + b"x" * 200 + b"%d" % number)
            time.sleep(0.15)
        wrong += check("nothing has left the window", not window.screen.scrollback)
        wrong += check("what is cut is marked", "xx\N{HORIZONTAL ELLIPSIS} " in window.text())
        visitor = socket.create_connection(("127.0.0.1", tunnel.port))
        visitor.sendall(
            b"GET /open HTTP/1.1\r\nHost: site-1.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        listed = waitUntil(lambda: "/open" in window.text() and "open 2 s" in window.text(), 8)
        wrong += check("the WebSocket is listed", listed)
        print(window.text())
        window.resize(ROWS + 10, 40)
        narrow = waitUntil(lambda: all(len(line) < 40 for line in window.text().split("\n")), 3)
        time.sleep(0.5)
        lines = window.text().split("\n")
        wrong += check("a narrow window is drawn anew", narrow and sum(line.startswith("session") for line in lines) == 1)
        print(window.text())
        visitor.close()
        wrong += check("and not listed any more", waitUntil(lambda: "  open " not in window.text(), 8))
        window.drop()
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

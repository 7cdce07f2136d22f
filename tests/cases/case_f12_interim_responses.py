"""
F12: a server that sends C{102 Processing} every second while it works is waited for longer than C{first_octet_seconds}, and may
send more than 32 of them.
"""

from __future__ import annotations

import socket
import sys
import time

from tests.cases.tunnel import Tunnel, readHead, serve


def slow(connection: socket.socket) -> None:
    if readHead(connection):
        for _ in range(60):
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
            time.sleep(0.1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone")


def main() -> int:
    with Tunnel() as tunnel:
        (tunnel.folder / "token").write_text(tunnel.token)
        (tunnel.folder / "agent.toml").write_text(
            f'[[edge]]\nurl = "http://127.0.0.1:{tunnel.port}"\ntoken_file = "{tunnel.folder}/token"\n'
            f'[[service]]\nname = "slow"\ntarget = "{serve(slow)}"\nfirst_octet_seconds = 3\n'
        )
        tunnel.start("slow", "tunnel-agent", "--config", str(tunnel.folder / "agent.toml"), "start")
        tunnel.waitForLog("slow", " -> ")
        answer = tunnel.get("slow.localhost", seconds=15)
        interim = answer.count(b"HTTP/1.1 102 ")
        print(f"{interim} interim responses, then {answer[-60:]!r}")
        return not (interim == 60 and answer.endswith(b"done<end>"))


if __name__ == "__main__":
    sys.exit(main())

"""
Transfers over a link that lets 60 kB/s through, in either direction, with all defaults; beside each, small requests.

Kind: what a sender hands down cannot be overtaken.  Megabytes in the kernel's buffer mean minutes on a slow link, in which a
ping, its answer, credit and small streams wait: the session was closed after 38 seconds because the ping itself stood in line.
Right: a transfer that goes on for longer than a ping and its time-out is whole, and a small request beside it waits for what
the network holds (256 KiB here, hence 4.4 s), and about a second more.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

from tests.cases.relay import SlowRelay
from tests.cases.tunnel import Tunnel, readHead, serve

RATE, SIZE = 60_000, 4_200_000
MOST = 7.0
"""Seconds that a small request may take beside bulk."""


def answer(connection: socket.socket) -> None:
    """
    Serve C{/bulk} with C{SIZE} octets, and read as many that are sent to C{/upload}; anything else is small.
    """
    head = readHead(connection)
    if head.startswith(b"GET /bulk"):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(SIZE))
        return
    if head.startswith(b"POST"):
        got = len(head) - head.index(b"\r\n\r\n") - 4
        while got < SIZE and (piece := connection.recv(65536)):
            got += len(piece)
        if got < SIZE:
            return
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhole")


def main() -> int:
    """
    @return: 0 if both transfers are whole and small requests are quick, 1 otherwise.
    """
    bad = False
    with Tunnel() as tunnel:
        port = serve(answer)
        for name, upward in (("down", True), ("up", False)):
            relay = SlowRelay(tunnel.port, RATE, upward)
            tunnel.start(
                name, "tunnel-agent", "http", str(port), "--name", name,
                TUNNELSTACK_TOKEN=tunnel.token, TUNNELSTACK_EDGE=f"http://127.0.0.1:{relay.port}",
            )  # fmt: skip
            tunnel.waitForLog(name, " -> ")
        answers: dict[str, bytes] = {}
        small: dict[str, list[float]] = {"down": [], "up": []}

        def transfer(name: str) -> None:
            if name == "down":
                answers[name] = tunnel.get("down.localhost", b"/bulk", seconds=30)
            else:
                head = b"POST /upload HTTP/1.1\r\nHost: up.localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % SIZE
                answers[name] = tunnel.send(head + bytes(SIZE), seconds=120)

        def ask(name: str) -> None:
            while name not in answers:
                began = time.monotonic()
                if b"whole" in tunnel.get(f"{name}.localhost", seconds=30):
                    small[name].append(time.monotonic() - began)
                time.sleep(1)

        began = time.monotonic()
        threads = [threading.Thread(target=call, args=(name,)) for name in small for call in (transfer, ask)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"after {time.monotonic() - began:.0f} s:")
        for name, whole in (("down", len(answers["down"]) > SIZE), ("up", b"whole" in answers["up"])):
            lost = [line for line in tunnel.log(name).splitlines() if "lost" in line]
            slowest = max(small[name], default=999.0)
            right = whole and not lost and slowest < MOST
            bad |= not right
            print(
                f"{name}: {'whole' if whole else 'cut'}, {lost[:1]}, {len(small[name])} small requests, the slowest took "
                f"{slowest:.1f} s: {'right' if right else 'FAULT'}"
            )
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())

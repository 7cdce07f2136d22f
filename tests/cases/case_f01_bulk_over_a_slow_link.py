"""
Transfers over a link that lets 60 kB/s through, in either direction, with all defaults; beside some of them, small requests.

Kind: what a sender hands down cannot be overtaken.  Megabytes in the kernel's buffer mean minutes on a slow link, in which a
ping, its answer, credit and small streams wait: the session was closed after 38 seconds because the ping itself stood in line.
Right: a transfer that goes on for longer than a ping and its time-out is whole, and a small request beside it waits for what
the network holds (256 KiB here, hence 4.4 s), and about a second more.

A transfer alone is another matter than one beside requests: what these bring to the agent are signs of life.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

from tests.cases.relay import SlowRelay
from tests.cases.tunnel import Tunnel, readHead, serve

RATE, SIZE = 60_000, 5_400_000
MOST = 7.0
"""Seconds that a small request may take beside bulk."""

AGENTS = {"down": False, "up": False, "down-beside": True, "up-beside": True}
"""The name of each agent has the direction of its transfer; whether there are small requests beside it."""


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


def start(tunnel: Tunnel, name: str, port: int) -> None:
    """
    Start an agent whose way to the edge is slow in the direction of its transfer.
    """
    relay = SlowRelay(tunnel.port, RATE, upward=name.startswith("down"), downward=name.startswith("up"))
    tunnel.start(
        name, "tunnel-agent", "http", str(port), "--name", name,
        TUNNELSTACK_TOKEN=tunnel.token, TUNNELSTACK_EDGE=f"http://127.0.0.1:{relay.port}",
    )  # fmt: skip
    tunnel.waitForLog(name, " -> ")


def transfer(tunnel: Tunnel, name: str, answers: dict[str, bytes]) -> None:
    """
    Download or upload C{SIZE} octets; the response goes to C{answers}.
    """
    if name.startswith("down"):
        answers[name] = tunnel.get(f"{name}.localhost", b"/bulk", seconds=30)
    else:
        head = b"POST /upload HTTP/1.1\r\nHost: %b.localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        answers[name] = tunnel.send(head % (name.encode(), SIZE) + bytes(SIZE), seconds=150)


def ask(tunnel: Tunnel, name: str, answers: dict[str, bytes], seconds: list[float]) -> None:
    """
    Send small requests until the transfer has ended; how long each takes goes to C{seconds}.
    """
    while name not in answers:
        began = time.monotonic()
        if b"whole" in tunnel.get(f"{name}.localhost", seconds=30):
            seconds.append(time.monotonic() - began)
        time.sleep(1)


def main() -> int:
    """
    @return: 0 if all transfers are whole and small requests are quick, 1 otherwise.
    """
    bad = False
    with Tunnel() as tunnel:
        port = serve(answer)
        answers: dict[str, bytes] = {}
        small: dict[str, list[float]] = {name: [] for name in AGENTS}
        threads = []
        for name, beside in AGENTS.items():
            start(tunnel, name, port)
            threads.append(threading.Thread(target=transfer, args=(tunnel, name, answers)))
            if beside:
                threads.append(threading.Thread(target=ask, args=(tunnel, name, answers, small[name])))
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"after {time.monotonic() - began:.0f} s:")
        for name, beside in AGENTS.items():
            whole = len(answers[name]) > SIZE if name.startswith("down") else b"whole" in answers[name]
            lost = [line for line in tunnel.log(name).splitlines() if "lost" in line]
            slowest = max(small[name], default=999.0 if beside else 0.0)
            right = whole and not lost and slowest < MOST
            bad |= not right
            print(
                f"{name}: {'whole' if whole else 'cut'}, {lost[:1]}, {len(small[name])} small requests, the slowest took "
                f"{slowest:.1f} s: {'right' if right else 'FAULT'}"
            )
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())

"""
Visitors that do not read, beside others of the same agent that read at 8 MB/s.

Kind: whoever holds most was taken for whoever stands still.  A reader that is slower than its agent always holds a window of
payload, so it was reset for the sake of those that read nothing.  Right: no stream is reset while the process is within its
limit, a reader beside stalled ones is as fast as without them, and 1 000 stalled visitors in one session cost the edge 300 MiB
at most.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
import time

from tests.cases.tunnel import Tunnel, readHead, serve
from tests.system.house import memory

BODY = 48_000_000
RATE = 8_000_000
STALLED = (0, 1, 4, 60, 1000)
READERS = 2
FEW = 8
MOST = 300 * 1024 * 1024
SLOWEST = 0.8
"""The part of a reader's speed without stalled visitors that it has at least beside them."""


def send(connection: socket.socket) -> None:
    """
    Answer a request with C{BODY} octets.  The kernel would keep megabytes of each answer, and slow down every connection of
    the machine when they are too many; so it may keep little for C{/many}.
    """
    head = readHead(connection)
    if head.startswith(b"GET /many"):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    if head:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY)
        piece = bytes(1_000_000)
        for _ in range(BODY // len(piece)):
            connection.sendall(piece)


def ask(port: int, target: bytes = b"/", buffer: int = 0) -> socket.socket:
    """
    A visitor that has asked for the body.
    """
    visitor = socket.socket()
    if buffer:
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    visitor.settimeout(20)
    visitor.connect(("127.0.0.1", port))
    visitor.sendall(b"GET %b HTTP/1.1\r\nHost: site.localhost\r\n\r\n" % target)
    return visitor


def read(port: int, speeds: list[float]) -> None:
    """
    Read the body at C{RATE} octets a second; its speed goes to C{speeds}, C{0} if it ends too soon.
    """
    began, got = time.monotonic(), 0
    with ask(port) as visitor:
        readHead(visitor)
        try:
            while got < BODY * 99 // 100 and (piece := visitor.recv(65536)):
                got += len(piece)
                time.sleep(max(0.0, began + got / RATE - time.monotonic()))
        except OSError:
            pass
    speeds.append(got / (time.monotonic() - began) if got >= BODY * 99 // 100 else 0.0)


def main() -> int:
    """
    @return: 0 if every reader was served at its speed and within the memory, 1 otherwise.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    bad, usual = 0, 0.0
    with Tunnel("[limits]\nvisitors = 2000\n") as tunnel:
        tunnel.startAgent("http", serve(send), name="site")
        before = memory(tunnel.edge.pid)
        for stalled in STALLED:
            visitors = [ask(tunnel.port, b"/many" if stalled > FEW else b"/", 4096) for _ in range(stalled)]
            time.sleep(1.5 + stalled / 250)
            speeds: list[float] = []
            readers = [threading.Thread(target=read, args=(tunnel.port, speeds)) for _ in range(READERS)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
            grown = memory(tunnel.edge.pid) - before
            usual = usual or min(speeds)
            right = min(speeds) >= SLOWEST * usual > 0 and grown <= MOST
            bad += not right
            print(
                f"{stalled} stalled visitors: {', '.join(f'{speed / 1e6:.1f} MB/s' for speed in speeds)}, "
                f"{grown // 1024 // 1024} MiB more: {'right' if right else 'FAULT'}", flush=True,
            )
            for visitor in visitors:
                visitor.close()
        resets = sum("octets are held" in line for line in tunnel.log("edge").splitlines())
        print(f"lines of the edge about resets: {resets}")
    return 1 if bad or resets else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)                          # threads of the server may still wait for a visitor

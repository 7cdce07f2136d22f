"""
A relay that lets octets through slowly: what a mobile or DSL uplink is to TCP.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

PIECE = 4096


class SlowRelay:
    """
    Accepts connections on a free port and connects each to another port.

    Its receive buffer holds 256 KiB, as the queue of a cheap router, and its segments have the size of a real network's: those
    of loopback are 64 KiB.

    @ivar port: where it listens.
    """

    def __init__(self, target: int, rate: float, upward: bool = False, downward: bool = False, buffer: int = 131072) -> None:
        """
        @param target: a port on loopback.
        @param rate: octets a second.
        @param upward: whether the direction to the target is slow;
        @param downward: and the other one.
        @param buffer: octets of the receive buffer; Linux doubles them.
        """
        self._target = target
        self._rate = rate
        self._upward, self._downward = upward, downward
        self._buffer = buffer
        self._door = socket.socket()
        self._slow(self._door)
        self._door.bind(("127.0.0.1", 0))
        self._door.listen(4)
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _slow(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)

    def _accept(self) -> None:
        while True:
            near, _ = self._door.accept()
            far = socket.socket()
            self._slow(far)
            far.connect(("127.0.0.1", self._target))
            for source, sink, slow in ((near, far, self._upward), (far, near, self._downward)):
                threading.Thread(target=self._copy, args=(source, sink, slow), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        due = time.monotonic()
        with suppress(OSError):
            while piece := source.recv(PIECE):
                if slow:
                    due = max(due, time.monotonic()) + len(piece) / self._rate
                    time.sleep(max(0.0, due - time.monotonic()))
                sink.sendall(piece)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

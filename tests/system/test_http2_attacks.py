"""
Raw frames of HTTP/2 against the public port of a whole edge: what an attack costs its process, and what other visitors notice.

Each attack is sent until the edge closes the connection, ten times in a row.  The edge answers by GOAWAY with
ENHANCE_YOUR_CALM, or by a reset of the streams; what it has spent of processor time and kept of memory afterwards is bounded,
and a visitor beside it is served.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from hpack import Encoder

from tests.system.house import memory
from tests.system.test_http2 import HTTP2Case
from tests.system.test_visitors import HOST
from tests.transport.http2 import frame
from tunnelstack.wire.http2 import frames
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.frames import END_HEADERS, END_STREAM
from tunnelstack.wire.http2.preface import PREFACE

ROUNDS = 10
"""Connections, one after the other, that make the attack."""

MOST_OCTETS = 4 * 1024 * 1024
"""What an attacker sends on one connection at most, if nobody stops it."""

SECONDS = 3.0
"""Processor time of all rounds of an attack; a flood that were not noticed would take several times as long."""

KEPT = 8 * 1024 * 1024
"""Octets of memory that may be kept after an attack."""


def processorTime(pid: int) -> float:
    """
    @return: seconds of processor time, user and system.
    """
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def fields(*more: tuple[str, str], method: str = "GET") -> bytes:
    """
    @return: the block of fields of a request.
    """
    block: bytes = Encoder().encode(
        [(":method", method), (":scheme", "http"), (":authority", HOST), (":path", "/"), *more]
    )
    return block


def request(stream: int, *more: tuple[str, str], flags: int = END_HEADERS | END_STREAM, method: str = "GET") -> bytes:
    return frame(frames.HEADERS, flags, stream, fields(*more, method=method))


def streams() -> Iterator[int]:
    return iter(range(1, 1 << 31, 2))


def rapidReset() -> Iterator[bytes]:
    """
    CVE-2023-44487.
    """
    return (request(stream) + frame(frames.RST_STREAM, 0, stream, (8).to_bytes(4, "big")) for stream in streams())


def madeYouReset() -> Iterator[bytes]:
    """
    CVE-2025-8671.
    """
    return (request(stream) + frame(frames.WINDOW_UPDATE, 0, stream, bytes(4)) for stream in streams())


def malformed() -> Iterator[bytes]:
    return (request(stream, ("connection", "close")) for stream in streams())


def forever(*octets: bytes) -> Callable[[], Iterator[bytes]]:
    """
    @return: some octets once, and the last of them again and again.
    """

    def attack() -> Iterator[bytes]:
        yield from octets
        while True:
            yield octets[-1]

    return attack


EMPTY = forever(request(1, flags=END_HEADERS, method="POST"), frame(frames.DATA, 0, 1))
CONTINUATION = forever(
    frame(frames.HEADERS, 0, 1, fields()), frame(frames.CONTINUATION, 0, 1, Encoder().encode([("x-a", "b" * 100)])),
)
BOMB = forever(
    *(request(stream, ("x-large", "a" * 4000)) for stream in (1,)),
    frame(frames.HEADERS, END_HEADERS | END_STREAM, 3, fields() + b"\xbe" * 16_000),
)
ATTACKS: dict[str, Callable[[], Iterator[bytes]]] = {
    "rapid reset": rapidReset,
    "resets that the peer causes": madeYouReset,
    "malformed requests": malformed,
    "pings": forever(frame(frames.PING, 0, 0, bytes(8))),
    "answers to pings": forever(frame(frames.PING, frames.ACK, 0, bytes(8))),
    "settings": forever(frame(frames.SETTINGS, 0, 0, (4).to_bytes(2, "big") + (65_535).to_bytes(4, "big"))),
    "empty frames": EMPTY,
    "window updates": forever(frame(frames.WINDOW_UPDATE, 0, 0, (1).to_bytes(4, "big"))),
    "continuations": CONTINUATION,
    "a bomb of indexed fields": BOMB,
    "priorities": forever(frame(frames.PRIORITY, 0, 1, bytes(4) + b"\x10")),
    "frames of unknown kinds": forever(frame(0x77, 0, 0, bytes(8))),
}


class AttackTests(HTTP2Case):
    """
    The attacks, one after the other, against the same edge.
    """

    timeout = 300

    def attack(self, octets: Iterator[bytes]) -> bytes:
        """
        Send until the edge closes the connection.

        @return: what it has sent.
        """
        received = b""
        with socket.create_connection(("127.0.0.1", self.house.ports["http"]), timeout=30) as attacker:
            attacker.sendall(PREFACE + frame(frames.SETTINGS, 0, 0))
            try:
                sent = 0
                while sent < MOST_OCTETS and (piece := b"".join(islice(octets, 100))):
                    attacker.sendall(piece)
                    sent += len(piece)
                self.assertLess(sent, MOST_OCTETS, "the edge has taken all of it")
            except OSError:                    # closed by the edge while there was more
                pass
            try:
                while data := attacker.recv(65_536):
                    received += data
            except OSError:
                pass
        return received

    def test_anAttackCostsLittleAndOthersAreServed(self) -> None:
        calm = int(ErrorCode.ENHANCE_YOUR_CALM).to_bytes(4, "big")
        pid = self.house.edge.process.pid
        for name, attack in ATTACKS.items():
            self.attack(attack())              # what is allocated once does not count
            time, kept = processorTime(pid), memory(pid)
            answers = [self.attack(attack()) for _ in range(ROUNDS)]
            self.assertLess(processorTime(pid) - time, SECONDS, name)
            self.assertLess(memory(pid) - kept, KEPT, name)
            self.assertTrue(all(calm in answer or not answer for answer in answers), name)
            self.assertEqual(self.served(), 200, name)

    def served(self) -> int:
        """
        @return: the status of a request of another visitor.
        """
        with self.house.connect() as visitor:
            visitor.say(b"GET /head HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % HOST.encode())
            return int(visitor.until(b"\r\n").split()[1])

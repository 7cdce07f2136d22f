"""
An edge, or what answers in its place, chooses texts that the agent prints: the reasons of C{withdrawn} and C{ended}, of
a denied name, of a closed WebSocket, the URL of a grant, the body and status line of a refusal.  None of them may bring a
control or format character to the terminal, or a line of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.cases.tunnel import BIN, readHead, waitUntil

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u200b\nsite      http://bank.example -> forged"
FORGED = "site      http://bank"
AGREED = b"\x13/multistream/1.0.0\n" + b"\x1b/tunnelstack/control/1.0.0\n"
WELCOME = {"event": "welcome", "agent": EVIL, "session": "00", "limits": {"line": 16384, "streams": 1024}}
GRANT = {"id": 1, "ok": True, "grant": {"url": "http://site/", "host": "site", "port": 80}}
SERVICE = {"name": "site", "kind": "http"}


def frame(octets: bytes, opcode: int = 2) -> bytes:
    """
    A WebSocket frame of a server.
    """
    length = len(octets)
    return bytes([0x80 | opcode]) + (bytes([length]) if length < 126 else struct.pack(">BH", 126, length)) + octets


def data(*lines: object) -> bytes:
    """
    Lines of the control stream, which is stream 2 of the agent's session.
    """
    octets = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    return frame(struct.pack(">BBHII", 0, 0, 0, 2, len(octets)) + octets)


def upgrade(connection: socket.socket) -> None:
    """
    Answer a handshake, and agree on the control stream.
    """
    head = readHead(connection)
    found = re.search(rb"(?i)Sec-WebSocket-Key: (\S+)", head)
    assert found is not None
    accept = base64.b64encode(hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Admission: " + accept
        + b"\r\nSec-WebSocket-Protocol: tunnelstack.v1\r\n\r\n"
    )  # fmt: skip
    connection.sendall(frame(struct.pack(">BBHII", 0, 1, 2, 2, 0)) + data(AGREED))


def refused(status: bytes, body: bytes) -> bytes:
    """
    An answer that refuses the upgrade.
    """
    return b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


REFUSALS = {
    "403": refused(b"403 Forbidden", EVIL.encode()),
    "404": refused(b"404 \x1b]0;owned\x07", EVIL.encode()),
    "503": refused(b"503 \x1b]0;owned\x07", EVIL.encode()),
    "another protocol": b"\x1b]0;owned\x07\r\nsite      http://bank.example\r\n\r\n",
    "another accept": b"HTTP/1.1 101 S\r\nUpgrade: \x1b]0;owned\x07\r\nConnection: \x1b[2J\r\n\r\n",
}
EVENTS = {
    "withdrawn": data(WELCOME, GRANT, {"event": "withdrawn", "service": SERVICE, "code": "taken", "reason": EVIL}),
    "ended": data(WELCOME, GRANT, {"event": "ended", "code": EVIL, "reason": EVIL}),
    "replaced": data(WELCOME, GRANT, {"event": "ended", "code": "replaced", "reason": EVIL}),
    "ended first": data({"event": "ended", "code": EVIL, "reason": EVIL}),
    "denied": data(WELCOME, {"id": 1, "ok": False, "code": EVIL, "reason": EVIL}),
    "url": data(WELCOME, {"id": 1, "ok": True, "grant": {"url": EVIL, "host": EVIL, "port": 80}}),
    "close": data(WELCOME, GRANT) + frame(struct.pack(">H", 4000) + EVIL.encode()[:60], 8),
    "not a message": data(WELCOME, {EVIL: EVIL}),
}
"""What an edge sends, each to an agent of its own."""


def answer(connection: socket.socket, what: str) -> None:
    """
    Send what is called C{what}, which needs a session or is instead of one.
    """
    if what in EVENTS:
        upgrade(connection)
        connection.sendall(EVENTS[what])
    else:
        readHead(connection)
        connection.sendall(REFUSALS[what])
        connection.close()


def printed(what: str) -> str:
    """
    What an agent prints to which its edge sends what is called C{what}.
    """
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as folder:
        server.settimeout(20)
        log = Path(folder, "log")
        with open(log, "wb") as out:
            agent = subprocess.Popen(
                [BIN / "tunnel-agent", "--log-format", "text", "--edge", f"http://127.0.0.1:{server.getsockname()[1]}", "http",
                 "3000", "--name", "site"], stdout=out, stderr=out,
                env=os.environ | {"STATE_DIRECTORY": folder, "TUNNELSTACK_TOKEN": "ts_00000000_" + "a" * 43},
            )  # fmt: skip
        try:
            connection, _ = server.accept()
            with connection:
                answer(connection, what)
                waitUntil(lambda: agent.poll() is not None or b"owned" in log.read_bytes(), 2)
                time.sleep(0.1)
        finally:
            agent.terminate()
            agent.wait(30)
        return log.read_bytes().decode("utf-8", "replace")


def wrong(text: str) -> list[str]:
    """
    The lines that hold what they must not.
    """
    return [line for line in text.split("\n") if not line.isprintable() or line.startswith(FORGED)]


def main() -> int:
    """
    @return: 0 if nothing was wrong.
    """
    faults = 0
    for what in (*EVENTS, *REFUSALS):
        text = printed(what)
        lines = wrong(text)
        faults += bool(lines)
        print(f"{what}: {'printed ' + ascii(lines) if lines else 'good'}: {ascii(text)[-300:]}")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())

"""
One visitor has one text, whichever version of the PROXY protocol a proxy speaks and however it writes the address: in the
fields for the server and in the access log.
"""

from __future__ import annotations

import re
import socket
import struct
import sys

from tests.cases.tunnel import Tunnel, echoHead, serve, waitUntil
from tests.ports import freePort

REQUEST = b"GET /%d HTTP/1.1\r\nHost: site.localhost\r\nConnection: close\r\n\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def one(family: str, address: str) -> bytes:
    """
    A header of version 1.
    """
    return f"PROXY {family} {address} {address} 1111 80\r\n".encode()


def two(address: str) -> bytes:
    """
    A header of version 2.
    """
    family, kind = (socket.AF_INET6, 0x21) if ":" in address else (socket.AF_INET, 0x11)
    addresses = socket.inet_pton(family, address) * 2 + struct.pack("!HH", 1111, 80)
    return SIGNATURE + bytes([0x21, kind]) + struct.pack("!H", len(addresses)) + addresses


HEADERS = [
    (one("TCP6", "2001:db8::7"), "2001:db8::7"), (one("TCP6", "2001:0DB8:0:0:0:0:0:7"), "2001:db8::7"),
    (two("2001:db8::7"), "2001:db8::7"),
    (one("TCP4", "192.0.2.1"), "192.0.2.1"), (two("192.0.2.1"), "192.0.2.1"),
    (one("TCP6", "::ffff:192.0.2.1"), "192.0.2.1"), (two("::ffff:192.0.2.1"), "192.0.2.1"),
]  # fmt: skip


def main() -> int:
    port, wrong = freePort(), 0
    with Tunnel("", f"haproxy:tcp:{port}:interface=127.0.0.1") as tunnel:
        tunnel.startAgent("http", serve(echoHead), name="site")
        for number, (header, expected) in enumerate(HEADERS):
            answer = tunnel.send(header + REQUEST % number, port)
            found = re.search(rb"\r\nX-Forwarded-For: ([^\r]*)", answer)
            seen = found[1].decode() if found else answer.decode("latin-1")
            logged = rf'"target": "/{number}", .*"visitor": "{re.escape(expected)}"'
            inLog = waitUntil(lambda logged=logged: re.search(logged, tunnel.log("edge")), 3)
            print(f"{header!r}: {seen}, in the log: {inLog}")
            wrong += seen != expected or not inLog
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

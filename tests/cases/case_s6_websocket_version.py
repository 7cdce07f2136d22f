"""
S6: the edge's doors for agents accept version 13 of the WebSocket protocol and no other (RFC 6455, section 4.4).

Any other version is answered with 426 and the version that is supported.
"""

from __future__ import annotations

import socket
import sys

from tests.cases.tunnel import Tunnel, readHead, status

REQUEST = (
    "GET /_tunnel/1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n"
    "Sec-WebSocket-Protocol: tunnelstack.v1\r\nAuthorization: Bearer {token}\r\n\r\n"
)


def main() -> int:
    wrong = 0
    with Tunnel() as tunnel:
        for version in ("8", "7", "0", "14", "x", "13"):
            with socket.create_connection(("127.0.0.1", tunnel.port), 30) as connection:
                connection.sendall(REQUEST.format(version=version, token=tunnel.token).encode())
                answer = readHead(connection)
            head = answer.partition(b"\r\n\r\n")[0]
            right = status(answer).split(" ")[1:2] == ["101" if version == "13" else "426"]
            if version != "13":
                right = right and b"\r\nSec-WebSocket-Version: 13" in head
            wrong += not right
            print(f"{'ok   ' if right else 'FAULT'} version {version}: {status(answer)}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

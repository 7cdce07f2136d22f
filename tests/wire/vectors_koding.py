"""
Golden octets of koding/tunnel, recorded between its own server and its own client: koding/tunnel at 35a8b95662bf with
hashicorp/yamux v0.1.2, built by Go 1.19.8.  The identifier is C{1234}, the host C{app.test}.
"""

from __future__ import annotations

SERVER, CLIENT = "S>C", "C>S"

IDENTIFIER, HOST = "1234", "app.test"

#: Before the session, as octets.
CONNECT = (
    b"CONNECT /_controlPath/ HTTP/1.1\r\nHost: 127.0.0.1:7002\r\nUser-Agent: Go-http-client/1.1\r\n"
    b"X-Ktunnel-Identifier: 1234\r\n\r\n"
)
ANSWER = bytes.fromhex("485454502f312e312032303020436f6e6e656374656420746f2054756e6e656c0a0a")

#: The beginning of every session.
HANDSHAKE = [
    (CLIENT, "000100010000000100000000"),
    (CLIENT, "000000000000000100000010636f6e74726f6c48616e647368616b65"),
    (SERVER, "000100020000000100000000"),
    (SERVER, "000000000000000100000009636f6e74726f6c4f6b"),
]

CONTROL_HTTP = (
    "0000000000000001000000317b22616374696f6e223a312c227472616e73706f727450726f746f636f6c223a312c22"
    "6c6f63616c506f7274223a307d0a"
)
REQUEST = b"GET /hi?x=1 HTTP/1.1\r\nHost: app.test\r\nUser-Agent: Go-http-client/1.1\r\nX-Foo: bar\r\n\r\n"
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nhello"
)


def data(stream: int, octets: bytes) -> str:
    """
    A frame of data.
    """
    return f"00000000{stream:08x}{len(octets):08x}{octets.hex()}"


def window(stream: int, flags: int) -> str:
    """
    A window update of nothing, for its flags: 1 SYN, 2 ACK, 4 FIN.
    """
    return f"0001{flags:04x}{stream:08x}00000000"


def control(transport: int, port: int) -> str:
    """
    A control message as recorded.
    """
    return data(1, b'{"action":1,"transportProtocol":%d,"localPort":%d}\n' % (transport, port))


CHUNKED_HEAD = (
    b"POST /up HTTP/1.1\r\nHost: App.Test:8080\r\nUser-Agent: curl/8\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    b"Te: trailers\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
)
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: app.test\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n"
    b"Sec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-Websocket-Version: 13\r\nUpgrade: websocket\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nSec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    b"Upgrade: websocket\r\n\r\n"
)
LATE = bytes.fromhex("81056c61746521")
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 15\r\n\r\nno local server"

#: Conversations after the handshake.
TRANSCRIPTS: dict[str, list[tuple[str, str]]] = {
    "request": [
        (SERVER, CONTROL_HTTP),
        (CLIENT, window(3, 1)),
        (SERVER, window(3, 2)),
        (SERVER, data(3, REQUEST)),
        (CLIENT, data(3, RESPONSE)),
        (SERVER, window(3, 4)),
        (CLIENT, window(3, 4)),
    ],
    "chunked": [
        (SERVER, control(1, 8080)),
        (CLIENT, window(3, 1)),
        (SERVER, window(3, 2)),
        (SERVER, data(3, CHUNKED_HEAD)),
        (SERVER, data(3, b"3\r\nabc\r\n")),
        (SERVER, data(3, b"0\r\n\r\n")),
        (CLIENT, data(3, RESPONSE)),
        (SERVER, window(3, 4)),
        (CLIENT, window(3, 4)),
    ],
    "websocket": [
        (SERVER, control(3, 0)),
        (CLIENT, window(3, 1)),
        (SERVER, window(3, 2)),
        (SERVER, data(3, UPGRADE)),
        (CLIENT, data(3, SWITCHING)),
        (CLIENT, data(3, LATE)),
    ],
    "tcp": [
        (SERVER, control(2, 7005)),
        (CLIENT, window(3, 1)),
        (SERVER, window(3, 2)),
        (SERVER, data(3, b"ping")),
        (CLIENT, data(3, b"ping")),
    ],
    "no local server": [
        (SERVER, control(1, 0)),
        (CLIENT, window(3, 1)),
        (CLIENT, data(3, UNAVAILABLE)),
        (CLIENT, window(3, 4)),
        (SERVER, data(3, REQUEST)),                 # without an acknowledgement, then or ever
        (SERVER, window(3, 4)),
    ],
}

#: What the first of two clients with one identifier receives.
DISPLACED = ["000100040000000100000000", "000300000000000000000000"]

PING, PONG = "000200010000000000000000", "000200020000000000000000"
GO_AWAY = "000300000000000000000000"

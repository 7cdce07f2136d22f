"""
Octets of agentserver: heads, terminal messages, and a recorded session.

The session was recorded between genuine yamux v0.1.2 and genuine nhooyr.io/websocket v1.8.11, driven by a program that was
written after agentserver v0.69.9.  Each line is one binary message of the WebSocket.
"""

from __future__ import annotations

GET = b'{"method":"GET","path":"/","headers":{},"body_len":0}'
GET_HEAD = bytes.fromhex(
    "01000000357b226d6574686f64223a22474554222c2270617468223a222f222c2268656164657273223a7b7d2c22626f64795f6c656e223a307d"
)
OK = b'{"status":200,"headers":{"Content-Type":"text/plain"}}'
OK_HEAD = bytes.fromhex(
    "01000000367b22737461747573223a3230302c2268656164657273223a7b22436f6e74656e742d54797065223a22746578742f706c61696e227d7d"
)
BAD_GATEWAY_HEAD = bytes.fromhex(
    "01000000367b22737461747573223a3530322c2268656164657273223a7b22436f6e74656e742d54797065223a22746578742f706c61696e227d7d"
)

CONTROL_HEAD = bytes.fromhex("0300000000")
TERMINAL_HEAD = bytes.fromhex("0200000000")
LARGEST_PREFIX, TOO_LARGE_PREFIX = bytes.fromhex("0100100000"), bytes.fromhex("0100100001")

TYPED = bytes.fromhex("006c730d")
RESIZED = bytes.fromhex("017b2274797065223a22726573697a65222c22636f6c73223a38302c22726f7773223a32347d")

HEARTBEAT = b'{"agent_version":"agentsdk/1.0","hostname":"h1","os":"linux"}'
HELLO = rb'{"method":"GET","path":"/hello?x=1","headers":{"Accept":"*/*","X-A":"\u003c\u0026\u003e"},"body_len":0}'
POST = b'{"method":"POST","path":"/echo","headers":{"Content-Type":"application/json"},"body_len":7}'

A, S = "agent", "server"

TRANSCRIPT: list[tuple[str, bytes]] = [
    (A, bytes.fromhex("000100010000000100000000")),     # SYN 1
    (A, bytes.fromhex("000000000000000100000005")),
    (A, CONTROL_HEAD),
    (A, bytes.fromhex("00000000000000010000003d")),
    (A, HEARTBEAT),
    (A, bytes.fromhex("000100040000000100000000")),     # FIN 1
    (S, bytes.fromhex("000100020000000100000000")),     # ACK 1
    (S, bytes.fromhex("000100040000000100000000")),     # FIN 1
    (S, bytes.fromhex("000100010000000200000000")),     # SYN 2
    (A, bytes.fromhex("000100020000000200000000")),     # ACK 2
    (S, bytes.fromhex("000000000000000200000005")),
    (S, bytes.fromhex("0100000067")),
    (S, bytes.fromhex("000000000000000200000067")),
    (S, HELLO),
    (A, bytes.fromhex("000000000000000200000005")),
    (A, bytes.fromhex("0100000036")),
    (A, bytes.fromhex("000000000000000200000036")),
    (A, OK),
    (A, bytes.fromhex("000000000000000200000003")),
    (A, b"ok:"),
    (A, bytes.fromhex("000100040000000200000000")),     # FIN 2
    (S, bytes.fromhex("000100040000000200000000")),
    (S, bytes.fromhex("000100010000000400000000")),     # SYN 4
    (S, bytes.fromhex("000000000000000400000005")),
    (S, bytes.fromhex("010000005b")),
    (S, bytes.fromhex("00000000000000040000005b")),
    (S, POST),
    (S, bytes.fromhex("000000000000000400000007")),
    (S, b'{"a":1}'),
    (S, bytes.fromhex("000100010000000600000000")),     # SYN 6
    (S, bytes.fromhex("000000000000000600000005")),
    (S, TERMINAL_HEAD),
    (S, bytes.fromhex("000000000000000600000004")),
    (S, TYPED),
    (S, bytes.fromhex("000000000000000600000026")),
    (S, RESIZED),
    (A, bytes.fromhex("000100020000000600000000")),     # ACK 6, after data
]


def said(who: str) -> bytes:
    """
    Everything that one side sent, as the byte stream that yamux reads.
    """
    return b"".join(octets for side, octets in TRANSCRIPT if side == who)

"""
The opening handshake of a WebSocket where one side is HTTP/2 and the other is HTTP/1.1.

HTTP/2 opens a WebSocket with an extended C{CONNECT}, which has neither the key nor its answer.  A translator makes the key, and
checks or makes the answer.

Source: RFC 8441, section 5; RFC 6455, sections 1.3 and 4.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from hmac import compare_digest
from secrets import token_bytes

from tunnelstack.wire.http1.framing import outgoing_framing, tokens
from tunnelstack.wire.http1.head import RequestHead, ResponseHead, values

PROTOCOL = b"websocket"
KEY, ACCEPT, VERSION = b"Sec-WebSocket-Key", b"Sec-WebSocket-Accept", b"Sec-WebSocket-Version"
NEWEST_VERSION = b"13"
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def random_key() -> bytes:
    """
    @return: a new C{Sec-WebSocket-Key}.
    """
    return b64encode(token_bytes(16))


def accept_for(key: bytes) -> bytes:
    """
    @return: the C{Sec-WebSocket-Accept} that answers a key.
    """
    return b64encode(sha1(key + MAGIC, usedforsecurity=False).digest())


def opens_websocket(head: RequestHead) -> bool:
    """
    @return: whether a request offers to change the protocol to that of a WebSocket.
    """
    upgrade = outgoing_framing(head).upgrade
    return bool(upgrade) and head.method == b"GET" and PROTOCOL in tokens(upgrade)


def is_accepted(request: RequestHead, response: ResponseHead) -> bool:
    """
    @return: whether a response with status 101 opens the WebSocket that the request has asked for.
    """
    keys, accepts = values(request.fields, KEY.lower()), values(response.fields, ACCEPT.lower())
    changed = [each for value in values(response.fields, b"upgrade") for each in tokens(value)]
    return (
        len(keys) == len(accepts) == 1 and changed == [PROTOCOL] and compare_digest(accepts[0], accept_for(keys[0]))
    )

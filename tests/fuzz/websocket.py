"""
Fuzz target: what a peer may send before and after a WebSocket upgrade, to both sides.

Whole frames take another path than pieces, so every input is delivered at once and octet by octet, and both must bring
the same to the application and the same Close to the peer.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from twisted.internet.error import ConnectionClosed

from tests.transport.rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    REQUEST,
    TEXT,
    Raw,
    RawServer,
    frame,
    parse,
    rawClient,
)
from tests.transport.test_websocket import Collect, OverWire, factoryOf
from tunnelstack.testing import Wire
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.errors import UpgradeFailed, UpgradeRefused
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.transport.websocket.settings import WebSocketLimits

LIMITS = WebSocketLimits(maxMessage=4096)
TO_SERVER, TO_CLIENT, RECORDS, ANSWER, HEAD = (bytes([at]) for at in range(5))     # the first octet of an input
Outcome = tuple[Hashable, Hashable]      # of what kind it is, and all of it
LONGEST = 4096     # octets that are delivered one by one


def _messages(mask: bytes | None) -> bytes:
    return b"".join(
        (
            frame(BINARY, b"hello", mask=mask),
            frame(BINARY, b"x" * 126, mask=mask),
            frame(BINARY, mask=mask),
            frame(BINARY, b"fr", fin=False, mask=mask),
            frame(PING, b"?", mask=mask),
            frame(CONTINUATION, b"", fin=False, mask=mask),
            frame(CONTINUATION, b"agments", mask=mask),
            frame(CLOSE, (1001).to_bytes(2, "big") + b"bye", mask=mask),
        )
    )


SEEDS = [
    TO_SERVER + _messages(MASK),
    TO_CLIENT + _messages(None),
    RECORDS + frame(TEXT, "h\u00e9".encode(), mask=MASK) + _messages(MASK),
    RECORDS + frame(TEXT, b"\xc3", fin=False, mask=MASK) + frame(CONTINUATION, b"\xa9", mask=MASK),
    ANSWER + b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: c3RhbGU=\r\nSec-WebSocket-Extensions: a; b=c\r\n\r\n",
    ANSWER + b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsorry\r\n0\r\n\r\n",
    ANSWER + b"HTTP/1.0 502 Bad\r\nContent-Length: 3\r\n\r\nbad",
    HEAD + REQUEST + b"Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    HEAD + REQUEST + b"Origin: http://edge.example\r\n\r\n" + _messages(MASK),
]
FOUND: list[bytes] = []


def target(data: bytes) -> Hashable:
    """
    Play an input to our side twice.

    @return: what kind of thing came of it.
    """
    kind, rest = data[:1], data[1:]
    play = {TO_CLIENT: _toClient, ANSWER: _answer, HEAD: _head}.get(kind, _toServer)
    whole = play(rest, None, kind == RECORDS)
    if len(rest) <= LONGEST:
        pieces = play(rest, 1, kind == RECORDS)
        assert whole == pieces, (whole, pieces)
    return kind, whole[0]


def _outcome(wire: Wire, ours: Collect, theirs: Raw) -> Outcome:
    """
    What the application saw, what the peer was told, and how it ended; nothing may be left to happen later.
    """
    got, records = ours.got, tuple(ours.records)
    said = tuple(one for one in parse(theirs.taken()) if one[0] != PONG)
    wire.clock.advance(10)
    wire.drop()
    wire.settle()
    assert not wire.clock.getDelayedCalls()
    assert ours.reason.check(ConnectionClosed), ours.reason
    return (said, ours.reason.type, bool(got), len(records)), (got, records)


def _toServer(data: bytes, cut: int | None, records: bool) -> Outcome:
    wire, ours = Wire(cut=cut), Collect()
    factory = WebSocketServerFactory(factoryOf(ours), clock=wire.clock, limits=LIMITS, records=records)
    theirs = rawClient(wire, factory.buildProtocol(None))
    wire.near.write(data)
    wire.settle()
    return _outcome(wire, ours, theirs)


def _toClient(data: bytes, cut: int | None, records: bool) -> Outcome:
    wire, ours, theirs = Wire(cut=cut), Collect(), RawServer()
    WebSocketClientEndpoint(
        wire.clock, "ws://edge.example/", endpoint=OverWire(wire, theirs), limits=LIMITS    # type: ignore[arg-type]
    ).connect(factoryOf(ours))
    wire.settle()
    wire.far.write(data)
    wire.settle()
    return _outcome(wire, ours, theirs)


def _answer(data: bytes, cut: int | None, records: bool) -> Outcome:
    wire, ours, theirs = Wire(cut=cut), Collect(), RawServer()
    theirs.answer = data
    outcome: list[Any] = []
    WebSocketClientEndpoint(
        wire.clock, "ws://edge.example/", endpoint=OverWire(wire, theirs), limits=LIMITS    # type: ignore[arg-type]
    ).connect(factoryOf(ours)).addErrback(outcome.append)
    wire.settle()
    wire.far.loseConnection()
    wire.settle()
    (failure,) = outcome
    failure.trap(UpgradeFailed, UpgradeRefused)
    assert not wire.clock.getDelayedCalls()
    return (failure.type, getattr(failure.value, "status", None)), str(getattr(failure.value, "body", ""))


def _head(data: bytes, cut: int | None, records: bool) -> Outcome:
    wire, ours, theirs = Wire(cut=cut), Collect(), Raw()
    factory = WebSocketServerFactory(factoryOf(ours), clock=wire.clock, limits=LIMITS)
    wire.connect(theirs, factory.buildProtocol(None))
    wire.near.write(data)
    wire.settle()
    status = theirs.got[:12]
    assert not status or status[:9] == b"HTTP/1.1 ", status
    wire.clock.advance(20)
    wire.settle()
    wire.drop()
    wire.settle()
    assert not wire.clock.getDelayedCalls()
    return (status, bool(ours.got)), ours.got

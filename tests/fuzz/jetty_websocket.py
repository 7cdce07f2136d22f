"""
Fuzz target: whatever a peer of Jetty may send over a WebSocket, to an edge and to an agent, registered or not.

An input is messages, one a line; the first octet of the input chooses who receives them.  Nothing but the WebSocket may break,
and nothing may be left when it is gone.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

from attrs import evolve

from tests.dialect.jetty.websocket_support import ACCEPTANCE, CAPABLE, Door, StrangeEdge, Stranger
from tests.exchange.doubles import Recorder, Server, Talker
from tunnelstack.wire.http1.head import ResponseHead
from tunnelstack.wire.records.jetty import CAPABILITIES

NEW, STOCK, AGENT, RAW, EDGE, STOCK_EDGE = (bytes([ord("0") + at]) for at in range(6))


def _lines(*frames: dict[str, Any]) -> bytes:
    return b"\n".join(json.dumps(frame).encode() for frame in frames)


_RESPONSES = _lines(
    {"type": "http_response_start", "request_id": "r1", "status": 200, "headers": {"Content-Length": "4", "A": ["b", "c"]}},
    {"type": "http_response_chunk", "request_id": "r1", "data_b64": "YQ=="},
    {"type": "http_response", "request_id": "r2", "status": "200", "headers": {"Set-Cookie": "a"}, "body_b64": "b2s="},
    {"type": "http_response_start", "request_id": "r3", "status": 101, "headers": {"Upgrade": "websocket"}},
    {"type": "http_response_chunk", "request_id": "r3", "data_b64": "AP8="},
    {"type": "http_response_end", "request_id": "r3"},
    {"type": "http_response_end", "request_id": "r1"},
    {"type": "http_cancel", "request_id": "r2", "reason": "busy"},
    {"type": "flow", "id": "r1", "paused": True},
    {"type": "drain", "grace_ms": 1000, "reason": "", "reconnect": True},
)
_REQUESTS = _lines(
    {"type": "http_request", "request_id": "a", "method": "POST", "path": "/", "query": "", "headers": {"Host": "a"},
     "body_b64": "", "streamed": True},
    {"type": "http_request_chunk", "request_id": "a", "data_b64": "YQ=="},
    {"type": "http_request", "request_id": "b", "method": "GET", "path": "/", "headers": {"Host": "a", "Upgrade": "x"},
     "upgrade": "x", "body_b64": ""},
    {"type": "http_request_chunk", "request_id": "b", "data_b64": "YQ=="},
    {"type": "http_request_end", "request_id": "b"},
    {"type": "http_request", "request_id": "c", "method": "HEAD", "path": "", "headers": [], "upstream_host": "a",
     "upstream_port": "80", "trace_parent": "00-1"},
    {"type": "http_request_end", "request_id": "a"},
    {"type": "tcp_connect", "connection_id": "c1"},
    {"type": "tcp_data", "connection_id": "c1", "data_b64": "YQ=="},
    {"type": "tcp_close", "connection_id": "c1", "reason": "x"},
    {"type": "udp_data", "connection_id": "u1", "remote_addr": "1.2.3.4:5", "data_b64": "YQ=="},
    {"type": "tcp_end", "connection_id": "c1"},
    {"type": "flow", "id": "c1", "paused": True},
    {"type": "flow", "id": "a", "paused": False},
    {"type": "http_cancel", "request_id": "a"},
    {"type": "drain", "grace_ms": 0, "reason": "x", "reconnect": True},
)  # fmt: skip

SEEDS = [
    NEW + _lines({"type": "register", "tunnel_id": "t1", "agent_token": "k1", "capabilities": ["cancel/1"]}),
    NEW + _lines({"type": "register", "tunnel_id": "t", "agent_token": "old"}),
    NEW + b"not json\n[]\n{\n}\n",
    STOCK + _RESPONSES,
    AGENT + _RESPONSES,
    RAW + _lines({"type": "tcp_data", "connection_id": "c1", "data_b64": "YQ=="}, {"type": "tcp_close", "connection_id": "c1"}),
    EDGE + _REQUESTS,
    STOCK_EDGE + _REQUESTS,
]
FOUND: list[bytes] = []


def target(data: bytes) -> Hashable:
    """
    Play an input to one of our sides.

    @return: how it ended.
    """
    kind, messages = data[:1], [line for line in data[1:].split(b"\n") if line][:64]
    return (_agent if kind in (EDGE, STOCK_EDGE) else _edge)(kind, messages)


def _edge(kind: bytes, messages: list[bytes]) -> Hashable:
    door = Door(acceptance=evolve(ACCEPTANCE, protocol="tcp" if kind == RAW else "http"))
    peer = Stranger(door, register=kind in (STOCK, AGENT, RAW), capabilities=CAPABILITIES if kind == AGENT else None)
    asked = []
    if kind == RAW:
        door.tunnel.session.connector.connect(_Quiet())
        opened, = door.tunnel.requests.streams._streams.items()
        door.tunnel.requests.streams._streams = {"c1": opened[1]}
    elif kind in (STOCK, AGENT):
        asked = [door.ask(), door.ask(b"HEAD"), door.ask(b"GET", b"/", (b"Upgrade", b"websocket"))]
    _play(peer, door, messages)
    code = peer.closeCode
    assert code != 1011, "an exception was caught"
    receivers = [each.receiver for each in asked]
    ends = tuple((bool(each.heads), each.trailers is not None, each.failure is None) for each in receivers)
    door.wires[0].drop()
    door.settle()
    door.passTime(1)
    assert not door.clock.getDelayedCalls(), door.clock.getDelayedCalls()
    assert all(each.failure or each.trailers is not None for each in receivers)
    for tunnel in door.registrar.tunnels:
        assert (tunnel.inFlight, tunnel.session.held, tunnel.requests.bodies.octets, tunnel.healthy) == (0, 0, 0, False)
    return kind, code, ends


def _agent(kind: bytes, messages: list[bytes]) -> Hashable:
    peer = StrangeEdge(registered=CAPABLE if kind == EDGE else {}, tcp=Talker, udp=("127.0.0.1", 53))
    peer.server = _Server()
    _play(peer, peer, messages)
    code = peer.closeCode
    assert code != 1011, "an exception was caught"
    frames = [json.loads(each)["type"] for each in peer.messages]
    peer.wire.drop()
    peer.settle()
    peer.passTime(6)
    assert not peer.clock.getDelayedCalls(), peer.clock.getDelayedCalls()
    assert all(exchange.finished for _, exchange, _ in peer.server.asked)
    session = peer.link.session
    assert (session.streams, session.held, peer.link.requests.bodies.octets) == (0, 0, 0)
    return kind, code, tuple(sorted(set(frames)))


class _RawRecorder(Recorder):
    """
    Takes a raw direction after the end of a request.
    """

    def ended(self, trailers: Any) -> None:
        assert self.failure is None


class _Server(Server):
    def exchangeReceived(self, head: Any, exchange: Any) -> Recorder:
        recorder = _RawRecorder()
        self.asked.append((head, exchange, recorder))
        _answer(head, exchange)
        return recorder


def _answer(head: Any, exchange: Any) -> None:
    if head.framing.upgrade:
        exchange.sendHead(ResponseHead(101, b"", [(b"Upgrade", head.framing.upgrade)]))
    elif not head.framing.body:
        exchange.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"2")]), b"ok")


def _play(peer: Any, clock: Any, messages: list[bytes]) -> None:
    for message in messages:
        if peer.lost is None:
            peer.say(message)
    clock.settle()
    clock.passTime(1)


class _Quiet:
    def buildProtocol(self, address: Any) -> Any:
        return Talker()

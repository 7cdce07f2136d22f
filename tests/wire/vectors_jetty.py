"""
Messages of Jetty over gRPC, each with its prefix.  They were produced by the runtime of Protocol Buffers for Python, 7.36.2.
The lane is from frames of h2 4.4.1.
"""

from __future__ import annotations

from tunnelstack.wire.records.jetty_grpc import (
    ABORT,
    DATA,
    HEADERS,
    RAW_CLOSE,
    RAW_CONNECT,
    RAW_DATA,
    TRAILERS,
    Drain,
    ErrorInfo,
    Header,
    HTTPChunk,
    LaneDemand,
    Limits,
    Ping,
    Pong,
    RawChunk,
    RegisterRequest,
    RegisterResponse,
    RequestHead,
    ResponseHead,
)

HOST = Header(name="Host", value=b"demo.tunnels.example")

LIMITS = Limits(
    lanes_initial=8, lanes_min_idle=4, lanes_max=256, lane_max_idle_ms=45_000, max_chunk_bytes=32_768,
    max_request_body_bytes=10_485_760, upstream_timeout_ms=60_000, keepalive_interval_ms=15_000, keepalive_timeout_ms=10_000,
)  # fmt: skip

VECTORS: list[tuple[object, str]] = [
    (RegisterRequest(tunnel_id="t1", agent_token="k1"), "00000000080a02743112026b31"),
    (
        RegisterRequest(
            tunnel_id="01JTEST00000000000000TUNNEL", agent_token="tok-abc", protocol_version=1,
            agent_version="tunnelstack/0.1", capabilities=("reuse/1", "upgrade/1"), instance_id="i-1", max_lanes=64,
        ),
        ("00000000540a1b30314a54455354303030303030303030303030303054554e4e454c1207746f6b2d6162631801220f74756e6e656c737461636b2f30"
        "2e312a0772657573652f312a09757067726164652f313203692d313840"),
    ),
    (
        RegisterResponse(
            session_id="5e55", tunnel_id="t1", subdomain="demo", public_url="https://demo.tunnels.example", edge_id="edge-a",
            protocol_version=1, capabilities=("reuse/1",), limits=LIMITS,
        ),
        ("00000000610a0435653535120274311a0464656d6f221c68747470733a2f2f64656d6f2e74756e6e656c732e6578616d706c652a06656467652d6130"
        "013a0772657573652f31421e0808100418800220c8df0228808002308080800538e0d40340987548904e"),
    ),
    (RegisterRequest(control=Ping(nonce=7)), "000000000452020807"),
    (RegisterResponse(control=Ping(nonce=7)), "000000000452020807"),
    (RegisterRequest(control=Pong(nonce=7)), "00000000045a020807"),
    (RegisterResponse(control=Pong(nonce=7)), "00000000045a020807"),
    (RegisterResponse(control=LaneDemand(count=4)), "00000000046a020804"),
    (
        RegisterResponse(control=Drain(grace_ms=30_000, reason="deploy", reconnect=True)),
        "0000000010620e08b0ea0112066465706c6f791801",
    ),
    (
        RegisterResponse(control=ErrorInfo(code="token_rotated", message="verify rejected")),
        "000000002272200a0d746f6b656e5f726f7461746564120f7665726966792072656a6563746564",
    ),
    (
        HTTPChunk(
            request_id="r1", type=HEADERS, end=True,
            request=RequestHead(
                method="GET", path="/hello", query="a=1", headers=(HOST,), content_length=0, timeout_ms=60_000, scheme="https",
            ),
        ),
        ("00000000470a02723110011a3d0a0347455412062f68656c6c6f1a03613d31221c0a04486f7374121464656d6f2e74756e6e656c732e6578616d706c"
        "65280050e0d403620568747470733801"),
    ),
    (
        HTTPChunk(request_id="r2", type=HEADERS, request=RequestHead(method="POST", path="/up")),
        "00000000130a02723210011a0b0a04504f535412032f7570",
    ),
    (HTTPChunk(type=DATA, data=b"hello"), "000000000910022a0568656c6c6f"),
    (HTTPChunk(type=DATA, data=b"hello", end=True), "000000000b10022a0568656c6c6f3801"),
    (HTTPChunk(type=DATA, end=True), "000000000410023801"),
    (
        HTTPChunk(
            request_id="r1", type=HEADERS,
            response=ResponseHead(
                status=200, headers=(Header(name="Set-Cookie", value=b"a=1"), Header(name="Set-Cookie", value=b"b=2")),
            ),
        ),
        "00000000310a0272311001222908c80112110a0a5365742d436f6f6b69651203613d3112110a0a5365742d436f6f6b69651203623d32",
    ),
    (
        HTTPChunk(request_id="r1", type=HEADERS, response=ResponseHead(status=204, content_length=0), end=True),
        "000000000f0a0272311001220508cc0118003801",
    ),
    (
        HTTPChunk(
            request_id="r1", type=HEADERS,
            response=ResponseHead(status=101, headers=(Header(name="Upgrade", value=b"websocket"),)),
        ),
        "00000000200a02723110012218086512140a07557067726164651209776562736f636b6574",
    ),
    (
        HTTPChunk(type=TRAILERS, trailers=(Header(name="x-sum", value=b"\xff"),), end=True),
        "00000000101003320a0a05782d73756d1201ff3801",
    ),
    (
        HTTPChunk(
            request_id="r1", type=ABORT, abort=ErrorInfo(code="upstream_timeout", message="no bytes for 60s"), end=True,
        ),
        "000000002e0a0272311004380142240a10757073747265616d5f74696d656f757412106e6f20627974657320666f7220363073",
    ),
    (
        RawChunk(connection_id="c1", type=RAW_CONNECT, remote_addr="203.0.113.9:5000", protocol="tcp"),
        "000000001d0a026331100122103230332e302e3131332e393a353030302a03746370",
    ),
    (RawChunk(type=RAW_DATA, data=b"\x00\xff"), "000000000610021a0200ff"),
    (
        RawChunk(connection_id="c1", type=RAW_CLOSE, reason="local connection closed", end=True),
        "00000000210a026331100332176c6f63616c20636f6e6e656374696f6e20636c6f7365643801",
    ),
]  # fmt: skip

LANE_REQUEST = (
    "00000000350a02723110011a2b0a0347455412062f68656c6c6f221c0a04486f7374121464656d6f2e74756e6e656c732e6578616d706c653801"
)
"""The DATA of a request on a lane."""

LANE_RESPONSE = "000000000b0a0272311001220308c801000000000810022a0268693801"
"""The DATA of its response: a head, and "hi" with the end."""

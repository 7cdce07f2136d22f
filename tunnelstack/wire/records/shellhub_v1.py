"""
The targets of a ShellHub server in version 1: one HTTP/1.1 request on a connection that was picked up, for a proxy its
response, and then the octets of the stream.

The request is sent in messages of its own, since the HTTP server of genuine devices must not read more with it.  The response
to CONNECT announces chunks, and has none: what follows the empty line is the payload.

Source: shellhub C{server/ssh/pkg/dialer/target.go}, C{agent/pkg/agentd/handlers.go}; for the forms of old servers
C{pkg/agent/pkg/tunnel/tunnel.go} of 0.17.
"""

from __future__ import annotations

import re
from email.utils import formatdate

from attrs import evolve, frozen

from tunnelstack.errors import UsageError
from tunnelstack.wire.http1.head import Fields, RequestHead, ResponseHead, encode_request, encode_response
from tunnelstack.wire.http1.target import OCTET
from tunnelstack.wire.negotiation.http_request import StreamRequest
from tunnelstack.wire.printable_text import quoted
from tunnelstack.wire.records.shellhub import (
    HTTP_PROXY,
    BadTarget,
    HTTPProxy,
    SSHClose,
    SSHOpen,
    Target,
    decode_port_untrusted,
    encode_target,
    name_of,
)

CONNECTION, PICK_UP = "/ssh/connection", "/ssh/revdial"
"""The paths of control connections, and of the connections that the server requests on them."""

PING, PONG = 30.0, 35.0
"""Seconds between the server's WebSocket pings, and without an answer after which it closes the control connection."""

UNKNOWN_DIALLER = b"unknown dialer\n"
"""The body, in plain text, of the response 400 to a connection that was not requested."""

INVALID_ADDRESS = "failed because address is invalid"
CONNECT_FAILED = "failed to connect to the server on device"

_FIELDS: Fields = [(b"Host", b""), (b"User-Agent", b"Go-http-client/1.1")]
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]{1,255}")
_PATH = re.compile(OCTET + rb"{1,8192}")
_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,255}")
_REASONS = {404: b"Not Found", 500: b"Internal Server Error"}


@frozen
class HTTPForward:
    """
    The web server at port 80 of the device, for very old servers: the request of a visitor is sent there.

    @ivar head: the request with its own target.
    """

    head: RequestHead


def encode_ask(target: Target) -> bytes:
    """
    @return: the request, to be sent in messages of its own.
    @raise UsageError: the target does not fit into a path.
    """
    members = encode_target(target)
    if isinstance(target, HTTPProxy):
        host = f"[{target.host}]" if ":" in target.host else target.host
        method, path = b"CONNECT", f"/http/proxy/{_fitting(_HOST, target.host) and host}:{target.port}"
    elif isinstance(target, SSHClose):
        method, path = b"GET", f"/ssh/close/{_fitting(_SEGMENT, members['id'])}"
    else:
        method, path = b"GET", f"/ssh/{_fitting(_SEGMENT, members['id'])}"
    return encode_request(RequestHead(method, path.encode(), _FIELDS))


def _fitting(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise UsageError(f"{quoted(text, 64)} does not fit into a path")
    return text


def decode_ask_untrusted(head: RequestHead) -> Target | HTTPForward | None:
    """
    @return: the target; C{None} for an unknown route, to be answered with 404.
    @raise BadTarget: the address is invalid; to be answered with 500 and L{INVALID_ADDRESS}.
    """
    parts = head.target.partition(b"?")[0].decode("latin-1").split("/")[1:]
    match head.method, parts:
        case b"GET", ["ssh", "http"]:
            return _forward(head)
        case b"GET", ["ssh", identifier]:
            return SSHOpen(identifier)
        case b"GET", ["ssh", "close", identifier]:
            return SSHClose(identifier)
        case b"CONNECT", ["http", "proxy", address] | ["ssh", "proxy", address]:
            return _proxy(address)
    return None


def _forward(head: RequestHead) -> HTTPForward:
    path = head.field(b"x-path") or b"/"
    if not _PATH.fullmatch(path):
        raise BadTarget("the path is invalid", path=path[:64])
    return HTTPForward(evolve(head, target=path))


def _proxy(address: str) -> HTTPProxy:
    """
    @param address: C{host:port}; without a host it is the device itself, and an IPv6 address may lack its brackets.
    """
    host, _, port = address.rpartition(":")
    if host[:1] == "[" and host[-1:] == "]":
        host = host[1:-1]
    if host and not _HOST.fullmatch(host):
        raise BadTarget("the address is invalid", address=address[:64])
    return HTTPProxy(host or "127.0.0.1", decode_port_untrusted(port))


def encode_yes(target: Target | HTTPForward, now: float) -> bytes:
    """
    @param now: seconds since 1970.
    @return: the response of a device that accepts; none for SSH.
    """
    match target:
        case SSHClose():
            return encode_response(ResponseHead(200, b"OK", [_date(now), (b"Content-Length", b"0")]))
        case HTTPProxy():
            return encode_response(ResponseHead(200, b"OK", [_date(now), (b"Transfer-Encoding", b"chunked")]))
    return b""


def encode_no(reason: str, now: float, status: int = 500) -> bytes:
    """
    @param now: seconds since 1970.
    @param status: 500, or 404 for an unknown route.
    @return: the response of a device that refuses.
    """
    kind, body = b"text/plain; charset=UTF-8", reason.encode()
    if status == 404:
        kind, body = b"application/json", b'{"message":"Not Found"}\n'
    fields = [(b"Content-Type", kind), _date(now), (b"Content-Length", b"%d" % len(body))]
    return encode_response(ResponseHead(status, _REASONS[status], fields)) + body


def _date(now: float) -> tuple[bytes, bytes]:
    return b"Date", formatdate(now, usegmt=True).encode()


def stream_request(head: RequestHead, now: float) -> StreamRequest:
    """
    @param now: seconds since 1970.
    @return: a request in the terms of version 2, so that one handler serves both.
    """
    try:
        target = decode_ask_untrusted(head)
    except BadTarget:
        return StreamRequest(b"", no=lambda _: encode_no(INVALID_ADDRESS, now))
    if target is None:
        return StreamRequest(b"", no=lambda _: encode_no("", now, 404))
    if isinstance(target, HTTPForward):
        return _forward_request(target, now)
    status = 500 if isinstance(target, HTTPProxy) else 404          # without a handler for SSH, its routes do not exist
    return StreamRequest(
        name_of(target), encode_target(target), encode_yes(target, now), lambda _: encode_no(CONNECT_FAILED, now, status),
    )


def _forward_request(target: HTTPForward, now: float) -> StreamRequest:
    """
    @return: what the request of a very old server is for: the web server of the device.
    """
    web = encode_target(HTTPProxy("127.0.0.1", 80))
    return StreamRequest(HTTP_PROXY, web, b"", lambda _: encode_no(CONNECT_FAILED, now), encode_request(target.head))


def refusal(head: ResponseHead) -> str | None:
    """
    @param head: a device's answer to CONNECT.
    @return: C{None} if the device accepts: what follows is payload, whatever the fields announce.  Else the status as its line
        has it; the body is not read.
    """
    return None if head.status == 200 else f"{head.status} {head.reason.decode('latin-1')}".rstrip()

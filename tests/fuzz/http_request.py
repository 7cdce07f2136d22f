"""
Bent octets for streams that begin with the head of a request: what the responder reads, and what the initiator is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from tests.wire.test_negotiation_http_request import NO, REQUEST, YES, refusal
from tunnelstack.errors import PeerError
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.negotiation.base import Agreed, Negotiation, Proposed, Rejected
from tunnelstack.wire.negotiation.http_request import (
    REASON,
    HTTPRequestInitiator,
    HTTPRequestResponder,
    StreamRequest,
)

LONGEST = 4096  # octets that are delivered one by one

SEEDS = [
    REQUEST + b"SSH-2.0-x\r\n", YES + b"5\r\nno chunk", NO, NO[:-4],
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 9999\r\n\r\nlost",
    b"HTTP/1.1 503 Later\r\n\r\n", b"HTTP/1.1 403 No\r\nContent-Length: x\r\n\r\n\xff\xfe", REQUEST * 2,
]  # fmt: skip


def request(head: RequestHead) -> StreamRequest:
    """
    What any request is for.
    """
    return StreamRequest(head.target, {"method": head.method.decode()}, yes=YES, no=lambda reason: NO, first=b"first")


SIDES: list[Callable[[], Negotiation]] = [
    lambda: HTTPRequestInitiator(b"/proxy", REQUEST, refusal=refusal),
    lambda: HTTPRequestInitiator(b"/proxy", REQUEST),
    lambda: HTTPRequestResponder(request),
]


def target(data: bytes) -> Hashable:
    """
    @return: what each side made of it.
    """
    kinds: list[Hashable] = []
    for make in SIDES:
        whole = feed(make(), data, len(data) or 1)
        for size in (7, 1) if len(data) <= LONGEST else (4096,):
            assert feed(make(), data, size) == whole, (size, whole)
        kinds.append(whole[0])
    return tuple(kinds)


def feed(ours: Negotiation, data: bytes, size: int) -> tuple[str, object, bytes]:
    """
    @return: what kind of end it came to, its text or name, and what is left for the application.
    """
    try:
        for start in range(0, len(data), size):
            for event in ours.receive_data(data[start : start + size]):
                if isinstance(event, Agreed):
                    return "Agreed", event.name, event.leftover + data[start + size :]
                if isinstance(event, Rejected):
                    return "Rejected", reason(event), b""
                if isinstance(event, Proposed):
                    (event,) = ours.accept()
                    assert isinstance(event, Agreed)
                    return "Accepted", event.name, event.leftover + data[start + size :]
        for event in ours.receive_eof():
            if isinstance(event, Rejected):
                return "Rejected", reason(event), b""
    except PeerError:
        return "refused", None, b""
    raise AssertionError("the end of the octets settled nothing")


def reason(event: Rejected) -> str:
    """
    A reason is one line with a bound.
    """
    assert "\n" not in event.reason and len(event.reason) <= REASON + 16, event.reason
    return event.reason

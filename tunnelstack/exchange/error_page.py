"""
The page that a visitor gets if an exchange fails before its response has begun.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from html import escape

from tunnelstack.exchange.errors import ExchangeFailed
from tunnelstack.exchange.html_page import HTML, htmlPage
from tunnelstack.interfaces import IResponseExchange
from tunnelstack.wire.http1.head import Fields, ResponseHead

ErrorPages = Callable[[ExchangeFailed, str], tuple[ResponseHead, bytes]]
"""Makes a response from the failure and the request's identifier, which is C{""} if the request has none."""

REASONS = {
    400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed",
    408: b"Request Timeout", 412: b"Precondition Failed", 413: b"Content Too Large", 416: b"Range Not Satisfiable",
    421: b"Misdirected Request", 429: b"Too Many Requests",
    431: b"Request Header Fields Too Large", 500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway",
    503: b"Service Unavailable", 504: b"Gateway Timeout", 505: b"HTTP Version Not Supported", 508: b"Loop Detected",
}


def errorPageHead(failed: ExchangeFailed, trace: str, kind: bytes, octets: int) -> ResponseHead:
    """
    Make the head of an error page.

    @param kind: the media type.
    @param octets: the length of the body.
    """
    fields: Fields = [
        (b"Date", formatdate(usegmt=True).encode()),
        (b"Content-Type", kind),
        (b"Content-Length", b"%d" % octets),
        (b"Cache-Control", b"no-store"),
    ]
    if trace:
        fields.append((b"X-Request-Id", trace.encode("ascii", "replace")))
    if failed.retryAfter:
        fields.append((b"Retry-After", b"%d" % failed.retryAfter))
    fields += failed.fields
    return ResponseHead(failed.status, REASONS.get(failed.status, b"Error"), fields)


def errorPage(failed: ExchangeFailed, trace: str) -> tuple[ResponseHead, bytes]:
    """
    Make a page with the status, one sentence, and the request's identifier.
    """
    reason = REASONS.get(failed.status, b"Error").decode()
    request = f"<p><small>Request {escape(trace)}</small></p>\n" if trace else ""
    body = htmlPage(f"{failed.status} {reason}", f"<p>{escape(failed.sentence)}</p>\n{request}")
    return errorPageHead(failed, trace, HTML, len(body)), body


def respondWithPage(exchange: IResponseExchange, pages: ErrorPages, failed: ExchangeFailed, trace: str = "") -> None:
    """
    Respond with an error page.  No head may have been sent.
    """
    exchange.respond(*pages(failed, trace))

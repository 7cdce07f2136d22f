"""
What the pages of operators have in common: the fields of their responses, their files, and refusals.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from zope.interface import implementer

from tunnelstack.exchange.forward import NULL_RECEIVER
from tunnelstack.exchange.whole_message import JSON, WholeResponse
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.pages.access import Refused
from tunnelstack.pages.json_octets import asOctets
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.redaction import text_of

SHARED = Path(__file__).resolve().parent / "static"
"""The files that all pages use."""

TYPES = {
    ".html": b"text/html; charset=utf-8", ".css": b"text/css; charset=utf-8", ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml", ".png": b"image/png", ".ico": b"image/x-icon",
}  # fmt: skip

FILE = re.compile(rb"/([a-z0-9][a-z0-9_-]*\.[a-z]+)")

PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    b"frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

FIELDS = (
    (b"X-Content-Type-Options", b"nosniff"), (b"X-Frame-Options", b"DENY"), (b"Referrer-Policy", b"no-referrer"),
    (b"Cache-Control", b"no-store"), (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
)  # fmt: skip

PAGE_FIELDS: tuple[tuple[bytes, bytes], ...] = ((b"Content-Security-Policy", PAGE_POLICY), *FIELDS)


class Refusal(Exception):
    """
    A request that is answered with an error.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def refusal(status: int, sentence: str) -> WholeResponse:
    """
    @return: an error as JSON.
    """
    return WholeResponse(status, asOctets({"error": sentence}) + b"\n", JSON, PAGE_FIELDS)


class PageFiles:
    """
    The files of one page, and those that all pages use.
    """

    def __init__(self, folder: Path) -> None:
        """
        @param folder: has C{index.html}, and the files that only this page uses.
        """
        self.folders = (folder, SHARED)

    def find(self, path: bytes) -> WholeResponse | None:
        """
        @param path: C{/} is C{/index.html}.
        @return: the response with a file; C{None} if there is none of that name.
        """
        name = FILE.fullmatch(b"/index.html" if path == b"/" else path)
        kind = None if name is None else TYPES.get(Path(text_of(name[1])).suffix)
        if name is None or kind is None:
            return None
        for folder in self.folders:
            try:
                return WholeResponse(200, (folder / text_of(name[1])).read_bytes(), kind, PAGE_FIELDS)
            except OSError:
                continue
        return None


@implementer(IExchangeServer)
class AccessServer:
    """
    Refuses requests by their heads, before any of their bodies is read.
    """

    def __init__(self, refusalOf: Callable[[RequestHead], Refused | None], server: IExchangeServer) -> None:
        """
        @param refusalOf: gives C{None} for a request that is allowed.
        @param server: answers those.
        """
        self._refusalOf = refusalOf
        self._server = server

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        refused = self._refusalOf(head)
        if refused is None:
            return self._server.exchangeReceived(head, exchange)
        refusal(*refused).send(exchange)
        return NULL_RECEIVER

"""
The request of one stream of HTTP/2, as it arrives at a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from zope.interface import implementer

from tunnelstack.exchange._http2_server_exchange import ExchangeOwner, HTTP2ServerExchange
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.interfaces import IHTTP2Receiver
from tunnelstack.transport.http2.stream import HTTP2Stream
from tunnelstack.wire.http1.head import BadMessage, HeadLimits, HeadTooLarge
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.message_fields import trailers_from_http2
from tunnelstack.wire.http2.translation import MalformedMessage, request_from_http2, response_to_http2


class RequestOwner(ExchangeOwner, Protocol):
    """
    The connection of a request.
    """

    limits: HeadLimits

    def serve(self, exchange: HTTP2ServerExchange) -> None:
        """
        Give a request to its server.
        """

    def malformed(self, bad: BadMessage, stream: HTTP2Stream) -> None:
        """
        A request cannot be read.
        """


@implementer(IHTTP2Receiver)
class RequestReader:
    """
    Receives the request, and passes it to the receiver of its exchange.
    """

    __slots__ = ("_exchange", "_owner", "_stream")

    def __init__(self, owner: RequestOwner, stream: HTTP2Stream) -> None:
        self._owner = owner
        self._stream = stream
        self._exchange: HTTP2ServerExchange | None = None

    def informational(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """
        Not called: requests have no interim heads.
        """

    def headersReceived(self, fields: Sequence[tuple[bytes, bytes]], ended: bool) -> None:
        owner = self._owner
        try:
            head = request_from_http2(list(fields), ended, owner.limits)
        except MalformedMessage as bad:
            owner.malformed(bad, self._stream)
            self._stream.reset(ErrorCode.PROTOCOL_ERROR)
            return
        except BadMessage as bad:
            self._refuse(bad)
            return
        self._exchange = exchange = HTTP2ServerExchange(owner, self._stream, head)
        exchange.requestBegun(ended)
        owner.serve(exchange)
        exchange.served()

    def _refuse(self, bad: BadMessage) -> None:
        """
        Answer with an error page: the request is well-formed, but is not served.
        """
        owner, stream = self._owner, self._stream
        failed = ExchangeFailed(FailureKind.MALFORMED, f"The request was not understood: {bad}.", status=bad.status)
        head, body = owner.pages(failed, "")
        stream.sendHeaders(response_to_http2(head, None))
        stream.write(body)
        stream.end()
        stream.stopReading()

    def dataReceived(self, octets: bytes) -> None:
        if self._exchange is not None:
            self._exchange.requestContinued(octets)

    def ended(self, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        try:
            kept = trailers_from_http2(list(trailers), self._owner.limits)
        except BadMessage as bad:
            kind = FailureKind.TOO_LARGE if isinstance(bad, HeadTooLarge) else FailureKind.MALFORMED
            exchange.requestFailed(ExchangeFailed(kind, str(bad)))
        else:
            exchange.requestEnded(kept)

    def closed(self) -> None:
        """
        Both directions are over: the exchange is finished, too, as it has ended one of them.
        """

    def failed(self, reason: Exception) -> None:
        if self._exchange is not None:
            self._exchange.streamFailed(reason)

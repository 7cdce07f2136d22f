"""
The agent's end of HTTP streams: each request is forwarded to the local web server, and its response is sent as it arrives.

Errors are answered as genuine agents do: with a status, C{Content-Type: text/plain}, and a few words.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from tunnelstack.dialect.agentserver.heads import BadPath, encodeResponse, requestHead
from tunnelstack.errors import PeerError
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.forward import Forwarder
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.stream_server import StreamServerProtocol
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.handler.http import LocalSite
from tunnelstack.interfaces import IServerExchange
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.http1.head import RequestHead, ResponseHead
from tunnelstack.wire.negotiation.typed_head import METADATA
from tunnelstack.wire.records.agentserver import decode_request_metadata_untrusted

DAY = 24 * 3600.0

TIMEOUTS = Timeouts(first=DAY, interim=DAY)
"""Of the local web server.  A genuine agent has no limit: the server ends the stream at its own."""

BAD_METADATA, BAD_PATH, BAD_BODY, NO_SERVER = (
    (400, "invalid metadata"), (400, "invalid request path"), (502, "failed to read request body"),
    (502, "local service error: this agent has no web server"),
)


def errorResponse(status: int, text: str) -> tuple[ResponseHead, bytes]:
    """
    @return: an error as a genuine agent sends it.
    """
    return ResponseHead(status, b"", [(b"Content-Type", b"text/plain")]), text.encode()


def errorPage(failed: ExchangeFailed, trace: str) -> tuple[ResponseHead, bytes]:
    """
    As L{ErrorPages<tunnelstack.exchange.error_page.ErrorPages>}.
    """
    if failed.kind is FailureKind.MALFORMED:            # the body was shorter than its length
        return errorResponse(*BAD_BODY)
    status = 504 if failed.kind is FailureKind.GATEWAY_TIMEOUT else 502
    return errorResponse(status, f"local service error: {failed.sentence}")


class HTTPStreams(Factory):
    """
    Serves the HTTP streams of one session from one local web server.
    """

    noisy = False

    def __init__(
        self, clock: IReactorTime, target: str, endpoint: IStreamClientEndpoint | None, host: str,
        ended: Callable[[IServerExchange, float], object], *, rewriteOrigin: bool = False,
    ) -> None:
        """
        @param target: the web server, as the operator wrote it.
        @param endpoint: connects to it; C{None} if there is none.
        @param host: the C{Host} of the requests.
        @param ended: called with each exchange that is over, and the seconds that it took.
        @param rewriteOrigin: put C{host} into C{Origin} and C{Referer} as well.  The server must send C{X-Forwarded-Host} with
            the visitor's, as edges do.
        """
        self._clock = clock
        scheme = "https" if target.startswith("https:") else "http"
        self._site = LocalSite(target, origin=f"{scheme}://{host}" if rewriteOrigin else "")
        self._host = host.encode()
        self._ended = ended
        self._server: Forwarder | None = None
        self._pool: ExchangePool | None = None
        if endpoint is not None:
            self._pool = ExchangePool(endpoint, clock=clock, timeouts=TIMEOUTS, explain=self._site.explain)
            self._server = Forwarder(
                self._pool.exchange, pages=errorPage, prepareRequest=self._site.prepareRequest, onFailure=self._site.failed
            )

    def close(self) -> None:
        """
        The session is lost: close the connections to the web server.
        """
        if self._pool is not None:
            self._pool.close()

    def buildProtocol(self, address: StreamAddress) -> Protocol:  # type: ignore[override]
        if self._server is None:
            return _ErrorProtocol(*NO_SERVER)
        try:
            head = requestHead(decode_request_metadata_untrusted(address.parameters[METADATA]))
        except BadPath:
            return _ErrorProtocol(*BAD_PATH)
        except PeerError:
            return _ErrorProtocol(*BAD_METADATA)
        framing = head.framing
        framing.host = self._host
        head = RequestHead(head.method, head.target, [(b"Host", self._host), *head.fields], framing=framing)
        began = self._clock.seconds()
        return StreamServerProtocol(
            self._server, head, framing, encodeResponse, clock=self._clock, pages=errorPage, timeouts=TIMEOUTS,
            ended=lambda exchange: self._ended(exchange, self._clock.seconds() - began),
        )


class _ErrorProtocol(Protocol):
    """
    Answers with an error.
    """

    transport: StreamTransport

    def __init__(self, status: int, text: str) -> None:
        head, body = errorResponse(status, text)
        self._octets = encodeResponse(head) + body

    def connectionMade(self) -> None:
        self.transport.write(self._octets)
        self.transport.loseConnection()

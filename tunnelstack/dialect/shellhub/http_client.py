"""
HTTP requests to a ShellHub server.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.exchange.fetch import FetchedResponse, fetch
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.host_endpoint import connectTimedOut, hostEndpoint
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.wire.http1.head import Fields, RequestHead
from tunnelstack.wire.records.shellhub_bootstrap import BODY

REQUEST_SECONDS = 30.0
"""Seconds for a request and its response."""


class APIClient:
    """
    Sends requests to one server.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        url: str,
        *,
        agent: str,
        contextFactory: IOpenSSLClientConnectionCreator | None = None,
        endpoint: IStreamClientEndpoint | None = None,
    ) -> None:
        """
        @param url: C{http(s)://host[:port][/base]}.
        @param agent: for the field C{User-Agent}.
        @param contextFactory: TLS for C{https}; by default the system's roots, and the host of the URL.
        @param endpoint: connects to the server, TLS included, instead of to the host of the URL.
        """
        parts = urlsplit(url)
        self._clock = reactor
        self._base = parts.path.rstrip("/")
        self._host = parts.netloc.encode("ascii")
        self._agent = agent.encode("ascii")
        if endpoint is None:
            secure, host = parts.scheme == "https", parts.hostname or ""
            endpoint = hostEndpoint(reactor, host, parts.port or (443 if secure else 80))
            if secure:
                endpoint = SecureEndpoint(reactor, host, endpoint, contextFactory)
        self._pool = ExchangePool(
            endpoint, clock=reactor, timeouts=Timeouts(first=REQUEST_SECONDS, idle=REQUEST_SECONDS), idleSeconds=5.0,
            explain=_withCause,
        )

    def get(self, path: str) -> Deferred[FetchedResponse]:
        """
        @return: the response; it fails with L{NoResponse} or L{ResponseTooLong}.
        """
        return self._request(b"GET", path, [], b"")

    def post(self, path: str, body: bytes, token: str = "") -> Deferred[FetchedResponse]:
        """
        @param body: JSON.
        @param token: a bearer token; C{""} sends none.
        @return: as L{get}.
        """
        fields = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        if token:
            fields.append((b"Authorization", b"Bearer " + token.encode("ascii")))
        return self._request(b"POST", path, fields, body)

    def _request(self, method: bytes, path: str, fields: Fields, body: bytes) -> Deferred[FetchedResponse]:
        sent = [(b"Host", self._host), (b"User-Agent", self._agent), (b"Accept", b"application/json"), *fields]
        head = RequestHead(method, (self._base + path).encode("ascii"), sent)
        response = fetch(self._pool.exchange, head, body, bodyOctets=BODY)
        return response.addTimeout(REQUEST_SECONDS, self._clock, connectTimedOut)


def _withCause(failure: Failure) -> str:
    return errorText(failure) if failure.value is not None else ""

"""
Plain HTTP toward a ShellHub server: one request, its whole answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.transport.host_endpoint import connectTimedOut, hostEndpoint
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import errorText
from tunnelstack.wire.http1.head import Fields, RequestHead, ResponseHead
from tunnelstack.wire.records.shellhub_bootstrap import BODY

REQUEST_SECONDS = 30.0
"""Seconds for a request and its answer."""


class NoResponse(Unavailable):
    """
    The server did not answer, or not with a whole answer.
    """


class ResponseTooLong(PeerError):
    """
    The server's answer has more octets than any it should have.
    """


@frozen
class ServerResponse:
    """
    An answer.
    """

    head: ResponseHead
    body: bytes

    @property
    def status(self) -> int:
        """
        Three digits.
        """
        return self.head.status


class APIClient:
    """
    Where a server is.
    """

    def __init__(
        self,
        reactor: Any,
        url: str,
        *,
        agent: str,
        contextFactory: IOpenSSLClientConnectionCreator | None = None,
        endpoint: IStreamClientEndpoint | None = None,
    ) -> None:
        """
        @param url: C{http(s)://host[:port][/base]}.
        @param agent: what C{User-Agent} says.
        @param contextFactory: TLS for C{https}; unless given, the system's roots and the name in the URL.
        @param endpoint: how to reach it, where that is not what the URL says; TLS is not added.
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

    def get(self, path: str) -> Deferred[ServerResponse]:
        """
        @return: the answer; fails with L{NoResponse} or L{ResponseTooLong}.
        """
        return self._request(b"GET", path, [], None)

    def post(self, path: str, body: bytes, token: str = "") -> Deferred[ServerResponse]:
        """
        @param body: JSON.
        @param token: a bearer token, where one is to be shown.
        """
        fields = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        if token:
            fields.append((b"Authorization", b"Bearer " + token.encode("ascii")))
        return self._request(b"POST", path, fields, body)

    def _request(self, method: bytes, path: str, fields: Fields, body: bytes | None) -> Deferred[ServerResponse]:
        answer = _ResponseCollector()
        exchange = answer.exchange = self._pool.exchange(answer)
        head = [(b"Host", self._host), (b"User-Agent", self._agent), (b"Accept", b"application/json"), *fields]
        exchange.sendHead(RequestHead(method, (self._base + path).encode("ascii"), head))
        if body:
            exchange.write(body)
        exchange.end()
        return answer.response.addTimeout(REQUEST_SECONDS, self._clock, connectTimedOut)


def _withCause(failure: Failure) -> str:
    return errorText(failure.value) if failure.value is not None else ""


class _ResponseCollector:
    """
    Collects it.
    """

    exchange: Any

    def __init__(self) -> None:
        self.response: Deferred[ServerResponse] = Deferred(self._cancelled)
        self._head: ResponseHead | None = None
        self._body = b""

    def informational(self, head: ResponseHead) -> None:
        """
        As in L{IExchangeReceiver<tunnelstack.interfaces.IExchangeReceiver>}.
        """

    def headReceived(self, head: ResponseHead) -> None:
        """
        As there.
        """
        self._head = head

    def bodyReceived(self, octets: bytes) -> None:
        """
        As there.
        """
        self._body += octets
        if len(self._body) > BODY:
            self.exchange.cancel(FailureKind.CLIENT_CLOSED)
            self._fire(lambda: self.response.errback(ResponseTooLong("the server's answer is too long", limit=BODY)))

    def ended(self, trailers: Any) -> None:
        """
        As there.
        """
        assert self._head is not None
        head = self._head
        self._fire(lambda: self.response.callback(ServerResponse(head, self._body)))

    def failed(self, reason: ExchangeFailed) -> None:
        """
        As there.
        """
        self._fire(lambda: self.response.errback(NoResponse(f"the server does not answer: {reason.sentence}")))

    def _fire(self, fire: Callable[[], object]) -> None:
        if not self.response.called:
            fire()

    def _cancelled(self, said: Deferred[ServerResponse]) -> None:
        self.exchange.cancel(FailureKind.CLIENT_CLOSED)

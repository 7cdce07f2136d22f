"""
The agent's requests to the control plane, the Bridge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, urlsplit

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.errors import PeerError, Refused, Unavailable
from tunnelstack.exchange.fetch import FetchedResponse, fetch
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.version import VERSION
from tunnelstack.wire.http1.head import Fields, RequestHead
from tunnelstack.wire.jsonline import encode
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty_bridge import (
    ANSWER,
    REGIONS,
    TELEMETRY,
    TUNNELS,
    AttachTunnel,
    BadBody,
    CreateTunnel,
    EdgeRegion,
    Heartbeat,
    RequestLog,
    RequestSample,
    Tunnel,
    encode_attach,
    encode_create,
    encode_heartbeat,
    encode_log,
    encode_sample,
    read_error_untrusted,
    read_regions_untrusted,
    read_tunnel_untrusted,
    read_tunnels_untrusted,
)

REQUEST_SECONDS = 60.0
"""Seconds for a request and its response."""

TELEMETRY_SECONDS = 4.0
"""Seconds for a report that no one waits for."""

AGENT = f"tunnelstack/{VERSION}"
"""How the agent names itself."""

T = TypeVar("T")


class TokenRefused(Refused):
    """
    The service does not accept the token.
    """


class TunnelRefused(Refused):
    """
    The service does not grant the tunnel.

    @ivar status: of the response: 402 is the plan of the account, 422 its limits.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence, status=status)
        self.status = status


class NoSuchTunnel(Refused):
    """
    The service has no such tunnel, or does not know the request.
    """


class NotABridge(PeerError):
    """
    The service does not answer as one of this system.
    """


class BridgeUnavailable(Unavailable):
    """
    The service cannot answer now.
    """


class BridgeClient:
    """
    Sends requests to one service.
    """

    def __init__(self, clock: IReactorTime, url: str, endpoint: IStreamClientEndpoint, token: Callable[[], str]) -> None:
        """
        @param url: C{http(s)://host[:port][/base]}.
        @param endpoint: connects to it, TLS included.
        @param token: gives the bearer token.
        """
        parts = urlsplit(url)
        self._clock = clock
        self._base = parts.path.rstrip("/")
        self._host = parts.netloc
        self._token = token
        self._pool = ExchangePool(
            endpoint, clock=clock, timeouts=Timeouts(first=REQUEST_SECONDS, idle=REQUEST_SECONDS), idleSeconds=5.0,
            explain=_withCause,
        )

    def create(self, request: CreateTunnel) -> Deferred[Tunnel]:
        """
        @return: a C{Deferred} of the new tunnel, with the token of its agents.  As of the other methods here, it fails with
            L{TokenRefused}, L{TunnelRefused}, L{NoSuchTunnel}, L{NotABridge}, L{BridgeUnavailable} or as connecting does.
        """
        return self._asked("POST", TUNNELS, encode_create(request), read_tunnel_untrusted)

    def attach(self, identifier: str, request: AttachTunnel) -> Deferred[Tunnel]:
        """
        @return: a C{Deferred} of the tunnel with a new token for its agents; the former one becomes invalid.
        """
        return self._asked("POST", f"{_path(identifier)}/attach", encode_attach(request), read_tunnel_untrusted)

    def tunnels(self) -> Deferred[list[Tunnel]]:
        return self._asked("GET", TUNNELS, b"", read_tunnels_untrusted)

    def delete(self, identifier: str) -> Deferred[None]:
        return self._asked("DELETE", _path(identifier), b"", lambda body: None)

    def heartbeat(self, identifier: str, beat: Heartbeat) -> Deferred[None]:
        return self._asked("POST", f"{_path(identifier)}/heartbeat", encode_heartbeat(beat), lambda body: None)

    def logRequest(self, identifier: str, line: RequestLog) -> Deferred[None]:
        return self._asked("POST", f"{_path(identifier)}/request-log", encode_log(line), lambda body: None)

    def sampleRequest(self, identifier: str, sample: RequestSample) -> Deferred[None]:
        return self._asked("POST", f"{_path(identifier)}/request-samples", encode_sample(sample), lambda body: None)

    def regions(self) -> Deferred[list[EdgeRegion]]:
        return self._asked("GET", REGIONS, b"", read_regions_untrusted)

    def reportFailure(self, status: int, reason: str) -> Deferred[None]:
        """
        Report that the edge cannot be reached.

        @param status: of HTTP; 0 if there was no response.
        @return: a C{Deferred} that fires when the report was sent or given up; it does not fail.
        """
        members: dict[str, object] = {"reason": reason[:200], "client": AGENT}
        if 100 <= status <= 599:
            members["http_status"] = status
        sent = self._send("POST", TELEMETRY, encode(members), "").addTimeout(TELEMETRY_SECONDS, self._clock)
        return sent.addBoth(lambda result: None)

    def close(self) -> None:
        """
        Send nothing more.
        """
        self._pool.close()

    def _asked(self, method: str, path: str, body: bytes, read: Callable[[bytes], T]) -> Deferred[T]:
        sent = self._send(method, path, body, self._token())
        return sent.addCallback(self._answered, path, read)

    def _send(self, method: str, path: str, body: bytes, token: str) -> Deferred[FetchedResponse]:
        fields: Fields = [
            (b"Host", self._host.encode("ascii")), (b"User-Agent", AGENT.encode()), (b"Accept", b"application/json"),
            *([(b"Authorization", b"Bearer " + token.encode("ascii"))] if token else []),
        ]  # fmt: skip
        if body:
            fields.append((b"Content-Type", b"application/json"))
        if body or method == "POST":
            fields.append((b"Content-Length", b"%d" % len(body)))
        head = RequestHead(method.encode(), (self._base + path).encode("ascii"), fields)
        response = maybeDeferred(fetch, self._pool.exchange, head, body, bodyOctets=ANSWER)
        return response.addTimeout(REQUEST_SECONDS, self._clock, connectTimedOut)

    def _answered(self, response: FetchedResponse, path: str, read: Callable[[bytes], T]) -> T:
        if response.status // 100 != 2:
            raise self._refusal(response)
        try:
            return read(response.body)
        except BadBody as bad:
            raise NotABridge(f"{self._host} does not answer {path} as expected: {bad}") from None

    def _refusal(self, response: FetchedResponse) -> Exception:
        status = response.status
        said = printable(read_error_untrusted(response.body), 512)
        if status in (401, 419):
            return TokenRefused(f"{self._host} does not accept the token" + (f": {said}" if said else ""))
        if status in (404, 405):
            return NoSuchTunnel(said or "there is no such tunnel", status=status)
        if status == 429 or status >= 500:
            return BridgeUnavailable(f"{self._host} cannot answer now", status=status)
        if status in (402, 403, 409, 422):
            return TunnelRefused(status, said or f"{self._host} does not grant the tunnel")
        return NotABridge(f"{self._host} has no API of this system", status=status)


def _path(identifier: str) -> str:
    return f"{TUNNELS}/{quote(identifier, safe='')}"


def _withCause(failure: Failure) -> str:
    return errorText(failure) if failure.value is not None else ""

"""
What the agent reports to the control plane of each request that it has served: a line, and a sample without its body.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.dialect.jetty.bridge_client import BridgeClient, NoSuchTunnel
from tunnelstack.dialect.jetty.upstream import ServedExchange
from tunnelstack.transport.error_text import errorText
from tunnelstack.wire.http1.head import Fields
from tunnelstack.wire.http1.redaction import STANDARD, shown_fields, shown_query, text_of
from tunnelstack.wire.jsonline import encode
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty_bridge import MOST_HEADERS, RequestLog, RequestSample, Tunnel

MOST_WAITING = 64
"""Posts that wait while one is under way."""

LEFT = 499
"""The status of a request whose visitor has left before there was a response."""

TARGET_CHARACTERS, HEADER_OCTETS = 2048, 32 * 1024
"""What a sample has of a path and of a query, and of fields as JSON, so that it is no larger than a control plane accepts."""


@frozen
class Post:
    """
    One post.

    @ivar identifier: of the tunnel.
    @ivar what: C{"request-log"} or C{"request-samples"}.
    @ivar send: sends it.
    """

    identifier: str
    what: str
    send: Callable[[], Deferred[None]]


class RequestReports:
    """
    Posts a line and a sample of each request, one after the other.

    @ivar dropped: posts that were not sent because too many waited.
    @ivar failed: posts that the control plane has not accepted.
    """

    log = Logger()

    def __init__(self, bridge: BridgeClient, tunnel: Callable[[], Tunnel | None]) -> None:
        """
        @param tunnel: gives the present tunnel; C{None} if there is none.
        """
        self.dropped = self.failed = 0
        self._bridge = bridge
        self._tunnel = tunnel
        self._waiting: deque[Post] = deque()
        self._sending: Deferred[None] | None = None
        self._unknown: frozenset[tuple[str, str]] = frozenset()   # which posts the control plane does not know
        self._isClosed = False

    def add(self, served: ServedExchange) -> None:
        """
        Report a request that is over, unless the tunnel is.
        """
        tunnel = self._tunnel()
        if tunnel is None or self._isClosed:
            return
        if len(self._waiting) + 2 > MOST_WAITING:
            self._drop(2)
            return
        line, sample = lineOf(served), sampleOf(served)
        self._waiting.append(Post(tunnel.id, "request-log", partial(self._bridge.logRequest, tunnel.id, line)))
        self._waiting.append(Post(tunnel.id, "request-samples", partial(self._bridge.sampleRequest, tunnel.id, sample)))
        self._next()

    def close(self) -> None:
        """
        Send nothing more.
        """
        self._isClosed = True
        self._waiting.clear()
        if self._sending is not None:
            self._sending.cancel()

    def _drop(self, posts: int) -> None:
        if not self.dropped:
            self.log.warn("the service is too slow for samples of all requests: some are not sent")
        self.dropped += posts

    def _next(self) -> None:
        while self._sending is None and self._waiting:
            post = self._waiting.popleft()
            if self._isWanted(post):
                self._send(post)

    def _isWanted(self, post: Post) -> bool:
        tunnel = self._tunnel()
        return tunnel is not None and tunnel.id == post.identifier and (post.identifier, post.what) not in self._unknown

    def _send(self, post: Post) -> None:
        self._sending = sending = maybeDeferred(post.send)
        sending.addErrback(self._notAccepted, post).addCallback(self._sent)

    def _sent(self, result: None) -> None:
        self._sending = None
        self._next()

    def _notAccepted(self, failure: Failure, post: Post) -> None:
        if self._isClosed and failure.check(CancelledError):
            return
        if not self.failed:
            self.log.warn("a sample of a request was not accepted: {reason}", reason=printable(errorText(failure)))
        self.failed += 1
        if failure.check(NoSuchTunnel):
            here = {each for each in self._unknown if each[0] == post.identifier}
            self._unknown = frozenset(here | {(post.identifier, post.what)})


def lineOf(served: ServedExchange) -> RequestLog:
    path, _ = _target(served)
    return RequestLog(
        method=_method(served), path=path, status=served.exchange.status or LEFT, latency_ms=round(served.seconds * 1000)
    )


def sampleOf(served: ServedExchange) -> RequestSample:
    """
    @return: what is shown of a request, without the values of fields and parameters with credentials.
    """
    path, query = _target(served)
    return RequestSample(
        method=_method(served), path=path, query=query, status=served.exchange.status or LEFT, bytes_in=served.octetsIn,
        bytes_out=served.octetsOut, headers=tuple(_fitting(served.head.fields)),
    )


def _method(served: ServedExchange) -> str:
    return text_of(served.head.method)[:64]


def _target(served: ServedExchange) -> tuple[str, str]:
    path, _, query = served.head.target.partition(b"?")
    return text_of(path)[:TARGET_CHARACTERS], shown_query(query, STANDARD)[:TARGET_CHARACTERS]


def _fitting(fields: Fields) -> list[tuple[str, str]]:
    """
    @return: the first fields, as many as a sample may have.
    """
    found: list[tuple[str, str]] = []
    octets = 0
    for name, value in shown_fields(fields, STANDARD)[:MOST_HEADERS]:
        octets += len(encode([name, value]))
        if octets > HEADER_OCTETS:
            break
        found.append((name, value))
    return found

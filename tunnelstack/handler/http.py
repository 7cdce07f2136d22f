"""
A local web server as an agent sees it: the head it receives, the error texts for visitors, and the log.

This is the policy only.  Exchanges are forwarded by L{tunnelstack.exchange.forward}; the agent gives it the three methods here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.interfaces import IServerExchange
from tunnelstack.transport.http2.errors import HTTP2ConnectionLost
from tunnelstack.transport.verification import CertificateRejected
from tunnelstack.wire.http1.framing import without
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.origin import public_origin, replace_origin
from tunnelstack.wire.http1.target import percent_encoded
from tunnelstack.wire.http2.errors import NotHTTP2


class FailedExchange(Protocol):
    """
    What is logged of an exchange that failed, as
    L{ExchangeFailed<tunnelstack.exchange.errors.ExchangeFailed>} has it.
    """

    @property
    def kind(self) -> Enum: ...

    @property
    def status(self) -> int: ...


class LocalSite:
    """
    One local web server.

    @ivar target: its address, as the operator wrote it.
    """

    log = Logger()

    def __init__(
        self, target: str, *, host: str = "", origin: str = "", asked: Callable[[RequestHead], object] | None = None
    ) -> None:
        """
        @param host: replaces the visitor's C{Host} field; C{""} leaves it unchanged.
        @param origin: C{scheme://host[:port]}, which replaces the public origin in C{Origin} and C{Referer}; C{""} leaves them
            unchanged.
        @param asked: called with the head of each request.
        """
        self.target = target
        self._host = host.encode()
        self._origin = origin.encode()
        self._onRequest = asked

    def prepareRequest(self, head: RequestHead, exchange: IServerExchange) -> RequestHead:
        """
        Called before each request is forwarded.

        @return: the head that is sent to the server.
        """
        for name, value in reversed(head.fields):           # the edge writes it last, and every request has it
            if name.lower() == b"x-request-id":
                exchange.trace = value.decode("latin-1")
                break
        if self._onRequest is not None:
            self._onRequest(head)
        if not (self._host or self._origin):
            return head
        fields = replace_origin(head.fields, public_origin(head.fields), self._origin) if self._origin else head.fields
        if self._host:
            fields = [(b"Host", self._host), *without(fields, b"host")]
        return RequestHead(head.method, head.target, fields, head.version, head.framing)

    def explain(self, reason: Failure) -> str:
        """
        @return: one sentence for the visitor when the server cannot be reached.
        """
        if reason.check(ConnectionRefusedError):
            return f"Nothing listens on {self.target} yet."
        if reason.check(DNSLookupError):
            return f"The host name of {self.target} cannot be resolved by the agent."
        if reason.check(CertificateRejected):
            return f"The agent rejected the certificate of {self.target}."
        if reason.check(NotHTTP2, HTTP2ConnectionLost):
            return f"{self.target} does not support HTTP/2."
        if reason.check(TimeoutError):
            return f"No answer from {self.target}."
        if reason.check(ConnectError):
            return f"The agent cannot connect to {self.target}."
        return f"The agent cannot reach {self.target}."

    def failed(self, exchange: IServerExchange, failed: FailedExchange) -> None:
        """
        Log a request that was not answered, or whose response is incomplete.
        """
        self.log.warn(
            "{status} for {method} {path} (request {trace}): {failed}", status=failed.status, kind=failed.kind.name,
            method=exchange.head.method.decode(), path=percent_encoded(exchange.head.target).decode(), trace=exchange.trace,
            target=self.target, failed=failed,
        )

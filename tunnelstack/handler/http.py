"""
What an agent does with HTTP exchanges for one web server next to it: the policy, not the carrying.

How the exchanges get there is floor 4a's business; whoever sees both gives the three methods here to a forwarder and its pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.transport.verification import CertificateRejected
from tunnelstack.wire.http1.framing import without
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.target import percent_encoded


class LocalSite:
    """
    One local web server.

    @ivar target: where it is, as the operator wrote it.
    """

    log = Logger()

    def __init__(
        self, target: str, *, host: str = "", asked: Callable[[RequestHead], object] | None = None
    ) -> None:
        """
        @param host: the C{Host} that the server sees, instead of the visitor's; C{""} changes nothing.
        @param asked: hears of each request.
        """
        self.target = target
        self._host = host.encode()
        self._onRequest = asked

    def prepareRequest(self, head: RequestHead, exchange: Any) -> RequestHead:
        """
        A request has come.

        @return: the head for the server.
        """
        trace = head.field(b"x-request-id")
        if trace is not None:
            exchange.trace = trace.decode("latin-1")
        if self._onRequest is not None:
            self._onRequest(head)
        if not self._host:
            return head
        fields = [(b"Host", self._host), *without(head.fields, b"host")]
        return RequestHead(head.method, head.target, fields, head.version, head.framing)

    def explain(self, reason: Failure) -> str:
        """
        One sentence for the visitor, when the server cannot be reached.
        """
        if reason.check(ConnectionRefusedError):
            return f"Nothing listens on {self.target} yet."
        if reason.check(DNSLookupError):
            return f"The name {self.target} is not known where the agent runs."
        if reason.check(CertificateRejected):
            return f"The agent does not accept the certificate of {self.target}."
        if reason.check(TimeoutError):
            return f"Nobody answers at {self.target}."
        if reason.check(ConnectError):
            return f"The agent cannot connect to {self.target}."
        return f"The agent cannot reach {self.target}."

    def failed(self, exchange: Any, failed: Any) -> None:
        """
        A request was not answered, or not to its end.

        @param failed: has C{kind}, C{status} and C{sentence}.
        """
        self.log.warn(
            "{status} for {method} {path} (request {trace}): {failed}", status=failed.status, kind=failed.kind.name,
            method=exchange.head.method.decode(), path=percent_encoded(exchange.head.target).decode(), trace=exchange.trace,
            target=self.target, failed=failed,
        )

"""
A request that waits until it is decided whether it is forwarded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.interfaces import IExchangeReceiver, IServerExchange
from tunnelstack.wire.http1.head import ResponseHead


@implementer(IExchangeReceiver)
class PendingRequest:
    """
    The receiver of a request whose password is being verified, or whose agent is expected to come back.  It keeps what arrives
    meanwhile, which is little because the connection is paused.
    """

    log = Logger()

    def __init__(
        self,
        exchange: IServerExchange,
        decision: Deferred[ExchangeFailed | None],
        allow: Callable[[], IExchangeReceiver],
        reject: Callable[[ExchangeFailed], IExchangeReceiver],
    ) -> None:
        """
        @param allow: forwards the request, and returns the receiver of its body.
        @param reject: answers the request with what is wrong, and returns the receiver of the rest.
        """
        self._exchange = exchange
        self._buffered: list[tuple[str, object]] = []
        self._receiver: IExchangeReceiver | None = None
        exchange.pauseProducing()
        decision.addErrback(self._unexpectedError).addCallback(self._decided, allow, reject)

    def _unexpectedError(self, failure: Failure) -> ExchangeFailed:
        self.log.failure("a password could not be verified", failure=failure)
        return ExchangeFailed(FailureKind.BROKEN, status=500)

    def _decided(
        self,
        failed: ExchangeFailed | None,
        allow: Callable[[], IExchangeReceiver],
        reject: Callable[[ExchangeFailed], IExchangeReceiver],
    ) -> None:
        if self._exchange.finished:
            return
        self._exchange.resumeProducing()
        self._receiver = receiver = allow() if failed is None else reject(failed)
        buffered, self._buffered = self._buffered, []
        for name, value in buffered:
            getattr(receiver, name)(value)

    def _deliver(self, name: str, value: object) -> None:
        if self._receiver is None:
            self._buffered.append((name, value))
        else:
            getattr(self._receiver, name)(value)

    def headReceived(self, head: ResponseHead) -> None:
        self._deliver("headReceived", head)

    def informational(self, head: ResponseHead) -> None:
        self._deliver("informational", head)

    def bodyReceived(self, octets: bytes) -> None:
        self._deliver("bodyReceived", octets)

    def ended(self, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        self._deliver("ended", trailers)

    def failed(self, reason: ExchangeFailed) -> None:
        self._deliver("failed", reason)

"""
Sending one small request and collecting the whole response.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.wire.http1.head import RequestHead, ResponseHead


class NoResponse(Unavailable):
    """
    The server did not send a whole response.
    """


class ResponseTooLong(PeerError):
    """
    The body of the response is longer than expected.
    """


@frozen
class FetchedResponse:
    """
    A response with all of its body.
    """

    head: ResponseHead
    body: bytes

    @property
    def status(self) -> int:
        """
        The status of the response.
        """
        return self.head.status


def fetch(
    open: Callable[[IExchangeReceiver], IExchange], head: RequestHead, body: bytes = b"", *, bodyOctets: int
) -> Deferred[FetchedResponse]:
    """
    Send a request.

    @param open: begins an exchange, such as L{ExchangePool.exchange<tunnelstack.exchange.pool.ExchangePool.exchange>}.
    @param head: contains the length of C{body}.
    @param bodyOctets: the largest body of a response, in octets.
    @return: fires with the response; fails with L{NoResponse} or L{ResponseTooLong}.  Cancelling it cancels the exchange.
    """
    receiver = _ResponseCollector(bodyOctets)
    exchange = receiver.exchange = open(receiver)
    exchange.sendHead(head)
    if body:
        exchange.write(body)
    exchange.end()
    return receiver.response


@implementer(IExchangeReceiver)
class _ResponseCollector:
    """
    Collects the response.
    """

    exchange: IExchange

    def __init__(self, bodyOctets: int) -> None:
        self.response: Deferred[FetchedResponse] = Deferred(self._cancelled)
        self._bodyOctets = bodyOctets
        self._head: ResponseHead | None = None
        self._body = b""

    def informational(self, head: ResponseHead) -> None:
        """
        Do nothing: interim responses are of no use here.
        """

    def headReceived(self, head: ResponseHead) -> None:
        self._head = head

    def bodyReceived(self, octets: bytes) -> None:
        self._body += octets
        if len(self._body) > self._bodyOctets:
            self.exchange.cancel(FailureKind.CLIENT_CLOSED)
            self._fail(ResponseTooLong("the response is too long", limit=self._bodyOctets))

    def ended(self, trailers: object) -> None:
        if not self.response.called and self._head is not None:
            self.response.callback(FetchedResponse(self._head, self._body))

    def failed(self, reason: ExchangeFailed) -> None:
        self._fail(NoResponse(f"no response from the server: {reason.sentence}"))

    def _fail(self, error: Exception) -> None:
        if not self.response.called:
            self.response.errback(error)

    def _cancelled(self, response: Deferred[FetchedResponse]) -> None:
        self.exchange.cancel(FailureKind.CLIENT_CLOSED)

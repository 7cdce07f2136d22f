"""
Two exchanges joined: a request that one side received is asked of the other, and its response goes back.

Heads carry nothing that concerns one connection when they come here, so a join passes everything on as it is; after the heads
it is not even on the path: the receivers' methods are the other side's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from tunnelstack.errors import Unavailable
from tunnelstack.exchange.error_page import ErrorPages, errorPage, respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import STREAMED, Traits
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IWholeResponseReceiver
from tunnelstack.wire.http1.framing import outgoing_framing
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

CONTINUE = ResponseHead(100, b"Continue", [])

OpenExchange = Callable[[Any], Any]
"""Given the receiver of a response, gives the L{IExchange<tunnelstack.interfaces.IExchange>} to ask; raises L{ExchangeFailed}
or another L{Unavailable}."""


@implementer(IWholeResponseReceiver)
class ResponseForwarder:
    """
    What comes back, on its way to who asked.
    """

    __slots__ = ("_near", "_onFailure", "_pages", "_sent", "bodyReceived", "ended", "informational")

    def __init__(self, near: Any, pages: ErrorPages, onFailure: Callable[[Any, ExchangeFailed], object] | None) -> None:
        self._near = near
        self._pages = pages
        self._onFailure = onFailure
        self._sent = False
        self.informational = near.informational
        self.bodyReceived = near.write
        self.ended = near.end

    def headReceived(self, head: ResponseHead) -> None:
        """
        Pass it on.
        """
        self._sent = True
        self._near.sendHead(head)

    def responseReceived(self, head: ResponseHead, octets: bytes) -> None:
        """
        All of it came at once, and goes on so.
        """
        self._sent = True
        self._near.respond(head, octets)

    def failed(self, reason: ExchangeFailed) -> None:
        """
        Say so with a page, or by breaking the response off.
        """
        if self._onFailure is not None:
            self._onFailure(self._near, reason)
        if self._sent:
            self._near.cancel(reason.kind)
        else:
            self._sent = True
            respondWithPage(self._near, self._pages, reason, self._near.trace)


@implementer(IExchangeReceiver)
class RequestForwarder:
    """
    What was asked, on its way to who answers.
    """

    __slots__ = ("_far", "bodyReceived", "ended")

    def __init__(self, far: Any) -> None:
        self._far = far
        self.bodyReceived = far.write
        self.ended = far.end

    def headReceived(self, head: object) -> None:
        """
        The head was passed on already.
        """

    informational = headReceived

    def failed(self, reason: ExchangeFailed) -> None:
        """
        Who asked is gone.
        """
        self._far.cancel(reason.kind)


@implementer(IExchangeReceiver)
class NullReceiver:
    """
    The rest of a request that is answered already.
    """

    def headReceived(self, head: object) -> None:
        """
        No.
        """

    informational = bodyReceived = ended = failed = headReceived


NULL_RECEIVER = NullReceiver()


def forward(
    near: Any,
    head: RequestHead,
    open: OpenExchange,
    *,
    pages: ErrorPages = errorPage,
    onFailure: Callable[[Any, ExchangeFailed], object] | None = None,
) -> Any:
    """
    Ask what C{near} was asked, and answer it with what is answered.

    @param near: the serving side's exchange.
    @param head: the request to send; no field of it concerns one connection.
    @param onFailure: hears of a failure before C{near} does, with C{near}.
    @return: the receiver of the request's body.
    """
    response = ResponseForwarder(near, pages, onFailure)
    try:
        far = open(response)
        if far.traits is not STREAMED:
            _checkTraits(far.traits, head, near)
    except Unavailable as reason:
        response.failed(reason if isinstance(reason, ExchangeFailed) else ExchangeFailed(FailureKind.ABSENT, reason=reason))
        return NULL_RECEIVER
    except ExchangeFailed as reason:
        far.cancel(reason.kind)
        response.failed(reason)
        return NULL_RECEIVER
    far.registerProducer(near, True)
    near.registerProducer(far, True)
    far.sendHead(head)
    return RequestForwarder(far)


def _checkTraits(traits: Traits, head: RequestHead, near: Any) -> None:
    """
    Can such a request be carried at all?

    @raise ExchangeFailed: it cannot.
    """
    framing = outgoing_framing(head)
    if framing.upgrade and not traits.upgrade:
        raise ExchangeFailed(FailureKind.UNSUPPORTED, "This site cannot change the protocol of a connection.")
    if not traits.streamed and framing.body > traits.largestBody:
        raise ExchangeFailed(FailureKind.TOO_LARGE)
    if not traits.informational and head.field(b"expect") is not None:
        near.informational(CONTINUE)


@implementer(IExchangeServer)
class Forwarder:
    """
    Serves every exchange by asking somebody else: a pool of connections to the web server itself.
    """

    def __init__(
        self,
        open: OpenExchange,
        *,
        pages: ErrorPages = errorPage,
        prepareRequest: Callable[[RequestHead, Any], RequestHead] | None = None,
        onFailure: Callable[[Any, ExchangeFailed], object] | None = None,
    ) -> None:
        """
        @param open: such as L{ExchangePool.exchange<tunnelstack.exchange.pool.ExchangePool.exchange>}.
        @param prepareRequest: given each head and its exchange, gives the head that is sent on.
        @param onFailure: hears of each failure, with the exchange, before that is answered.
        """
        self._open = open
        self._pages = pages
        self._prepareRequest = prepareRequest
        self._onFailure = onFailure

    def exchangeReceived(self, head: RequestHead, exchange: Any) -> Any:
        """
        Ask.
        """
        if self._prepareRequest is not None:
            head = self._prepareRequest(head, exchange)
        return forward(exchange, head, self._open, pages=self._pages, onFailure=self._onFailure)

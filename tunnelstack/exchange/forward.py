"""
Forwarding: a request that was received on one exchange is sent on another, and its response is sent back.

The heads contain no field that concerns one connection only, so everything is forwarded unchanged.  After the heads, this
module is not on the data path any more: the receivers' methods are those of the other exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from zope.interface import implementer

from tunnelstack.errors import Unavailable
from tunnelstack.exchange.error_page import ErrorPages, errorPage, respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import STREAMED, Traits
from tunnelstack.interfaces import (
    IExchange,
    IExchangeReceiver,
    IExchangeServer,
    IResponseExchange,
    IServerExchange,
    IWholeResponseReceiver,
)
from tunnelstack.wire.http1.framing import outgoing_framing
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

CONTINUE = ResponseHead(100, b"Continue", [])

OpenExchange = Callable[[IWholeResponseReceiver], IExchange]
"""Begins an exchange: called with the receiver of the response.  Raises L{Unavailable<tunnelstack.errors.Unavailable>}."""

OnFailure = Callable[[ExchangeFailed], object]
"""Called before a failure is answered."""


class ForwardObserver(Protocol):
    """
    Is called at the steps of an exchange that is forwarded.

    @ivar answeredAtOnce: set if the whole response was received by one call; C{responseBegun} is not called then.
    """

    answeredAtOnce: bool

    def connectionOpened(self) -> None:
        """
        A connection was opened for the exchange.
        """

    def requestEnded(self) -> None:
        """
        The body of the request has been received.
        """

    def responseBegun(self) -> None:
        """
        The head of the response has been received.
        """


@implementer(IWholeResponseReceiver)
class ResponseForwarder:
    """
    Sends a response back to where the request came from.

    @ivar near: the exchange that the response is sent to.
    @ivar far: the exchange that it is received on.
    @ivar pages: makes error pages.
    @ivar onFailure: called before a failure is answered, or C{None}.
    @ivar observer: called at the steps of the exchange, or C{None}.
    """

    # There are two for each request, so L{forward} sets what they have: C{__init__} would be a call of Python.

    near: IResponseExchange
    far: IExchange
    pages: ErrorPages
    onFailure: OnFailure | None
    observer: ForwardObserver | None = None
    _sent = False
    _registered = False

    @property
    def served(self) -> IResponseExchange:
        """
        The exchange that the response is sent to.
        """
        return self.near

    def informational(self, head: ResponseHead) -> None:
        self.near.informational(head)

    def bodyReceived(self, octets: bytes) -> None:
        """
        From L{headReceived} on it is the method of the other exchange, as C{ended} is.
        """
        self.near.write(octets)

    def ended(self, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        self.near.end(trailers)

    def register(self) -> None:
        """
        Let the exchange with the visitor pause the response.
        """
        self._registered = True
        self.near.registerProducer(self.far, True)

    def connectionOpened(self) -> None:
        """
        From the exchange that the response is received on: a connection was opened for it.
        """
        if self.observer is not None:
            self.observer.connectionOpened()

    def headReceived(self, head: ResponseHead) -> None:
        self._sent = True
        if not self._registered:              # not before, because a response that is whole needs no producer
            self.register()
        if self.observer is not None:
            self.observer.responseBegun()
        near = self.near
        self.bodyReceived, self.ended = near.write, near.end               # type: ignore[method-assign]
        near.sendHead(head)

    def responseReceived(self, head: ResponseHead, octets: bytes) -> None:
        self._sent = True
        if self.observer is not None:
            self.observer.answeredAtOnce = True
        self.near.respond(head, octets)

    def failed(self, reason: ExchangeFailed) -> None:
        """
        Respond with an error page, or break off the response if its head was sent.
        """
        if self.onFailure is not None:
            self.onFailure(reason)
        if self._sent:
            self.near.cancel(reason.kind)
        else:
            self._sent = True
            respondWithPage(self.near, self.pages, reason, self.near.trace)


@implementer(IExchangeReceiver)
class RequestForwarder:
    """
    Sends the body of a request on to where it is answered.

    @ivar far: the exchange that it is sent on.
    @ivar bodyReceived: its C{write}.
    @ivar ended: its C{end}, or what calls that.
    """

    __slots__ = ("bodyReceived", "ended", "far")          # L{forward} sets them, as it does those of L{ResponseForwarder}

    far: IExchange
    bodyReceived: Callable[[bytes], None]
    ended: Callable[[Iterable[tuple[bytes, bytes]]], None]

    def headReceived(self, head: object) -> None:
        """
        Do nothing: L{forward} has sent the head.
        """

    informational = headReceived

    def failed(self, reason: ExchangeFailed) -> None:
        self.far.cancel(reason.kind)


@implementer(IExchangeReceiver)
class NullReceiver:
    """
    Discards what is left of a message: of a request that has been answered, or of an exchange whose response is complete.
    """

    def headReceived(self, head: object) -> None:
        """
        Do nothing.
        """

    informational = bodyReceived = ended = failed = headReceived


NULL_RECEIVER = NullReceiver()


def forward(
    near: IResponseExchange,
    head: RequestHead,
    open: OpenExchange,
    *,
    pages: ErrorPages = errorPage,
    onFailure: OnFailure | None = None,
    throttled: bool = False,
    observer: ForwardObserver | None = None,
) -> IExchangeReceiver:
    """
    Send a request on, and its response back.

    @param near: the exchange on which the request was received.
    @param head: the request to send; no field of it concerns one connection only.
    @param throttled: C{near} may pause the response before its head.
    @param observer: called at the steps of the exchange.
    @return: the receiver of the request's body.
    """
    response = ResponseForwarder()
    response.near, response.pages, response.onFailure = near, pages, onFailure
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
    response.far = far
    response.observer = observer              # not before: a connection that is opened at once took no time
    if throttled:
        response.register()
    framing = head.framing
    if framing is None or framing.body or framing.upgrade:
        far.registerProducer(near, True)
    far.sendHead(head)
    request = RequestForwarder()
    request.far, request.bodyReceived, request.ended = far, far.write, far.end
    if observer is not None and (framing is None or framing.body):
        request.ended = partial(_endObserved, observer, far)
    return request


def _endObserved(observer: ForwardObserver, far: IExchange, trailers: Iterable[tuple[bytes, bytes]]) -> None:
    observer.requestEnded()
    far.end(trailers)


def _checkTraits(traits: Traits, head: RequestHead, near: IResponseExchange) -> None:
    """
    @raise ExchangeFailed: the carrier of the other exchange cannot carry such a request.
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
    Serves exchanges by forwarding them, such as to a pool of connections to a web server.
    """

    def __init__(
        self,
        open: OpenExchange,
        *,
        pages: ErrorPages = errorPage,
        prepareRequest: Callable[[RequestHead, IServerExchange], RequestHead] | None = None,
        onFailure: Callable[[IServerExchange, ExchangeFailed], object] | None = None,
        observerOf: Callable[[IServerExchange], ForwardObserver | None] | None = None,
    ) -> None:
        """
        @param open: such as L{ExchangePool.exchange<tunnelstack.exchange.pool.ExchangePool.exchange>}.
        @param prepareRequest: called with each head and its exchange; returns the head to send.
        @param onFailure: called with the exchange before a failure is answered there.
        @param observerOf: gives the observer of an exchange, or C{None}.
        """
        self._open = open
        self._pages = pages
        self._prepareRequest = prepareRequest
        self._onFailure = onFailure
        self._observerOf = observerOf

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        if self._prepareRequest is not None:
            head = self._prepareRequest(head, exchange)
        onFailure = None if self._onFailure is None else partial(self._onFailure, exchange)
        observer = None if self._observerOf is None else self._observerOf(exchange)
        return forward(exchange, head, self._open, pages=self._pages, onFailure=onFailure, observer=observer)

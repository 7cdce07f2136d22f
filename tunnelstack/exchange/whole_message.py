"""
Requests that are answered when they are whole: a small body is collected, within a bound and a deadline, and answered by one
function.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.settings.record import Record
from tunnelstack.wire.http1.head import Fields, RequestHead, ResponseHead

BODY_SECONDS = 10.0
"""Seconds within which the body of a request must be whole."""

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"


@frozen(eq=False, repr=False)
class WholeRequest(Record):
    """
    A request with all of its body.

    @ivar exchange: the L{IServerExchange} it came by, for its peer and its certificate.
    """

    head: RequestHead
    body: bytes
    exchange: IServerExchange

    @property
    def path(self) -> bytes:
        """
        The target without its query.
        """
        return self.head.target.partition(b"?")[0]


@frozen(eq=False, repr=False)
class WholeResponse(Record):
    """
    A response with all of its body.

    @ivar kind: the media type of the body; it is not sent with an empty body.
    @ivar fields: further header fields.
    """

    status: int
    body: bytes = b""
    kind: bytes = TEXT
    fields: tuple[tuple[bytes, bytes], ...] = ()

    def send(self, exchange: IServerExchange) -> None:
        """
        Answer an exchange of which no head was sent.
        """
        fields: Fields = [(b"Content-Length", b"%d" % len(self.body)), *self.fields]
        if self.body:
            fields.insert(0, (b"Content-Type", self.kind))
        exchange.respond(ResponseHead(self.status, HTTPStatus(self.status).phrase.encode(), fields), self.body)


Respond = Callable[[WholeRequest], Any]
"""Gives a L{WholeResponse}, or a C{Deferred} of one."""

Refuse = Callable[[int, str], WholeResponse]


def textResponse(status: int, sentence: str) -> WholeResponse:
    """
    A refusal as a line of text.
    """
    return WholeResponse(status, sentence.encode() + b"\n")


@implementer(IExchangeServer)
class WholeMessageServer:
    """
    Answers each request when it is whole.
    """

    log = Logger()

    def __init__(
        self, respond: Respond, *, clock: IReactorTime, bodyOctets: int, refuse: Refuse = textResponse,
        seconds: float = BODY_SECONDS,
    ) -> None:
        """
        @param respond: answers a request.
        @param bodyOctets: the longest body that is read; a longer one is answered with 413.
        @param refuse: makes the responses with status 408, 413 and 500, from the status and a sentence.
        @param seconds: within which a body must be whole; a later one is answered with 408.
        """
        self._respond = respond
        self.clock = clock
        self.bodyOctets = bodyOctets
        self.refuse = refuse
        self.seconds = seconds

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        """
        As in L{IExchangeServer}.
        """
        return _RequestCollector(self, head, exchange)

    def answer(self, request: WholeRequest) -> None:
        """
        Answer a request that is whole.
        """
        asked: Deferred[WholeResponse] = maybeDeferred(self._respond, request)
        asked.addErrback(self._defect, request)
        asked.addCallback(self._send, request.exchange)

    def _send(self, response: WholeResponse, exchange: IServerExchange) -> None:
        if not exchange.finished:
            response.send(exchange)

    def _defect(self, failure: Failure, request: WholeRequest) -> WholeResponse:
        self.log.failure("the request for {path} failed", failure=failure, path=request.path.decode("latin-1"))
        return self.refuse(500, "internal server error")


@implementer(IExchangeReceiver)
class _RequestCollector:
    """
    A request on its way in.
    """

    def __init__(self, server: WholeMessageServer, head: RequestHead, exchange: IServerExchange) -> None:
        self._server = server
        self._head = head
        self._exchange = exchange
        self._body = b""
        self._timer: IDelayedCall | None = None
        if exchange.framing.body > server.bodyOctets:
            self._tooLong()
        elif exchange.framing.body:
            self._timer = server.clock.callLater(server.seconds, self._refuse, 408, "the body did not arrive in time")

    def informational(self, head: object) -> None:
        """
        Requests have no interim responses.
        """

    headReceived = informational

    def bodyReceived(self, octets: bytes) -> None:
        """
        Collect the body.
        """
        if self._exchange.finished:
            return
        self._body += octets
        if len(self._body) > self._server.bodyOctets:
            self._tooLong()

    def ended(self, trailers: object) -> None:
        """
        Answer.
        """
        self._stop()
        if not self._exchange.finished:
            self._server.answer(WholeRequest(self._head, self._body, self._exchange))

    def failed(self, reason: object) -> None:
        """
        No one waits for the answer.
        """
        self._stop()

    def _tooLong(self) -> None:
        self._refuse(413, f"the body is longer than {self._server.bodyOctets} octets")

    def _refuse(self, status: int, sentence: str) -> None:
        self._stop()
        self._body = b""
        if not self._exchange.finished:
            self._server.refuse(status, sentence).send(self._exchange)

    def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

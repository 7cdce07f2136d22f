"""
Responses that are made piece by piece, each when the client has read the previous one.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.exchange.errors import FailureKind
from tunnelstack.interfaces import IServerExchange
from tunnelstack.settings.record import Record
from tunnelstack.wire.http1.head import ResponseHead

SECONDS = 30.0
"""Seconds within which a client must have read the whole response."""


@frozen(eq=False, repr=False)
class PiecewiseResponse(Record):
    """
    A response whose body is made while it is sent.  It is sent as a
    L{WholeResponse<tunnelstack.exchange.whole_message.WholeResponse>} is.

    @ivar pieces: gives the body; no piece is empty.
    @ivar kind: the media type of the body.
    @ivar clock: measures the time that the client takes.
    @ivar fields: further header fields.
    @ivar seconds: within which the client must have read the response; otherwise the connection is reset.
    """

    pieces: Iterator[bytes]
    kind: bytes
    clock: IReactorTime
    status: int = 200
    fields: tuple[tuple[bytes, bytes], ...] = ()
    seconds: float = SECONDS

    def send(self, exchange: IServerExchange) -> None:
        """
        Answer an exchange of which no head was sent.
        """
        fields = [(b"Content-Type", self.kind), *self.fields]
        exchange.sendHead(ResponseHead(self.status, HTTPStatus(self.status).phrase.encode(), fields))
        if exchange.head.method == b"HEAD":
            exchange.end()
        else:
            exchange.registerProducer(_PieceProducer(self, exchange), False)


@implementer(IPullProducer)
class _PieceProducer:
    """
    Writes one piece whenever the connection has sent the previous one.
    """

    log = Logger()

    def __init__(self, response: PiecewiseResponse, exchange: IServerExchange) -> None:
        self._pieces = response.pieces
        self._exchange = exchange
        self._timer: IDelayedCall | None = response.clock.callLater(response.seconds, self._timedOut)

    def resumeProducing(self) -> None:
        """
        Write a piece; end the response after the last.
        """
        try:
            piece = next(self._pieces, b"")
        except Exception:
            self.log.failure("a response could not be completed")
            self._cancel(FailureKind.BROKEN)
            return
        if piece:
            self._exchange.write(piece)
        else:
            self._stopTimer()
            self._exchange.end()

    def stopProducing(self) -> None:
        """
        The client has closed the connection.
        """
        self._stopTimer()

    def _timedOut(self) -> None:
        self._timer = None
        self._cancel(FailureKind.CLIENT_CLOSED)

    def _cancel(self, kind: FailureKind) -> None:
        self._stopTimer()
        self._exchange.cancel(kind)

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

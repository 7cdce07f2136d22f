"""
Plain HTTP at ShellHub's doors: a request with its body, one answer, and the end of the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from attrs import frozen
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.records import TakenOverRequest
from tunnelstack.wire.http1.head import Fields, ResponseHead, encode_response, values
from tunnelstack.wire.http1.target import percent_encoded
from tunnelstack.wire.records.shellhub_bootstrap import BODY, JSON, encode_message

BODY_SECONDS = 10.0
"""Seconds within which a request's body must have come."""

LINGER_SECONDS = 5.0
"""Seconds that a peer has to read the answer and go."""

TEXT = b"text/plain; charset=utf-8"


@frozen
class Response:
    """
    What is said to a request.
    """

    status: int
    body: bytes = b""
    kind: bytes = JSON
    fields: tuple[tuple[bytes, bytes], ...] = ()


def messageResponse(status: int, text: str, *fields: tuple[bytes, bytes]) -> Response:
    """
    A refusal, as the genuine server writes it.
    """
    return Response(status, encode_message(text), fields=fields)


def attachProtocol(request: TakenOverRequest, protocol: Any) -> None:
    """
    Be a connection's protocol from now on.
    """
    transport = request.transport
    setattr(transport, "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol", protocol)
    protocol.makeConnection(transport)


class RequestProtocol(Protocol):
    """
    One request at a door.

    @ivar request: what was read of it so far.
    """

    transport: Any
    log = Logger()

    def __init__(self, request: TakenOverRequest, clock: Any, respond: Callable[[TakenOverRequest, bytes], Response]) -> None:
        """
        @param respond: called with the request and the body.
        """
        self.request = request
        self._clock = clock
        self._respond = respond
        self._body = request.leftover
        self._length = 0
        self._timer: Any = None
        attachProtocol(request, self)

    def connectionMade(self) -> None:
        """
        Wait for the body, if there is one.
        """
        fields = self.request.head.fields
        lengths = values(fields, b"content-length")
        if values(fields, b"transfer-encoding"):
            self._sendResponse(messageResponse(411, "the body must have a length"))
        elif lengths and int(lengths[0]) > BODY:
            self._sendResponse(messageResponse(413, "the body is too long"))
        else:
            self._length = int(lengths[0]) if lengths else 0
            self._timer = self._clock.callLater(BODY_SECONDS, self._bodyTimeout)
            self._respondIfComplete()

    def dataReceived(self, data: bytes) -> None:
        """
        Some of the body; what follows it is of no interest.
        """
        if self._length >= 0:
            self._body += data
            self._respondIfComplete()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Nobody waits for the answer.
        """
        self._length = -1
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _respondIfComplete(self) -> None:
        if len(self._body) < self._length:
            return
        try:
            answer = self._respond(self.request, self._body[: self._length])
        except Exception:
            path = percent_encoded(self.request.head.target).decode()
            self.log.failure("a request at {path} could not be answered", path=path)
            answer = messageResponse(500, "internal server error")
        self._sendResponse(answer)

    def _bodyTimeout(self) -> None:
        self._sendResponse(messageResponse(408, "the body did not come in time"))

    def _sendResponse(self, answer: Response) -> None:
        self._length, self._body = -1, b""
        self.transport.write(responseOctets(answer))
        self.transport.loseConnection()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(LINGER_SECONDS, self.transport.abortConnection)


def responseOctets(answer: Response) -> bytes:
    """
    @return: the answer, after which the connection ends.
    """
    fields: Fields = [
        (b"Content-Length", b"%d" % len(answer.body)), (b"Connection", b"close"), *answer.fields,
    ]
    if answer.body:
        fields.insert(0, (b"Content-Type", answer.kind))
    return encode_response(ResponseHead(answer.status, HTTPStatus(answer.status).phrase.encode(), fields)) + answer.body

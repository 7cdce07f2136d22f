"""
How an agent connects to an edge by HTTP: it is authenticated within a deadline, and then its connection is upgraded or taken
over; or its request is refused with a response of the dialect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.exchange.whole_message import WholeResponse
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.transport.websocket.server import upgrade
from tunnelstack.transport.websocket.settings import DEFAULT_LIMITS, WebSocketLimits
from tunnelstack.wire.http1.head import Fields, RequestHead, values

T = TypeVar("T")

AUTHENTICATE_SECONDS = 10.0
"""Seconds within which an authenticator must answer."""

BEARER = re.compile(rb"(?i:bearer) +([!-~]+) *")


@implementer(IExchangeServer)
class HTTPEntry(Generic[T]):
    """
    The server of a door to which agents connect.  C{T} is what identifies an agent, such as its
    L{Principal<tunnelstack.records.Principal>}.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        authenticate: Callable[[RequestHead, IServerExchange], Deferred[T]] | Callable[[RequestHead, IServerExchange], T],
        enter: Callable[[T, IServerExchange], object],
        refuse: Callable[[Failure, IServerExchange], WholeResponse],
        *,
        seconds: float = AUTHENTICATE_SECONDS,
    ) -> None:
        """
        @param authenticate: returns the identity of the agent, or a C{Deferred} of it, or fails.
        @param enter: called with that and the exchange, which it takes over or answers.  If it raises an exception, the request
            is refused.
        @param refuse: makes the response for a failure of either.
        @param seconds: within which C{authenticate} must have its result.
        """
        self.clock = clock
        self.authenticate = authenticate
        self.enter = enter
        self.refuse = refuse
        self.seconds = seconds

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        return _EntryReceiver(self, head, exchange)


@implementer(IExchangeReceiver)
class _EntryReceiver(Generic[T]):
    """
    One request at a door, until it is answered or taken over.
    """

    def __init__(self, entry: HTTPEntry[T], head: RequestHead, exchange: IServerExchange) -> None:
        self._entry = entry
        self._head = head
        self._exchange = exchange
        self._authentication: Deferred[None] | None = None

    def informational(self, head: object) -> None:
        """
        Not called: requests have no interim responses.
        """

    headReceived = informational

    def bodyReceived(self, octets: bytes) -> None:
        """
        Ignore the body.
        """

    def ended(self, trailers: object) -> None:
        identity: Deferred[T] = maybeDeferred(self._entry.authenticate, self._head, self._exchange)
        if not identity.called or identity.paused:
            identity.addTimeout(self._entry.seconds, self._entry.clock)
        self._authentication = identity.addCallback(self._enter)
        self._authentication.addErrback(self._reject).addErrback(self._unexpectedError)

    def failed(self, reason: object) -> None:
        if self._authentication is not None:
            self._authentication.cancel()

    def _enter(self, identity: T) -> None:
        if not self._exchange.finished:
            self._entry.enter(identity, self._exchange)

    def _reject(self, failure: Failure) -> None:
        if not self._exchange.finished:
            self._entry.refuse(failure, self._exchange).send(self._exchange)

    def _unexpectedError(self, failure: Failure) -> None:
        self._entry.log.failure("a request at a door failed", failure=failure)
        if not self._exchange.finished:
            WholeResponse(500, b"internal server error\n").send(self._exchange)


def bearerToken(fields: Fields) -> str | None:
    """
    @return: the bearer token of a request's C{Authorization}; C{None} if there is none, or more than one.

    Source: RFC 6750, section 2.1.
    """
    credentials = values(fields, b"authorization")
    found = BEARER.fullmatch(credentials[0]) if len(credentials) == 1 else None
    return found[1].decode("ascii") if found else None


def upgradeToWebSocket(
    exchange: IServerExchange, factory: IProtocolFactory, *, clock: IReactorTime | None = None,
    subprotocols: Iterable[str] = (), headers: Iterable[tuple[str, str]] = (), limits: WebSocketLimits = DEFAULT_LIMITS,
    records: bool = False,
) -> IProtocol:
    """
    Take over an exchange, and make a WebSocket of its connection.

    The other parameters are those of L{upgrade<tunnelstack.transport.websocket.server.upgrade>}.

    @param factory: builds the protocol of the WebSocket.
    @return: the protocol of the connection.
    """
    request = exchange.onRequest()
    protocol = upgrade(
        request.transport, request.head, factory, clock=clock, subprotocols=subprotocols, headers=headers, limits=limits,
        records=records,
    )
    if request.leftover:
        protocol.dataReceived(request.leftover)
    return protocol


def switchProtocol(exchange: IServerExchange, protocol: IProtocol, answer: bytes) -> None:
    """
    Take an exchange over, and give its connection to another protocol.

    @param answer: octets that are written first.
    @raise UsageError: as from L{IServerExchange.onRequest<tunnelstack.interfaces.IServerExchange.onRequest>}.
    """
    request = exchange.onRequest()
    transport = request.transport
    transport.write(answer)
    replaced = "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol"     # the former is that of TLS
    setattr(transport, replaced, protocol)
    protocol.makeConnection(transport)
    if request.leftover:
        protocol.dataReceived(request.leftover)


class OneProtocol(Factory):
    """
    Gives the same protocol each time.
    """

    noisy = False

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, address: object) -> Any:
        return self._protocol

"""
How an agent gets in by HTTP: it is authenticated, within a deadline, and then its connection is upgraded or taken over; or it
is refused in the dialect's own words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.exchange.whole_message import WholeResponse
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.transport.websocket.server import upgrade
from tunnelstack.wire.http1.head import Fields, RequestHead, values

AUTHENTICATE_SECONDS = 10.0
"""Seconds within which the authenticator must answer."""

BEARER = re.compile(rb"(?i:bearer) +([!-~]+) *")


@implementer(IExchangeServer)
class HTTPEntry:
    """
    The server of a door through which agents come in.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        authenticate: Callable[[RequestHead, IServerExchange], Any],
        enter: Callable[[Any, IServerExchange], object],
        refuse: Callable[[Failure, IServerExchange], WholeResponse],
        *,
        seconds: float = AUTHENTICATE_SECONDS,
    ) -> None:
        """
        @param authenticate: gives who the agent is, or a C{Deferred} of it, or fails.
        @param enter: called with that and the exchange, which it takes over or answers.  What it raises is refused, too.
        @param refuse: makes the response from what went wrong.
        @param seconds: within which C{authenticate} must have its result.
        """
        self.clock = clock
        self.authenticate = authenticate
        self.enter = enter
        self.refuse = refuse
        self.seconds = seconds

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        """
        As in L{IExchangeServer}.
        """
        return _Entering(self, head, exchange)


@implementer(IExchangeReceiver)
class _Entering:
    """
    One agent at a door, from its request to the answer.
    """

    def __init__(self, entry: HTTPEntry, head: RequestHead, exchange: IServerExchange) -> None:
        self._entry = entry
        self._head = head
        self._exchange = exchange
        self._authentication: Deferred[Any] | None = None

    def informational(self, head: object) -> None:
        """
        Requests have no interim responses.
        """

    headReceived = informational

    def bodyReceived(self, octets: bytes) -> None:
        """
        A body means nothing here.
        """

    def ended(self, trailers: object) -> None:
        """
        Ask who it is.
        """
        self._authentication = asked = maybeDeferred(self._entry.authenticate, self._head, self._exchange)
        asked.addTimeout(self._entry.seconds, self._entry.clock)
        asked.addCallback(self._enter)
        asked.addErrback(self._reject)
        asked.addErrback(self._unexpectedError)

    def failed(self, reason: object) -> None:
        """
        The agent is gone.
        """
        if self._authentication is not None:
            self._authentication.cancel()

    def _enter(self, principal: Any) -> None:
        if not self._exchange.finished:
            self._entry.enter(principal, self._exchange)

    def _reject(self, failure: Failure) -> None:
        if not self._exchange.finished:
            self._entry.refuse(failure, self._exchange).send(self._exchange)

    def _unexpectedError(self, failure: Failure) -> None:
        self._entry.log.failure("an agent could not be let in", failure=failure)
        if not self._exchange.finished:
            WholeResponse(500, b"internal server error\n").send(self._exchange)


def bearerToken(fields: Fields) -> str | None:
    """
    @return: the bearer token of a request's C{Authorization}; C{None} if there is none, or more than one.

    Source: RFC 6750, section 2.1.
    """
    shown = values(fields, b"authorization")
    found = BEARER.fullmatch(shown[0]) if len(shown) == 1 else None
    return found[1].decode("ascii") if found else None


def upgradeToWebSocket(exchange: IServerExchange, factory: IProtocolFactory, **settings: Any) -> IProtocol:
    """
    Take an exchange over, and make a WebSocket of its connection.

    @param factory: builds the protocol of the WebSocket.
    @param settings: as of L{upgrade<tunnelstack.transport.websocket.server.upgrade>}.
    @return: the connection's protocol.
    """
    request = exchange.onRequest()
    protocol: IProtocol = upgrade(request.transport, request.head, factory, **settings)
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
    Gives the one protocol there is.
    """

    noisy = False

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, address: object) -> Any:
        """
        As in C{IProtocolFactory}.
        """
        return self._protocol

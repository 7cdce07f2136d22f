"""
The factory of a small HTTP server for operators: few connections at the same time.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.interfaces import IExchangeServer
from tunnelstack.transport.http2.alpn import ALPN_HTTP1


@implementer(IProtocolNegotiationFactory)
class BoundedHTTPFactory(ServerFactory):
    """
    Builds the connections of one listener, at most so many at the same time.  Further ones are closed at once.
    """

    noisy = False

    def __init__(self, server: IExchangeServer, clock: IReactorTime, maxConnections: int) -> None:
        """
        @param server: answers the requests of all connections.
        """
        self._server = server
        self._clock = clock
        self._maxConnections = maxConnections
        self._openConnections = 0

    def buildProtocol(self, address: IAddress | None) -> HTTPServerProtocol | None:
        if self._openConnections >= self._maxConnections:
            return None
        self._openConnections += 1
        return _CountedConnection(self._server, self._connectionClosed, clock=self._clock)

    def acceptableProtocols(self) -> list[bytes]:
        """
        @return: what is selected by ALPN where the endpoint uses TLS.
        """
        return [ALPN_HTTP1]

    def _connectionClosed(self) -> None:
        self._openConnections -= 1


class _CountedConnection(HTTPServerProtocol):
    """
    A connection that its factory counts.
    """

    def __init__(self, server: IExchangeServer, closed: Callable[[], None], *, clock: IReactorTime) -> None:
        super().__init__(server, clock=clock)
        self._connectionClosed = closed

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._connectionClosed()

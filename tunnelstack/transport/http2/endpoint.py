"""
Connecting and listening: HTTP/2 over the endpoints of other transports.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, ServerFactory
from zope.interface import implementer

from tunnelstack.transport.http2.alpn import ALPN_HTTP2
from tunnelstack.transport.http2.connection import HTTP2Connection, ReceiverFactory
from tunnelstack.transport.http2.errors import HTTP2ConnectionLost
from tunnelstack.wire.http2.errors import NotHTTP2
from tunnelstack.wire.http2.limits import HTTP2Limits


class HTTP2ClientEndpoint:
    """
    Makes connections of HTTP/2 to one server.
    """

    def __init__(self, clock: IReactorTime, wrapped: IStreamClientEndpoint, limits: HTTP2Limits | None = None) -> None:
        """
        @param wrapped: connects to the server: by TLS whose context offers C{ALPN_HTTP2}, or without TLS to a server of which
            it is known that it accepts HTTP/2 (prior knowledge).
        """
        self._clock = clock
        self._wrapped = wrapped
        self._limits = limits

    def connect(self) -> Deferred[HTTP2Connection]:
        """
        @return: fires with the connection once the server's SETTINGS have arrived, and fails with L{HTTP2ConnectionLost} if it
            is lost before, or with L{NotHTTP2} if TLS has selected another protocol or the server answers with something else.
            It can be cancelled.
        """
        attempt = _Attempt(HTTP2Connection(True, clock=self._clock, limits=self._limits))
        attempt.begin(self._wrapped)
        return attempt.outcome


class _Attempt:
    """
    One attempt to connect.

    @ivar outcome: its result.
    """

    def __init__(self, connection: HTTP2Connection) -> None:
        self._connection = connection
        self._connecting: Deferred[IProtocol] | None = None
        self.outcome: Deferred[HTTP2Connection] = Deferred(self._cancelled)

    def begin(self, endpoint: IStreamClientEndpoint) -> None:
        """
        Connect.
        """
        connecting = self._connecting = endpoint.connect(Factory.forProtocol(lambda: self._connection))
        connecting.addCallbacks(self._connected, self.outcome.errback)

    def _connected(self, protocol: object) -> None:
        self._connecting = None
        # C{None} without TLS, and before its handshake is complete
        selected = getattr(self._connection.transport, "negotiatedProtocol", None)
        if selected not in (ALPN_HTTP2, None):
            self._connection.abort()
            self.outcome.errback(NotHTTP2("TLS has selected another protocol", selected=selected))
            return
        self._connection.whenUp().addCallback(self._up)
        self._connection.whenLost().addCallback(self._lost)

    def _up(self, connection: HTTP2Connection) -> None:
        if not self.outcome.called:
            self.outcome.callback(connection)

    def _lost(self, reason: HTTP2ConnectionLost) -> HTTP2ConnectionLost:
        if not self.outcome.called:
            cause = reason.__cause__
            self.outcome.errback(cause if isinstance(cause, NotHTTP2) else reason)
        return reason

    def _cancelled(self, outcome: Deferred[HTTP2Connection]) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        else:
            self._connection.abort()


@implementer(IProtocolFactory)
class HTTP2ServerFactory(ServerFactory):
    """
    Builds connections of servers: to listen with, or for C{ALPN_HTTP2} of an
    L{ALPNFactory<tunnelstack.transport.tls.ALPNFactory>}.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, accept: ReceiverFactory, limits: HTTP2Limits | None = None) -> None:
        """
        @param accept: makes the receiver of each stream; C{None} refuses the stream.
        """
        self._clock = clock
        self._accept = accept
        self._limits = limits

    def buildProtocol(self, address: IAddress | None) -> HTTP2Connection:
        return HTTP2Connection(False, clock=self._clock, limits=self._limits, accept=self._accept)

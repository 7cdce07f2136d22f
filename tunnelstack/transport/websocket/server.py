"""
The server's side of a WebSocket: a factory to listen with, and a way to take over a connection whose request was read already.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, cast

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolFactory, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.transport.direct_write import immediateWrite
from tunnelstack.transport.websocket._connection import WebSocketConnection
from tunnelstack.transport.websocket._handshake import (
    UpgradeRequest,
    checkHeaders,
    encodeAcceptance,
    encodeRejection,
    readRequest,
)
from tunnelstack.transport.websocket.errors import HandshakeRejected
from tunnelstack.transport.websocket.settings import DEFAULT_LIMITS, WebSocketLimits
from tunnelstack.transport.websocket.transport import WebSocketTransport
from tunnelstack.wire.http1.head import BadMessage, RequestHead, find_end_untrusted, read_request_untrusted


class _ServerHandshake:
    """
    One request for a WebSocket, until it is accepted or rejected.
    """

    _log = Logger()

    def __init__(self, server: WebSocketServerFactory, address: IAddress) -> None:
        self._server = server
        self._address = address
        self._data = b""
        self._searched = 0
        self.connection = WebSocketConnection(True, self)
        self._timer: IDelayedCall | None = None

    def limitTime(self, seconds: float) -> None:
        """
        Let the connection be aborted after so long.
        """
        self._stopTimer()                     # reset() to an earlier time would search all delayed calls of the reactor
        self._timer = self._server.clock.callLater(seconds, self.connection.abort)

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # What the connection reports until the WebSocket is open

    def connectionMade(self) -> None:
        """
        The client begins.
        """

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            end = find_end_untrusted(self._data, self._searched)
            if end < 0:
                self._searched = len(self._data)
                return
            head = read_request_untrusted(self._data, end)
        except BadMessage as bad:
            self._reject(bad.status, bad.args[0])
            return
        leftover, self._data = self._data[end:], b""
        self.requestReceived(head, leftover)

    def lost(self, reason: Failure) -> None:
        self._stopTimer()

    def writesPaused(self) -> None:
        """
        A response of some hundred octets does not fill a network.
        """

    writesResumed = writesPaused

    # What comes of a request

    def requestReceived(self, head: RequestHead, leftover: bytes = b"") -> None:
        """
        Accept or reject a request.

        @param leftover: what was received after its head.
        """
        try:
            request = readRequest(head)
            protocol = self._buildProtocol(request)
        except HandshakeRejected as rejected:
            self._reject(rejected.status, rejected.reason)
            return
        self._stopTimer()
        server, connection = self._server, self.connection
        subprotocol = next((name for name in server.subprotocols if name in request.subprotocols), None)
        immediateWrite(connection.transport)(encodeAcceptance(request, subprotocol, server.headers))
        transport = WebSocketTransport(server.clock, server.limits, server.records, request.resource, subprotocol)
        transport.begin(connection, protocol)
        connection.feed(leftover)

    def _buildProtocol(self, request: UpgradeRequest) -> IProtocol:
        """
        @raise HandshakeRejected: another path, or the application builds no protocol.
        """
        server = self._server
        if server.path is not None and request.resource.partition("?")[0] != server.path:
            raise HandshakeRejected(HTTPStatus.NOT_FOUND, "there is no WebSocket at this path")
        try:
            protocol = server.application.buildProtocol(self._address)
        except Exception:
            self._log.failure("building the protocol of a WebSocket failed")
            raise HandshakeRejected(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error") from None
        if protocol is None:
            raise HandshakeRejected(HTTPStatus.FORBIDDEN, "the server rejects this connection")
        return protocol

    def _reject(self, status: int, reason: str) -> None:
        self.limitTime(self._server.limits.closeTimeout)
        self.connection.transport.write(encodeRejection(status, reason))
        self.connection.flushAndClose()


class WebSocketServerFactory(ServerFactory):
    """
    Listen for WebSockets on any endpoint.

    @ivar application: builds the protocol of each WebSocket; C{None} is answered with 403.
    """

    noisy = False

    def __init__(
        self,
        application: IProtocolFactory,
        path: str | None = None,
        *,
        clock: IReactorTime | None = None,
        subprotocols: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        limits: WebSocketLimits = DEFAULT_LIMITS,
        records: bool = False,
    ) -> None:
        """
        @param path: the only path that is answered, without a query; C{None} for every path.
        @param clock: the global reactor unless given.
        @param subprotocols: what the application supports, the best first; the first that the client offers is chosen.
        @param headers: further fields of the response.
        @param records: whole messages, text included, go to the protocol's C{recordReceived}.
        @raise UsageError: a header that cannot be sent.
        """
        self.application = application
        self.path = path
        self.clock = _reactor() if clock is None else clock
        self.subprotocols = list(subprotocols)
        self.headers = checkHeaders(headers)
        self.limits = limits
        self.records = records

    def doStart(self) -> None:
        super().doStart()
        self.application.doStart()

    def doStop(self) -> None:
        self.application.doStop()
        super().doStop()

    def buildProtocol(self, address: IAddress | None) -> WebSocketConnection:
        handshake = _ServerHandshake(self, cast(IAddress, address))
        handshake.limitTime(self.limits.handshakeTimeout)
        return handshake.connection


def upgrade(
    transport: Any,
    head: RequestHead,
    factory: IProtocolFactory,
    *,
    address: IAddress | None = None,
    clock: IReactorTime | None = None,
    subprotocols: Iterable[str] = (),
    headers: Iterable[tuple[str, str]] = (),
    limits: WebSocketLimits = DEFAULT_LIMITS,
    records: bool = False,
) -> IProtocol:
    """
    Take over a connection whose request was read already.  The response is written at once: 101, or a rejection after which
    the connection closes.  The other parameters are those of L{WebSocketServerFactory}.

    @param transport: the connection.  Its protocol is replaced here; no producer may be registered with it, and it
        must not be paused.
    @param head: the request.
    @param factory: builds the application's protocol, before the response is written; C{None} is answered with 403.
    @param address: what C{buildProtocol} is given; unless given, the peer's address.
    @return: the connection's protocol from now on: the octets that followed the head, if there are any, go to its
        C{dataReceived}.
    """
    server = WebSocketServerFactory(
        factory, clock=clock, subprotocols=subprotocols, headers=headers, limits=limits, records=records
    )
    handshake = _ServerHandshake(server, transport.getPeer() if address is None else address)
    replaced = "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol"     # the former is that of TLS
    setattr(transport, replaced, handshake.connection)
    handshake.connection.makeConnection(transport)
    handshake.requestReceived(head)
    return handshake.connection


def _reactor() -> IReactorTime:
    from twisted.internet import reactor  # importing it installs it

    return cast(IReactorTime, reactor)

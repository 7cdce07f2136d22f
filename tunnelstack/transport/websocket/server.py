"""
The side of a WebSocket that is asked: one request until it is open or refused, a factory to listen with, and a way to take over
a connection whose HTTP head somebody else has read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from tunnelstack.transport.websocket._autobahn import AutobahnServer, HandshakeRefused, serverParameters
from tunnelstack.transport.websocket._handshake import checkHeaders
from tunnelstack.transport.websocket.settings import DEFAULT_LIMITS, WebSocketLimits
from tunnelstack.transport.websocket.transport import WebSocketTransport


class _ServerHandshake:
    """
    One request for a WebSocket on the server's side, until it is open or refused.
    """

    def __init__(self, server: WebSocketServerFactory, address: Any) -> None:
        self._server = server
        self._address = address
        self._protocol: Any = None
        self._resource = ""
        self._subprotocol: str | None = None
        self.engine = AutobahnServer()
        self.engine.factory = serverParameters()
        self.engine.handshakeListener = self
        self.engine.accept = self._accept
        self.engine.handshakeDone = self._handshakeDone
        self._timer = server.clock.callLater(server.limits.handshakeTimeout, self._handshakeTimedOut)

    def _accept(self, resource: str, offered: list[str]) -> tuple[str | None, dict[str, list[str]]]:
        """
        @raise HandshakeRefused: another path, or the application builds no protocol.
        """
        server = self._server
        path = resource.partition("?")[0]
        if server.path is not None and path != server.path:
            raise HandshakeRefused(404, "there is no WebSocket here")
        self._protocol = server.application.buildProtocol(self._address)
        if self._protocol is None:
            raise HandshakeRefused(403, "this WebSocket is not for you")
        self._resource = resource
        self._subprotocol = next((name for name in server.subprotocols if name in offered), None)
        return self._subprotocol, server.headers

    def _handshakeDone(self, opened: bool) -> None:
        self._timer.reset(self._server.limits.closeTimeout)
        if not opened:
            return
        self._timer.cancel()
        engine, server = self.engine, self._server
        transport = WebSocketTransport(server.clock, server.limits, server.records)
        transport.subprotocol = self._subprotocol
        transport.resource = self._resource
        transport.begin(engine, self._protocol)

    def _handshakeTimedOut(self) -> None:
        self.engine.abort()

    # what the engine tells until the WebSocket is open

    def writesPaused(self) -> None:
        """
        An answer of some hundred octets does not fill a network.
        """

    writesResumed = writesPaused

    def lost(self, reason: Failure) -> None:
        if self._timer.active():
            self._timer.cancel()


class WebSocketServerFactory(ServerFactory):
    """
    Listen for WebSockets on any endpoint; an application behind each.

    @ivar application: builds the protocol of each WebSocket; C{None} is answered with 403.
    """

    noisy = False

    def __init__(
        self,
        application: IProtocolFactory,
        path: str | None = None,
        *,
        clock: Any = None,
        subprotocols: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        limits: WebSocketLimits = DEFAULT_LIMITS,
        records: bool = False,
    ) -> None:
        """
        @param path: the only path that is answered, without a query; C{None} for every path.
        @param clock: an C{IReactorTime}; the global reactor unless given.
        @param subprotocols: what we speak, the best first; the first that the client offers is taken.
        @param headers: further fields of the answer.
        @param records: whole messages, text included, go to the protocol's C{recordReceived}.
        @raise UsageError: a header that cannot be sent.
        """
        self.application = application
        self.path = path
        self.clock = _reactor() if clock is None else clock
        self.subprotocols = list(subprotocols)
        self.headers: dict[str, list[str]] = {}
        for name, value in checkHeaders(headers):
            self.headers.setdefault(name, []).append(value)
        self.limits = limits
        self.records = records

    def doStart(self) -> None:
        super().doStart()
        self.application.doStart()

    def doStop(self) -> None:
        self.application.doStop()
        super().doStop()

    def buildProtocol(self, address: Any) -> Any:
        return _ServerHandshake(self, address).engine


def upgrade(
    transport: Any,
    head: bytes,
    factory: IProtocolFactory,
    *,
    address: Any = None,
    clock: Any = None,
    subprotocols: Iterable[str] = (),
    headers: Iterable[tuple[str, str]] = (),
    limits: WebSocketLimits = DEFAULT_LIMITS,
    records: bool = False,
) -> Any:
    """
    Take over a connection whose HTTP head somebody else has read.  The answer is written at once: 101, or a refusal
    after which the connection closes.  The other parameters are those of L{WebSocketServerFactory}.

    @param transport: the connection.  Its protocol is replaced here; no producer may be registered with it, and it
        must not be paused.
    @param head: the request as it came, up to and with its empty line.
    @param factory: builds the application's protocol, before the answer is written; C{None} is answered with 403.
    @param address: what C{buildProtocol} is given; unless given, the peer's address.
    @return: the connection's protocol from now on: the octets that followed the head, if there are any, go to its
        C{dataReceived}.
    """
    server = WebSocketServerFactory(
        factory, clock=clock, subprotocols=subprotocols, headers=headers, limits=limits, records=records
    )
    protocol = server.buildProtocol(transport.getPeer() if address is None else address)
    replace = "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol"     # TLS wraps
    setattr(transport, replace, protocol)
    protocol.makeConnection(transport)
    protocol.dataReceived(head)
    return protocol


def _reactor() -> Any:
    from twisted.internet import reactor  # importing it installs it

    return reactor

"""
The edge's end of a session with a client of koding/tunnel: every stream is announced on the control stream, and used once.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.koding.control_server import ServerControlStream
from tunnelstack.dialect.session_tunnel import SessionTunnel, explain
from tunnelstack.errors import Denied
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.head_first import HeadFirstExchange
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Traits
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.records import HTTPPurpose, Principal, Purpose, TCPPurpose, Visitor
from tunnelstack.session.announced import AnnouncingSession
from tunnelstack.stream.errors import OpenTimeout, SessionLost, UnsupportedPurpose
from tunnelstack.wire.http1.framing import outgoing_framing, tokens
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.records.koding import ControlMessage, Transport

CLIENT_ITSELF = ("", "localhost", "127.0.0.1")
"""Hosts of purposes that a client can serve: a message carries a port only."""

TRAITS = Traits(informational=False)
"""Agents leave interim responses out, which a genuine server takes for final ones."""

LEAVE_SECONDS = 10.0
"""Seconds that requests under way may take on a session that this side closes in order."""


def portOf(host: bytes) -> int:
    """
    @param host: the C{Host} of a request.
    @return: its port; C{0} if it has none, as Go's C{net.SplitHostPort} finds it.
    """
    name, colon, port = host.rpartition(b":")
    bare = name if name.startswith(b"[") and name.endswith(b"]") else name.replace(b":", b" ")
    digits = port.lstrip(b"0")
    if not colon or bare != name or not digits.isdigit() or len(digits) > 5 or int(digits) > 65_535:
        return 0
    return int(digits)


def transportFor(head: RequestHead) -> Transport:
    """
    @return: L{Transport.WEBSOCKET} for a request that offers to become a WebSocket.
    """
    upgrade = head.method == b"GET" and b"websocket" in tokens(outgoing_framing(head).upgrade)
    return Transport.WEBSOCKET if upgrade else Transport.HTTP


@implementer(IStreamClientEndpoint)
class _NextStream:
    """
    Opens the stream of the exchange that is about to begin.

    @ivar message: what is announced for it.
    """

    def __init__(self, session: AnnouncingSession) -> None:
        self._session = session
        self.message = ControlMessage(Transport.HTTP)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        opened: Deferred[IProtocol] = self._session.connectorFor(self.message).connect(protocolFactory)
        return opened


class ClientTunnel(SessionTunnel[AnnouncingSession]):
    """
    A way to one client.

    @ivar ports: the public port of each TCP service of the client, by the service's name.
    """

    def __init__(
        self, session: AnnouncingSession, control: ServerControlStream, principal: Principal, *, dialect: str, instance: str,
        clock: IReactorTime, bounds: ExchangeBounds,
    ) -> None:  # fmt: skip
        """
        @param control: its control stream.
        """
        super().__init__(
            session, principal, dialect=dialect, instance=instance, endpointFor=self._open, clock=clock, bounds=bounds,
            explain=_explain,
        )
        self.ports: dict[str, int] = {}
        self._control = control
        self._next = _NextStream(session)
        # A stream is for one request: genuine clients do not report that the local server has closed its connection.
        self._pool = self._pools[HTTPPurpose()] = ExchangePool(
            self._next, clock=clock, timeouts=bounds.timeouts, limits=bounds.responseLimits, maxIdle=0,
            maxConnections=bounds.streams, explain=_explain,
        )

    def configure(self, bounds: ExchangeBounds) -> None:
        """
        Use other bounds for the exchanges that begin from now on.
        """
        self._pool.configure(bounds.timeouts, bounds.responseLimits)

    @property
    def inFlight(self) -> int:
        return max(0, self.session.streams - 1)

    def _open(self, purpose: Purpose, visitor: Visitor | None, wait: bool) -> IStreamClientEndpoint:
        """
        The stream has arrived before the endpoint is connected, whether that is waited for or not.
        """
        self.refuseIfDraining()
        match purpose:
            case TCPPurpose(service=service) if service in self.ports:
                return self._connectorFor(Transport.TCP, self.ports[service])
            case TCPPurpose(service="", host=host, port=port) if host in CLIENT_ITSELF and port:
                return self._connectorFor(Transport.TCP, port)
            case HTTPPurpose(service="", host=host, port=port) if host in CLIENT_ITSELF:
                return self._connectorFor(Transport.HTTP, port)
        raise UnsupportedPurpose(f"the dialect {self.dialect} cannot carry this", purpose=type(purpose).__name__)

    def _connectorFor(self, transport: Transport, port: int) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = self.session.connectorFor(ControlMessage(transport, port))
        return endpoint

    def exchange(self, purpose: HTTPPurpose, receiver: IExchangeReceiver, visitor: Visitor | None = None) -> IExchange:
        """
        As in L{ITunnel}.  The client is sent the port of the purpose, or else that of the C{Host} of the request.
        """
        self.refuseIfDraining()
        if purpose.service or purpose.host not in CLIENT_ITSELF:
            raise UnsupportedPurpose("clients of this dialect have no named services, and connect only to their own targets")

        def open(head: RequestHead) -> IExchange:
            port = purpose.port or portOf(head.field(b"host") or b"")
            self._next.message = ControlMessage(transportFor(head), port)
            exchange: IExchange = self._pool.exchange(receiver)
            return exchange

        return HeadFirstExchange(receiver, open, TRAITS)

    # The end

    def drain(self) -> Deferred[None]:
        """
        As in L{ITunnel}.  The control stream is ended when no request is under way: the client opens no streams after that.
        """
        if self._lost:
            return succeed(None)
        self.refuseMore()
        drained: Deferred[None] = self.drainPools().addCallback(lambda _: self._leave())
        return drained

    def _leave(self) -> Deferred[None]:
        """
        End the control stream when every stream that was announced has arrived: a client that has received the end opens none.
        """
        left: Deferred[None] = self.session.whenPaired().addCallback(self._endControl)
        return left

    def _endControl(self, _: None) -> Deferred[None]:
        self._control.close()
        return deferLater(self._clock, 0, self.session.drain)     # on the next turn, which keeps the order on the wire

    def leave(self) -> None:
        """
        Close the session in order.  Requests under way may continue for L{LEAVE_SECONDS}.
        """
        self.refuseMore()
        if not self._lost:
            self._leave()
            late = self._clock.callLater(LEAVE_SECONDS, self.session.abort)
            self.session.whenLost().addCallback(lambda _: late.cancel() if late.active() else None)

    def abort(self, reason: object) -> None:
        """
        As in L{ITunnel}.  When the client has connected again, the session is closed in order.
        """
        if isinstance(reason, Denied) and reason.code == "replaced":
            self.leave()
        else:
            self.refuseMore()
            self.session.abort()


def _explain(reason: Failure) -> str:
    """
    One sentence for a visitor about a stream that could not be opened.
    """
    if reason.check(SessionLost):
        return explain(reason)
    if reason.check(OpenTimeout):
        return "The agent of this site does not answer."
    return explain(reason)

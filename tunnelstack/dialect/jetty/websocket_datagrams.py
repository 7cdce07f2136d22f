"""
Datagrams over a WebSocket, at both ends: those of one visitor are a flow.

Nothing opens a flow but its first datagram, and nothing closes one: both ends forget it when it is idle.
"""

from __future__ import annotations

from secrets import token_hex

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, NoProtocol
from twisted.internet.error import TimeoutError as IdleTimeoutError
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.jetty.datagram_flows import FLOW_SECONDS, MOST_FLOWS, QUEUED_OCTETS, EdgeFlow
from tunnelstack.dialect.jetty.websocket_session import JSONSession
from tunnelstack.exchange.moving_timeout import MovingTimeout
from tunnelstack.interfaces import (
    IDatagramClientEndpoint,
    IDatagramFactory,
    IDatagramProtocol,
    IDatagramTransport,
)
from tunnelstack.records import Visitor
from tunnelstack.stream.errors import SessionLost, TooManyStreams
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.records.jetty import UDPData


class EdgeFlows:
    """
    The flows of an edge to one agent.

    @ivar unknown: datagrams for flows that there are not, or not any more.
    """

    def __init__(self, session: JSONSession) -> None:
        self.session = session
        self.unknown = 0
        self._flows: dict[str, EdgeFlow] = {}
        session.handle(UDPData, self._received)

    def endpointFor(self, visitor: Visitor | None) -> IDatagramClientEndpoint:
        """
        @return: an endpoint each of whose connections is a flow.
        """
        address = None if visitor is None else visitor.address
        return _FlowEndpoint(self, address if IAddress.providedBy(address) else None)

    def open(self, factory: IDatagramFactory, visitor: IAddress | None) -> Deferred[IDatagramProtocol]:
        """
        Begin a flow.
        """
        session = self.session
        if (gone := session.lostReason()) is not None:
            return fail(gone)
        if len(self._flows) >= MOST_FLOWS:
            return fail(TooManyStreams("too many flows to the agent", flows=len(self._flows)))
        application = factory.buildProtocol(visitor)
        if application is None:
            return fail(NoProtocol())
        identifier = token_hex(16)
        flow = self._flows[identifier] = EdgeFlow(self, identifier, visitor, session.address, application)
        session.flowsChanged(1)
        application.makeConnection(flow)
        return succeed(application)

    def send(self, identifier: str, visitor: IAddress | None, datagram: bytes) -> bool:
        """
        @return: whether it was sent.
        """
        channel = self.session.channel
        if channel.queued > QUEUED_OCTETS:
            return False
        channel.send(UDPData(connection_id=identifier, remote_addr=addressText(visitor), data=datagram))
        return True

    def forget(self, identifier: str) -> None:
        """
        From a flow: it is over.
        """
        if self._flows.pop(identifier, None) is not None:
            self.session.flowsChanged(-1)

    def _received(self, frame: UDPData) -> None:
        flow = self._flows.get(frame.connection_id)
        if flow is None:
            self.unknown += 1
        else:
            flow.datagramReceived(frame.data)

    def close(self, reason: SessionLost) -> None:
        """
        The session is lost.
        """
        for flow in list(self._flows.values()):
            flow.end(reason)


@implementer(IDatagramClientEndpoint)
class _FlowEndpoint:
    def __init__(self, flows: EdgeFlows, visitor: IAddress | None) -> None:
        self._flows = flows
        self._visitor = visitor

    def connect(self, factory: IDatagramFactory) -> Deferred[IDatagramProtocol]:
        return self._flows.open(factory, self._visitor)


@implementer(IDatagramProtocol, IDatagramFactory)
class AgentFlow:
    """
    The flow of one visitor, at an agent: the protocol of its socket.
    """

    def __init__(self, flows: AgentFlows, first: UDPData) -> None:
        """
        @param first: its first datagram.
        """
        self._flows = flows
        self._identifier = first.connection_id
        self._visitor = first.remote_addr
        self._held: list[bytes] = []
        self._transport: IDatagramTransport | None = None
        self._over = False
        self._idle = MovingTimeout(flows.session.clock, lambda: self.end(IdleTimeoutError()))

    def buildProtocol(self, address: IAddress | None) -> IDatagramProtocol | None:
        return None if self._over else self

    def makeConnection(self, transport: IDatagramTransport) -> None:
        self._transport = transport
        held, self._held = self._held, []
        for datagram in held:
            transport.write(datagram)

    def send(self, frame: UDPData) -> None:
        """
        A datagram of the visitor.  Some wait while the address of the local server is expire up.
        """
        self._idle.set(FLOW_SECONDS)
        self._visitor = frame.remote_addr
        if self._transport is not None:
            self._transport.write(frame.data)
        elif len(self._held) < 16:
            self._held.append(frame.data)

    def datagramReceived(self, datagram: bytes) -> None:
        """
        A datagram of the local server.
        """
        channel = self._flows.session.channel
        if self._over or channel.queued > QUEUED_OCTETS:
            self._flows.dropped += 1
            return
        self._idle.set(FLOW_SECONDS)
        channel.send(UDPData(connection_id=self._identifier, remote_addr=self._visitor, data=datagram))

    def connectionLost(self, reason: Failure) -> None:
        self._transport = None
        self.end(ConnectionDone())

    def end(self, reason: Exception) -> None:
        """
        The flow is over.
        """
        if self._over:
            return
        self._over = True
        self._idle.stop()
        self._flows.forget(self._identifier)
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.loseConnection()


class AgentFlows:
    """
    The flows of an edge, at an agent.

    @ivar dropped: datagrams that were not delivered.
    """

    def __init__(self, session: JSONSession, endpoint: IDatagramClientEndpoint | None) -> None:
        """
        @param endpoint: reaches the local server; C{None} if there is none, so that all datagrams are dropped.
        """
        self.session = session
        self.dropped = 0
        self._endpoint = endpoint
        self._flows: dict[str, AgentFlow] = {}
        session.handle(UDPData, self._received)

    def _received(self, frame: UDPData) -> None:
        flow = self._flows.get(frame.connection_id)
        if flow is None:
            if self._endpoint is None or len(self._flows) >= MOST_FLOWS:
                self.dropped += 1
                return
            flow = self._flows[frame.connection_id] = AgentFlow(self, frame)
            self.session.flowsChanged(1)
            self._endpoint.connect(flow).addErrback(self._notConnected, flow)
        flow.send(frame)

    def _notConnected(self, failure: Failure, flow: AgentFlow) -> None:
        flow.end(ConnectionDone())

    def forget(self, identifier: str) -> None:
        """
        From a flow: it is over.
        """
        if self._flows.pop(identifier, None) is not None:
            self.session.flowsChanged(-1)

    def close(self) -> None:
        """
        The session is lost.
        """
        for flow in list(self._flows.values()):
            flow.end(ConnectionDone())

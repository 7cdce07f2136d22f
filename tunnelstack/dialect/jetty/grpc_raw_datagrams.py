"""
The datagrams of all visitors on one raw lane, at the edge: those of one visitor are a flow.
"""

from __future__ import annotations

from typing import Any, Protocol
from uuid import uuid4

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, NoProtocol
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import (
    IDatagramClientEndpoint,
    IDatagramFactory,
    IDatagramProtocol,
    IDatagramTransport,
)
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import TooManyStreams
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.transport.peers import addressText
from tunnelstack.transport.udp import LONGEST_PAYLOAD
from tunnelstack.wire.protobuf import encode_message
from tunnelstack.wire.records.jetty_grpc import RAW_DATAGRAM, RawChunk

QUEUED_OCTETS = 256 * 1024
"""Octets that wait to be sent to the agent, beyond which datagrams are dropped."""

MOST_FLOWS = 1024
"""Flows of datagrams of one agent, each of which has a socket there."""


class Lane(Protocol):
    """
    A raw lane.
    """

    call: GRPCCall

    def use(self, user: DatagramLane) -> None:
        """
        Carry something from now on.
        """


class LaneSource(Protocol):
    """
    The raw lanes of one agent.
    """

    address: StreamAddress

    def take(self) -> Deferred[Any]:
        """
        @return: a C{Deferred} of a L{Lane}.
        """

    def flowEnded(self) -> None:
        """
        A flow is over.
        """

    def datagramsOver(self) -> None:
        """
        The lane of datagrams has ended.
        """


class DatagramLane:
    """
    The lane of the datagrams of all visitors.
    """

    def __init__(self, lanes: LaneSource) -> None:
        self._lanes = lanes
        self._lane: Lane | None = None
        self._taking: Deferred[None] | None = None
        self._waiting: list[Deferred[DatagramLane]] = []
        self._flows: dict[str, EdgeFlow] = {}

    @property
    def flows(self) -> int:
        """
        How many flows there are.
        """
        return len(self._flows)

    def ready(self) -> Deferred[DatagramLane]:
        """
        @return: fires when there is a lane.
        """
        if self._lane is not None:
            return succeed(self)
        waiting: Deferred[DatagramLane] = Deferred()
        self._waiting.append(waiting)
        if self._taking is None:
            self._taking = self._lanes.take().addCallbacks(self._begin, self._failed)
        return waiting

    def _begin(self, lane: Lane) -> None:
        self._lane = lane
        lane.use(self)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self)

    def _failed(self, reason: Failure) -> None:
        self._lanes.datagramsOver()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(reason)

    def open(self, factory: IDatagramFactory, visitor: IAddress | None) -> IDatagramProtocol:
        """
        Begin a flow.
        """
        if len(self._flows) >= MOST_FLOWS:
            raise TooManyStreams("too many flows to the agent", flows=len(self._flows))
        application = factory.buildProtocol(visitor)
        if application is None:
            raise NoProtocol
        identifier = uuid4().hex
        flow = self._flows[identifier] = EdgeFlow(self, identifier, visitor or self._lanes.address, application)
        application.makeConnection(flow)
        return application

    def forget(self, identifier: str) -> None:
        """
        From a flow: it is over.
        """
        self._flows.pop(identifier, None)
        self._lanes.flowEnded()

    def send(self, identifier: str, address: IAddress, datagram: bytes) -> bool:
        """
        @return: whether it was sent.
        """
        lane = self._lane
        if lane is None or lane.call.queued > QUEUED_OCTETS:
            return False
        lane.call.send(encode_message(RawChunk(
            connection_id=identifier, type=RAW_DATAGRAM, data=datagram, remote_addr=addressText(address), protocol="udp",
        )))  # fmt: skip
        return True

    def chunkReceived(self, chunk: RawChunk) -> None:
        """
        From the lane.
        """
        flow = self._flows.get(chunk.connection_id)
        if flow is not None and chunk.type == RAW_DATAGRAM:
            flow.datagramReceived(chunk.data)

    def lost(self, reason: Exception | None) -> None:
        """
        The lane has ended.
        """
        self._lane = None
        self._lanes.datagramsOver()
        for flow in list(self._flows.values()):
            flow.end(reason or ConnectionDone())


@implementer(IDatagramTransport)
class EdgeFlow:
    """
    The flow of one visitor: the transport of its application.
    """

    longest = LONGEST_PAYLOAD

    def __init__(self, lane: DatagramLane, identifier: str, visitor: IAddress, application: IDatagramProtocol) -> None:
        self.dropped = 0
        self._lane = lane
        self._identifier = identifier
        self._visitor = visitor
        self._application: IDatagramProtocol | None = application

    def write(self, datagram: bytes) -> None:
        if self._application is None:
            return
        if len(datagram) > self.longest or not self._lane.send(self._identifier, self._visitor, datagram):
            self.dropped += 1

    def datagramReceived(self, datagram: bytes) -> None:
        """
        From the agent.
        """
        if self._application is not None:
            self._application.datagramReceived(datagram)

    def loseConnection(self) -> None:
        self.end(ConnectionDone())

    def abortConnection(self) -> None:
        self.end(ConnectionAborted())

    def end(self, reason: Exception) -> None:
        """
        The flow is over.
        """
        application, self._application = self._application, None
        if application is not None:
            self._lane.forget(self._identifier)
            application.connectionLost(Failure(reason))

    def getHost(self) -> IAddress:
        return self._visitor

    def getPeer(self) -> IAddress:
        return self._visitor


@implementer(IDatagramClientEndpoint)
class FlowEndpoint:
    """
    Begins a flow each time.
    """

    def __init__(self, lane: DatagramLane, visitor: IAddress | None) -> None:
        self._lane = lane
        self._visitor = visitor

    def connect(self, factory: IDatagramFactory) -> Deferred[IDatagramProtocol]:
        opened: Deferred[IDatagramProtocol] = self._lane.ready().addCallback(DatagramLane.open, factory, self._visitor)
        return opened

"""
The datagrams of all visitors on one raw lane, at the edge: those of one visitor are a flow.
"""

from __future__ import annotations

from typing import Any, Protocol
from uuid import uuid4

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, NoProtocol
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.jetty.datagram_flows import MOST_FLOWS, QUEUED_OCTETS, EdgeFlow
from tunnelstack.interfaces import (
    IDatagramClientEndpoint,
    IDatagramFactory,
    IDatagramProtocol,
)
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import TooManyStreams
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.protobuf import encode_message
from tunnelstack.wire.records.jetty_grpc import RAW_DATAGRAM, RawChunk


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
        address = visitor or self._lanes.address
        flow = self._flows[identifier] = EdgeFlow(self, identifier, address, address, application)
        application.makeConnection(flow)
        return application

    def forget(self, identifier: str) -> None:
        """
        From a flow: it is over.
        """
        self._flows.pop(identifier, None)
        self._lanes.flowEnded()

    def send(self, identifier: str, visitor: IAddress | None, datagram: bytes) -> bool:
        """
        @return: whether it was sent.
        """
        lane = self._lane
        if lane is None or lane.call.queued > QUEUED_OCTETS:
            return False
        lane.call.send(encode_message(RawChunk(
            connection_id=identifier, type=RAW_DATAGRAM, data=datagram, remote_addr=addressText(visitor), protocol="udp",
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

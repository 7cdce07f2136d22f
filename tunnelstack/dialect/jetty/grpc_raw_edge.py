"""
Raw lanes at the edge: calls of C{ForwardRaw} that an agent has opened.  Each carries one TCP connection, or the datagrams of
many visitors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from tunnelstack.dialect.jetty.grpc_raw_datagrams import DatagramLane, FlowEndpoint
from tunnelstack.dialect.jetty.grpc_raw_stream import RawLaneOwner, RawStream
from tunnelstack.interfaces import (
    ICallReceiver,
    IDatagramClientEndpoint,
)
from tunnelstack.records import Visitor
from tunnelstack.session.lane_pool import IdleLanes
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import OpenTimeout, SessionLost, StreamResetError
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.protobuf import BadProtobuf, decode_message_untrusted, encode_message
from tunnelstack.wire.records.jetty_grpc import RAW_CLOSE, RAW_CONNECT, RawChunk

CONNECT_SECONDS = 10.0
"""Within which an agent must have connected to its local server."""


class RawOwner(RawLaneOwner, Protocol):
    """
    The tunnel of these lanes.
    """

    def demandLanes(self, count: int) -> None:
        """
        So many are missing.
        """

    def rawLaneOver(self) -> None:
        """
        A lane has ended, or a stream on it.
        """


class RawLanes:
    """
    The raw lanes of one agent.
    """

    def __init__(self, clock: IReactorTime, owner: RawOwner, address: StreamAddress) -> None:
        """
        @param address: what the addresses of streams contain of the agent.
        """
        self.clock = clock
        self.owner = owner
        self.address = address
        self._idle: IdleLanes[RawLane] = IdleLanes(clock)
        self._idle.onDemand = lambda waiting: owner.demandLanes(1)
        self._lanes: set[RawLane] = set()
        self._datagrams: DatagramLane | None = None

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def inFlight(self) -> int:
        """
        Connections and flows.
        """
        flows = self._datagrams.flows if self._datagrams is not None else 0
        return sum(lane.carries for lane in self._lanes) + flows

    def endpointFor(self, visitor: Visitor | None) -> IStreamClientEndpoint:
        """
        @return: an endpoint that connects to the local server of the agent.
        """
        return _RawEndpoint(self, _addressOf(visitor))

    def datagramEndpointFor(self, visitor: Visitor | None) -> IDatagramClientEndpoint:
        """
        @return: an endpoint each of whose connections is a flow to the local server of the agent.
        """
        if self._datagrams is None:
            self._datagrams = DatagramLane(self)
        return FlowEndpoint(self._datagrams, _addressOf(visitor))

    def take(self) -> Deferred[RawLane]:
        """
        @return: a C{Deferred} of a lane, as in L{IdleLanes.take}.
        """
        return self._idle.take()

    # From the agent

    def add(self, call: GRPCCall) -> ICallReceiver:
        """
        The agent has opened a lane.
        """
        lane = RawLane(self, call)
        self._lanes.add(lane)
        call.receiver = receiver = lane
        self._idle.add(lane)
        return receiver

    # From lanes

    def over(self, lane: RawLane) -> None:
        """
        A lane has ended.
        """
        self._idle.discard(lane)
        self._lanes.discard(lane)
        self.owner.rawLaneOver()

    def flowEnded(self) -> None:
        """
        From the lane of datagrams: a flow is over.
        """
        self.owner.rawLaneOver()

    def datagramsOver(self) -> None:
        """
        The lane of datagrams has ended.
        """
        self._datagrams = None
        self.owner.rawLaneOver()

    # From the tunnel

    def retireIdle(self) -> None:
        """
        End the lanes that nobody uses.
        """
        for lane in self._idle.lanes():
            lane.finish()

    def fail(self, reason: SessionLost) -> None:
        """
        There will be no more lanes.
        """
        self._idle.fail(reason)

    def reset(self) -> None:
        """
        End all lanes at once.
        """
        for lane in list(self._lanes):
            lane.reset()


def _addressOf(visitor: Visitor | None) -> IAddress | None:
    address = None if visitor is None else visitor.address
    return address if IAddress.providedBy(address) else None


class LaneUser(Protocol):
    """
    What a raw lane carries.
    """

    def chunkReceived(self, chunk: RawChunk) -> None:
        """
        A chunk has arrived.
        """

    def lost(self, reason: Exception | None) -> None:
        """
        The lane has ended.
        """


@implementer(ICallReceiver)
class RawLane:
    """
    A lane.

    @ivar call: the call.
    @ivar carries: whether it carries a connection.
    """

    def __init__(self, lanes: RawLanes, call: GRPCCall) -> None:
        self.call = call
        self.carries = False
        self._lanes = lanes
        self._user: LaneUser | None = None

    def use(self, user: LaneUser) -> None:
        """
        Carry something from now on.
        """
        self._user = user

    def finish(self) -> None:
        """
        End the lane in good order.
        """
        self._user = None
        self.call.finish()
        self._lanes.over(self)

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """
        End the lane at once.
        """
        self.call.reset(code)
        self._lost(StreamResetError("the lane was reset by this side"))

    def _lost(self, reason: Exception | None) -> None:
        user, self._user = self._user, None
        self.carries = False
        self._lanes.over(self)
        if user is not None:
            user.lost(reason)

    # ICallReceiver

    def answered(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """
        Not called: this is the server.
        """

    def messageReceived(self, message: bytes) -> None:
        try:
            chunk = decode_message_untrusted(RawChunk, message)
        except BadProtobuf as bad:
            self.call.finish(CallResult(Status.INTERNAL, str(bad)))
            self._lost(bad)
            return
        if self._user is None:
            self.reset(ErrorCode.PROTOCOL_ERROR)
        else:
            self._user.chunkReceived(chunk)

    def halfClosed(self) -> None:
        self.call.finish()
        self._lost(None)

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        self._lost(reason or StreamResetError(result.message))


@implementer(IStreamClientEndpoint)
class _RawEndpoint:
    """
    Connects by a lane each time.
    """

    def __init__(self, lanes: RawLanes, visitor: IAddress | None) -> None:
        self._lanes = lanes
        self._visitor = visitor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fires once the agent is connected to its local server.
        """
        attempt = _Connecting(self._lanes, self._visitor, protocolFactory)
        attempt.taking = self._lanes.take().addCallbacks(attempt.begin, attempt.connected.errback)
        return attempt.connected


class _Connecting:
    """
    A connection that is being made.
    """

    taking: Deferred[None]

    def __init__(self, lanes: RawLanes, visitor: IAddress | None, factory: IProtocolFactory) -> None:
        self.connected: Deferred[IProtocol] = Deferred(self._cancelled)
        self._lanes = lanes
        self._visitor = visitor
        self._factory = factory
        self._lane: RawLane | None = None
        self._id = uuid4().hex

    def begin(self, lane: RawLane) -> None:
        """
        There is a lane.
        """
        self._lane = lane
        lane.carries = True
        lane.use(self)
        lane.call.send(encode_message(RawChunk(
            connection_id=self._id, type=RAW_CONNECT, remote_addr=addressText(self._visitor), protocol="tcp",
        )))  # fmt: skip
        timer = self._lanes.owner.timer
        timer.add(self, timer.seconds() + CONNECT_SECONDS)

    def chunkReceived(self, chunk: RawChunk) -> None:
        """
        The agent's answer.
        """
        if chunk.type == RAW_CONNECT:
            self._open()
        elif chunk.type == RAW_CLOSE:
            self._fail(StreamResetError(f"the agent cannot connect: {printable(chunk.reason, 200)}"))
        else:
            self._fail(StreamResetError("the agent has sent octets before it was connected"))

    def _open(self) -> None:
        lane, self._lane = self._lane, None
        assert lane is not None
        self._lanes.owner.timer.discard(self)
        address = StreamAddress(
            key=self._lanes.address.key, principal=self._lanes.address.principal, dialect=self._lanes.address.dialect,
            visitor=self._visitor, peer=self._lanes.address.peer,
        )
        try:
            protocol = self._factory.buildProtocol(address)
            if protocol is None:
                raise NoProtocol
        except Exception:
            lane.reset()
            self.connected.errback()
            return
        raw = RawStream(lane.call, self._lanes.clock, self._lanes.owner, self._id, address, lane.finish)
        lane.use(raw)
        raw.stream.handOver(protocol)
        self.connected.callback(protocol)

    def lost(self, reason: Exception | None) -> None:
        """
        The lane has ended.
        """
        self._lane = None
        self._fail(reason or StreamResetError("the agent has ended the lane"))

    def timedOut(self, now: float) -> None:
        """
        From the timer.
        """
        self._fail(OpenTimeout("the agent did not connect in time"))

    def _fail(self, reason: Exception) -> None:
        self._lanes.owner.timer.discard(self)
        self._reset()
        if not self.connected.called:
            self.connected.errback(reason)

    def _cancelled(self, connected: Deferred[IProtocol]) -> None:
        self.taking.cancel()
        self._lanes.owner.timer.discard(self)
        self._reset()

    def _reset(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.use(_UNUSED)
            lane.reset()


class _NoUser:
    """
    Used a lane, and does not any more.
    """

    def chunkReceived(self, chunk: RawChunk) -> None:
        pass

    def lost(self, reason: Exception | None) -> None:
        pass


_UNUSED = _NoUser()

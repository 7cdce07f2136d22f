"""
Raw lanes at the agent: each is joined to a TCP connection to the local server, or carries the datagrams of many visitors, each
of whom has a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.jetty.datagram_flows import FLOW_SECONDS, MOST_FLOWS, QUEUED_OCTETS
from tunnelstack.dialect.jetty.grpc_raw_stream import RawLaneOwner, RawStream
from tunnelstack.exchange.moving_timeout import MovingTimeout
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.interfaces import (
    ICallReceiver,
    IDatagramClientEndpoint,
    IDatagramFactory,
    IDatagramProtocol,
    IDatagramTransport,
)
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.splice import Splice
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.protobuf import BadProtobuf, decode_message_untrusted, encode_message
from tunnelstack.wire.records.jetty_grpc import (
    RAW_CLOSE,
    RAW_CONNECT,
    RAW_DATAGRAM,
    RawChunk,
)

CONNECT_SECONDS = 5.0
"""Seconds that the agent has to connect to its local server."""

HELD_DATAGRAMS = 16
"""Datagrams of one flow that wait for its socket."""

CONNECT_FAILED = "local connect failed: "


class RawAgentOwner(RawLaneOwner, Protocol):
    """
    The session of these lanes.

    @ivar clock: the reactor.
    @ivar tcp: connects to the local server, if the tunnel is for TCP.
    @ivar udp: likewise for UDP.
    """

    clock: IReactorTime
    tcp: IStreamClientEndpoint | None
    udp: IDatagramClientEndpoint | None

    @property
    def retiresLanes(self) -> bool: ...

    def laneOpened(self, lane: AgentRawLane) -> None:
        """
        The edge has accepted a lane.
        """

    def laneUsed(self, lane: AgentRawLane) -> None:
        """
        The edge begins to use a lane.
        """

    def laneOver(self, lane: AgentRawLane, opened: bool, result: CallResult) -> None:
        """
        A lane has ended.
        """


@implementer(ICallReceiver)
class AgentRawLane:
    """
    A raw lane.

    @ivar call: the call.
    """

    call: GRPCCall

    def __init__(self, owner: RawAgentOwner) -> None:
        self._owner = owner
        self._opened = self._ending = False
        self._raw: RawStream | None = None
        self._dialling: Deferred[object] | None = None
        self._id = ""
        self._flows: dict[str, AgentFlow] | None = None

    def retire(self) -> None:
        """
        The lane is idle, and is not needed any more.
        """
        self._ending = True
        self.call.halfClose()

    # ICallReceiver

    def answered(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._opened = True
        self._owner.laneOpened(self)

    def messageReceived(self, message: bytes) -> None:
        try:
            chunk = decode_message_untrusted(RawChunk, message)
        except BadProtobuf as bad:
            self._fail(ErrorCode.PROTOCOL_ERROR, bad)
            return
        if self._raw is not None:
            self._raw.chunkReceived(chunk)
        elif self._ending:
            self._fail(ErrorCode.REFUSED_STREAM, None)
        elif chunk.type == RAW_CONNECT and self._flows is None and not self._id:
            self._connect(chunk)
        elif chunk.type == RAW_DATAGRAM and self._dialling is None:
            self._datagramReceived(chunk)
        elif chunk.type == RAW_CLOSE:
            self._fail(ErrorCode.CANCEL, None)
        else:
            self._fail(ErrorCode.PROTOCOL_ERROR, None)

    def halfClosed(self) -> None:
        """
        Not called: this is the client.
        """

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        self._over(result, reason)

    def _fail(self, code: int, reason: Exception | None) -> None:
        self.call.reset(code)
        self._over(CallResult(Status.OK), reason)

    def _over(self, result: CallResult, reason: Exception | None) -> None:
        self._ending = True
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        raw, self._raw = self._raw, None
        self._owner.laneOver(self, self._opened, result)
        if raw is not None:
            raw.lost(reason)
        flows, self._flows = self._flows, None
        for flow in list((flows or {}).values()):
            flow.end()

    # TCP

    def _connect(self, chunk: RawChunk) -> None:
        """
        Connect to the local server.  What the edge sends meanwhile waits.
        """
        owner = self._owner
        self._id = chunk.connection_id or "?"
        owner.laneUsed(self)
        if owner.tcp is None:
            self._refuse("the tunnel is not for TCP")
            return
        self.call.pauseProducing()
        splice = Splice(owner.clock)
        dialling = owner.tcp.connect(SpliceFactory(splice.far))
        dialling.addTimeout(CONNECT_SECONDS, owner.clock)
        self._dialling = dialling.addCallbacks(lambda _: self._connected(splice, chunk), self._notConnected)

    def _connected(self, splice: Splice, chunk: RawChunk) -> None:
        self._dialling = None
        self.call.send(encode_message(RawChunk(connection_id=chunk.connection_id, type=RAW_CONNECT)))
        self._raw = raw = RawStream(
            self.call, self._owner.clock, self._owner, chunk.connection_id, StreamAddress(), self._finish
        )
        raw.stream.handOver(splice.near)
        self.call.resumeProducing()

    def _notConnected(self, failure: Failure) -> None:
        self._dialling = None
        if not self.call.over and not failure.check(CancelledError):
            self._refuse(errorText(failure))

    def _refuse(self, reason: str) -> None:
        chunk = RawChunk(connection_id=self._id, type=RAW_CLOSE, reason=CONNECT_FAILED + reason, end=True)
        self.call.send(encode_message(chunk))
        self._finish()
        self.call.resumeProducing()

    def _finish(self) -> None:
        """
        The lane has done its work.
        """
        self._raw = None
        self._ending = True
        self.call.halfClose()

    # UDP

    def _datagramReceived(self, chunk: RawChunk) -> None:
        if self._flows is None:
            self._flows = {}
            self._owner.laneUsed(self)
        flow = self._flows.get(chunk.connection_id)
        if flow is None:
            endpoint = self._owner.udp
            if endpoint is None or len(self._flows) >= MOST_FLOWS:
                return
            flow = AgentFlow(self._owner.clock, chunk.connection_id, self._send, self._forget)
            self._flows[chunk.connection_id] = flow
            endpoint.connect(flow).addErrback(flow.notConnected)
        flow.write(chunk.remote_addr, chunk.data)

    def _send(self, chunk: RawChunk) -> None:
        """
        A datagram of the local server; it is dropped if too much waits.
        """
        if not self.call.over and self.call.queued <= QUEUED_OCTETS:
            self.call.send(encode_message(chunk))

    def _forget(self, identifier: str) -> None:
        if self._flows is not None:
            self._flows.pop(identifier, None)


@implementer(IDatagramProtocol, IDatagramFactory)
class AgentFlow:
    """
    The datagrams of one visitor: the protocol of a socket.
    """

    def __init__(
        self, clock: IReactorTime, identifier: str, send: Callable[[RawChunk], object], forget: Callable[[str], object]
    ) -> None:
        """
        @param send: sends a chunk to the edge.
        @param forget: called when the flow is over.
        """
        self._identifier = identifier
        self._send = send
        self._forget = forget
        self._visitor = ""
        self._held: list[bytes] = []
        self._transport: IDatagramTransport | None = None
        self._over = False
        self._idle = MovingTimeout(clock, self.end)

    def buildProtocol(self, address: IAddress | None) -> IDatagramProtocol | None:
        return None if self._over else self

    def makeConnection(self, transport: IDatagramTransport) -> None:
        self._transport = transport
        held, self._held = self._held, []
        for datagram in held:
            transport.write(datagram)

    def notConnected(self, failure: Failure) -> None:
        """
        There is no socket.
        """
        self.end()

    def write(self, visitor: str, datagram: bytes) -> None:
        """
        A datagram of the visitor.  Some wait until there is a socket.
        """
        self._idle.set(FLOW_SECONDS)
        self._visitor = visitor
        if self._transport is not None:
            self._transport.write(datagram)
        elif len(self._held) < HELD_DATAGRAMS:
            self._held.append(datagram)

    def datagramReceived(self, datagram: bytes) -> None:
        """
        A datagram of the local server.
        """
        if not self._over:
            self._idle.set(FLOW_SECONDS)
            self._send(RawChunk(
                connection_id=self._identifier, type=RAW_DATAGRAM, data=datagram, remote_addr=self._visitor, protocol="udp",
            ))  # fmt: skip

    def connectionLost(self, reason: Failure) -> None:
        self._transport = None
        self.end()

    def end(self) -> None:
        """
        The flow is over.
        """
        if self._over:
            return
        self._over = True
        self._idle.stop()
        self._forget(self._identifier)
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.loseConnection()

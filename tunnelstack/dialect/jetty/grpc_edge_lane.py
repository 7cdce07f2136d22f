"""
A lane at the edge: a call that an agent has opened, so that the edge can write a request into it.  It carries one exchange at a
time, and is used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zope.interface import implementer

from tunnelstack.interfaces import ICallReceiver
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.protobuf import BadProtobuf, decode_message_untrusted
from tunnelstack.wire.records.jetty_chunks import KNOWN_TYPES, BadChunk
from tunnelstack.wire.records.jetty_grpc import HTTPChunk

OVER = CallResult(Status.CANCELLED, "the lane has ended")


class LaneExchange(Protocol):
    """
    What a lane carries.
    """

    def chunkReceived(self, chunk: HTTPChunk) -> None:
        """
        A chunk has arrived.  Raises L{BadChunk} if it is not allowed.
        """

    def laneHalfClosed(self) -> None:
        """
        The agent sends nothing more.
        """

    def laneLost(self, result: CallResult, reason: Exception | None) -> None:
        """
        The lane has ended.
        """


class LaneOwner(Protocol):
    """
    The tunnel of a lane.

    @ivar mostExchanges: of one lane.
    """

    mostExchanges: int

    @property
    def retiresLanes(self) -> bool:
        """
        Whether lanes are not used again.
        """

    def laneIdle(self, lane: EdgeLane) -> None:
        """
        A lane can be used.
        """

    def laneOver(self, lane: EdgeLane) -> None:
        """
        A lane cannot be used any more.
        """


@implementer(ICallReceiver)
class EdgeLane:
    """
    A lane.

    @ivar call: the call.
    """

    __slots__ = ("_exchange", "_exchanges", "_halfClosed", "_owner", "call")

    def __init__(self, call: GRPCCall, owner: LaneOwner) -> None:
        self.call = call
        self._owner = owner
        self._exchange: LaneExchange | None = None
        self._exchanges = 0
        self._halfClosed = False

    # From its exchange

    def carry(self, exchange: LaneExchange) -> None:
        """
        Carry an exchange from now on.
        """
        self._exchange = exchange
        self._exchanges += 1

    def drop(self) -> None:
        """
        The exchange is over, and is told nothing more.
        """
        self._exchange = None
        self.call.unregisterProducer()

    def release(self) -> None:
        """
        The exchange is complete in both directions.
        """
        if self._halfClosed or self._exchanges >= self._owner.mostExchanges or self._owner.retiresLanes:
            self.retire(queued=True)
        elif not self.call.over:
            self.call.resumeProducing()
            self._owner.laneIdle(self)

    def retire(self, *, queued: bool = False) -> None:
        """
        End the call in good order, if no message would be cut.

        @param queued: what is queued is still wanted.
        """
        if self.call.queued and not queued:
            self.reset()
        else:
            self._owner.laneOver(self)
            self.call.finish()

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """
        End the call at once.
        """
        self._owner.laneOver(self)
        self.call.reset(code)

    def end(self) -> None:
        """
        From the tunnel: the session is over.
        """
        self.reset()
        self.ended(OVER, None)

    # ICallReceiver

    def answered(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """
        Not called: this is the server.
        """

    def messageReceived(self, message: bytes) -> None:
        try:
            chunk = decode_message_untrusted(HTTPChunk, message)
        except BadProtobuf as bad:
            self.call.finish(CallResult(Status.INTERNAL, str(bad)))
            self.ended(OVER, bad)
            return
        try:
            if self._exchange is not None:
                self._exchange.chunkReceived(chunk)
            elif chunk.type in KNOWN_TYPES:
                raise BadChunk("a chunk arrived on an idle lane")
        except BadChunk as bad:
            exchange = self._exchange
            self.reset(ErrorCode.PROTOCOL_ERROR)
            if exchange is not None:
                exchange.laneLost(OVER, bad)

    def halfClosed(self) -> None:
        self._halfClosed = True
        if self._exchange is None:
            self.retire()
        else:
            self._exchange.laneHalfClosed()

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        self._owner.laneOver(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.laneLost(result, reason)

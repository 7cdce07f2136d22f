"""
A lane at the agent: a call that it has opened in advance, on which the edge sends one request after another.

::

    state      until
    ---------  -----------------------------------------------------------------
    opening    the edge has accepted the call
    idle       a request arrives, or the lane is retired
    busy       the request and the response have both ended
    ending     the edge has ended the call
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.dialect.jetty.grpc_server_exchange import ExchangeOwner, GRPCServerExchange
from tunnelstack.dialect.jetty.registration import UpstreamRefused
from tunnelstack.exchange.error_page import respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.forward import NULL_RECEIVER
from tunnelstack.interfaces import ICallReceiver, IExchangeReceiver, IExchangeServer
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.wire.addresses import address_text
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http1.head import BadMessage, RequestHead
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.protobuf import BadProtobuf, decode_message_untrusted
from tunnelstack.wire.records import jetty_grpc as records
from tunnelstack.wire.records.jetty_chunks import (
    KNOWN_TYPES,
    BadChunk,
    MessageChunks,
    read_request_untrusted,
    read_trailers_untrusted,
)
from tunnelstack.wire.records.jetty_grpc import ABORT, DATA, HEADERS, TRAILERS, HTTPChunk

ADDRESS = re.compile(r"\[?([0-9A-Fa-f:.]{2,45}?)\]?:([0-9]{1,5})")

OPENING, IDLE, BUSY, ENDING = range(4)


class LaneOwner(ExchangeOwner, Protocol):
    """
    The session of a lane.

    @ivar mostExchanges: of one lane.
    @ivar publicHost: of requests whose headers name none.
    """

    mostExchanges: int
    publicHost: bytes

    @property
    def retiresLanes(self) -> bool: ...
    @property
    def peer(self) -> IAddress: ...

    def serverFor(self, target: tuple[str, int] | None) -> IExchangeServer:
        """
        @return: what serves a request.
        @raise UpstreamRefused: the target is not allowed.
        """

    def laneOpened(self, lane: AgentLane) -> None:
        """
        The edge has accepted a lane.
        """

    def laneUsed(self, lane: AgentLane) -> None:
        """
        A request has arrived on a lane.
        """

    def laneIdle(self, lane: AgentLane) -> None:
        """
        A lane can be used again.
        """

    def laneOver(self, lane: AgentLane, opened: bool, result: CallResult) -> None:
        """
        A lane has ended.

        @param opened: the edge had accepted it.
        """


@implementer(ICallReceiver)
class AgentLane:
    """
    A lane.

    @ivar call: the call.
    """

    __slots__ = ("_exchange", "_exchanges", "_owner", "_request", "_responded", "_state", "call")

    log = Logger()
    call: GRPCCall

    def __init__(self, owner: LaneOwner) -> None:
        self._owner = owner
        self._state = OPENING
        self._request = MessageChunks(False)
        self._exchange: GRPCServerExchange | None = None
        self._responded = False               # the response was given to the call
        self._exchanges = 0

    def retire(self) -> None:
        """
        The lane is not needed any more, unless it is busy.  A request that is on its way is refused.
        """
        if self._state in (OPENING, IDLE):
            self._state = ENDING
            self.call.halfClose()

    # ICallReceiver

    def answered(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        if self._state == OPENING:
            self._state = IDLE
            self._owner.laneOpened(self)

    def messageReceived(self, message: bytes) -> None:
        try:
            chunk = decode_message_untrusted(HTTPChunk, message)
            if chunk.type not in KNOWN_TYPES:
                return
            if self._state == ENDING and self._exchange is None:
                self._fail(ErrorCode.REFUSED_STREAM, BadChunk("a request crossed the end of its lane"))
                return
            self._chunkReceived(chunk)
        except (BadProtobuf, BadChunk, BadMessage) as bad:
            self._fail(ErrorCode.PROTOCOL_ERROR, bad)

    def _fail(self, code: int, reason: Exception) -> None:
        self.call.reset(code)
        self.ended(CallResult(Status.INTERNAL, str(reason)), reason)

    def halfClosed(self) -> None:
        """
        Not called: this is the client.
        """

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        opened = self._state != OPENING
        self._state = ENDING
        exchange, self._exchange = self._exchange, None
        self._owner.laneOver(self, opened, result)
        if exchange is not None:
            exchange.laneLost(reason or result.message)

    # The request

    def _chunkReceived(self, chunk: HTTPChunk) -> None:
        if self._state == IDLE:
            self._request = MessageChunks(False)
        self._request.receive(chunk)
        if chunk.type == ABORT:
            self._fail(ErrorCode.CANCEL, BadChunk("the edge has given the request up"))
            return
        if chunk.type == HEADERS and chunk.request is not None:
            self._begin(chunk.request, chunk.end)
        exchange = self._exchange
        if exchange is None:
            return
        if chunk.type == DATA:
            exchange.requestContinued(chunk.data)
        if chunk.end:
            exchange.requestEnded(read_trailers_untrusted(chunk.trailers) if chunk.type == TRAILERS else [])
            self._checkIdle()

    def _begin(self, record: records.RequestHead, ended: bool) -> None:
        owner = self._owner
        head = read_request_untrusted(record, ended, owner.publicHost)
        self._state = BUSY
        self._responded = False
        self._exchanges += 1
        owner.laneUsed(self)
        self._exchange = exchange = GRPCServerExchange(
            owner, self, head, self._request.request_id, _address(record.remote_addr) or owner.peer,
            record.timeout_ms / 1000,
        )
        exchange.receiver = self._serve(head, exchange, record)
        exchange.served()

    def _serve(self, head: RequestHead, exchange: GRPCServerExchange, record: records.RequestHead) -> IExchangeReceiver:
        target = (record.upstream_host, record.upstream_port) if record.upstream_host and record.upstream_port else None
        failed = ExchangeFailed(FailureKind.BROKEN)
        try:
            receiver: IExchangeReceiver = self._owner.serverFor(target).exchangeReceived(head, exchange)
            return receiver
        except UpstreamRefused as refused:
            failed = ExchangeFailed(FailureKind.BROKEN, str(refused))
        except Exception:
            self.log.failure("a request could not be served")
        if not exchange.finished and not exchange.status:
            respondWithPage(exchange, self._owner.pages, failed, exchange.trace)
        return NULL_RECEIVER

    # From the exchange

    def exchangeDone(self) -> None:
        """
        The response is complete.
        """
        self._responded = True
        self._checkIdle()

    def abandon(self) -> None:
        """
        The response is broken, and the edge was told.
        """
        self._exchange = None
        self._state = ENDING
        self.call.halfClose()

    def reset(self) -> None:
        """
        End the lane at once.
        """
        self._exchange = None
        self._fail(ErrorCode.CANCEL, BadChunk("the response was given up"))

    def _checkIdle(self) -> None:
        exchange = self._exchange
        if exchange is None or not self._responded or not self._request.ended:
            return
        self._exchange = None
        if exchange.raw or self._exchanges >= self._owner.mostExchanges or self._owner.retiresLanes:
            self._state = ENDING
            self.call.halfClose()
        else:
            self._state = IDLE
            self._owner.laneIdle(self)


def _address(text: str) -> IAddress | None:
    """
    @return: the address of a visitor; C{None} if the text is none.
    """
    found = ADDRESS.fullmatch(text)
    host = address_text(found[1]) if found is not None else ""
    if found is None or not host or int(found[2]) > 65_535:
        return None
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, int(found[2]))

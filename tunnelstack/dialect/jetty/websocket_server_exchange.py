"""
Exchanges over a WebSocket at an agent: one request of the edge, and its response as frames.

A whole response is one frame.  Another is sent in parts; to an edge that announced no capabilities only if its length is not
known or too large, because such an edge may be one that takes whole responses only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from OpenSSL.crypto import X509
from twisted.internet.interfaces import IAddress, IProducer, IPushProducer, ITransport
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.dialect.jetty.websocket_heads import responseHeaders
from tunnelstack.dialect.jetty.websocket_session import JSONSession
from tunnelstack.errors import UsageError
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.stream_client import HeldBodies
from tunnelstack.exchange.traits import Traits
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.records import TakenOverRequest
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.pull_producer import pushProducer
from tunnelstack.wire.http1.framing import Framing, outgoing_framing
from tunnelstack.wire.http1.head import RequestHead, ResponseHead
from tunnelstack.wire.records.jetty import (
    CHUNK_OCTETS,
    STOCK_BODY_LIMIT,
    Headers,
    HTTPRequest,
    HTTPResponse,
    ResponseChunk,
    ResponseEnd,
    ResponseStart,
)

WHOLE_OCTETS = 256 * 1024
"""Octets of the longest body that is sent in one frame to an edge that takes parts."""

TEXT: Headers = ((b"Content-Type", b"text/plain; charset=utf-8"),)
"""The headers of errors."""


class RequestOwner(Protocol):
    """
    The requests of an edge, at an agent.

    @ivar traits: what the edge can carry.
    @ivar bodies: counts the octets of responses that are held until they are complete.
    @ivar stock: the edge announced no capabilities.
    """

    session: JSONSession
    traits: Traits
    bodies: HeldBodies
    stock: bool

    def forget(self, exchange: AgentExchange) -> None:
        """
        Nothing more is sent for an exchange, nor expected.
        """

    def giveUp(self, exchange: AgentExchange, kind: FailureKind) -> None:
        """
        A response whose head was sent cannot be completed.
        """


@implementer(IServerExchange, IPushProducer)
class AgentExchange:
    """
    One request that was received; a L{Member<tunnelstack.dialect.jetty.websocket_session.Member>} of the session.

    @ivar identifier: of the request.
    @ivar receiver: receives the request's body.
    """

    log = Logger()

    certificate: X509 | None = None
    stream: StreamTransport | None = None
    onEnded: Callable[[], object] | None = None

    def __init__(self, owner: RequestOwner, frame: HTTPRequest, head: RequestHead) -> None:
        """
        @param head: that of the frame, with its framing.
        """
        session = owner.session
        self.identifier = frame.request_id
        self.traits = owner.traits
        self.head = head
        self.framing: Framing = head.framing
        self.receiver: IExchangeReceiver | None = None
        self.trace = ""
        self.context: Any = None
        self.status = self.octets = 0
        self.finished = self.readPaused = False
        self.streamId = self.octetsIn = self.octetsOut = self.held = 0
        self.address = StreamAddress()
        self._owner = owner
        self._clock = session.clock
        self._channel = session.channel
        self._traceParent = frame.trace_parent
        self._upgrade = frame.upgrade
        # the response
        self._headers: Headers = ()
        self._remaining = -1                  # octets of the body that are missing, if the head has a length
        self._bodyless = False
        self._collected: list[bytes] | None = None        # of a body that is held until it is complete
        self._collectedOctets = 0
        self._raw = self._rawSent = self._rawReceived = False
        self._producer: IPushProducer | None = None
        self._pull = False
        self._stopped = False                 # the visitor does not read
        # the request
        self._bodyFollows = frame.streamed
        self._requestEnded = False            # as far as the receiver was called
        self._unread: deque[bytes | None] = deque()       # waits for the receiver; None is the end
        self._deliveryScheduled = False

    @property
    def transport(self) -> ITransport:
        return self._channel.transport

    @property
    def host(self) -> bytes:
        return self.framing.host

    @property
    def peer(self) -> IAddress:
        return self._channel.transport.getPeer()

    # The request

    def serve(self, server: IExchangeServer, body: bytes) -> None:
        """
        From the owner: begin.

        @param body: of the request, or its beginning.
        """
        self.octetsIn += len(body)
        try:
            self.receiver = server.exchangeReceived(self.head, self)
        except Exception:
            self.log.failure("{server} failed to serve a request", server=server)
            self.cancel(FailureKind.BROKEN)
            return
        if body:
            self._deliver(body)
        if not self._bodyFollows:
            self._deliver(None)

    def bodyReceived(self, octets: bytes) -> None:
        """
        From the owner: some of the body, or raw octets.
        """
        self.octetsIn += len(octets)
        if octets and (self._bodyFollows or self._raw):
            self._deliver(octets)

    def requestEnded(self) -> None:
        """
        From the owner: the request is complete, or the edge's raw direction is.
        """
        if self._bodyFollows or self._raw:
            self._bodyFollows = False
            self._deliver(None)

    def requestFailed(self, failed: ExchangeFailed) -> None:
        """
        From the owner: the edge does not wait for the response any more, or is gone, or has sent a wrong frame.
        """
        if self.finished:
            return
        self._finish()
        if self.receiver is not None:
            self.receiver.failed(failed)

    def _deliver(self, event: bytes | None) -> None:
        if not (self.readPaused or self._unread):
            self._pass(event)
            return
        self._unread.append(event)
        if event is not None:
            self.held += len(event)
            self._owner.session.checkHeld(self)

    def _pass(self, event: bytes | None) -> None:
        receiver = self.receiver
        if self.finished or receiver is None:
            return
        if event is not None:
            receiver.bodyReceived(event)
            return
        self._rawReceived = self._requestEnded and self._raw
        self._requestEnded = True
        receiver.ended(())
        self._checkRawEnd()

    def pauseProducing(self) -> None:
        if not (self.finished or self.readPaused):
            self.readPaused = True
            self._owner.session.checkReading()

    def resumeProducing(self) -> None:
        if self.finished or not self.readPaused:
            return
        self.readPaused = False
        self._owner.session.checkReading()
        if self._unread and not self._deliveryScheduled:
            self._deliveryScheduled = True
            self._clock.callLater(0, self._deliverUnread)

    def _deliverUnread(self) -> None:
        self._deliveryScheduled = False
        while self._unread and not self.readPaused and not self.finished:
            event = self._unread.popleft()
            if event is not None:
                self.held -= len(event)
            self._pass(event)
        if not self.finished:
            self._owner.session.heldLess(self)

    def stopProducing(self) -> None:
        """
        The far side is closed; the receiver's C{failed} is called as well.
        """

    # The response

    def informational(self, head: ResponseHead) -> None:
        """
        There are no interim responses: nothing is sent.
        """

    def sendHead(self, head: ResponseHead) -> None:
        """
        As in L{IServerExchange}.

        @raise UsageError: it was sent before, or its status is that of an interim response.
        """
        if self.finished:
            return
        status = head.status
        if self.status or (status < 200 and status != 101):
            raise UsageError("a final head is sent once", status=status)
        self.status = status
        self._headers = responseHeaders(head)
        if status == 101:
            self._switch()
            return
        body = outgoing_framing(head).body
        self._bodyless = self.head.method == b"HEAD" or status in (204, 304)
        self._remaining = body if body >= 0 and not self._bodyless else -1
        if self._bodyless or body == 0 or (self._owner.stock and 0 <= body <= STOCK_BODY_LIMIT):
            self._collected = []
        else:
            self._channel.send(ResponseStart(request_id=self.identifier, status=status, headers=self._headers))

    def _switch(self) -> None:
        """
        @raise UsageError: the request does not offer another protocol.
        """
        if not self._upgrade:
            raise UsageError("the request does not offer another protocol")
        self._raw = True
        self._channel.send(ResponseStart(request_id=self.identifier, status=101, headers=self._headers))

    def write(self, octets: bytes) -> None:
        """
        As in L{IServerExchange}.

        @raise UsageError: there is no head yet, or the body is longer than its C{Content-Length}.
        """
        if self.finished or not octets:
            return
        if not self.status:
            raise UsageError("the head comes first")
        if self._bodyless or self._rawSent:
            return
        if self._remaining >= 0:
            self._remaining -= len(octets)
            if self._remaining < 0:
                self.cancel(FailureKind.BROKEN)
                raise UsageError("the body is longer than its Content-Length")
        self.octets += len(octets)
        if self._collected is None:
            self._sendChunks(octets)
        else:
            self._collect(self._collected, octets)

    def _sendChunks(self, octets: bytes) -> None:
        self.octetsOut += len(octets)
        for start in range(0, len(octets), CHUNK_OCTETS):
            self._channel.send(ResponseChunk(request_id=self.identifier, data=octets[start : start + CHUNK_OCTETS]))

    def _collect(self, collected: list[bytes], octets: bytes) -> None:
        """
        Hold some of the body; if too much is held for all responses, this one is sent in parts.
        """
        collected.append(octets)
        self._collectedOctets += len(octets)
        if not self._owner.bodies.add(len(octets)):
            self._channel.send(ResponseStart(request_id=self.identifier, status=self.status, headers=self._headers))
            self._sendChunks(self._release())

    def _release(self) -> bytes:
        """
        @return: what was collected.
        """
        octets = b"".join(self._collected or ())
        self._collected = None
        self._owner.bodies.remove(self._collectedOctets)
        self._collectedOctets = 0
        return octets

    def respond(self, head: ResponseHead, octets: bytes) -> None:
        """
        As in L{IServerExchange}: a short response is one frame.
        """
        short = len(octets) <= (STOCK_BODY_LIMIT if self._owner.stock else WHOLE_OCTETS)
        framing = outgoing_framing(head)
        if self.finished or self.status or head.status < 200 or framing.body != len(octets) or not short:
            self.sendHead(head)
            self.write(octets)
            self.end()
            return
        self.status = head.status
        self._headers = responseHeaders(head)
        if self.head.method == b"HEAD" or head.status in (204, 304):
            octets = b""
        self.octets = len(octets)
        self._sendWhole(octets)

    def _sendWhole(self, octets: bytes) -> None:
        self.octetsOut += len(octets)
        self._channel.send(HTTPResponse(
            request_id=self.identifier, status=self.status, headers=self._headers, body=octets, trace_parent=self._traceParent,
        ))  # fmt: skip
        self._finish()

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        As in L{IServerExchange}.  Trailers are dropped.
        """
        if self.finished:
            return
        if not self.status:
            raise UsageError("the head comes first")
        if self._raw:
            if not self._rawSent:
                self._rawSent = True
                self._channel.send(ResponseEnd(request_id=self.identifier))
                self._checkRawEnd()
        elif self._remaining > 0:
            self.cancel(FailureKind.BROKEN)
        elif self._collected is not None:
            self._sendWhole(self._release())
        else:
            self._channel.send(ResponseEnd(request_id=self.identifier))
            self._finish()

    def _checkRawEnd(self) -> None:
        if self._raw and self._rawSent and self._rawReceived and not self.finished:
            self._finish()

    def cancel(self, kind: FailureKind) -> None:
        """
        As in L{IServerExchange}: with an error response if nothing was sent.
        """
        if self.finished:
            return
        begun = self.status and self._collected is None
        if begun or kind is FailureKind.CLIENT_CLOSED:
            self._finish()
            self._owner.giveUp(self, kind)
            return
        self._release()
        failed = ExchangeFailed(kind)
        self.sendError(failed.status, failed.sentence)

    def sendError(self, status: int, text: str) -> None:
        """
        Answer with an error, as agents do.
        """
        self.status, self._headers = status, TEXT
        self._sendWhole(b"" if self.head.method == b"HEAD" else text.encode())

    def onRequest(self) -> TakenOverRequest:
        """
        @raise UsageError: always: the connection carries other exchanges as well.
        """
        raise UsageError("this exchange cannot be taken over")

    # The producer of the response

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self.finished:
            producer.stopProducing()
            return
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self._producer!r} was never unregistered")
        self._producer = pushProducer(producer, streaming, self._clock)
        self._pull = not streaming
        if self._stopped or self._channel.full:
            self._producer.pauseProducing()
        elif self._pull:
            self._producer.resumeProducing()

    def unregisterProducer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None and self._pull:
            producer.pauseProducing()         # the adapter calls it no more

    def writesPaused(self) -> None:
        """
        From the session: the edge reads too slowly.
        """
        if self._producer is not None:
            self._producer.pauseProducing()

    def writesResumed(self) -> None:
        """
        From the session: the edge reads again.
        """
        if self._producer is not None and not self._stopped:
            self._producer.resumeProducing()

    def peerPaused(self, paused: bool) -> None:
        """
        From the session: the visitor reads too slowly, or reads again.
        """
        self._stopped = paused
        if paused:
            self.writesPaused()
        elif not self._channel.full:
            self.writesResumed()

    # Ends

    def abortConnection(self) -> None:
        """
        From the session: too much of the request is held.
        """
        self.failRequest(ExchangeFailed(FailureKind.BUSY, problem="the local server does not read the request"))

    def failRequest(self, failed: ExchangeFailed) -> None:
        receiver, self.receiver = self.receiver, None
        self.cancel(failed.kind)
        if receiver is not None:
            receiver.failed(failed)

    def _finish(self) -> None:
        self.finished = True
        self._release()
        self._unread.clear()
        self.held = 0
        self.unregisterProducer()
        self._owner.forget(self)
        self._owner.session.memberEnded(self.identifier)
        onEnded, self.onEnded = self.onEnded, None
        if onEnded is not None:
            onEnded()

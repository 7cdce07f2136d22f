"""
Exchanges over a WebSocket at an edge: one request of a visitor as frames, and the frames of its response.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from attrs import evolve
from twisted.internet.interfaces import IProducer, IPushProducer, IReactorTime
from zope.interface import implementer

from tunnelstack.dialect.jetty.registration import UpstreamOf
from tunnelstack.dialect.jetty.websocket_heads import bodyOctets, requestFrame, responseHead, upgradedHead
from tunnelstack.dialect.jetty.websocket_session import JSONSession
from tunnelstack.errors import UsageError
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.errors import Busy, ExchangeFailed, FailureKind
from tunnelstack.exchange.moving_timeout import MovingTimeout
from tunnelstack.exchange.producers import requestProducer
from tunnelstack.exchange.stream_client import HeldBodies
from tunnelstack.exchange.traits import Traits
from tunnelstack.interfaces import IExchange, IExchangeReceiver, IWholeResponseReceiver
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionLost
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.http1.framing import outgoing_framing
from tunnelstack.wire.http1.head import RequestHead, ResponseHead
from tunnelstack.wire.records.jetty import (
    CHUNK_OCTETS,
    HTTPRequest,
    HTTPResponse,
    RequestChunk,
    RequestEnd,
    ResponseStart,
)

EVENTS = b"text/event-stream"
"""The type of responses that may pause for as long as they like."""

AGENT_REASONS = {"busy": FailureKind.BUSY, "upstream_timeout": FailureKind.GATEWAY_TIMEOUT}
"""Why an agent gives an exchange up, if it is not that the response broke."""


class ExchangeOwner(Protocol):
    """
    The requests of an edge with one agent.

    @ivar traits: what the agent can carry.
    @ivar bodies: counts the octets of bodies that are held until they are complete.
    @ivar stock: the agent announced no capabilities.
    """

    session: JSONSession
    traits: Traits
    bodies: HeldBodies
    stock: bool

    @property
    def bounds(self) -> ExchangeBounds:
        """
        Of exchanges with the agent.
        """

    @property
    def firstSeconds(self) -> float:
        """
        From the end of a request to the head of its response.
        """

    def submit(self, exchange: EdgeExchange) -> None:
        """
        Call C{sendRequest} of an exchange when its turn has come.
        """

    def leave(self, exchange: EdgeExchange, kind: FailureKind) -> None:
        """
        An exchange does not wait for its response any more.
        """

    def finish(self, exchange: EdgeExchange) -> None:
        """
        Both directions of an exchange that has changed its protocol are over.
        """


@implementer(IExchange, IPushProducer)
class EdgeExchange:
    """
    One request to an agent; a L{Member<tunnelstack.dialect.jetty.websocket_session.Member>} of the session.

    @ivar identifier: of the request.
    @ivar receiver: receives the response.
    @ivar finished: nothing is written, and the receiver is called no more.
    """

    stream: StreamTransport | None = None
    onEnded: Callable[[], object] | None = None

    def __init__(
        self, owner: ExchangeOwner, identifier: str, receiver: IExchangeReceiver, clock: IReactorTime,
        upstream: UpstreamOf,
    ) -> None:
        """
        @param upstream: chooses the server that the agent is to use.
        """
        self.identifier = identifier
        self.receiver = receiver
        self.traits = owner.traits
        self.finished = self.readPaused = False
        self.streamId = self.octetsIn = self.octetsOut = self.held = 0
        self.address = StreamAddress()
        self._owner = owner
        self._channel = owner.session.channel
        self._clock = clock
        self._upstream = upstream
        self._timer = MovingTimeout(clock, self._timedOut)
        # the request
        self._head: RequestHead | None = None
        self._frame: HTTPRequest
        self._remaining = 0                   # octets of the body that are still to be written; negative: not known
        self._collecting = False              # the body is held until it is complete
        self._body: list[bytes] = []          # what waits for that, or for the turn of the request
        self._bodyOctets = 0
        self._begun = False                   # the frame of the request was sent
        self._sent = False                    # the request is whole
        self._producer: IPushProducer | None = None
        self._stopped = False                 # the local server does not read
        # the response
        self._responding = False
        self._raw = self._rawSent = self._rawReceived = False
        self._events = False
        self._bodyless = False
        self._expected = -1                   # octets of the body that are missing, if the head has a length
        self._complete = False                # the last frame has arrived
        self._unread: deque[ResponseHead | bytes | None] = deque()       # waits for the receiver; None is the end
        self._deliveryScheduled = False

    # The request

    def sendHead(self, head: RequestHead) -> None:
        """
        As in L{IExchange}.

        @raise UsageError: it was sent before.
        """
        if self.finished:
            return
        if self._head is not None:
            raise UsageError("the head of a request is sent once")
        self._head = head
        octets = bodyOctets(head)
        streamed = octets != 0 and self.traits.streamed
        try:
            if outgoing_framing(head).upgrade and not self.traits.upgrade:
                raise ExchangeFailed(FailureKind.UNSUPPORTED, "This site cannot change the protocol of a connection.")
            if not streamed and octets > self.traits.largestBody:
                raise ExchangeFailed(FailureKind.TOO_LARGE)
            self._frame = requestFrame(
                self.identifier, head, stock=self._owner.stock, streamed=streamed, upstream=self._upstream(head)
            )
        except ExchangeFailed as failed:
            self._fail(failed)
            return
        self._remaining = octets
        if streamed or not octets:
            self._submit()
        else:
            self._collecting = True
            if self._producer is not None:
                self._producer.resumeProducing()

    def _submit(self) -> None:
        self._timer.set(self._owner.firstSeconds)
        self._owner.submit(self)

    def write(self, octets: bytes) -> None:
        """
        As in L{IExchange}.

        @raise UsageError: the body is longer than its Content-Length.
        """
        if self.finished or not octets:
            return
        if self._raw:
            if not self._rawSent:
                self._sendChunks(octets)
            return
        if self._remaining >= 0:
            self._remaining -= len(octets)
            if self._remaining < 0:
                self.cancel(FailureKind.BROKEN)
                raise UsageError("the body is longer than its Content-Length")
        if self._begun:
            self._sendChunks(octets)
        else:
            self._keep(octets)

    def _keep(self, octets: bytes) -> None:
        self._body.append(octets)
        self._bodyOctets += len(octets)
        within = self._owner.bodies.add(len(octets))
        if self._collecting and self._bodyOctets > self.traits.largestBody:
            self._fail(ExchangeFailed(FailureKind.TOO_LARGE))
        elif not within:
            self._fail(Busy())

    def _release(self) -> bytes:
        """
        @return: what was held of the body.
        """
        body, self._body = b"".join(self._body), []
        self._owner.bodies.remove(self._bodyOctets)
        self._bodyOctets = 0
        return body

    def _sendChunks(self, octets: bytes) -> None:
        self.octetsOut += len(octets)
        for start in range(0, len(octets), CHUNK_OCTETS):
            self._channel.send(RequestChunk(request_id=self.identifier, data=octets[start : start + CHUNK_OCTETS]))

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        As in L{IExchange}.  Trailers are dropped.
        """
        if self.finished:
            return
        if self._raw:
            if not self._rawSent:
                self._rawSent = True
                self._channel.send(RequestEnd(request_id=self.identifier))
                self._checkRawEnd()
            return
        if self._sent:
            return
        if self._remaining > 0:
            self.cancel(FailureKind.BROKEN)
            return
        self._sent = True
        if self._collecting:
            self._collecting = False
            self._submit()
        elif self._begun:
            self._endRequest()

    def _endRequest(self) -> None:
        if self._frame.streamed:
            self._channel.send(RequestEnd(request_id=self.identifier))
        if not self._responding:
            self._timer.set(self._owner.firstSeconds)

    def sendRequest(self) -> None:
        """
        From the owner: it is the turn of this request.
        """
        self._begun = True
        body = self._release()
        if self._frame.streamed:
            self._channel.send(self._frame)
            self._sendChunks(body)
        else:
            self.octetsOut += len(body)
            self._channel.send(evolve(self._frame, body=body) if body else self._frame)
        self._timer.clear()
        if self._sent:
            self._endRequest()
        if self._producer is not None and not self._isFull:
            self._producer.resumeProducing()

    def cancel(self, kind: FailureKind) -> None:
        if not self.finished:
            self._finish()
            self._owner.leave(self, kind)

    # The response

    def responseReceived(self, frame: HTTPResponse) -> None:
        """
        From the owner: the whole response.
        """
        assert self._head is not None
        self.octetsIn += len(frame.body)
        method = self._head.method
        try:
            if frame.status < 200:
                raise ExchangeFailed(FailureKind.INVALID_RESPONSE, problem="a whole response with status 101")
            head = responseHead(frame.status, frame.headers, method, self._owner.bounds.responseLimits, len(frame.body))
        except ExchangeFailed as failed:
            self._fail(failed)
            return
        self._complete = True
        self._responding = True
        self._timer.clear()
        body = b"" if frame.status in (204, 304) or method == b"HEAD" else frame.body
        receiver = self.receiver
        if IWholeResponseReceiver.providedBy(receiver) and not self.readPaused:
            self._finish()
            receiver.responseReceived(head, body)
            return
        for event in (head, body, None):
            self._deliver(event)

    def responseBegun(self, frame: ResponseStart) -> None:
        """
        From the owner: the head of the response.
        """
        head = self._head
        assert head is not None
        limits = self._owner.bounds.responseLimits
        try:
            if frame.status == 101:
                self._upgraded(head)
                self._deliver(upgradedHead(frame.headers, limits))
                return
            response = responseHead(frame.status, frame.headers, head.method, limits)
        except ExchangeFailed as failed:
            self._fail(failed)
            return
        self._responding = True
        self._timer.clear()
        self._bodyless = response.framing.body == 0
        self._expected = response.framing.body if response.framing.body > 0 else -1
        self._events = (response.field(b"content-type") or b"").partition(b";")[0].strip().lower() == EVENTS
        self._armIdle()
        self._deliver(response)

    def _upgraded(self, head: RequestHead) -> None:
        """
        @raise ExchangeFailed: the visitor does not offer another protocol.
        """
        if not self._frame.upgrade or not self._sent:
            raise ExchangeFailed(FailureKind.INVALID_RESPONSE, problem="the agent changes the protocol of its own accord")
        self._responding = self._raw = True
        self._timer.clear()

    def bodyReceived(self, octets: bytes) -> None:
        """
        From the owner: some of the body, or raw octets.
        """
        self.octetsIn += len(octets)
        if not octets or self._bodyless:
            return
        if self._expected >= 0:
            if len(octets) > self._expected:
                self.violated("the body is longer than its Content-Length")
                return
            self._expected -= len(octets)
        self._armIdle()
        self._deliver(octets)

    def responseEnded(self) -> None:
        """
        From the owner: the response is complete, or the agent's raw direction is.
        """
        if self._expected > 0:
            self.violated("the body is shorter than its Content-Length")
            return
        self._timer.clear()
        self._complete = not self._raw
        self._deliver(None)

    def violated(self, problem: str) -> None:
        """
        From the owner, too: what the agent has sent is no response.
        """
        self._fail(ExchangeFailed(FailureKind.INVALID_RESPONSE, problem=problem))

    def agentGaveUp(self, reason: str) -> None:
        """
        From the owner: the agent cannot complete the response.
        """
        kind = AGENT_REASONS.get(reason, FailureKind.BROKEN)
        self._fail(ExchangeFailed(kind, problem="the agent has given the exchange up"))

    def sessionLost(self, reason: SessionLost) -> None:
        """
        From the owner: the agent is gone, and the response is not complete.
        """
        self._fail(ExchangeFailed(FailureKind.BROKEN, reason=reason))

    # Delivery

    def _deliver(self, event: ResponseHead | bytes | None) -> None:
        """
        Call the receiver, or hold this until it can be called.
        """
        if not (self.readPaused or self._unread):
            self._pass(event)
            return
        self._unread.append(event)
        if isinstance(event, bytes):
            self.held += len(event)
            self._owner.session.checkHeld(self)

    def _pass(self, event: ResponseHead | bytes | None) -> None:
        receiver = self.receiver
        if self.finished:
            return
        if event is None:
            self._ended(receiver)
        elif isinstance(event, bytes):
            if event:
                receiver.bodyReceived(event)
        else:
            receiver.headReceived(event)

    def _ended(self, receiver: IExchangeReceiver) -> None:
        if self._raw:
            self._rawReceived = True
        else:
            self._finish()
        receiver.ended(())
        if self._raw:
            self._checkRawEnd()

    def _checkRawEnd(self) -> None:
        if self._rawSent and self._rawReceived and not self.finished:
            self._owner.finish(self)
            self._finish()

    def pauseProducing(self) -> None:
        if not (self.finished or self.readPaused):
            self.readPaused = True
            if self._responding:
                self._timer.clear()
            self._owner.session.checkReading()

    def resumeProducing(self) -> None:
        if self.finished or not self.readPaused:
            return
        self.readPaused = False
        self._armIdle()
        self._owner.session.checkReading()
        if self._unread and not self._deliveryScheduled:
            self._deliveryScheduled = True
            self._clock.callLater(0, self._deliverUnread)

    def _deliverUnread(self) -> None:
        self._deliveryScheduled = False
        while self._unread and not self.readPaused and not self.finished:
            event = self._unread.popleft()
            if isinstance(event, bytes):
                self.held -= len(event)
            self._pass(event)
        if not self.finished:
            self._owner.session.heldLess(self)

    def _armIdle(self) -> None:
        """
        Wait for more of a response.
        """
        if self._responding and not (self._events or self._raw or self._complete or self.readPaused):
            self._timer.set(self._owner.bounds.idleSeconds)

    def stopProducing(self) -> None:
        """
        The near side is closed; the receiver's C{failed} is called as well.
        """

    # The producer of the request

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self.finished:
            producer.stopProducing()
            return
        self._producer = requestProducer(producer, streaming, self._producer)
        if not self._collecting and (not self._begun or self._isFull):
            self._producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def writesPaused(self) -> None:
        """
        From the session: the agent reads too slowly.
        """
        if self._producer is not None and self._begun:
            if not (self._responding or self._sent):
                self._timer.set(self._owner.bounds.idleSeconds)
            self._producer.pauseProducing()

    @property
    def _isFull(self) -> bool:
        return self._stopped or self._channel.full

    def peerPaused(self, paused: bool) -> None:
        """
        From the session: the local server reads too slowly, or reads again.
        """
        self._stopped = paused
        if paused:
            self.writesPaused()
        elif not self._channel.full:
            self.writesResumed()

    def writesResumed(self) -> None:
        """
        From the session: the agent reads again.
        """
        if self._producer is not None and self._begun and not self._stopped:
            if not (self._responding or self._sent):
                self._timer.clear()
            self._producer.resumeProducing()

    # Ends

    def abortConnection(self) -> None:
        """
        From the session: too much is held for the visitor, who does not read.
        """
        self._fail(ExchangeFailed(FailureKind.BROKEN, problem="the visitor does not read the response"))

    def _timedOut(self) -> None:
        self._fail(ExchangeFailed(FailureKind.GATEWAY_TIMEOUT) if self._begun else Busy())

    def _fail(self, failed: ExchangeFailed) -> None:
        if self.finished:
            return
        producer = self._producer
        self._finish()
        self._owner.leave(self, failed.kind)
        if producer is not None:
            producer.stopProducing()
        self.receiver.failed(failed)

    def _finish(self) -> None:
        self.finished = True
        self._timer.stop()
        self._release()
        self._unread.clear()
        self.held = 0
        self._producer = None
        self._owner.session.memberEnded(self.identifier)
        onEnded, self.onEnded = self.onEnded, None
        if onEnded is not None:
            onEnded()

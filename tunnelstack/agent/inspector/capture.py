"""
Recording of the requests of one service, between the stream that they arrive on and the server that answers them.

Octets, pauses and the calls for whole responses pass through unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from OpenSSL.crypto import X509
from twisted.internet.interfaces import IAddress, IPushProducer
from zope.interface import implementer

from tunnelstack.agent.inspector.message_log import EventLog, WebSocketLog
from tunnelstack.agent.inspector.recorded_request import EVENTS, SERVER, VISITOR, WEBSOCKET, RecordedRequest
from tunnelstack.agent.inspector.recorder import RequestRecorder
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.exchange.traits import Traits
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.records import TakenOverRequest
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import RequestHead, ResponseHead


@implementer(IExchangeServer)
class CapturingServer:
    """
    Records the requests that another server answers.

    @ivar server: the other server.
    """

    def __init__(self, server: IExchangeServer, recorder: RequestRecorder, service: str) -> None:
        self.server = server
        self._recorder = recorder
        self._service = service

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        return self.capture(head, exchange, None)

    def capture(self, head: RequestHead, exchange: IServerExchange, replayOf: int | None) -> IExchangeReceiver:
        """
        As L{exchangeReceived}.

        @param replayOf: the number of the request that is replayed.
        """
        recorder = self._recorder
        request = recorder.begin(self._service, head, exchange, replayOf)
        captured = CapturedExchange(exchange, recorder, request)
        receiver = self.server.exchangeReceived(head, captured)
        framing = head.framing
        if framing is not None and not framing.body and not framing.upgrade:
            return receiver                   # it receives no octets
        return CapturedReceiver(receiver, captured, recorder, request)


@implementer(IServerExchange, IPushProducer)
class CapturedExchange:
    """
    An exchange whose response is recorded.

    @ivar messages: records messages or events, if the response has them.
    """

    __slots__ = ("_exchange", "_recorder", "_request", "_silent", "head", "messages", "traits")

    traits: Traits

    def __init__(self, exchange: IServerExchange, recorder: RequestRecorder, request: RecordedRequest) -> None:
        self._exchange = exchange
        self._recorder = recorder
        self._request = request
        self._silent = exchange.head.method == b"HEAD"
        self.messages: WebSocketLog | EventLog | None = None
        self.head: RequestHead = exchange.head
        self.traits = exchange.traits

    def sendHead(self, head: ResponseHead) -> None:
        self._headSent(head)
        self._exchange.sendHead(head)

    def _headSent(self, head: ResponseHead) -> None:
        request = self._request
        if head.status == 101:
            if b"websocket" in (head.field(b"upgrade") or b"").lower():
                request.kind = WEBSOCKET
                self.messages = WebSocketLog(self._recorder, request, head)
        elif (head.field(b"content-type") or b"").lower().startswith(b"text/event-stream"):
            request.kind = EVENTS
            if head.field(b"content-encoding") is None:
                self.messages = EventLog(self._recorder, request)
        self._recorder.responseBegun(request, head)

    def respond(self, head: ResponseHead, octets: bytes) -> None:
        self._headSent(head)
        self._record(octets)
        self._request.complete = True
        self._exchange.respond(head, octets)

    def write(self, octets: bytes) -> None:
        self._record(octets)
        self._exchange.write(octets)

    def _record(self, octets: bytes) -> None:
        request = self._request
        if request.kind == WEBSOCKET:
            request.responseBody.octets += len(octets)
        elif not self._silent:
            self._recorder.bodyReceived(request, request.responseBody, octets)
        if self.messages is not None:
            self.messages.receive(SERVER, octets)

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._request.complete = True
        self._exchange.end(trailers)

    def cancel(self, kind: FailureKind) -> None:
        self._request.failure = kind.sentence
        self._exchange.cancel(kind)

    # as the exchange has it: methods, because bound ones would be kept until a garbage collection

    def informational(self, head: ResponseHead) -> None:
        self._exchange.informational(head)

    def onRequest(self) -> TakenOverRequest:
        return self._exchange.onRequest()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._exchange.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._exchange.unregisterProducer()

    def pauseProducing(self) -> None:
        self._exchange.pauseProducing()

    def resumeProducing(self) -> None:
        self._exchange.resumeProducing()

    def stopProducing(self) -> None:
        self._exchange.stopProducing()        # type: ignore[attr-defined]   # it is a push producer as well

    @property
    def trace(self) -> str:
        return self._exchange.trace

    @trace.setter
    def trace(self, trace: str) -> None:
        self._exchange.trace = trace

    @property
    def context(self) -> Any:
        return self._exchange.context

    @context.setter
    def context(self, context: Any) -> None:
        self._exchange.context = context

    @property
    def host(self) -> bytes:
        return self._exchange.host

    @property
    def peer(self) -> IAddress:
        peer: IAddress = self._exchange.peer
        return peer

    @property
    def transport(self) -> Any:
        return self._exchange.transport

    @property
    def certificate(self) -> X509 | None:
        certificate: X509 | None = self._exchange.certificate
        return certificate

    @property
    def framing(self) -> Framing:
        return self._exchange.framing

    @property
    def status(self) -> int:
        return self._exchange.status

    @property
    def octets(self) -> int:
        return self._exchange.octets

    @property
    def finished(self) -> bool:
        return self._exchange.finished


@implementer(IExchangeReceiver)
class CapturedReceiver:
    """
    Records the body of a request, and what a visitor sends on an upgraded connection.
    """

    __slots__ = (
        "_exchange", "_receive", "_recorder", "_request", "ended", "failed", "headReceived", "informational",
    )  # fmt: skip

    def __init__(
        self, receiver: IExchangeReceiver, exchange: CapturedExchange, recorder: RequestRecorder, request: RecordedRequest
    ) -> None:
        self._exchange = exchange
        self._receive = receiver.bodyReceived
        self._recorder = recorder
        self._request = request
        self.ended = receiver.ended
        self.failed = receiver.failed
        self.headReceived = receiver.headReceived
        self.informational = receiver.informational

    def bodyReceived(self, octets: bytes) -> None:
        request, messages = self._request, self._exchange.messages
        if request.kind == WEBSOCKET:
            request.requestBody.octets += len(octets)
            if messages is not None:
                messages.receive(VISITOR, octets)
        else:
            self._recorder.bodyReceived(request, request.requestBody, octets)
        self._receive(octets)

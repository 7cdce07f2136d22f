"""
Keeps what is known of the last requests, within a number of requests and of octets.

The oldest requests that have ended are forgotten first.  Of one that is still open, the head, the beginning of its bodies and
the last messages are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tunnelstack.agent.inspector.recorded_request import (
    ENDED,
    FAILED,
    RecordedBody,
    RecordedMessage,
    RecordedRequest,
)
from tunnelstack.control.config.records import InspectConfig
from tunnelstack.control.request_times import RequestTimes
from tunnelstack.interfaces import IServerExchange
from tunnelstack.wire.http1.head import Fields, RequestHead, ResponseHead

REQUEST_OCTETS = 2048
"""Counted for each request beside its heads and bodies."""

FIELD_OCTETS = 150
MESSAGE_OCTETS = 200
"""Counted for each field and each message beside its octets."""

MOST_MESSAGES = 500
"""Messages of one request that are kept."""

NOT_KEPT = "bodies are not kept (bodies = false)"
TOO_LONG = "the body is longer than body_octets"
FULL = "the octets of the inspector are used up by requests that have not ended"
NOT_WHOLE = "the visitor or the edge closed the connection before the response was whole"

Changed = Callable[[RecordedRequest], object]


class RequestRecorder:
    """
    The last requests.

    @ivar requests: those that are kept, by number, in the order in which they began.
    @ivar last: the one that has begun last.
    @ivar captures: those of visitors that have not ended, by their exchanges.
    @ivar octets: that are kept.
    @ivar forgotten: how many requests are not kept any more.
    @ivar keep: octets that are kept of each body and message.
    @ivar onChange: called with a request that has begun, has a response, or has ended.
    @ivar onForget: called when requests were forgotten on demand.
    """

    last: RecordedRequest

    def __init__(self, config: InspectConfig, now: Callable[[], float]) -> None:
        """
        @param now: gives the seconds since 1970.
        """
        self._now = now
        self._most = config.requests
        self._mostOctets = config.octets
        self.keep = config.bodyOctets if config.bodies else 0
        self._why = TOO_LONG if config.bodies else NOT_KEPT
        self._count = 0
        self._ended: dict[int, RecordedRequest] = {}
        self.requests: dict[int, RecordedRequest] = {}
        self.captures: dict[IServerExchange, RecordedRequest] = {}
        self.octets = 0
        self.forgotten = 0
        self.onChange: list[Changed] = []
        self.onForget: list[Callable[[], object]] = []

    # what is recorded

    def begin(
        self, service: str, head: RequestHead, exchange: IServerExchange, replayOf: int | None = None
    ) -> RecordedRequest:
        """
        A request has begun.  L{ended} is called with its exchange.
        """
        times: RequestTimes = exchange.context
        self._count += 1
        request = RecordedRequest(self._count, service, self._now(), times, head, replayOf)
        self.captures[exchange] = self.last = request
        while len(self.requests) >= self._most:
            self._forgetOldest()
        self.requests[request.id] = request
        self._chargeHead(request, head.fields, REQUEST_OCTETS + len(head.target))
        self._changed(request)
        return request

    def responseBegun(self, request: RecordedRequest, head: ResponseHead) -> None:
        """
        The head of the response.
        """
        if not request.closed:
            request.response = head
            self._chargeHead(request, head.fields, 0)
            self._changed(request)

    def bodyReceived(self, request: RecordedRequest, body: RecordedBody, octets: bytes) -> None:
        """
        A piece of one of its bodies.
        """
        body.octets += len(octets)
        if body.cut or request.closed or not octets:
            return
        room = min(len(octets), self.keep - len(body.kept))
        if room < len(octets):
            body.cut, body.why = True, self._why
        if room and not self._makeRoom(room, request):
            body.cut, body.why = True, FULL
        elif room:
            body.kept += octets[:room]
            self._charge(request, room)

    def messageReceived(self, request: RecordedRequest, message: RecordedMessage) -> None:
        """
        A message or an event.  The oldest ones of the request are forgotten beyond what is kept of a body.
        """
        if request.closed:
            return
        size = len(message.kept) + MESSAGE_OCTETS
        messages = request.messages
        while messages and (
            len(messages) >= MOST_MESSAGES or request.messageOctets + size > self.keep + MOST_MESSAGES * MESSAGE_OCTETS
        ):
            self._forgetMessage(request)
        while not self._makeRoom(size, request):
            if not messages:
                request.messagesForgotten += 1
                return
            self._forgetMessage(request)
        messages.append(message)
        request.messageOctets += size
        self._charge(request, size)

    def _forgetMessage(self, request: RecordedRequest) -> None:
        size = len(request.messages.popleft().kept) + MESSAGE_OCTETS
        request.messagesForgotten += 1
        request.messageOctets -= size
        self._charge(request, -size)

    def ended(self, exchange: IServerExchange, seconds: float) -> None:
        """
        A request has ended.

        @param seconds: how long it took.
        """
        request = self.captures.pop(exchange, None)
        if request is None:
            return
        failed = request.times.failed
        if failed is not None:
            request.failure = str(failed)
        elif not request.complete and request.status != 101:
            request.failure = request.failure or NOT_WHOLE
        request.seconds = seconds
        request.state = FAILED if request.failure else ENDED
        if not request.forgotten:
            self._ended[request.id] = request
            self._changed(request)

    def _changed(self, request: RecordedRequest) -> None:
        for listener in self.onChange:
            listener(request)

    # what is kept

    def newestFirst(self) -> Iterable[RecordedRequest]:
        """
        @return: the requests that are kept.
        """
        return reversed(self.requests.values())

    def forgetEnded(self) -> None:
        """
        Forget all requests that have ended.
        """
        while self._ended:
            self._forgetOldest()
        for listener in self.onForget:
            listener()

    def _chargeHead(self, request: RecordedRequest, fields: Fields, octets: int) -> None:
        for name, value in fields:
            octets += len(name) + len(value) + FIELD_OCTETS
        self._charge(request, octets)
        while self.octets > self._mostOctets and len(self.requests) > 1:
            self._forgetOldest(request)

    def _charge(self, request: RecordedRequest, octets: int) -> None:
        request.size += octets
        self.octets += octets

    def _makeRoom(self, octets: int, request: RecordedRequest) -> bool:
        """
        Forget ended requests until there is room.

        @return: whether there is.
        """
        while self.octets + octets > self._mostOctets and self._ended:
            self._forgetOldest(request)
        return self.octets + octets <= self._mostOctets

    def _forgetOldest(self, besides: RecordedRequest | None = None) -> None:
        """
        Forget the oldest request that has ended, or else the oldest one.
        """
        oldest = next(iter(self._ended.values() or self.requests.values()))
        if oldest is besides:
            oldest = next(each for each in self.requests.values() if each is not besides)
        self._ended.pop(oldest.id, None)
        del self.requests[oldest.id]
        oldest.forgotten = True
        oldest.messages.clear()
        self.octets -= oldest.size
        self.forgotten += 1

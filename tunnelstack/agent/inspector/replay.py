"""
Sending a recorded request again, as it was or edited, to the local server of its service and to no other.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable
from secrets import token_hex
from typing import Any

from attrs import field as attribute
from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IPushProducer, IReactorTime
from zope.interface import implementer

from tunnelstack.agent.inspector.capture import CapturingServer
from tunnelstack.agent.inspector.content import contentOf
from tunnelstack.agent.inspector.recorded_request import HTTP, RecordedRequest
from tunnelstack.agent.inspector.recorder import RequestRecorder
from tunnelstack.control.request_times import RequestTimes
from tunnelstack.errors import UsageError
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import STREAMED, Traits
from tunnelstack.interfaces import IExchangeReceiver, IServerExchange
from tunnelstack.records import TakenOverRequest
from tunnelstack.wire.http1.framing import Framing, request_framing_untrusted
from tunnelstack.wire.http1.head import FIELD_CONTENT, TOKEN, BadMessage, Fields, RequestHead, ResponseHead
from tunnelstack.wire.http1.redaction import REDACTED, is_secret, text_of
from tunnelstack.wire.http1.target import OCTET

REPLAY_SECONDS = 120.0
"""Seconds after which a replay is cancelled, such as that of a stream of events."""

REPLAY_OCTETS = 1024 * 1024 * 1024
"""Octets of the response after which a replay is cancelled."""

MOST_REPLAYS = 16
"""Replays at the same time."""

WRITTEN_ANEW = frozenset((
    b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"te", b"trailer", b"x-request-id",
))  # fmt: skip
"""Fields that a replay has anew, or not at all."""

METHOD, TARGET, NAME, VALUE = (
    re.compile(pattern) for pattern in (TOKEN + rb"+", OCTET + rb"+", TOKEN + rb"+", FIELD_CONTENT + rb"*")
)


class CannotReplay(UsageError):
    """
    A request cannot be replayed.
    """


@frozen
class Edited:
    """
    What differs from the recorded request.

    @ivar fields: all fields, or C{None} for those that were recorded.
    @ivar body: C{None} for the one that was recorded.
    """

    method: bytes | None = None
    target: bytes | None = None
    fields: list[tuple[str, str]] | None = attribute(default=None, repr=False)
    body: bytes | None = attribute(default=None, repr=False)


def readEdited(value: object, request: RecordedRequest) -> Edited:
    """
    @param value: from JSON.  A body that is as it is shown is the one that was received, with its coding and line ends.
    @raise CannotReplay: it is not an edited request.
    """
    if not isinstance(value, dict):
        raise CannotReplay("the request must be a JSON object")
    unknown = set(value) - {"method", "target", "fields", "body", "body64"}
    if unknown:
        raise CannotReplay("the request has members that are not known", members=", ".join(sorted(map(str, unknown))))
    fields = value.get("fields")
    if fields is not None and not (isinstance(fields, list) and all(map(_isPair, fields))):
        raise CannotReplay("fields must be a list of pairs of text")
    return Edited(
        _matching(value.get("method"), METHOD, "method"), _matching(value.get("target"), TARGET, "target"),
        None if fields is None else [(name, content) for name, content in fields], _body(value, request),
    )


def _isPair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _matching(value: object, form: re.Pattern[bytes], what: str) -> bytes | None:
    if value is None:
        return None
    octets = _encoded(value) if isinstance(value, str) else b""
    if not form.fullmatch(octets):
        raise CannotReplay(f"the {what} is malformed")
    return octets


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise CannotReplay("the request has text that is not Unicode") from None


def _body(value: dict[str, object], request: RecordedRequest) -> bytes | None:
    text, encoded = value.get("body"), value.get("body64")
    if text is not None and encoded is not None:
        raise CannotReplay("the request must have body or body64, not both")
    shown = contentOf(request.head.fields, request.requestBody)
    if isinstance(text, str):
        return None if shown.text is not None and _lines(text) == _lines(shown.text) else _encoded(text)
    if isinstance(encoded, str):
        if encoded == shown.body64:
            return None
        try:
            return b64decode(encoded, validate=True)
        except (Base64Error, ValueError):
            raise CannotReplay("body64 is not Base64") from None
    if text is not None or encoded is not None:
        raise CannotReplay("body and body64 must be text")
    return None


def _lines(text: str) -> str:
    """
    @return: a text with the line ends that a form on a page has.
    """
    return text.replace("\r\n", "\n").replace("\r", "\n")


def replayedHead(request: RecordedRequest, edited: Edited) -> tuple[RequestHead, bytes]:
    """
    @return: the head and the body to send.
    @raise CannotReplay: the request is an upgrade, its body was not kept, or what was edited is malformed.
    """
    head, recorded = request.head, request.requestBody
    if request.kind != HTTP and request.status == 101:
        raise CannotReplay("a WebSocket connection cannot be replayed")
    if head.method == b"CONNECT" or edited.method == b"CONNECT":
        raise CannotReplay("CONNECT cannot be replayed")
    if edited.body is None and not _isWhole(request):
        raise CannotReplay("the body of the request was not kept whole")
    body = bytes(recorded.kept) if edited.body is None else edited.body
    fields = head.fields if edited.fields is None else _fields(edited.fields, head.fields)
    dropped = WRITTEN_ANEW if edited.body is None else WRITTEN_ANEW | {b"content-encoding"}
    fields = [pair for pair in fields if pair[0].lower() not in dropped]
    fields.append((b"X-Request-Id", f"replay-{token_hex(6)}".encode()))
    if body or _hasBody(head):
        fields.append((b"Content-Length", b"%d" % len(body)))
    made = RequestHead(edited.method or head.method, edited.target or head.target, fields)
    try:
        made.framing = request_framing_untrusted(made)
    except BadMessage as bad:
        raise CannotReplay(f"the request is malformed: {bad}") from None
    return made, body


def _isWhole(request: RecordedRequest) -> bool:
    """
    @return: whether all of the request's body is kept.
    """
    head, body = request.head, request.requestBody
    length = head.field(b"content-length")
    if length is not None:
        return not body.cut and body.octets == int(length)
    return not body.cut and (request.seconds is not None or request.times.whole >= 0 or not _hasBody(head))


def _hasBody(head: RequestHead) -> bool:
    return head.field(b"content-length") is not None or head.field(b"transfer-encoding") is not None


def _fields(edited: list[tuple[str, str]], recorded: Fields) -> Fields:
    """
    @return: the edited fields, with the octets and credentials that were received where they are unchanged.
    """
    received: dict[tuple[str, str], list[bytes]] = {}
    for field, octets in recorded:
        for shown in (text_of(octets), *((REDACTED,) if is_secret(field) else ())):
            received.setdefault((text_of(field).lower(), shown), []).append(octets)
    made: Fields = []
    for name, value in edited:
        known = received.get((name.lower(), value))
        if value == REDACTED and not known:
            raise CannotReplay("a field has no value that was received", field=name)
        octets = known.pop(0) if known else _encoded(value.strip(" \t"))
        if not NAME.fullmatch(_encoded(name)) or not VALUE.fullmatch(octets):
            raise CannotReplay("a field is malformed", field=name)
        made.append((_encoded(name), octets))
    return made


class Replayer:
    """
    Replays requests.
    """

    def __init__(
        self, clock: IReactorTime, recorder: RequestRecorder, serverOf: Callable[[str], object]
    ) -> None:
        """
        @param serverOf: gives the L{CapturingServer} of a service; anything else if there is none.
        """
        self._clock = clock
        self._recorder = recorder
        self._serverOf = serverOf
        self._running: set[ReplayedExchange] = set()

    def replay(self, request: RecordedRequest, edited: Edited) -> RecordedRequest:
        """
        @return: the new request.
        @raise CannotReplay: as from L{replayedHead}; or the service is not published, or too many replays are under way.
        """
        server = self._serverOf(request.service)
        if not isinstance(server, CapturingServer):
            raise CannotReplay("the service is not published any more", service=request.service)
        if len(self._running) >= MOST_REPLAYS:
            raise CannotReplay("too many replays are under way")
        head, body = replayedHead(request, edited)
        exchange = ReplayedExchange(self._clock, head, self._ended)
        self._running.add(exchange)
        return exchange.send(server, self._recorder, body, request.id)

    def _ended(self, exchange: ReplayedExchange) -> None:
        self._running.discard(exchange)
        times: RequestTimes = exchange.context
        seconds = times.elapsed
        if times.answeredAtOnce:
            times.first = seconds
        self._recorder.ended(exchange, seconds)

    def stop(self) -> None:
        """
        Cancel all replays.
        """
        for exchange in list(self._running):
            exchange.timedOut()


@implementer(IServerExchange, IPushProducer)
class ReplayedExchange:
    """
    A request that no visitor has sent.  Its response is read and dropped.
    """

    traits: Traits = STREAMED
    host = b""
    peer = IPv4Address("TCP", "127.0.0.1", 0)
    transport = None
    certificate = None
    trace = ""

    def __init__(self, clock: IReactorTime, head: RequestHead, done: Callable[[ReplayedExchange], object]) -> None:
        """
        @param done: called when it is over.
        """
        self.head = head
        self.framing: Framing = head.framing
        times = RequestTimes()
        times.now = clock.seconds
        times.began = clock.seconds()
        self.context: Any = times
        self.status = 0
        self.octets = 0
        self.finished = False
        self._clock = clock
        self._done = done
        self._receiver: IExchangeReceiver | None = None
        self._timer: IDelayedCall | None = None
        self._puller: IPullProducer | None = None
        self._body = b""
        self._paused = False
        self._ended = False

    def send(
        self, server: CapturingServer, recorder: RequestRecorder, body: bytes, replayOf: int
    ) -> RecordedRequest:
        """
        Send the request to a server.

        @return: its record.
        """
        self._timer = self._clock.callLater(REPLAY_SECONDS, self.timedOut)
        self._body = body
        try:
            receiver = server.capture(self.head, self, replayOf)
        except Exception:
            self._finish()
            raise
        made = recorder.last
        self._receiver = receiver
        self._deliver()
        return made

    def _deliver(self) -> None:
        """
        Pass the body on, unless the server has paused it.
        """
        receiver = self._receiver
        if receiver is None or self._paused or self._ended or self.finished:
            return
        body, self._body = self._body, b""
        if body:
            receiver.bodyReceived(body)
        if not (self.finished or self._ended):
            self._ended = True
            receiver.ended(())

    def timedOut(self) -> None:
        """
        It takes too long, or its response is too long.
        """
        if self.finished:
            return
        if self._receiver is not None:
            self._receiver.failed(ExchangeFailed(FailureKind.CLIENT_CLOSED))
        self.context.failed = ExchangeFailed(FailureKind.CLIENT_CLOSED, "The replay was stopped.")
        self._finish()

    def _finish(self) -> None:
        if self.finished:
            return
        self.finished = True
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._done(self)

    # the response

    def informational(self, head: ResponseHead) -> None:
        """
        Drop it.
        """

    def sendHead(self, head: ResponseHead) -> None:
        self.status = head.status
        if head.status == 101:
            self._clock.callLater(0, self.timedOut)

    def write(self, octets: bytes) -> None:
        self.octets += len(octets)
        if self.octets > REPLAY_OCTETS and not self.finished:
            self._clock.callLater(0, self.timedOut)

    def respond(self, head: ResponseHead, octets: bytes) -> None:
        self.status = head.status
        self.octets += len(octets)
        self._finish()

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._finish()

    def cancel(self, kind: FailureKind) -> None:
        self._finish()

    def onRequest(self) -> TakenOverRequest:
        raise UsageError("a replay has no connection that could be taken over")

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not streaming:
            self._puller = producer
            self._pull()

    def _pull(self) -> None:
        """
        Let a pull producer write, one piece in a turn.
        """
        producer = self._puller
        if producer is not None and not self.finished:
            producer.resumeProducing()
            self._clock.callLater(0, self._pull)

    def unregisterProducer(self) -> None:
        self._puller = None

    # the body of the request, as a producer

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._deliver()

    def stopProducing(self) -> None:
        """
        The server has ended; the receiver's C{failed} is called as well.
        """

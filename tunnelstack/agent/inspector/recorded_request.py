"""
What is kept of one request: its heads, the beginning of its bodies, its messages, and when its steps were done.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field

from tunnelstack.control.request_times import RequestTimes
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

OPEN, ENDED, FAILED = "open", "ended", "failed"

HTTP, WEBSOCKET, EVENTS = "http", "websocket", "events"

VISITOR, SERVER = "visitor", "server"


class RecordedBody:
    """
    The beginning of a body.

    @ivar octets: how many there were.
    @ivar kept: those that are kept.
    @ivar cut: some were not kept.
    @ivar why: why not.
    """

    __slots__ = ("cut", "kept", "octets", "why")

    def __init__(self) -> None:
        self.octets = 0
        self.kept = bytearray()
        self.cut = False
        self.why = ""


@define
class RecordedMessage:
    """
    A message of a WebSocket connection, or an event of a stream of events.

    @ivar sender: L{VISITOR} or L{SERVER}.
    @ivar at: seconds since the head of the request.
    @ivar kind: C{"text"}, C{"binary"}, C{"close"}, C{"ping"} or C{"pong"}.
    @ivar octets: its length.
    @ivar kept: its beginning.
    @ivar cut: not all of it is kept.
    """

    sender: str
    at: float
    kind: str
    octets: int
    kept: bytes
    cut: bool


@define(eq=False)
class RecordedRequest:
    """
    One request.

    @ivar began: when its head was received, in seconds since 1970.
    @ivar times: the steps.
    @ivar head: as it was received from the edge.
    @ivar response: the head of the response, or C{None}.
    @ivar seconds: how long it took, or C{None} before it has ended.
    @ivar complete: the response was whole.
    @ivar failure: why there was no whole response, or C{""}.
    @ivar size: octets that are kept.
    @ivar messageOctets: of these, in messages.
    @ivar messagesForgotten: messages that are not kept any more.
    @ivar forgotten: nothing more is recorded.
    """

    id: int
    service: str
    began: float
    times: RequestTimes
    head: RequestHead
    replayOf: int | None = None
    response: ResponseHead | None = None
    requestBody: RecordedBody = field(factory=RecordedBody)
    responseBody: RecordedBody = field(factory=RecordedBody)
    messages: deque[RecordedMessage] = field(factory=deque)
    messagesForgotten: int = 0
    messageOctets: int = 0
    kind: str = HTTP
    state: str = OPEN
    failure: str = ""
    seconds: float | None = None
    complete: bool = False
    size: int = 0
    forgotten: bool = False

    @property
    def status(self) -> int:
        return 0 if self.response is None else self.response.status

    @property
    def closed(self) -> bool:
        """
        Nothing more is recorded: it has ended, or is forgotten.
        """
        return self.forgotten or self.seconds is not None

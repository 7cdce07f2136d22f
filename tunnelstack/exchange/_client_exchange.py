"""
The client side of one exchange over HTTP/1.1: the request as it is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import STREAMED, Traits
from tunnelstack.interfaces import IExchange
from tunnelstack.wire.http1.chunked import encode_chunk, encode_last_chunk
from tunnelstack.wire.http1.framing import CHUNKED, UNTIL_CLOSE, outgoing_framing
from tunnelstack.wire.http1.head import RequestHead, ResponseHead, encode_request

if TYPE_CHECKING:
    from tunnelstack.exchange.client import HTTPClientProtocol

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


@implementer(IExchange, IPushProducer)
class ClientExchange:
    """
    One request to be sent; it may begin before there is a connection.

    @ivar receiver: who hears of the response.
    @ivar method: of the request.
    @ivar upgrade: the request offers another protocol.
    @ivar sent: the request is whole.
    @ivar raw: both directions are raw octets now.
    @ivar finished: nothing is written or told any more.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_left",
        "_queue",
        "finished",
        "method",
        "paused",
        "producer",
        "raw",
        "receiver",
        "sent",
        "upgrade",
    )  # fmt: skip

    traits: Traits = STREAMED

    def __init__(self, receiver: Any, connection: HTTPClientProtocol | None = None) -> None:
        self._connection = connection
        self.receiver = receiver
        self.producer: Any = None
        self.method = b""
        self.upgrade = False
        self.sent = False
        self.raw = False
        self.finished = False
        self.paused = False
        self._queue: list[bytes] = []     # what was written so far: before there is a connection, or for a second try
        self._body = False
        self._left = 0

    def attach(self, connection: HTTPClientProtocol) -> None:
        """
        There is a connection.
        """
        self._connection = connection
        connection.transport.writeSequence(self._queue)
        if self._body:
            self._queue = []
        if self.sent:
            connection.requestSent()
        if self.producer is not None and not connection.full:
            self.producer.resumeProducing()   # of a request that is whole, too: it may be upgraded

    def detach(self) -> None:
        """
        The connection is gone, and another one is to come.
        """
        self._connection = None

    @property
    def repeatable(self) -> bool:
        """
        The request can be sent a second time without harm: all of it is still here.
        """
        return self.sent and not self._body and self.method in IDEMPOTENT and bool(self._queue)

    def informational(self, head: ResponseHead) -> None:
        """
        A client has none to send.

        @raise UsageError: always.
        """
        raise UsageError("interim responses are for servers")

    def sendHead(self, head: RequestHead) -> None:
        """
        Send the head.

        @raise UsageError: it was sent before.
        """
        if self.finished:
            return
        if self.method:
            raise UsageError("there is one head to an exchange")
        self.method = head.method
        framing = outgoing_framing(head)
        self._left = framing.body
        if options := framing.options:
            self.upgrade = bool(framing.upgrade)
            fields = [*head.fields, (b"Connection", b", ".join(options))]
            head = RequestHead(head.method, head.target, fields)
        octets = encode_request(head)
        self._queue.append(octets)
        connection = self._connection
        if connection is not None:
            (connection.transport.write if self._left else connection.send)(octets)

    def respond(self, head: ResponseHead, octets: bytes) -> None:
        """
        A client answers nothing.

        @raise UsageError: always.
        """
        raise UsageError("responses are for servers")

    def write(self, octets: bytes) -> None:
        """
        Send some of the body, or raw octets after a C{101}.

        @raise UsageError: more than the head said.
        """
        if self.finished or not octets:
            return
        left = self._left
        if left == CHUNKED:
            octets = encode_chunk(octets)
        elif left >= 0:
            self._left = left = left - len(octets)
            if left < 0:
                self.cancel(FailureKind.BROKEN)
                raise UsageError("the body is longer than it was said to be", octets=-left)
        self._pass(octets)

    def _pass(self, octets: bytes) -> None:
        self._body = True
        if self._connection is None:
            self._queue.append(octets)
        else:
            if self._queue:
                self._queue = []
            self._connection.transport.write(octets)

    def end(self, trailers: Any = ()) -> None:
        """
        The request is whole; in raw octets, our direction is.
        """
        if self.finished or (self.sent and not self.raw):
            return
        if self.raw:
            self._connection.endRaw()             # type: ignore[union-attr]
            return
        if self._left == CHUNKED:
            self._pass(encode_last_chunk(list(trailers)))
        elif self._left > 0:
            self.cancel(FailureKind.BROKEN)
            return
        self.sent = True
        if self._connection is not None:
            self._connection.requestSent()

    def upgraded(self) -> None:
        """
        From the connection: it was upgraded.
        """
        self.raw = True
        self._left = UNTIL_CLOSE

    def cancel(self, kind: FailureKind) -> None:
        """
        Give up: the receiver is told nothing more, and the connection breaks.
        """
        if not self.finished:
            self.finished = True
            self._queue = []
            if self._connection is not None:
                self._connection.abort()

    def fail(self, failed: ExchangeFailed) -> None:
        """
        From the connection or the pool: it broke.
        """
        if not self.finished:
            self.finished = True
            self._queue = []
            if self.producer is not None:
                self.producer.stopProducing()
            self.receiver.failed(failed)

    # what the request's producer is told

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        As in C{IConsumer}; a request is not written by a pull producer.

        @raise UsageError: it pulls.
        """
        if not streaming:
            raise UsageError("requests are written by push producers")
        if self.finished:
            producer.stopProducing()
            return
        if self.producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self.producer!r} was never unregistered")
        self.producer = producer
        if self._connection is None or self._connection.full:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """
        As in C{IConsumer}.
        """
        self.producer = None

    # the response's body, as a producer

    def pauseProducing(self) -> None:
        """
        Read no more of the response.
        """
        self.paused = True
        if not self.finished and self._connection is not None:
            self._connection.pauseReading(True)

    def resumeProducing(self) -> None:
        """
        Read on.
        """
        self.paused = False
        if not self.finished and self._connection is not None:
            self._connection.pauseReading(False)

    def stopProducing(self) -> None:
        """
        The near side is gone; who joined the two is told by C{failed}.
        """

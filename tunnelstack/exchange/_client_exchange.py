"""
The client side of one exchange over HTTP/1.1: the request as it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from twisted.internet.interfaces import IProducer, IPushProducer
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.exchange._connection import IExchangeTransport
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.opened import reportOpened
from tunnelstack.exchange.traits import STREAMED, Traits
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.transport.direct_write import Write
from tunnelstack.wire.http1.head import RequestHead, encode_request
from tunnelstack.wire.http1.message import BodyLengthMismatch, MessageWriter

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


class ClientConnection(Protocol):
    """
    What an exchange needs of the protocol that carries it.
    """

    transport: IExchangeTransport
    send: Write

    @property
    def full(self) -> bool:
        """
        The transport accepts no more for now.
        """

    def pauseReading(self, paused: bool) -> None:
        """
        Pause or resume reading of the response.
        """

    def requestSent(self) -> None:
        """
        The request is whole.
        """

    def endRaw(self) -> None:
        """
        Our raw direction is whole.
        """

    def abort(self) -> None:
        """
        Reset the connection.
        """


@implementer(IExchange, IPushProducer)
class ClientExchange:
    """
    One request to be sent; it may begin before there is a connection.

    @ivar receiver: receives the response.  Its C{connectionOpened}, if it has one, is called when there is a connection, if
        there was none at first.
    @ivar queue: what was written so far: before there is a connection, or for a second try.
    @ivar connection: carries it; C{None} as long as there is none.
    @ivar traits: what the connection can do.
    @ivar method: of the request.
    @ivar upgrade: the request offers another protocol.
    @ivar sent: the request is whole.
    @ivar raw: both directions are raw octets now.
    @ivar finished: nothing is written, and the receiver is called no more.
    @ivar paused: the response is not read.
    @ivar producer: the push producer of the request.
    """

    # As those of L{ServerExchange<tunnelstack.exchange._server_exchange.ServerExchange>}; the pool sets what differs.

    receiver: IExchangeReceiver
    queue: list[bytes]
    connection: ClientConnection | None = None
    traits: Traits = STREAMED
    producer: IPushProducer | None = None
    method = b""
    upgrade = sent = raw = finished = paused = False
    _writer: MessageWriter | None = None     # made with the head of a request that has a body or offers a protocol
    _body = False                            # some of the body was written

    def attach(self, connection: ClientConnection) -> None:
        """
        From the pool: there is a connection.
        """
        self.connection = connection
        reportOpened(self.receiver)
        connection.transport.writeSequence(self.queue)
        if self._body:
            self.queue = []
        if self.sent:
            connection.requestSent()
        if self.producer is not None and not connection.full:
            self.producer.resumeProducing()   # of a request that is whole, too: it may be upgraded

    def detach(self) -> None:
        """
        From the connection: it is lost, and another one will follow.
        """
        self.connection = None

    @property
    def repeatable(self) -> bool:
        """
        The request can be sent a second time without harm: all of it is still here.
        """
        return self.sent and not self._body and self.method in IDEMPOTENT and bool(self.queue)

    def sendHead(self, head: RequestHead) -> None:
        """
        Send the head.

        @raise UsageError: it was sent before.
        """
        if self.finished:
            return
        if self.method:
            raise UsageError("the head of a request is sent once")
        self.method = head.method
        framing, connection = head.framing, self.connection
        if framing is not None and not (framing.body or framing.upgrade or framing.trailers):
            octets = encode_request(head)
            self.queue.append(octets)
            if connection is not None:
                connection.send(octets)
            return
        self._writer = writer = MessageWriter()
        octets = writer.request_head(head)
        self.upgrade = writer.upgrade != b""
        self.queue.append(octets)
        if connection is not None:
            (connection.transport.write if writer.remaining else connection.send)(octets)

    def write(self, octets: bytes) -> None:
        """
        Send some of the body, or raw octets after a C{101}.

        @raise UsageError: the body is longer than its C{Content-Length}.
        """
        if self.finished or not octets:
            return
        try:
            octets = (self._writer or MessageWriter()).body(octets)
        except BodyLengthMismatch:
            self.cancel(FailureKind.BROKEN)
            raise
        self._pass(octets)

    def _pass(self, octets: bytes) -> None:
        self._body = True
        if self.connection is None:
            self.queue.append(octets)
        else:
            if self.queue:
                self.queue = []
            self.connection.transport.write(octets)

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        The request is whole; in raw octets, our direction is.  A request that is shorter than its C{Content-Length} breaks the
        connection.
        """
        if self.finished or (self.sent and not self.raw):
            return
        connection = self.connection
        if self.raw:
            if connection is not None:
                connection.endRaw()
            return
        if self._writer is not None:
            try:
                octets = self._writer.end(trailers)
            except BodyLengthMismatch:
                self.cancel(FailureKind.BROKEN)
                return
            if octets:
                self._pass(octets)
        self.sent = True
        if connection is not None:
            connection.requestSent()

    def upgraded(self) -> None:
        """
        From the connection: both directions are raw octets now.
        """
        self.raw = True
        if self._writer is not None:
            self._writer.switch()

    def cancel(self, kind: FailureKind) -> None:
        """
        Give up: the receiver is called no more, and the connection is reset.
        """
        if not self.finished:
            self.finished = True
            self.queue = []
            if self.connection is not None:
                self.connection.abort()

    def fail(self, failed: ExchangeFailed) -> None:
        """
        From the connection or the pool: the exchange broke.
        """
        if not self.finished:
            self.finished = True
            self.queue = []
            if self.producer is not None:
                self.producer.stopProducing()
            self.receiver.failed(failed)

    # the producer of the request

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Register what writes the request.

        @raise UsageError: it is a pull producer.
        """
        if not streaming:
            raise UsageError("requests are written by push producers")
        if self.finished:
            producer.stopProducing()
            return
        if self.producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self.producer!r} was never unregistered")
        push: IPushProducer = producer  # type: ignore[assignment]   # a cast would be a call for each exchange
        self.producer = push
        if self.connection is None or self.connection.full:
            push.pauseProducing()

    def unregisterProducer(self) -> None:
        """
        It writes no more.
        """
        self.producer = None

    # the response's body, as a producer

    def pauseProducing(self) -> None:
        """
        Read no more of the response.
        """
        self.paused = True
        if not self.finished and self.connection is not None:
            self.connection.pauseReading(True)

    def resumeProducing(self) -> None:
        """
        Read on.
        """
        self.paused = False
        if not self.finished and self.connection is not None:
            self.connection.pauseReading(False)

    def stopProducing(self) -> None:
        """
        The near side is closed; the receiver's C{failed} is called as well.
        """

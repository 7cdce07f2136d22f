"""
The serving side of one exchange over HTTP/1.1: the response as it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from OpenSSL.crypto import X509
from twisted.internet.interfaces import IAddress, IProducer, IPushProducer
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.exchange._connection import IExchangeTransport
from tunnelstack.exchange.error_page import ErrorPages, respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import STREAMED, Traits
from tunnelstack.interfaces import IExchangeReceiver, IServerExchange
from tunnelstack.records import TakenOverRequest
from tunnelstack.transport.direct_write import Write
from tunnelstack.transport.peers import peerOf
from tunnelstack.wire.http1.framing import UNTIL_CLOSE, Framing, outgoing_framing
from tunnelstack.wire.http1.head import HTTP_1_1, RequestHead, ResponseHead, encode_response
from tunnelstack.wire.http1.message import BodyLengthMismatch, MessageWriter, connection_fields


class HTTPServerConnection(Protocol):
    """
    What an exchange needs of the protocol that received it.

    @ivar keepAlive: another request may follow.
    @ivar pages: makes error pages.
    """

    transport: IExchangeTransport
    keepAlive: bool
    pages: ErrorPages
    send: Write

    @property
    def full(self) -> bool:
        """
        The transport accepts no more for now.
        """

    @property
    def unread(self) -> bool:
        """
        The request is not whole.
        """

    @property
    def atDoor(self) -> bool:
        """
        The request may be taken over.
        """

    def pauseReading(self, paused: bool) -> None:
        """
        Pause or resume reading of the request.
        """

    def lendTransport(self, producer: IProducer) -> None:
        """
        Let a pull producer write the response.
        """

    def reclaimTransport(self) -> None:
        """
        The pull producer is done.
        """

    def upgraded(self) -> None:
        """
        Both directions are raw octets now.
        """

    def endRaw(self) -> None:
        """
        Our raw direction is whole.
        """

    def farSideEnded(self) -> None:
        """
        After the peer's connection is lost: the far side has ended as well.
        """

    def responseBegun(self, exchange: ServerExchange) -> None:
        """
        The head of a response is written whose body is not whole.
        """

    def responseSent(self, exchange: ServerExchange) -> None:
        """
        The response is written.
        """

    def abort(self) -> None:
        """
        Reset the connection.
        """

    def handOff(self) -> TakenOverRequest:
        """
        Give the connection to another protocol.
        """


@implementer(IServerExchange, IPushProducer)
class ServerExchange:
    """
    One request that was received, to be answered.

    @ivar head: the request's head as received.
    @ivar framing: of the message.
    @ivar connection: the protocol that received it;
    @ivar transport: and that protocol's transport.
    @ivar receiver: receives the request's body.
    @ivar producer: the push producer of the response.
    @ivar trace: the request's identifier, once it has one; error pages show it.
    @ivar context: what the server of the request keeps with it.
    @ivar status: of the response; C{0} before it has begun.
    @ivar octets: of the response's body, as far as written.
    @ivar raw: both directions are raw octets now.
    @ivar finished: nothing is written any more.
    """

    # There are two for each request, most of which change few of these values: defaults in the class cost nothing.  The
    # protocol sets the others, since C{__init__} would be a call of Python.

    connection: HTTPServerConnection
    transport: IExchangeTransport
    head: RequestHead
    framing: Framing
    receiver: IExchangeReceiver
    traits: Traits = STREAMED
    context: Any = None
    producer: IPushProducer | None = None
    trace = ""
    status = octets = 0
    raw = finished = False
    _writer: MessageWriter | None = None     # made with the head; a whole response needs none
    _pullProducer = False
    _peer: IAddress | None = None            # once it was asked for

    @property
    def host(self) -> bytes:
        """
        The C{Host} of the request.
        """
        return self.framing.host

    @property
    def peer(self) -> IAddress:
        """
        Where the request came from.
        """
        if self._peer is None:
            self._peer = peerOf(self.transport)
        return self._peer

    @property
    def certificate(self) -> X509 | None:
        """
        The peer's verified certificate.
        """
        ask = getattr(self.transport, "getPeerCertificate", None)
        return None if ask is None else ask()

    @property
    def lengthKnown(self) -> bool:
        """
        A response of known length is under way.
        """
        return self._writer is not None and self._writer.remaining > 0

    @property
    def untilClose(self) -> bool:
        """
        The response ends with its connection.
        """
        return self._writer is not None and self._writer.remaining == UNTIL_CLOSE

    # the response

    def informational(self, head: ResponseHead) -> None:
        """
        Send an interim response; clients of HTTP/1.0 get none.
        """
        if self.finished or self.status or self.head.version != HTTP_1_1:
            return
        if head.status == 100:
            self.framing.expect_continue = False
        self.transport.write(encode_response(head))

    def sendHead(self, head: ResponseHead) -> None:
        """
        Send the head, which decides how the body ends.

        @raise UsageError: it was sent before, or its status is that of an interim response.
        """
        if self.finished:
            return
        status = head.status
        if self.status or (status < 200 and status != 101):
            raise UsageError("a final head is sent once", status=status)
        if status == 101:
            self._upgrade(head)
            return
        self.status = status
        connection = self.connection
        self._writer = writer = MessageWriter(self._keepAlive())
        octets = writer.response_head(head, self.head)
        connection.keepAlive = writer.keep_alive
        (connection.transport.write if writer.remaining else connection.send)(octets)
        connection.responseBegun(self)

    def respond(self, head: ResponseHead, octets: bytes) -> None:
        """
        Send a whole response, in one write where that is possible.

        @raise UsageError: as from L{sendHead} and L{write}.
        """
        framing = head.framing or outgoing_framing(head)
        status = head.status
        if (
            self.finished or self.status or framing.body != len(octets) or framing.upgrade or framing.trailers
            or status < 200 or status == 204 or status == 304 or self._pullProducer or self.head.method == b"HEAD"
        ):
            self.sendHead(head)
            self.write(octets)
            self.end()
            return
        self.status = status
        self.octets = len(octets)
        self.finished = True
        connection = self.connection
        if self.framing.body and connection.unread:           # the rest of the request may never come
            connection.keepAlive = False
        if not connection.keepAlive:
            first = head.closing_octets
            if first is None:                                 # a reader may return the same head for the next response
                head.closing_octets = first = self._encoded(head)
        elif self.head.version == HTTP_1_1:
            first = head.octets
            if first is None:
                head.octets = first = encode_response(head)
        else:
            first = self._encoded(head)
        connection.send(first + octets)
        connection.responseSent(self)

    def _encoded(self, head: ResponseHead) -> bytes:
        """
        The octets of a head with the C{Connection} that it needs.
        """
        fields = connection_fields(head.fields, (), self.head, self.connection.keepAlive)
        return encode_response(ResponseHead(head.status, head.reason, fields))

    def _keepAlive(self) -> bool:
        connection = self.connection
        if connection.unread:                 # the rest of the request may never come
            connection.keepAlive = False
        return connection.keepAlive

    def _upgrade(self, head: ResponseHead) -> None:
        if not self.framing.upgrade or self.connection.unread:
            raise UsageError("the request does not offer another protocol, or is not whole")
        self.status = 101
        self.raw = True
        self._writer = writer = MessageWriter()
        self.transport.write(writer.switching_head(head))
        self.connection.upgraded()
        self.connection.responseBegun(self)

    def write(self, octets: bytes) -> None:
        """
        Send some of the body.  The body of a response to HEAD is dropped.

        @raise UsageError: there is no head yet, or the body is longer than its C{Content-Length}.
        """
        if self.finished or not octets:
            return
        writer = self._writer
        if writer is None:
            raise UsageError("the head comes first")
        if writer.bodyless:
            return
        self.octets += len(octets)
        try:
            octets = writer.body(octets)
        except BodyLengthMismatch:
            self.cancel(FailureKind.BROKEN)
            raise
        (self.transport.write if writer.remaining else self.connection.send)(octets)

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        The response is whole; in raw octets, our direction is.  A response that is shorter than its C{Content-Length} breaks
        the connection, so that the client notices.
        """
        if self.finished:
            if self.raw:
                self.connection.farSideEnded()
            return
        writer = self._writer
        if writer is None:
            raise UsageError("the head comes first")
        if self._pullProducer:
            self.unregisterProducer()
        if self.raw:
            self.connection.endRaw()
            return
        try:
            octets = writer.end(trailers)
        except BodyLengthMismatch:
            self.cancel(FailureKind.BROKEN)
            return
        if octets:
            self.transport.write(octets)
        self.finished = True
        self.connection.responseSent(self)

    def cancel(self, kind: FailureKind) -> None:
        """
        Give up: with a page if nothing was sent, else by resetting the connection, so that no client takes a part for the
        whole.
        """
        if self.finished:
            return
        if not self.status and kind is not FailureKind.CLIENT_CLOSED:
            respondWithPage(self, self.connection.pages, ExchangeFailed(kind), self.trace)
            return
        self.finished = True
        self.connection.abort()

    def onRequest(self) -> TakenOverRequest:
        """
        Own the connection instead of answering.

        @raise UsageError: the request did not arrive at a door, has an unread body, or its response has begun.
        """
        connection = self.connection
        if self.finished or self.status or connection.unread or not connection.atDoor:
            raise UsageError("this exchange cannot be taken over")
        self.finished = True
        return connection.handOff()

    # the producer of the response

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Register what writes the response.
        """
        if self.finished:
            producer.stopProducing()
            return
        if self.producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self.producer!r} was never unregistered")
        if streaming:
            push: IPushProducer = producer  # type: ignore[assignment]   # a cast would be a call for each exchange
            self.producer = push
            if self.connection.full:
                push.pauseProducing()
        else:
            self._pullProducer = True
            self.connection.lendTransport(producer)

    def unregisterProducer(self) -> None:
        """
        It writes no more.
        """
        self.producer = None
        if self._pullProducer:
            self._pullProducer = False
            if not self.finished:
                self.connection.reclaimTransport()

    # the request's body, as a producer

    def pauseProducing(self) -> None:
        """
        Read no more of the request.
        """
        if not self.finished:
            self.connection.pauseReading(True)

    def resumeProducing(self) -> None:
        """
        Read on.
        """
        if not self.finished:
            self.connection.pauseReading(False)

    def stopProducing(self) -> None:
        """
        The far side is closed; the receiver's C{failed} is called as well.
        """

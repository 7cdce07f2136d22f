"""
The serving side of one exchange over HTTP/1.1: the response as it is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from tunnelstack.doors import TakenOverRequest
from tunnelstack.errors import UsageError
from tunnelstack.exchange.error_page import respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import STREAMED, Traits
from tunnelstack.interfaces import IServerExchange
from tunnelstack.transport.peers import peerOf
from tunnelstack.wire.http1.chunked import encode_chunk, encode_last_chunk
from tunnelstack.wire.http1.framing import CHUNKED, UNTIL_CLOSE, Framing, outgoing_framing, without
from tunnelstack.wire.http1.head import HTTP_1_1, Fields, RequestHead, ResponseHead, encode_response

if TYPE_CHECKING:
    from tunnelstack.exchange.server import HTTPServerProtocol


@implementer(IServerExchange, IPushProducer)
class ServerExchange:
    """
    One request that was received, to be answered.

    @ivar head: the request's head as received.
    @ivar framing: what it says of the message.
    @ivar transport: the connection it came by.
    @ivar receiver: who hears of the request's body.
    @ivar trace: the request's identifier, once somebody has given it one; error pages show it.
    @ivar context: whatever who serves it wants to find again when it is over.
    @ivar status: of the response; C{0} before it has begun.
    @ivar octets: of the response's body, as far as written.
    @ivar raw: both directions are raw octets now.
    @ivar finished: nothing is written any more.
    """

    __slots__ = (
        "_bodyless",
        "_connection",
        "_left",
        "_pullProducer",
        "context",
        "finished",
        "framing",
        "head",
        "octets",
        "producer",
        "raw",
        "receiver",
        "status",
        "trace",
        "transport",
    )  # fmt: skip

    traits: Traits = STREAMED

    def __init__(self, connection: HTTPServerProtocol, head: RequestHead, framing: Framing) -> None:
        self._connection = connection
        self.transport: Any = connection.transport
        self.head = head
        self.framing = framing
        self.receiver: Any = None
        self.producer: Any = None
        self.trace = ""
        self.context: Any = None
        self.status = 0
        self.octets = 0
        self.raw = False
        self.finished = False
        self._left = 0
        self._bodyless = False
        self._pullProducer = False

    @property
    def host(self) -> bytes:
        """
        As in L{IServerExchange<tunnelstack.interfaces.IServerExchange>}.
        """
        return self.framing.host

    @property
    def peer(self) -> Any:
        """
        As in L{IServerExchange<tunnelstack.interfaces.IServerExchange>}.
        """
        return peerOf(self.transport)

    @property
    def certificate(self) -> Any:
        """
        As in L{IServerExchange<tunnelstack.interfaces.IServerExchange>}.
        """
        return getattr(self.transport, "getPeerCertificate", lambda: None)()

    @property
    def lengthKnown(self) -> bool:
        """
        A response of known length is under way.
        """
        return self._left > 0

    # what is sent

    def informational(self, head: ResponseHead) -> None:
        """
        Send an interim response; HTTP/1.0 knows none.
        """
        if self.finished or self.status or self.head.version != HTTP_1_1:
            return
        if head.status == 100:
            self.framing.expect_continue = False
        self.transport.write(encode_response(head))

    def sendHead(self, head: ResponseHead) -> None:
        """
        Send the head; how the body ends is settled here.

        @raise UsageError: it was sent before, or its status is that of an interim response.
        """
        if self.finished:
            return
        status = head.status
        if self.status or (status < 200 and status != 101):
            raise UsageError("this is not the time for such a head", status=status)
        if status == 101:
            self._upgrade(head)
            return
        self.status = status
        framing = outgoing_framing(head)
        fields = head.fields
        if status == 204 or status == 304 or self.head.method == b"HEAD":
            self._bodyless = True
            fields = without(fields, b"transfer-encoding", *((b"content-length",) if status == 204 else ()))
        elif framing.body >= 0:
            self._left = framing.body
        else:
            fields = self._unknownLength(fields, framing.body)
        octets = encode_response(ResponseHead(status, head.reason, self._options(fields, framing.options)))
        (self.transport.write if self._left else self._connection.send)(octets)

    def respond(self, head: ResponseHead, octets: bytes) -> None:
        """
        Send a whole response; the head says how long its body is, as with L{sendHead}.

        @raise UsageError: as from L{sendHead} and L{write}.
        """
        framing = outgoing_framing(head)
        status = head.status
        if (
            self.finished or self.status or framing.body != len(octets) or framing.options or self._pullProducer
            or status < 200 or status == 204 or status == 304 or self.head.method == b"HEAD"
        ):
            self.sendHead(head)
            self.write(octets)
            self.end()
            return
        self.status = status
        self.octets = len(octets)
        self.finished = True
        connection = self._connection
        connection.send(encode_response(ResponseHead(status, head.reason, self._options(head.fields, ()))) + octets)
        connection.responseSent(self)

    def _unknownLength(self, fields: Fields, body: int) -> Fields:
        """
        The length is not known: chunks, or until the close where the visitor knows none.
        """
        if self.head.version == HTTP_1_1:
            self._left = CHUNKED
            return fields if body == CHUNKED else [*fields, (b"Transfer-Encoding", b"chunked")]
        self._left = UNTIL_CLOSE
        self._connection.keepAlive = False
        return without(fields, b"transfer-encoding")

    def _options(self, fields: Fields, options: tuple[bytes, ...]) -> Fields:
        connection = self._connection
        if connection.unread:                 # nobody knows whether the rest of the request will ever come
            connection.keepAlive = False
        if not connection.keepAlive:
            options = (*options, b"close")
        elif self.head.version != HTTP_1_1:
            options = (*options, b"keep-alive")
        return [*fields, (b"Connection", b", ".join(options))] if options else fields

    def _upgrade(self, head: ResponseHead) -> None:
        if not self.framing.upgrade or self._connection.unread:
            raise UsageError("nobody asked for another protocol")
        self.status = 101
        self.raw = True
        self._left = UNTIL_CLOSE
        fields = [*without(head.fields, b"content-length", b"transfer-encoding"), (b"Connection", b"Upgrade")]
        self.transport.write(encode_response(ResponseHead(101, head.reason, fields)))
        self._connection.upgraded()

    def write(self, octets: bytes) -> None:
        """
        Send some of the body.  What a response to HEAD would have had is dropped.

        @raise UsageError: there is no head yet, or more than its C{Content-Length} said.
        """
        if self.finished or not octets or self._bodyless:
            return
        left = self._left
        if left >= 0:
            if not self.status:
                raise UsageError("the head comes first")
            left -= len(octets)
            if left < 0:
                self.cancel(FailureKind.BROKEN)
                raise UsageError("the body is longer than it was said to be", octets=-left)
            self._left = left
            (self.transport.write if left else self._connection.send)(octets)
        elif left == CHUNKED:
            self.transport.write(encode_chunk(octets))
        else:
            self.transport.write(octets)
        self.octets += len(octets)

    def end(self, trailers: Any = ()) -> None:
        """
        The response is whole; in raw octets, our direction is.
        """
        if self.finished:
            if self.raw:
                self._connection.farSideEnded()
            return
        if not self.status:
            raise UsageError("the head comes first")
        if self._pullProducer:
            self.unregisterProducer()
        if self._left > 0:
            self.cancel(FailureKind.BROKEN)          # shorter than it said: the visitor has to see that
            return
        if self.raw:
            self._connection.endRaw()
            return
        if self._left == CHUNKED and not self._bodyless:
            self.transport.write(encode_last_chunk(list(trailers)))
        self.finished = True
        self._connection.responseSent(self)

    def cancel(self, kind: FailureKind) -> None:
        """
        Give up: with a page if nothing was sent, else by breaking the connection, so that nobody takes a part for the whole.
        """
        if self.finished:
            return
        if not self.status and kind is not FailureKind.CLIENT_CLOSED:
            respondWithPage(self, self._connection.pages, ExchangeFailed(kind), self.trace)
            return
        self.finished = True
        self._connection.abort()

    def onRequest(self) -> TakenOverRequest:
        """
        Own the connection instead of answering.

        @raise UsageError: the request did not arrive at a door, has an unread body, or its response has begun.
        """
        connection = self._connection
        if self.finished or self.status or connection.unread or not connection.atDoor:
            raise UsageError("this exchange cannot be taken over")
        self.finished = True
        return connection.handOff()

    # what the response's producer is told

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        As in C{IConsumer}.
        """
        if self.finished:
            producer.stopProducing()
            return
        if self.producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self.producer!r} was never unregistered")
        if streaming:
            self.producer = producer
            if self._connection.full:
                producer.pauseProducing()
        else:
            self._pullProducer = True
            self.transport.unregisterProducer()
            self.transport.registerProducer(producer, False)

    def unregisterProducer(self) -> None:
        """
        As in C{IConsumer}.
        """
        self.producer = None
        if self._pullProducer:
            self._pullProducer = False
            if not self.finished:
                self._connection.reclaimTransport()

    # the request's body, as a producer

    def pauseProducing(self) -> None:
        """
        Read no more of the request.
        """
        if not self.finished:
            self._connection.pauseReading(True)

    def resumeProducing(self) -> None:
        """
        Read on.
        """
        if not self.finished:
            self._connection.pauseReading(False)

    def stopProducing(self) -> None:
        """
        The far side is gone; who joined the two is told by C{failed}.
        """

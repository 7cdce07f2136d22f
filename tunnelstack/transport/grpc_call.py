"""
One call of gRPC on a stream of HTTP/2, of either side: messages both ways, and the status at the end.

::

    client    HEADERS, messages ..., END_STREAM
    server    HEADERS, messages ..., trailers with the status
    server    HEADERS with the status, at once ("trailers-only")

A server that ends before the client has ended its direction resets the stream with C{NO_ERROR} after the trailers, and so does
a client that receives trailers early.

Source: grpc C{doc/PROTOCOL-HTTP2.md}.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.interfaces import IConsumer, IDelayedCall, IProducer, IPushProducer, IReactorTime
from zope.interface import implementer

from tunnelstack.interfaces import ICallReceiver, IHTTP2Receiver
from tunnelstack.transport.http2.errors import HTTP2ConnectionLost, HTTP2StreamFailed
from tunnelstack.transport.http2.stream import HTTP2Stream, OpensStreams
from tunnelstack.wire.grpc import (
    CONTENT_TYPE,
    MESSAGE_LIMIT,
    STATUS_FIELD,
    BadCall,
    CallResult,
    PrefixedMessageReader,
    Status,
    encode_prefixed,
    encode_result,
    is_content_type_untrusted,
    read_result_untrusted,
    status_of_http,
    status_of_reset,
)
from tunnelstack.wire.http1.head import first
from tunnelstack.wire.http2.codes import ErrorCode

Fields = Sequence[tuple[bytes, bytes]]

OK = CallResult(Status.OK)
DEADLINE_EXCEEDED = CallResult(Status.DEADLINE_EXCEEDED, "the deadline of the call has passed")
STATUS, TYPE = b":status", (b"content-type", CONTENT_TYPE)
ACCEPTED = ((STATUS, b"200"), TYPE)
ENCODINGS = (b"grpc-accept-encoding", b"identity")
"""Sent with C{UNIMPLEMENTED}: the only encoding of messages that is read."""


@implementer(IHTTP2Receiver, IConsumer, IPushProducer)
class GRPCCall:
    """
    A call.

    @ivar stream: the stream that carries it.
    @ivar receiver: the L{ICallReceiver}; it may be replaced.
    @ivar over: the call has ended, and the receiver is not called any more.
    """

    __slots__ = (
        "_accepted", "_client", "_deadline", "_deliveryScheduled", "_httpStatus", "_paused", "_peerEnded", "_reader",
        "_result", "over", "receiver", "stream",
    )  # fmt: skip

    def __init__(self, client: bool, receiver: ICallReceiver, limit: int = MESSAGE_LIMIT) -> None:
        """
        @param limit: octets of the longest message that is received.
        """
        self.stream: HTTP2Stream
        self.receiver = receiver
        self.over = False
        self._client = client
        self._reader = PrefixedMessageReader(limit)
        self._accepted = False                # the head was sent, or has arrived
        self._httpStatus = 200
        self._result: CallResult | None = None      # from the head, of a client
        self._paused = self._deliveryScheduled = False
        self._peerEnded = False               # the client's end has arrived, and is not reported yet
        self._deadline: IDelayedCall | None = None

    def setDeadline(self, clock: IReactorTime, seconds: float) -> None:
        """
        Reset the call if it is not over within this time.
        """
        self._deadline = clock.callLater(seconds, self._expired)

    def _expired(self) -> None:
        self._deadline = None
        self.reset()
        self.receiver.ended(DEADLINE_EXCEEDED, None)

    def _setOver(self) -> None:
        self.over = True
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()

    # Sending

    def accept(self, metadata: Fields = ()) -> None:
        """
        At a server: send the head.  Messages may follow.
        """
        if not self.over and not self._accepted:
            self._accepted = True
            self.stream.sendHeaders([*ACCEPTED, *metadata])

    def send(self, message: bytes) -> None:
        """
        Send a message.
        """
        if not self.over:
            self.stream.write(encode_prefixed(message))

    def halfClose(self) -> None:
        """
        At a client: no more messages follow.
        """
        if not self.over:
            self.stream.end()

    def finish(self, result: CallResult = OK) -> None:
        """
        At a server: end the call after the messages that are queued.
        """
        if self.over:
            return
        self._setOver()
        if self._accepted:
            self.stream.end(encode_result(result))
        else:
            extra = (ENCODINGS,) if result.status is Status.UNIMPLEMENTED else ()
            self.stream.sendHeaders([*ACCEPTED, *extra, *encode_result(result)], endStream=True)
        self.stream.stopReading()

    def refuseHTTP(self, status: int, *fields: tuple[bytes, bytes]) -> None:
        """
        At a server: answer what is no call of gRPC.
        """
        self._setOver()
        self.stream.sendHeaders([(STATUS, b"%d" % status), *fields, (b"content-length", b"0")], endStream=True)
        self.stream.stopReading()

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """
        End the call at once.
        """
        if not self.over:
            self._setOver()
            self.stream.reset(code)

    @property
    def queued(self) -> int:
        """
        Octets that wait to be sent.
        """
        return self.stream.queued

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self.stream.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self.stream.unregisterProducer()

    def write(self, octets: bytes) -> None:
        """
        As L{send}, for producers.
        """
        self.send(octets)

    # The reading half, as a producer

    def pauseProducing(self) -> None:
        """
        Hold what arrives, a window at most.
        """
        self._paused = True
        self.stream.pauseProducing()

    def resumeProducing(self) -> None:
        """
        What was held follows on a later turn.
        """
        if self._paused:
            self._paused = False
            if not self._deliveryScheduled:
                self._deliveryScheduled = True
                self.stream.callNextTurn(self._resumed)

    def stopProducing(self) -> None:
        """
        The consumer of the messages is gone.
        """
        self.reset()

    def _resumed(self) -> None:
        self._deliveryScheduled = False
        self._deliver()
        if not self._paused and not self.over:
            self.stream.resumeProducing()

    # From the stream

    def informational(self, fields: Fields) -> None:
        """
        Interim responses mean nothing here.
        """

    def headersReceived(self, fields: Fields, ended: bool) -> None:
        """
        At a client: the head of the response.
        """
        self._httpStatus = int(first(list(fields), STATUS) or 0)
        if self._httpStatus != 200 or not is_content_type_untrusted(first(list(fields), TYPE[0]) or b""):
            self._refusedByHTTP()
        elif first(list(fields), STATUS_FIELD) is not None and ended:
            self._result = read_result_untrusted(fields)
        else:
            self._accepted = True
            self.setEncoding(fields)
            self.receiver.answered(fields)

    def setEncoding(self, fields: Fields) -> None:
        """
        Note the encoding that the peer's messages may have.
        """
        self._reader.encoding = first(list(fields), b"grpc-encoding") or b""

    def _refusedByHTTP(self) -> None:
        self._close(ErrorCode.CANCEL)
        status = status_of_http(self._httpStatus)
        self.receiver.ended(CallResult(status, f"the server answered with the status {self._httpStatus} of HTTP"), None)

    def dataReceived(self, octets: bytes) -> None:
        """
        Some octets of messages.
        """
        if not self.over:
            self._reader.feed(octets)
            self._deliver()

    def _deliver(self) -> None:
        while not self.over and not self._paused:
            try:
                message = self._reader.next_message()
            except BadCall as bad:
                self._break(bad)
                return
            if message is None:
                if self._peerEnded:
                    self._peerEnded = False
                    self.receiver.halfClosed()
                return
            self.receiver.messageReceived(message)

    def ended(self, trailers: Fields) -> None:
        """
        The end of the peer's direction.
        """
        if self.over:
            return
        try:
            self._reader.receive_eof()
        except BadCall as bad:
            self._break(bad)
            return
        if self._client:
            self._close(ErrorCode.NO_ERROR)
            self.receiver.ended(self._result or read_result_untrusted(trailers, self._httpStatus), None)
        else:
            self._peerEnded = True
            self._deliver()

    def _close(self, code: int) -> None:
        """
        At a client: nothing more is to be said.
        """
        self._setOver()
        if not self.stream.ended or code != ErrorCode.NO_ERROR:
            self.stream.reset(code)

    def _break(self, bad: BadCall) -> None:
        """
        The peer broke a rule of gRPC.
        """
        result = CallResult(bad.status, str(bad))
        if self._client:
            self.reset()
        else:
            self.finish(result)
        self.receiver.ended(result, bad)

    def closed(self) -> None:
        """
        Both directions have ended.
        """
        self._setOver()

    def failed(self, reason: Exception) -> None:
        """
        The stream was reset, or its connection is lost.
        """
        if self.over:
            return
        self._setOver()
        self.receiver.ended(CallResult(self._statusOf(reason), str(reason)), reason)

    def _statusOf(self, reason: Exception) -> Status:
        if isinstance(reason, HTTP2ConnectionLost):
            return Status.UNAVAILABLE if self._client else Status.CANCELLED
        return status_of_reset(reason.code) if isinstance(reason, HTTP2StreamFailed) else Status.UNKNOWN


def openCall(
    connection: OpensStreams, path: bytes, receiver: ICallReceiver, *, scheme: bytes = b"http",
    authority: bytes = b"localhost", metadata: Iterable[tuple[bytes, bytes]] = (), limit: int = MESSAGE_LIMIT,
) -> GRPCCall:
    """
    Begin a call at a client.  The head is sent without waiting for a message.

    @param path: of the method, such as C{b"/package.Service/Method"}.
    @param metadata: names in lower case.
    @param limit: octets of the longest message that is received.
    @raise HTTP2StreamFailed: the connection opens no stream now, or never again.
    """
    call = GRPCCall(True, receiver, limit)
    call.stream = connection.openStream(
        [
            (b":method", b"POST"), (b":scheme", scheme), (b":path", path), (b":authority", authority), (b"te", b"trailers"),
            TYPE, *metadata,
        ],
        call,
    )  # fmt: skip
    return call

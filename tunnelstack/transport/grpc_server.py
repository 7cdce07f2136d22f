"""
The methods of a server of gRPC, as what accepts the streams of an HTTP/2 connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from tunnelstack.interfaces import ICallReceiver, IHTTP2Receiver
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.transport.http2.stream import HTTP2Stream
from tunnelstack.wire.grpc import (
    MESSAGE_LIMIT,
    BadCall,
    CallResult,
    Status,
    is_content_type_untrusted,
    read_timeout_untrusted,
)

Fields = Sequence[tuple[bytes, bytes]]

LONGEST_DEADLINE = 30 * 24 * 3600.0
"""Seconds above which a deadline is none."""


@frozen(kw_only=True)
class Method:
    """
    A method of a service.

    @ivar begin: called with each call and the fields of its head; makes its receiver, and may accept or finish the call.
    @ivar limit: octets of the longest message of the client.
    """

    begin: Callable[[GRPCCall, Fields], ICallReceiver]
    limit: int = MESSAGE_LIMIT


@implementer(ICallReceiver)
class _NoCall:
    """
    The receiver of a call that was refused.
    """

    def answered(self, fields: Fields) -> None:
        pass

    def messageReceived(self, message: bytes) -> None:
        pass

    def halfClosed(self) -> None:
        pass

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        pass


NO_CALL = _NoCall()


class GRPCServer:
    """
    Begins calls.  L{accept} is for an L{HTTP2Connection<tunnelstack.transport.http2.connection.HTTP2Connection>}.
    """

    def __init__(self, clock: IReactorTime, methods: Mapping[bytes, Method]) -> None:
        """
        @param methods: by their paths.
        """
        self._clock = clock
        self._methods = methods

    def accept(self, stream: HTTP2Stream) -> IHTTP2Receiver:
        """
        @return: the receiver of a stream.
        """
        return _Beginning(self, stream)

    def begin(self, stream: HTTP2Stream, fields: Fields) -> GRPCCall:
        """
        From a stream: its head.

        @return: the call, which may be over already.
        """
        head = dict(fields)
        method = self._methods.get(head[b":path"]) if b":path" in head else None
        call = GRPCCall(False, NO_CALL, MESSAGE_LIMIT if method is None else method.limit)
        call.stream = stream
        stream.receiver = call
        if head.get(b":method") != b"POST":
            call.refuseHTTP(405, (b"allow", b"POST"))
        elif not is_content_type_untrusted(head.get(b"content-type", b"")):
            call.refuseHTTP(415)
        elif method is None:
            call.finish(CallResult(Status.UNIMPLEMENTED, "there is no such method"))
        else:
            call.setEncoding(fields)
            self._begin(call, method, fields, head.get(b"grpc-timeout"))
        return call

    def _begin(self, call: GRPCCall, method: Method, fields: Fields, timeout: bytes | None) -> None:
        try:
            seconds = None if timeout is None else read_timeout_untrusted(timeout)
        except BadCall as bad:
            call.finish(CallResult(bad.status, str(bad)))
            return
        call.receiver = method.begin(call, fields)
        if seconds is not None and seconds < LONGEST_DEADLINE and not call.over:
            call.setDeadline(self._clock, seconds)


@implementer(IHTTP2Receiver)
class _Beginning:
    """
    Waits for the head of a call.
    """

    def __init__(self, server: GRPCServer, stream: HTTP2Stream) -> None:
        self._server = server
        self._stream = stream

    def headersReceived(self, fields: Fields, ended: bool) -> None:
        self._server.begin(self._stream, fields)

    def informational(self, fields: Fields) -> None:
        """
        Not called: requests have none.
        """

    def dataReceived(self, octets: bytes) -> None:
        """
        Not called: the head comes first.
        """

    def ended(self, trailers: Fields) -> None:
        """
        Not called, likewise.
        """

    def closed(self) -> None:
        """
        Not called, likewise.
        """

    def failed(self, reason: Exception) -> None:
        """
        The stream was reset before there was a call.
        """


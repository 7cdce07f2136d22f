"""
A stream named by the head of an HTTP/1.1 request, and where it is agreed so, answered by a head; then octets that are no HTTP.

Its user defines which requests there are, and what answers mean.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import Factory, frozen

from tunnelstack.errors import UsageError
from tunnelstack.wire.http1.head import (
    HeadLimits,
    RequestHead,
    ResponseHead,
    find_end_untrusted,
    read_request_untrusted,
    read_response_untrusted,
)
from tunnelstack.wire.negotiation.base import (
    NO_PARAMETERS,
    Agreed,
    Negotiation,
    NegotiationEvent,
    Parameters,
    Proposed,
    ReceiveBuffer,
    Rejected,
    Release,
)

LIMITS = HeadLimits(octets=8 * 1024, fields=50)
"""Of heads, both ways."""

REASON = 512
"""Octets of the body of a refusal that are read."""


@frozen
class StreamRequest:
    """
    What a request is for.

    @ivar name: a name for it; C{b""} if it is not known, or cannot be meant.
    @ivar parameters: what it contains.
    @ivar yes: the octets of a yes.
    @ivar no: from the reason to the octets of a no.
    @ivar first: octets that are the application's before any that follow.
    """

    name: bytes
    parameters: Parameters = Factory(dict)
    yes: bytes = b""
    no: Callable[[str], bytes] = lambda reason: b""
    first: bytes = b""


class HTTPRequestInitiator(Negotiation):
    """
    Sends a request, and reads its answer where there is to be one.
    """

    __slots__ = ("_agreed", "_buffer", "_no", "_refusal", "_searched")

    def __init__(
        self,
        name: bytes,
        request: bytes,
        *,
        refusal: Callable[[ResponseHead], str | None] | None = None,
        release: Release | None = None,
        timeout: float | None = None,
    ) -> None:
        """
        @param name: what it is called here; the peer sends only the request.
        @param refusal: from the head of the answer to the reason why not, or C{None} for a yes; unless given, none is waited
            for.
        @param release: unless given, C{ON_REPLY} where there is an answer and C{AT_ONCE} where there is none.
        @raise UsageError: the application were to wait for an answer that never comes.
        """
        usual = Release.AT_ONCE if refusal is None else Release.ON_REPLY
        if refusal is None and release is Release.ON_REPLY:
            raise UsageError("there is no answer to wait for")
        super().__init__(release or usual, timeout)
        self.name = name
        self.own_frame = True
        self._out = [request]
        self._refusal = refusal
        self._buffer = b""
        self._searched = 0
        self._no: tuple[str, int] | None = None        # the reason so far, and how long its body is

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.  What follows the head of a yes is the application's, whatever its fields promise.

        @raise PeerError: this is no answer.
        """
        self._check_open()
        if self._refusal is None:
            self.settled = True
            return [Agreed(self.name, NO_PARAMETERS, octets)]
        self._buffer += octets
        if self._no is None:
            end = find_end_untrusted(self._buffer, self._searched, LIMITS)
            if end < 0:
                self._searched = len(self._buffer)
                return []
            head = read_response_untrusted(self._buffer, end, LIMITS)
            self._buffer = self._buffer[end:]
            reason = self._refusal(head)
            if reason is None:
                self.settled = True
                return [Agreed(self.name, NO_PARAMETERS, self._buffer)]
            self._no = reason, _length(head)
        return self._refused() if len(self._buffer) >= self._no[1] else []

    def receive_eof(self) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}; a reason may be cut short.
        """
        return super().receive_eof() if self._no is None else self._refused()

    def _refused(self) -> list[NegotiationEvent]:
        assert self._no is not None
        reason, length = self._no
        self.settled = True
        words = " ".join(self._buffer[:length].decode("utf-8", "replace").split())
        return [Rejected(f"{reason}: {words}" if words else reason)]


class HTTPRequestResponder(Negotiation):
    """
    Hears the request, and lets its owner answer.
    """

    __slots__ = ("_buffer", "_buffered", "_read", "_request", "_searched")

    def __init__(self, read: Callable[[RequestHead], StreamRequest], *, timeout: float | None = None) -> None:
        """
        @param read: returns what a request is for.
        """
        super().__init__(Release.ON_REPLY, timeout)
        self.own_frame = True
        self._read = read
        self._buffer = b""
        self._searched = 0
        self._request: StreamRequest | None = None
        self._buffered = ReceiveBuffer(b"")

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.

        @raise PeerError: this is no request.
        """
        self._check_open()
        if self._request is not None:
            self._buffered.add(octets)
            return []
        self._buffer += octets
        end = find_end_untrusted(self._buffer, self._searched, LIMITS)
        if end < 0:
            self._searched = len(self._buffer)
            return []
        request = self._read(read_request_untrusted(self._buffer, end, LIMITS))
        self._request, self._buffered, self._buffer = request, ReceiveBuffer(self._buffer[end:]), b""
        return [Proposed(request.name, request.parameters)]

    def receive_eof(self) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}; while the owner decides, it is no fault.
        """
        return [] if self._request is not None else super().receive_eof()

    def accept(self, parameters: Parameters | None = None) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.
        """
        request = self._take_proposal()
        if request.yes:
            self._out.append(request.yes)
        return [Agreed(request.name, request.parameters, request.first + self._buffered.joined())]

    def reject(self, reason: str, code: str = "") -> list[NegotiationEvent]:
        """
        As in L{Negotiation}: final.
        """
        self._out.append(self._take_proposal().no(reason))
        return [Rejected(reason)]

    def _take_proposal(self) -> StreamRequest:
        if self._request is None:
            raise UsageError("nothing was proposed")
        self._check_open()
        self.settled = True
        return self._request


def _length(head: ResponseHead) -> int:
    """
    @return: octets of a refusal's body that are worth waiting for.
    """
    length = head.field(b"content-length") or b"0"
    return min(int(length), REASON) if length.isdigit() and len(length) < 10 else REASON

"""
What an HTTP/2 connection reports to its owner.
"""

from __future__ import annotations

from attrs import define

Fields = list[tuple[bytes, bytes]]
"""Names in lower case and values, in order; those whose names begin with a colon come first."""


class HTTP2Event:
    """
    The kind of all events.
    """

    __slots__ = ()


@define
class InformationalArrived(HTTP2Event):
    """
    The head of an interim response (1xx).
    """

    stream_id: int
    fields: Fields


@define
class HeadArrived(HTTP2Event):
    """
    The head of a request, which opens its stream, or of the final response.  It is well-formed.

    @ivar ended: no body follows; L{MessageEnded} does.
    """

    stream_id: int
    fields: Fields
    ended: bool


@define
class BodyArrived(HTTP2Event):
    """
    A piece of a body.

    @ivar data: never empty; the owner owes an C{acknowledge} for it.
    """

    stream_id: int
    data: bytes


@define
class MessageEnded(HTTP2Event):
    """
    The peer's direction of the stream has ended, and the body has the length that its head announced.
    """

    stream_id: int
    trailers: Fields


@define
class StreamAborted(HTTP2Event):
    """
    The stream is gone: both directions have ended at once.

    @ivar code: the L{ErrorCode<tunnelstack.wire.http2.codes.ErrorCode>}, or another number of the peer's.
    @ivar by_peer: the peer has reset it; otherwise it was reset here, because the peer broke a rule.
    @ivar unprocessed: the peer has not begun to process it, so it may be tried again elsewhere.
    @ivar why: the reason, if it was reset here.
    """

    stream_id: int
    code: int
    by_peer: bool
    unprocessed: bool
    why: str = ""


@define
class WindowOpened(HTTP2Event):
    """
    There is credit again for a stream that had none.
    """

    stream_id: int


@define
class StreamSlotsChanged(HTTP2Event):
    """
    The number of streams that can be opened has changed.
    """


@define
class SettingsArrived(HTTP2Event):
    """
    The peer's first SETTINGS: the connection is up.
    """


@define
class PingAnswered(HTTP2Event):
    """
    The answer to a ping of the owner's.
    """

    opaque: int


@define
class GoAwayArrived(HTTP2Event):
    """
    The peer ends the connection: it processes no streams of ours above C{last_stream_id}.

    @ivar code: the L{ErrorCode<tunnelstack.wire.http2.codes.ErrorCode>}, or another number of the peer's.
    @ivar debug: octets of the peer's, for logs; at most 256.
    """

    code: int
    last_stream_id: int
    debug: bytes


@define
class ConnectionExpired(HTTP2Event):
    """
    The peer did not do in time what it must.  The GOAWAY is queued, if there is one.

    @ivar code: the L{ErrorCode<tunnelstack.wire.http2.codes.ErrorCode>}.
    @ivar why: what it did not do.
    """

    code: int
    why: str


@define
class ConnectionIdle(HTTP2Event):
    """
    No stream was open for C{idle_timeout} seconds: the connection is to be drained.
    """

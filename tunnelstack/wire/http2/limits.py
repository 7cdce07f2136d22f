"""
The numbers that bound an HTTP/2 connection, each with its unit, its default and its reason.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, ge, le

from tunnelstack.wire.receive_window import INITIAL_WINDOW

KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024

WINDOW = INITIAL_WINDOW
"""Octets of the first window of a stream toward us, as our SETTINGS announce it."""

LARGEST_FRAME = 0xFF_FFFF
LARGEST_HTTP2_WINDOW = 0x7FFF_FFFF


@frozen(kw_only=True)
class HTTP2Limits:
    """
    What one connection may use, and how long it waits.

    The limits of floods count a kind of frame in excess of what the traffic needs: so many at once, and as many again within
    C{flood_seconds}.  A peer that exceeds one is answered by GOAWAY with ENHANCE_YOUR_CALM, and the connection is closed.

    @ivar streams: streams that the peer may have open.  Those beyond are refused.
    @ivar opened_streams: streams that are open at most of those that are opened here, even if the peer accepts more.
    @ivar max_window: octets to which the window of a stream may grow, where the way to the peer is long.
    @ivar session_octets: octets that the windows of all streams together may have grown by.
    @ivar connection_window: octets that the peer may have on the way toward us, on all streams together.
    @ivar held_octets: octets that applications have not read, above which the peer gets no more credit for the connection.
        So a connection holds C{held_octets} and C{connection_window} at most.
    @ivar max_frame: octets of payload of the largest frame that is accepted.
    @ivar header_list: octets of the largest list of fields, each with 32 more, as RFC 9113 counts them.  A request beyond it is
        answered with 431; one that is more than twice as large ends the connection.
    @ivar continuations: CONTINUATION frames of one list of fields.
    @ivar resets: resets of streams that were not answered yet, by the peer or on its account: the rapid reset attack.  A stream
        that ends in an orderly way makes up for one.
    @ivar pings: PING frames.  Each DATA frame that is sent makes up for one.
    @ivar settings: SETTINGS frames.
    @ivar empty_frames: DATA frames without payload that do not end a stream.
    @ivar window_updates: WINDOW_UPDATE frames.  Each DATA frame that is sent makes up for four, and for one more for each
        512 octets.
    @ivar priorities: PRIORITY frames and frames of unknown kinds.  Each stream that is opened makes up for four.
    @ivar flood_seconds: seconds in which what floods have used up of these limits is forgotten.
    @ivar preface_timeout: seconds until the peer must have sent its preface and its SETTINGS.
    @ivar settings_timeout: seconds until it must have acknowledged ours.
    @ivar keepalive: seconds between pings; C{0} sends none.
    @ivar keepalive_timeout: seconds after a ping within which something must be received.
    @ivar idle_timeout: seconds without a stream after which the connection is closed; C{0} keeps it.
    @ivar close_timeout: seconds that a peer may take for its last octets when the connection is closed.
    @ivar stream_close_timeout: of a session: seconds that a peer may leave its direction of a stream open after the stream was
        closed here, before the stream is reset; C{0} waits for ever.
    @ivar connect_protocol: a server announces that it accepts the extended CONNECT of RFC 8441.
    """

    streams: int = field(default=100, validator=and_(ge(1), le(0x7FFF_FFFF)))
    opened_streams: int = field(default=1000, validator=ge(1))
    max_window: int = field(default=16 * MEBIBYTE, validator=and_(ge(WINDOW), le(LARGEST_HTTP2_WINDOW)))
    session_octets: int = field(default=8 * MEBIBYTE, validator=ge(0))
    connection_window: int = field(default=8 * MEBIBYTE, validator=and_(ge(WINDOW), le(LARGEST_HTTP2_WINDOW)))
    held_octets: int = field(default=8 * MEBIBYTE, validator=ge(0))
    max_frame: int = field(default=64 * KIBIBYTE, validator=and_(ge(16 * KIBIBYTE), le(LARGEST_FRAME)))
    header_list: int = field(default=64 * KIBIBYTE, validator=ge(4 * KIBIBYTE))
    continuations: int = field(default=32, validator=ge(1))
    resets: int = field(default=200, validator=ge(1))
    pings: int = field(default=100, validator=ge(1))
    settings: int = field(default=20, validator=ge(1))
    empty_frames: int = field(default=100, validator=ge(1))
    window_updates: int = field(default=1000, validator=ge(1))
    priorities: int = field(default=200, validator=ge(1))
    flood_seconds: float = field(default=10.0, validator=ge(0.1))
    preface_timeout: float = field(default=10.0, validator=ge(0.1))
    settings_timeout: float = field(default=10.0, validator=ge(0.1))
    keepalive: float = field(default=30.0, validator=ge(0))
    keepalive_timeout: float = field(default=15.0, validator=ge(0.001))
    idle_timeout: float = field(default=300.0, validator=ge(0))
    close_timeout: float = field(default=10.0, validator=ge(0.1))
    stream_close_timeout: float = field(default=300.0, validator=ge(0))
    connect_protocol: bool = True


SERVER_LIMITS = HTTP2Limits()
"""Those of a server, unless others are given."""

CLIENT_LIMITS = HTTP2Limits(keepalive=0.0, idle_timeout=0.0)
"""Those of a client.  It sends no pings: servers of gRPC close a connection for more than one in five minutes without data."""

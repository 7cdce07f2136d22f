"""
The numbers that bound a yamux session, each with its unit, its default and its reason.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, ge, le

from tunnelstack.settings.record import Record
from tunnelstack.wire.yamux.frames import INITIAL_WINDOW

MEBIBYTE = 1024 * 1024
LARGEST_WINDOW = 0x7FFF_FFFF    # octets; above it some peers count wrong


@frozen(kw_only=True, eq=False, repr=False)
class SessionLimits(Record):
    """
    What one session may use.

    @ivar window: octets of payload a new stream may have in flight toward us.  More than 256 KiB is granted with our first
        frame on the stream, as far as C{session_octets} reaches.
    @ivar max_window: octets to which the window of a stream may grow.
    @ivar session_octets: octets of credit that all streams together may have above their first 256 KiB.
    @ivar max_frame: octets of payload in one DATA frame of ours.  Some peers hold a frame until it is whole, so never
        more than 64 KiB.
    @ivar max_streams: streams that each side may have open.
    @ivar backlog: streams of the peer that may wait to be accepted.
    @ivar unacknowledged: streams of ours that may wait for the peer's first frame; every implementation takes 256.
    @ivar keepalive: seconds between pings; C{0} sends none.
    @ivar keepalive_timeout: seconds after a ping within which something must be received.
    @ivar open_timeout: seconds within which the peer must send a first frame on a stream of ours; C{0} is no limit.
    @ivar close_timeout: seconds that a peer may leave its direction open after a stream was closed here, before the stream is
        reset; C{0} is no limit.
    @ivar pongs: answers to pings that may wait to be sent; later pings are dropped.
    @ivar refusals: resets on the peer's account that may wait to be sent; beyond, the session ends.
    """

    window: int = field(default=INITIAL_WINDOW, validator=ge(INITIAL_WINDOW))
    max_window: int = field(default=16 * MEBIBYTE, validator=and_(ge(INITIAL_WINDOW), le(LARGEST_WINDOW)))
    session_octets: int = field(default=8 * MEBIBYTE, validator=ge(0))
    max_frame: int = field(default=64 * 1024 - 12, validator=and_(ge(1024), le(64 * 1024)))
    max_streams: int = field(default=1024, validator=ge(1))
    backlog: int = field(default=256, validator=ge(1))
    unacknowledged: int = field(default=256, validator=ge(1))
    keepalive: float = field(default=30.0, validator=ge(0))
    keepalive_timeout: float = field(default=10.0, validator=ge(0.001))
    open_timeout: float = field(default=75.0, validator=ge(0))
    close_timeout: float = field(default=300.0, validator=ge(0))
    pongs: int = field(default=32, validator=ge(1))
    refusals: int = field(default=1024, validator=ge(1))

    def __attrs_post_init__(self) -> None:
        if self.window > self.max_window:
            raise ValueError(f"window ({self.window}) is above max_window ({self.max_window})")


DEFAULT_LIMITS = SessionLimits()

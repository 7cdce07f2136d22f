"""
Two sessions over a wire, for tests of streams.
"""

from __future__ import annotations

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock

from tunnelstack.session.yamux import YamuxSession
from tunnelstack.testing._wire import Wire
from tunnelstack.wire.yamux.limits import SessionLimits


def sessionPair(
    listening: IProtocolFactory | None = None,
    *,
    clock: Clock | None = None,
    cut: int | None = None,
    limits: SessionLimits | None = None,
) -> tuple[Wire, YamuxSession, YamuxSession]:
    """
    Make two yamux sessions over a wire.  Nothing is delivered yet.

    @param listening: the factory for the streams that the far session accepts.
    @param clock: virtual time; a new one unless given.
    @param cut: the most octets of one delivery (see L{Wire}).
    @param limits: of both sessions.
    @return: the wire, the near session (yamux client) and the far one.
    """
    wire = Wire(clock=clock, cut=cut)
    near = YamuxSession(True, clock=wire.clock, limits=limits)
    far = YamuxSession(False, clock=wire.clock, limits=limits)
    if listening is not None:
        far.listener.listen(listening)
    wire.connect(near, far)
    return wire, near, far

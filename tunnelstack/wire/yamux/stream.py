"""
One stream of a yamux session: two independent halves and what is still owed.
"""

from __future__ import annotations

from tunnelstack.wire.receive_window import FIRST_STEP, ReceiveWindow
from tunnelstack.wire.yamux.frames import INITIAL_WINDOW


class Stream(ReceiveWindow):
    """
    A stream of the session.  It is its own receive window, to spare a lookup per frame.

    @ivar stream_id: its number.
    @ivar is_local: whether we opened it.
    @ivar accepted: ours, or the ACK for it is queued.
    @ivar flowing: payload without flags may be delivered at once: the peer has sent a frame of it and has not ended it.
    @ivar sendable: accepted, and our FIN is not queued.
    @ivar credit: octets we may still send.
    @ivar fin_sent: our FIN is queued or sent.
    @ivar fin_received: the peer's FIN came.
    @ivar flush: number of the flush that will take, or took, the last of its payload or FIN.
    @ivar consumed_at: when payload of it was last consumed, in seconds of the owner's clock; at first, when it was opened.
    @ivar sent_at: when C{send_data} last took payload of it; at first, when it was opened.
    """

    __slots__ = (
        "accepted", "consumed_at", "credit", "fin_received", "fin_sent", "flowing", "flush", "is_local", "sendable", "sent_at",
        "stream_id",
    )  # fmt: skip

    def __init__(self, stream_id: int, is_local: bool, now: float = 0.0) -> None:
        self.size = self.allowance = INITIAL_WINDOW     # as ReceiveWindow does; a call for every stream costs 2 %
        self.returnable = self.grant_end = self.measured = 0
        self.step = FIRST_STEP
        self.grants = ()
        self.read = -1
        self.starved = False
        self.measured_from = now
        self.trial = None
        self.stream_id = stream_id
        self.is_local = self.accepted = self.sendable = is_local
        self.flowing = not is_local
        self.credit = INITIAL_WINDOW
        self.fin_sent = self.fin_received = False
        self.flush = -1
        self.consumed_at = self.sent_at = now

    @property
    def finished(self) -> bool:
        """
        Both directions ended and all that was delivered is consumed.
        """
        return self.fin_sent and self.fin_received and not self.held

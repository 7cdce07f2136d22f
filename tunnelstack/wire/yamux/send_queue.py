"""
What waits to leave a yamux session, and in which order: answers to pings, then control in the order it was queued, then
credit, then payload.  A stream's FIN follows its payload; everything else of a stream precedes it.
"""

from __future__ import annotations

from tunnelstack.wire.receive_window import CreditBudget
from tunnelstack.wire.yamux.frames import (
    DATA,
    PING_REPLY,
    WINDOW_PLAIN,
    WINDOW_RST,
    pack_header,
    unpack_header,
)
from tunnelstack.wire.yamux.stream import Stream


class SendQueue:
    """
    The queues of one session.

    @ivar frames: control that waits.
    @ivar pongs: answers to pings that wait.
    @ivar data: headers and payloads in turn, and FINs.
    @ivar flushes: how often payload has left; the number of the flush to come.
    @ivar updates: streams that have credit to give back, at most one WINDOW for each.
    @ivar resets: RST frames on the peer's account that wait.
    """

    __slots__ = ("_pongs_limit", "data", "flushes", "frames", "pongs", "resets", "updates")

    def __init__(self, pongs: int) -> None:
        self.pongs: list[bytes] = []
        self._pongs_limit = pongs
        self.frames: list[bytes] = []
        self.updates: dict[int, Stream] = {}
        self.data: list[bytes] = []
        self.flushes = 0
        self.resets = 0

    def control(self, word: int, stream_id: int, length: int) -> None:
        """
        Say something that does not wait for payload.
        """
        self.frames.append(pack_header(word, stream_id, length))

    def pong(self, opaque: int) -> bool:
        """
        Answer a ping.

        @return: C{False} when too many answers wait already.
        """
        if len(self.pongs) >= self._pongs_limit:
            return False
        self.pongs.append(pack_header(PING_REPLY, 0, opaque))
        return True

    def reset(self, stream_id: int) -> None:
        """
        RST, in the order of control, so that it follows a SYN or an ACK that has not left yet.
        """
        self.control(WINDOW_RST, stream_id, 0)

    def has_unsent(self, stream: Stream) -> bool:
        """
        Whether payload or the FIN of a stream has not left yet.
        """
        return stream.flush == self.flushes

    def discard(self, stream: Stream) -> None:
        """
        Forget payload and FIN of a stream that have not left yet.
        """
        if not self.has_unsent(stream):
            return
        stream.flush = -1
        kept: list[bytes] = []
        pieces = iter(self.data)
        for header in pieces:
            word, stream_id, _ = unpack_header(header)
            frame = [header, next(pieces)] if word == DATA else [header]
            if stream_id != stream.stream_id:
                kept += frame
        self.data = kept

    def take_control(self, highest: int, budget: CreditBudget, now: float, round_trip: float) -> list[bytes]:
        """
        The parameters are those of L{ReceiveWindow.grant<tunnelstack.wire.receive_window.ReceiveWindow.grant>}.

        @return: control and credit that wait, in order; none of them waits afterwards.
        """
        pieces = self.pongs + self.frames
        for stream_id, stream in self.updates.items():
            if octets := stream.grant(highest, budget, now, round_trip):
                pieces.append(pack_header(WINDOW_PLAIN, stream_id, octets))
        self.pongs, self.frames = [], []
        self.updates.clear()
        self.resets = 0
        return pieces

    def discard_pending(self) -> None:
        """
        The session is broken: only control is still worth sending.
        """
        self.data = []
        self.updates.clear()

"""
One stream of an HTTP/2 connection: what C{h2} does not know of it.
"""

from __future__ import annotations

from tunnelstack.wire.http2.events import Fields
from tunnelstack.wire.receive_window import ReceiveWindow


class HTTP2StreamState(ReceiveWindow):
    """
    A stream that the connection knows.  It is its own receive window, to spare a lookup for each frame.

    @ivar stream_id: its number.
    @ivar is_local: we opened it.
    @ivar opened: its first head was sent or received, so C{h2} knows it.
    @ivar answered: the server has sent its final head.
    @ivar end_sent: our direction has ended.
    @ivar end_received: the peer's direction has ended.
    @ivar method: of the request.
    @ivar length: octets of body that the peer's head announced; C{None} if it announced none.
    @ivar received: octets of body that arrived.
    @ivar trailers: of the peer's.
    @ivar own_trailers: that are to end our direction.
    @ivar consumed_at: when payload of it was last consumed, in seconds of the owner's clock; at first, when it was opened.
    @ivar sent_at: when C{send_data} last took payload of it; at first, when it was opened.
    """

    __slots__ = (
        "answered", "consumed_at", "end_received", "end_sent", "is_local", "length", "method", "opened", "own_trailers",
        "received", "sent_at", "stream_id", "trailers",
    )  # fmt: skip

    def __init__(self, stream_id: int, is_local: bool, now: float) -> None:
        ReceiveWindow.__init__(self, now)
        self.stream_id = stream_id
        self.is_local = is_local
        self.opened = not is_local
        self.answered = self.end_sent = self.end_received = False
        self.method = b""
        self.length: int | None = None
        self.received = 0
        self.trailers: Fields = []
        self.own_trailers: Fields = []
        self.consumed_at = self.sent_at = now

    @property
    def over(self) -> bool:
        """
        Both directions have ended.
        """
        return self.end_sent and self.end_received

    def answered_by_peer(self, client: bool) -> bool:
        """
        @param client: we are the client.
        @return: whether the peer's head has arrived, so that a further list of fields is that of its trailers.
        """
        return self.answered if client else True

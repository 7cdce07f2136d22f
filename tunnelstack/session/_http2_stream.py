"""
A stream of an HTTP/2 connection as the transport of a stream of octets: its heads are the session's, its body the octets.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from tunnelstack.interfaces import IStreamOwner
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.http2.connection import HTTP2Machine
from tunnelstack.wire.http2.events import Fields


class HTTP2StreamTransport(StreamTransport):
    """
    The transport of one stream.

    @ivar heads: C{1} while our head waits to be sent.
    @ivar established: the peer's head has arrived.
    """

    __slots__ = ("_core", "_head", "_translate", "established", "heads")

    def __init__(
        self, owner: IStreamOwner, core: HTTP2Machine, streamId: int, address: StreamAddress, protocol: IProtocol,
        translate: Callable[[Failure], Failure],
    ) -> None:
        """
        @param translate: makes the reason of a session's loss of that of its connection.
        """
        super().__init__(owner, streamId, address, protocol)
        self._core = core
        self._translate = translate
        self._head: Fields = []
        self.heads = 0
        self.established = False

    def queueHead(self, fields: Fields) -> None:
        """
        Send our head before everything else.
        """
        self._head = fields
        self.heads = 1
        if not self.scheduled:
            self._owner.streamReady(self)

    def sendHeads(self) -> int:
        """
        As in L{ScheduledStream<tunnelstack.transport.stream_scheduler.ScheduledStream>}.
        """
        self.heads = 0
        return max(0, self._core.send_head(self.streamId, self._head))

    def deliverInformational(self, fields: Fields) -> None:
        """
        Interim responses mean nothing here.
        """

    def deliverHead(self, fields: Fields, ended: bool) -> None:
        """
        The peer's head.
        """
        self.established = True

    def deliverTrailers(self, trailers: Fields) -> None:
        """
        The end of the peer's direction.
        """
        self.deliverEnd()

    def stopReading(self) -> None:
        """
        As in L{ReceivingStream<tunnelstack.transport.http2.connection.ReceivingStream>}; what was not delivered is dropped when
        the stream is lost.
        """

    def lost(self, reason: Failure) -> None:
        """
        As in L{StreamTransport}.
        """
        self.heads = 0
        super().lost(self._translate(reason))

"""
What an HTTP/2 connection holds whose streams are exchanges, for the budget of the process (L{tunnelstack.session.budget}).

Such a connection is not a session.  What its visitor or its local server sends is held while the receiver does not read, as in
a session, so it counts in the same budget.
"""

from __future__ import annotations

from typing import cast

from twisted.python.failure import Failure

from tunnelstack.interfaces import ISession
from tunnelstack.session._memory import SessionMemory
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.transport.http2.errors import HTTP2ConnectionLost, HTTP2StreamReset
from tunnelstack.transport.http2.stream import HTTP2Stream
from tunnelstack.wire.http2.codes import ErrorCode


class HTTP2ConnectionMemory:
    """
    As much of an L{ISession<tunnelstack.interfaces.ISession>} as a budget uses.

    @ivar address: names the connection in logs.
    @ivar memory: the member of the budget.
    """

    def __init__(self, connection: HTTP2Connection, name: str) -> None:
        self.address = StreamAddress(key=name)
        self._connection = connection
        self.memory = SessionMemory(
            connection.core, connection.limits.session_octets, cast(dict[int, StreamTransport], connection.streamTable),
            connection.scheduler, self, self._resetStream,
        )
        connection.whenLost().addCallback(self._lost)

    def join(self, budget: MemoryBudget) -> None:
        """
        Count in a budget from now on, until the connection is lost.
        """
        budget.join(cast(ISession, self))

    def lostReason(self) -> HTTP2ConnectionLost | None:
        """
        @return: why the connection is lost; C{None} if it is not.
        """
        return self._connection.lostReason

    @property
    def isLost(self) -> bool:
        """
        Whether the transport is gone.
        """
        return self._connection.isLost

    def pauseReading(self) -> None:
        """
        Do not read the transport.
        """
        if not self.isLost:
            self._connection.transport.pauseProducing()

    def resumeReading(self) -> None:
        """
        Read it again.
        """
        if not self.isLost:
            self._connection.transport.resumeProducing()

    def _resetStream(self, transport: StreamTransport, reason: StreamResetError) -> None:
        stream, connection = cast(HTTP2Stream, transport), self._connection
        code = ErrorCode.CANCEL if connection.client else ErrorCode.ENHANCE_YOUR_CALM
        connection.core.reset_stream(stream.streamId, code)
        connection.scheduler.scheduleFlush()
        stream.lost(Failure(HTTP2StreamReset(str(reason), code)))

    def _lost(self, reason: object) -> None:
        self.memory.leave()

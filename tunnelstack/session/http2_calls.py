"""
An HTTP/2 connection whose streams are calls or exchanges, as a session without streams of octets: for all that counts sessions,
measures them or bounds their memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import ISession
from tunnelstack.session.http2_memory import HTTP2ConnectionMemory
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionLost, UnsupportedPurpose
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.transport.http2.errors import HTTP2ConnectionLost

NO_STREAMS = "this session carries calls, and no streams"


@implementer(IStreamClientEndpoint)
class _NoStreams:
    """
    Opens no streams, and accepts none.
    """

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return fail(UnsupportedPurpose(NO_STREAMS))

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return fail(UnsupportedPurpose(NO_STREAMS))


@implementer(ISession)
class CallSession:
    """
    A connection as a session.

    @ivar connector: fails with L{UnsupportedPurpose}, and so does C{listener}.
    """

    def __init__(self, connection: HTTP2Connection, address: StreamAddress) -> None:
        self.address = address
        self._connection = connection
        self.memory = HTTP2ConnectionMemory(connection, address.key).memory
        self.connector = self.listener = _NoStreams()

    @property
    def streams(self) -> int:
        """
        How many streams of HTTP/2 are open.
        """
        return self._connection.streams

    @property
    def streamsOpened(self) -> int:
        return self._connection.core.streams_opened

    @property
    def octetsIn(self) -> int:
        return self._connection.octetsIn

    @property
    def octetsOut(self) -> int:
        return self._connection.octetsOut

    @property
    def held(self) -> int:
        return self._connection.held

    def ping(self) -> Deferred[float]:
        return self._connection.ping().addErrback(_translate)

    def goAway(self, reason: int = 0) -> None:
        self._connection.goAway(reason)

    def drain(self) -> Deferred[None]:
        return self._connection.drain()

    def abort(self) -> None:
        self._connection.abort()

    def whenUp(self) -> Deferred[ISession]:
        up: Deferred[ISession] = self._connection.whenUp().addCallback(lambda _: self)
        return up

    def whenGoingAway(self) -> Deferred[None]:
        return self._connection.whenGoingAway()

    def whenLost(self) -> Deferred[SessionLost]:
        return self._connection.whenLost().addCallback(sessionLost)

    def lostReason(self) -> SessionLost | None:
        reason = self._connection.lostReason
        return None if reason is None else sessionLost(reason)

    def transports(self) -> list[Any]:
        """
        @return: none: calls have no transports of their own.
        """
        return []


def _translate(failure: Failure) -> Failure:
    reason = failure.value
    return Failure(sessionLost(reason)) if isinstance(reason, HTTP2ConnectionLost) else failure


def sessionLost(reason: HTTP2ConnectionLost) -> SessionLost:
    """
    @return: the reason as sessions have it.
    """
    lost = SessionLost(str(reason))
    lost.__cause__ = reason
    return lost

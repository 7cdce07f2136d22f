"""
The documents that an agent sends on control streams, which keep its tunnel alive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.negotiation.typed_head import typedHeadEndpoint
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.negotiation.typed_head import TypedHead
from tunnelstack.wire.records.agentserver import CONTROL, CONTROL_NAME

AGAIN_SECONDS = 1.0
"""Seconds after the first document until it is sent again: a genuine server may accept it before it listens for it."""

MISSED = 3
"""Heartbeats whose streams may be open at the same time, before a ping is sent."""

ALIVE_SECONDS = 10.0
"""Seconds within which a server that ends no control stream must answer a yamux ping."""


class Heartbeat:
    """
    Sends a document at once, shortly after that, and then at intervals, until the session is lost.

    A server ends each control stream.  One that does not, but answers pings, is left alone; one that does neither is gone.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, session: YamuxSession, document: Callable[[], bytes], seconds: float
    ) -> None:
        """
        @param document: gives the document.
        @param seconds: between two documents.
        """
        self._clock = clock
        self._session = session
        self._document = document
        self._seconds = seconds
        self._open: set[_DocumentProtocol] = set()
        self._call: IDelayedCall | None = None
        self._asked = False                   # a ping was sent
        self._endpoint = typedHeadEndpoint(session.connector, CONTROL_NAME, TypedHead(CONTROL))
        self._factory = Factory.forProtocol(lambda: _DocumentProtocol(self, self._document()))
        self._factory.noisy = False
        session.whenLost().addCallback(self._stop)
        self._beat(AGAIN_SECONDS)

    def _beat(self, seconds: float) -> None:
        self._call = self._clock.callLater(seconds, self._beat, self._seconds)
        if len(self._open) >= MISSED:
            self._askWhetherAlive()
            return
        opened: Deferred[Any] = self._endpoint.connect(self._factory)
        opened.addErrback(lambda failure: None)      # the session is lost or full: the next one may do

    def streamOpened(self, stream: _DocumentProtocol) -> None:
        """
        From the protocol of a stream.
        """
        self._open.add(stream)

    def streamEnded(self, stream: _DocumentProtocol) -> None:
        """
        From the protocol of a stream.
        """
        self._open.discard(stream)

    def _askWhetherAlive(self) -> None:
        if not self._asked:
            self._asked = True
            answer = self._session.ping().addTimeout(ALIVE_SECONDS, self._clock)
            answer.addCallbacks(self._alive, self._gone)

    def _alive(self, seconds: float) -> None:
        """
        The server does not end control streams, so they are reset to make room.
        """
        self._asked = False
        for stream in list(self._open):
            stream.transport.abortConnection()

    def _gone(self, failure: Failure) -> None:
        if self._call is not None:
            self.log.warn("the server answers neither documents nor pings: the connection is closed")
            self._session.abort()

    def _stop(self, reason: object) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()


class _DocumentProtocol(Protocol):
    """
    The protocol of one control stream.
    """

    transport: StreamTransport

    def __init__(self, heartbeat: Heartbeat, document: bytes) -> None:
        self._heartbeat = heartbeat
        self._document = document

    def connectionMade(self) -> None:
        self._heartbeat.streamOpened(self)
        self.transport.write(self._document)
        self.transport.loseWriteConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._heartbeat.streamEnded(self)

"""
Taking the streams that the peer opens: the endpoint that does it, and the streams that wait for a factory.
"""

from __future__ import annotations

from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.session._listening_port import SessionPort
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.stream.transport import StreamTransport


class StreamAcceptor(TypingProtocol):
    """
    What a listener needs of its session.
    """

    address: StreamAddress

    def acceptStream(self, streamId: int) -> None:
        """
        Report to the peer that there is a factory for its stream.
        """

    def resetStream(self, stream: StreamTransport, reason: StreamResetError) -> None:
        """
        Reset a stream, and report it to its protocol.
        """

    def scheduleFlush(self) -> None:
        """
        Send what is due once this turn of the reactor is over.
        """


@implementer(IStreamServerEndpoint)
class SessionListener:
    """
    The listener of a session: one factory at a time.  Streams that have no factory yet are paused and not acknowledged; how
    many there may be is the core's bound.
    """

    __slots__ = ("_factory", "_session", "_unclaimed")

    _log = Logger()

    def __init__(self, session: StreamAcceptor) -> None:
        self._session = session
        self._factory: IProtocolFactory | None = None
        self._unclaimed: dict[int, StreamTransport] = {}

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Give the peer's streams, those that wait first, to a factory.

        @return: fails with L{CannotListenError} if there is a factory already.
        """
        if self._factory is not None:
            return fail(CannotListenError("session", self._session.address, "its streams have a factory already"))
        self._factory = protocolFactory
        waiting, self._unclaimed = self._unclaimed, {}
        for stream in waiting.values():
            if stream.connected:
                stream.resumeProducing()      # what it held follows on a later turn, unless its protocol pauses it
                self._handToFactory(stream)
        self._session.scheduleFlush()
        return succeed(SessionPort(self))

    @property
    def address(self) -> StreamAddress:
        """
        The session's.
        """
        return self._session.address

    def unlisten(self) -> None:
        """
        Streams that the peer opens from now on wait for the next factory.
        """
        self._factory = None

    def opened(self, stream: StreamTransport) -> None:
        """
        The peer opened a stream, whose protocol is L{UNCLAIMED}.
        """
        if self._factory is None:
            stream.pauseProducing()
            self._unclaimed[stream.streamId] = stream
        else:
            self._handToFactory(stream)

    def streamGone(self, streamId: int) -> None:
        """
        A stream is gone; it may have waited.
        """
        self._unclaimed.pop(streamId, None)

    def _handToFactory(self, stream: StreamTransport) -> None:
        assert self._factory is not None
        try:
            protocol = self._factory.buildProtocol(stream.address)
        except Exception:
            self._log.failure("a factory failed to build a protocol for a stream of {key}", key=stream.address.key)
            protocol = None
        if protocol is None:
            self._session.resetStream(stream, StreamResetError("no application for the stream"))
            return
        self._session.acceptStream(stream.streamId)
        try:
            stream.protocol = protocol
            protocol.makeConnection(stream)
        except Exception:
            self._log.failure("a protocol failed when connected to a stream of {key}", key=stream.address.key)
            stream.abortConnection()


UNCLAIMED = Protocol()
"""What a stream is connected to until a factory takes it; it is paused, so nothing arrives here."""

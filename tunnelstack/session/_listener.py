"""
Taking the streams that the peer opens: the endpoint that does it, and the streams that wait for a factory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.yamux.events import StreamOpened


@implementer(IStreamServerEndpoint)
class SessionListener:
    """
    The listener of a session: one factory at a time.  Streams that nobody takes yet are paused and not acknowledged; how many
    there may be is the core's bound.
    """

    _log = Logger()

    def __init__(self, session: Any) -> None:
        """
        @param session: an L{IStreamOwner<tunnelstack.interfaces.IStreamOwner>} with C{address}, whose C{_core} has
            C{accept_stream}.
        """
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
        self._session._scheduleFlush()
        return succeed(_ListeningPort(self))

    def unlisten(self) -> None:
        """
        Streams that the peer opens from now on wait for the next factory.
        """
        self._factory = None

    def opened(self, event: StreamOpened) -> None:
        """
        The peer opened a stream.
        """
        streamId = event.stream_id
        stream = StreamTransport(self._session, streamId, self._session.address, _UNCLAIMED)
        self._session._streams[streamId] = stream
        if self._factory is None:
            stream.pauseProducing()
            self._unclaimed[streamId] = stream
        else:
            self._handToFactory(stream)

    def streamGone(self, streamId: int) -> None:
        """
        A stream is gone; it may have waited.
        """
        self._unclaimed.pop(streamId, None)

    def _handToFactory(self, stream: StreamTransport) -> None:
        protocol = self._buildProtocol(stream)
        if protocol is None:
            self._session.reset(stream.streamId)
            stream.lost(Failure(StreamResetError("nobody takes it")))
            return
        self._session._core.accept_stream(stream.streamId)
        try:
            stream.handOver(protocol)
        except Exception:
            self._log.failure("a protocol failed when connected to a stream of {key}", key=stream.address.key)
            stream.abortConnection()

    def _buildProtocol(self, stream: StreamTransport) -> Any:
        assert self._factory is not None
        try:
            return self._factory.buildProtocol(stream.address)
        except Exception:
            self._log.failure("a factory failed to build a protocol for a stream of {key}", key=stream.address.key)
            return None


@implementer(IListeningPort)
class _ListeningPort:
    """
    What L{SessionListener.listen} gives.
    """

    def __init__(self, listener: SessionListener) -> None:
        self._listener = listener

    def startListening(self) -> None:
        """
        It does already.
        """

    def stopListening(self) -> Deferred[None]:
        self._listener.unlisten()
        return succeed(None)

    def getHost(self) -> StreamAddress:
        address = self._listener._session.address
        assert isinstance(address, StreamAddress)
        return address


_UNCLAIMED = Protocol()
"""What a stream is connected to until a factory takes it; it is paused, so nothing arrives here."""

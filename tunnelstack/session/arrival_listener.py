"""
Connections of the peer that become streams: the endpoint that gives them to a factory, and those that wait for one.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, NoProtocol
from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.stream.address import StreamAddress

UNCLAIMED = 64
"""Streams that may wait for a factory; more are not accepted."""


class ArrivedStream(Protocol):
    """
    The transport of a stream that the peer has connected.
    """

    connected: bool
    address: StreamAddress
    streamId: int

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def handOver(self, protocol: IProtocol, leftover: bytes = b"") -> None: ...

    def abortConnection(self) -> None: ...


class Addressed(Protocol):
    """
    A session with an address.
    """

    @property
    def address(self) -> StreamAddress: ...


@implementer(IListeningPort, IStreamServerEndpoint)
class ArrivalListener:
    """
    The listener of a session whose streams are connections, and what its C{listen} gives.  Streams that have no factory yet are
    paused.
    """

    _log = Logger()

    def __init__(self, session: Addressed) -> None:
        self._session = session
        self._factory: IProtocolFactory | None = None
        self._unclaimed: list[ArrivedStream] = []

    def hasRoom(self, coming: int) -> bool:
        """
        @param coming: how many are on their way.
        @return: whether one more may come.
        """
        self._unclaimed = [transport for transport in self._unclaimed if transport.connected]
        return self._factory is not None or len(self._unclaimed) + coming < UNCLAIMED

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Give the peer's streams, those that wait first, to a factory.

        @return: fails with L{CannotListenError} if there is a factory already.
        """
        if self._factory is not None:
            return fail(CannotListenError("session", self._session.address, "its streams have a factory already"))
        self._factory = protocolFactory
        waiting, self._unclaimed = self._unclaimed, []
        for transport in waiting:
            if transport.connected:
                transport.resumeProducing()   # what it held follows on a later turn, unless its protocol pauses it
                self._handToFactory(transport)
        return succeed(self)

    def streamArrived(self, transport: ArrivedStream) -> None:
        """
        The peer's connection is there.
        """
        if self._factory is None:
            transport.pauseProducing()
            self._unclaimed.append(transport)
        else:
            self._handToFactory(transport)

    def _handToFactory(self, transport: ArrivedStream) -> None:
        assert self._factory is not None
        try:
            transport.handOver(buildProtocolOrRaise(self._factory, transport.address))
        except Exception as error:
            self._log.warn(
                "no application for stream {stream} of {key}: {reason}", stream=transport.streamId,
                key=self._session.address.key, reason=str(error) or type(error).__name__,
            )
            transport.abortConnection()

    def startListening(self) -> None:
        """
        It does already.
        """

    def stopListening(self) -> Deferred[None]:
        """
        Streams that come from now on wait for the next factory.
        """
        self._factory = None
        return succeed(None)

    def getHost(self) -> StreamAddress:
        """
        The session's address.
        """
        return self._session.address


def buildProtocolOrRaise(factory: IProtocolFactory, address: StreamAddress) -> IProtocol:
    """
    @raise NoProtocol: the factory declined.
    """
    protocol = factory.buildProtocol(address)
    if protocol is None:
        raise NoProtocol
    return protocol

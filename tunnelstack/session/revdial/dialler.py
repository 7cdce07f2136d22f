"""
A session each of whose streams is a WebSocket of its own: the side that requests them.

On the control connection the I{dialler}, the side that can be reached, requests connections; the I{listener}, which is
behind NAT, picks up: it connects to a door of the dialler's, and names the request that it answers.  The messages and their
deadlines are those of L{tunnelstack.wire.revdial}.  The streams of such a session survive it, and have no half-close.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from uuid import uuid4

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import Unavailable
from tunnelstack.session._connector import fireConnected
from tunnelstack.session.arrival_listener import buildProtocolOrRaise
from tunnelstack.session.revdial.control import ArrivalFactory, ControlSession, Probe
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import OpenTimeout, SessionLost, TooManyStreams
from tunnelstack.stream.transport import LARGEST_RECORD
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.transport.websocket.transport import WebSocketTransport
from tunnelstack.wire.revdial import (
    PICK_UP_TIMEOUT,
    DiallerLines,
    PickUpExpired,
    PickUpFailed,
    RevdialEvent,
    TooManyPickUps,
)

STREAM_LIMITS = WebSocketLimits(message=LARGEST_RECORD, closeFrame=False)
"""How the WebSockets of streams behave, on both sides: the end of the connection is the end of the stream."""


class PickUpError(Unavailable):
    """
    The peer could not make the requested connection.
    """


class PickUpTable:
    """
    The diallers of one door, by the identifiers that pick-ups name them by.
    """

    def __init__(self) -> None:
        self._diallers: dict[str, RevdialDialler] = {}

    def __len__(self) -> int:
        return len(self._diallers)

    def add(self, dialler: RevdialDialler) -> None:
        """
        It has requested a connection, or is about to.
        """
        self._diallers[dialler.identifier] = dialler

    def discard(self, dialler: RevdialDialler) -> None:
        """
        Nothing is picked up for it any more.
        """
        self._diallers.pop(dialler.identifier, None)

    def take(self, identifier: str, ticket: str) -> IProtocolFactory | None:
        """
        @return: what is to be connected to a WebSocket that names a request; C{None} if there is no such request, or its answer
            has come already.
        """
        dialler = self._diallers.get(identifier)
        return None if dialler is None else dialler.arrivalFactory(ticket)


class RevdialDialler(ControlSession):
    """
    The side that requests: the protocol of the control connection at the edge.

    @ivar connector: requests a connection, and waits for the pick-up.  C{connect()} fails with L{PickUpError}, L{OpenTimeout},
        C{TooManyStreams} or L{SessionLost}; a stream that comes after it was cancelled is closed.
    @ivar listener: gives nothing: the peer opens no streams.
    @ivar identifier: what pick-ups name it by.
    """

    def __init__(
        self,
        pickUps: PickUpTable,
        base: str,
        *,
        clock: IReactorTime,
        address: StreamAddress | None = None,
        identifier: str = "",
        newTicket: Callable[[], str] = lambda: str(uuid4()),
        probe: Probe | None = None,
    ) -> None:
        """
        @param pickUps: where the door looks.
        @param base: path of the door, for the requests of the listener.
        @param identifier: 32 hexadecimal digits that cannot be guessed; made here unless given.
        @param newTicket: gives a name that cannot be guessed for each request.
        @param probe: as in L{ControlSession}; unless given, a stream is opened and closed again.
        """
        self.identifier = identifier or token_hex(16)
        self._wire = wire = DiallerLines(self.identifier, base)
        self._pickUps = pickUps
        self._newTicket = newTicket
        self._pending: dict[str, tuple[Deferred[IProtocol], IProtocolFactory]] = {}     # by ticket
        super().__init__(
            wire, clock, address, probe or self._probeStream, connector=_DiallerConnector(self), listener=_NullListener(),
            onEvent=self._eventReceived, onLost=self._controlLost,
        )

    @property
    def pending(self) -> list[str]:
        """
        The tickets of the requested connections that have not arrived yet, oldest first.
        """
        return list(self._pending)

    def connectionMade(self) -> None:
        """
        Pick-ups may come from now on.
        """
        self._pickUps.add(self)
        super().connectionMade()

    def openStream(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        As C{connector.connect}.
        """
        if (gone := self.lostReason()) is not None:
            return fail(gone)
        ticket = self._newTicket()
        try:
            self._wire.dial(ticket, self._clock.seconds())
        except TooManyPickUps as later:
            return fail(TooManyStreams(str(later)))
        connected: Deferred[IProtocol] = Deferred(lambda _: self._giveUp(ticket))
        self._pending[ticket] = (connected, factory)
        self._flush()
        return connected

    def arrivalFactory(self, ticket: str) -> IProtocolFactory | None:
        """
        As L{PickUpTable.take}.
        """
        if ticket not in self._pending:
            return None
        return ArrivalFactory(lambda transport: self._pickedUp(ticket, transport))

    def _giveUp(self, ticket: str) -> None:
        self._pending.pop(ticket, None)
        self._wire.cancel(ticket)

    def _pickedUp(self, ticket: str, transport: WebSocketTransport) -> None:
        if not self._wire.picked_up(ticket):  # another connection was faster, or it is too late
            transport.abortConnection()
            return
        connected, factory = self._pending.pop(ticket)
        try:
            protocol = buildProtocolOrRaise(factory, self.memory.add(transport, self.address))
            transport.handOver(protocol)
        except Exception:
            transport.abortConnection()
            if not connected.called:
                connected.errback(Failure())
        else:
            fireConnected(connected, protocol)

    def _eventReceived(self, event: RevdialEvent) -> None:
        if not isinstance(event, (PickUpFailed, PickUpExpired)):
            return
        connected, _ = self._pending.pop(event.ticket, (None, None))
        if connected is None:                 # cancelled by the caller, when another one was reported
            return
        if isinstance(event, PickUpFailed):
            connected.errback(PickUpError("the peer could not make the connection", reason=event.reason[:256]))
        else:
            connected.errback(OpenTimeout("the peer did not make the connection in time", seconds=PICK_UP_TIMEOUT))

    def _controlLost(self, lost: SessionLost) -> None:
        self._pickUps.discard(self)
        pending, self._pending = self._pending, {}
        for connected, _ in pending.values():
            connected.errback(lost)

    def _probeStream(self) -> Deferred[float]:
        """
        The round trip of a stream that is used for nothing else.
        """
        began = self._clock.seconds()
        opened = self.openStream(ArrivalFactory(lambda transport: transport.loseConnection()))
        return opened.addCallback(lambda _: self._clock.seconds() - began)


@implementer(IStreamClientEndpoint)
class _DiallerConnector:
    """
    The connector of a L{RevdialDialler}.
    """

    def __init__(self, dialler: RevdialDialler) -> None:
        self._dialler = dialler

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Ask the peer for a connection.

        @return: fires with the protocol once the connection is there.
        """
        return self._dialler.openStream(protocolFactory)


@implementer(IListeningPort, IStreamServerEndpoint)
class _NullListener:
    """
    The listener of a L{RevdialDialler}; and what its C{listen} gives.
    """

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Nothing will come.
        """
        return succeed(self)

    def startListening(self) -> None:
        """
        Nothing to do.
        """

    def stopListening(self) -> Deferred[None]:
        """
        Nothing to do.
        """
        return succeed(None)

    def getHost(self) -> StreamAddress:
        """
        Nowhere.
        """
        return StreamAddress()

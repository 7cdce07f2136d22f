"""
A session each of whose streams is a WebSocket of its own: the side that receives the requests and picks up; see
L{tunnelstack.session.revdial.dialler}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import PeerError
from tunnelstack.session.arrival_listener import ArrivalListener
from tunnelstack.session.revdial.control import ArrivalFactory, ControlSession, Probe
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionLost, UnsupportedPurpose
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.transport.websocket.transport import WebSocketTransport
from tunnelstack.wire.revdial import (
    PICK_UP_TIMEOUT,
    DiallerTimedOut,
    ListenerLines,
    PickUpRequested,
    RevdialEvent,
)


class RevdialListener(ControlSession):
    """
    The side that receives requests: the protocol of the control connection at the agent.

    @ivar connector: opens nothing: only the peer does.
    @ivar listener: takes the peer's streams.
    @ivar reach: makes the endpoint of a pick-up from its path.
    """

    def __init__(
        self,
        reach: Callable[[str], IStreamClientEndpoint],
        *,
        clock: IReactorTime,
        address: StreamAddress | None = None,
        probe: Probe | None = None,
    ) -> None:
        """
        @param reach: from the requested path, with its query, to an endpoint whose transports are
            L{WebSocketTransport<tunnelstack.transport.websocket.transport.WebSocketTransport>}s; it raises a L{PeerError}
            for a path that leads elsewhere.
        @param probe: as in L{ControlSession}.
        """
        self._wire = wire = ListenerLines()
        self.reach = reach
        self._dialling: dict[str, Deferred[IProtocol]] = {}     # by path
        self._draining = False
        self._pickUps = pickUps = ArrivalListener(self)
        super().__init__(
            wire, clock, address, probe, connector=_NullConnector(), listener=pickUps,
            onEvent=self._eventReceived, onLost=self._controlLost,
        )

    def drain(self) -> Deferred[None]:
        """
        As in L{ISession<tunnelstack.interfaces.ISession>}, but the control connection is closed first: nothing else tells the
        peer that this side accepts no more streams.

        @return: fires when the last stream is done as well.
        """
        self.goAway()
        self._draining = True
        self._closeIfNoneIsDialled()
        return self.whenNoStreamIsLeft()

    def _closeIfNoneIsDialled(self) -> None:
        """
        The connections that the peer has requested are made first.
        """
        if self._draining and not self._dialling:
            self.close("the session was drained by this side")

    def _eventReceived(self, event: RevdialEvent) -> None:
        if isinstance(event, PickUpRequested):
            self._pickUp(event.path)
        elif isinstance(event, DiallerTimedOut):
            self._lifecycle.drop(SessionLost("no heartbeat of the peer arrived in time"))

    def _pickUp(self, path: str) -> None:
        if self._goingAway or not self._pickUps.hasRoom(len(self._dialling)):
            self._reportFailure(path, "this side accepts no more streams")
            return
        try:
            endpoint = self.reach(path)
        except PeerError as strange:
            self._reportFailure(path, str(strange))
            return
        dialled: Deferred[IProtocol] = endpoint.connect(ArrivalFactory(lambda transport: self._pickedUp(path, transport)))
        self._dialling[path] = dialled
        dialled.addTimeout(PICK_UP_TIMEOUT, self._clock, connectTimedOut)
        dialled.addBoth(self._dialled, path)

    def _dialled(self, result: IProtocol | Failure, path: str) -> None:
        self._dialling.pop(path, None)
        if isinstance(result, Failure):
            self._reportFailure(path, errorText(result))
        self._closeIfNoneIsDialled()

    def _reportFailure(self, path: str, reason: str) -> None:
        self._wire.report_failure(path, reason)
        self._flush()

    def _pickedUp(self, path: str, transport: WebSocketTransport) -> None:
        self._wire.picked_up(path)
        self.memory.add(transport, self.address)
        self._pickUps.streamArrived(transport)

    def _controlLost(self, lost: SessionLost) -> None:
        for dialled in list(self._dialling.values()):
            dialled.cancel()


@implementer(IStreamClientEndpoint)
class _NullConnector:
    """
    The connector of a L{RevdialListener}.
    """

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fails with L{UnsupportedPurpose}.
        """
        return fail(UnsupportedPurpose("only the other side of this session opens streams"))

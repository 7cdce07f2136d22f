"""
The opening end of a negotiation: the protocol of a stream from its opening until its application has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IProtocolFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import PeerError
from tunnelstack.negotiation._base import NegotiationProtocol, withProtocolName
from tunnelstack.negotiation._leftover import filterLeftover
from tunnelstack.negotiation.errors import NegotiationRefused, NegotiationTimeout
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.wire.negotiation.base import (
    Agreed,
    KnownExchange,
    Negotiation,
    NegotiationEvent,
    NegotiationExpired,
    Parameters,
    Rejected,
    Release,
)

AT_ONCE, ON_FIRST_OCTET = Release.AT_ONCE, Release.ON_FIRST_OCTET      # a look into an Enum takes as long as a call


@implementer(IProtocol, IHalfCloseableProtocol, IProtocolFactory)
class InitiatorProtocol(NegotiationProtocol):
    """
    One opening, and the factory of itself.

    Where the application need not wait it is connected at once, to the stream itself, and this protocol only takes the answer
    off what arrives first; else the application is connected when the answer (and with C{ON_FIRST_OCTET} an octet after it)
    is there.

    @ivar early: the application that did not wait, once the stream is open.
    """

    __slots__ = ("_agreed", "_application", "_connected", "_factory", "_known", "_lost", "_makeNegotiation", "early")

    def __init__(
        self, makeNegotiation: Callable[[], Negotiation], factory: IProtocolFactory, timeout: float,
        known: KnownExchange | None = None,
    ) -> None:
        """
        @param known: as of L{NegotiatingEndpoint<tunnelstack.negotiation.endpoint.NegotiatingEndpoint>}.
        """
        if known is None:
            self._negotiation = makeNegotiation()
        self._makeNegotiation = makeNegotiation
        self._known = known                   # until the peer's first octets
        self._timeout = timeout
        self._deadline = 0.0
        self._factory = factory
        self._application: IProtocol | None = None
        self.early: IProtocol | None = None
        self._connected: Deferred[IProtocol] | None = None
        self._agreed: Agreed | None = None    # and waiting for the first octet
        self._lost: Failure | None = None     # why, if it was not to be

    # IProtocolFactory, for the connector

    def doStart(self) -> None:
        """
        Nothing to do.
        """

    def doStop(self) -> None:
        """
        Nothing to do.
        """

    def buildProtocol(self, address: object) -> InitiatorProtocol:
        """
        Itself.
        """
        return self

    # IProtocol

    def makeConnection(self, transport: Any) -> None:
        """
        The stream is open: propose.
        """
        known = self._known
        if known is not None:
            self._start(transport, None)
            transport.write(known.proposal)
            self.early = self._connect(known.name, {}, early=True)
            return
        self._start(transport, self._negotiation)
        NegotiationProtocol.dataReceived(self, b"")
        negotiation = self._negotiation
        if negotiation.release is AT_ONCE and self._application is None and self._lost is None:
            self.early = self._connect(negotiation.name, {}, early=True)

    def connectionMade(self) -> None:
        """
        Nothing to do: L{makeConnection} does it.
        """

    def streamOpened(self, opened: object) -> Any:
        """
        The connector's result: from now on failures are reported to the caller.

        @return: the application, a Deferred of it, or the failure.
        """
        if self._lost is None and self._application is None:
            self._connected = Deferred(self._cancelled)
            return self._connected
        return self._lost or self._application

    def dataReceived(self, data: bytes) -> None:
        """
        The answer; or the octet that an application waited for.
        """
        known = self._known
        if known is not None:
            if data.startswith(known.agreement):      # as _handOver does, of a negotiation that has agreed
                self._sharedTimer.discard(self)
                stream = self.transport
                stream.protocol = self._application
                leftover = data[len(known.agreement):]
                if leftover:
                    stream.redeliver(leftover)
                return
            self._negotiate()
        if self._agreed is None:
            NegotiationProtocol.dataReceived(self, data)
        else:
            self._handOver(self._agreed, data)

    def readConnectionLost(self) -> None:
        """
        The peer has ended its direction.
        """
        if self._known is not None:
            self._negotiate()
        if self._agreed is not None:
            self._fail(NegotiationRefused("the peer accepted, and ended the stream before it sent any data"))
        else:
            super().readConnectionLost()

    def writeConnectionLost(self) -> None:
        """
        An application that did not wait has ended our direction, and is called when that is done.
        """
        application: object = self._application
        if IHalfCloseableProtocol.providedBy(application):
            application.writeConnectionLost()

    def replaceProtocol(self, application: IProtocol) -> None:
        """
        From the stream: the application, before the answer was there, has handed it to another.
        """
        self._application = application

    def connectionLost(self, reason: Failure) -> None:
        """
        The stream is lost before anything was agreed.
        """
        self._sharedTimer.discard(self)
        self._lost = self._lost or reason
        if self._application is not None:
            self._application.connectionLost(self._lost)
        elif self._connected is not None:
            connected, self._connected = self._connected, None
            connected.errback(self._lost)

    def _negotiate(self) -> None:
        """
        The peer's first octets are not the whole agreement that is known: have a negotiation read them.
        """
        self._known = None
        self._negotiation = negotiation = self._makeNegotiation()
        negotiation.begin(self._sharedTimer.seconds())
        negotiation.receive_data(b"")
        negotiation.data_to_send()            # which is the proposal

    # What the negotiation comes to

    def _eventReceived(self, event: NegotiationEvent) -> None:
        if isinstance(event, Agreed):
            if not event.leftover and self._negotiation.release is ON_FIRST_OCTET:
                self._agreed = event
            else:
                self._handOver(event, event.leftover)
        elif isinstance(event, Rejected):
            self._fail(NegotiationRefused(event.reason, event.code))
        else:
            self._fail(NegotiationRefused("the peer accepted nothing"))

    def _handOver(self, event: Agreed, leftover: bytes) -> None:
        """
        The application has the stream, and this protocol is out of the path.
        """
        self._sharedTimer.discard(self)
        stream = self.transport
        if self._application is not None:     # since the opening: it gets only what is not the answer
            stream.protocol = self._application
        else:
            application = self._connect(event.name, event.parameters)
            if application is None:
                return
            if self._connected is not None:
                connected, self._connected = self._connected, None
                connected.callback(application)
        if event.leftover_filter is not None:
            filterLeftover(stream, event)
        if leftover:
            stream.redeliver(leftover)

    def _connect(self, name: bytes, parameters: Parameters, early: bool = False) -> IProtocol | None:
        """
        Connect the application.

        @param early: the answer is yet to come, so that later octets arrive here as well.
        @return: the application; C{None} if that failed, and the stream with it.
        """
        try:
            application = self._factory.buildProtocol(withProtocolName(self.transport, name, parameters))
            if application is None:
                raise NoProtocol
            self._application = application
            if not early:
                self.transport.protocol = application
            application.makeConnection(self.transport)
        except Exception:
            self.transport.protocol = self    # to report the true reason
            self._fail(Failure())
            return None
        return application

    def _negotiationFailed(self, broken: PeerError) -> None:
        if isinstance(broken, NegotiationExpired):
            self._negotiationTimedOut()
            return
        reset = StreamResetError(f"the peer broke the negotiation: {broken}")
        reset.__cause__ = broken
        self._fail(reset)

    def _negotiationTimedOut(self) -> None:
        if self.transport.held:     # the answer may be there: an application that did not wait does not read
            self._deadline = self._sharedTimer.seconds() + self._timeout
            self._sharedTimer.add(self, self._deadline)
            return
        self._fail(NegotiationTimeout("the peer did not answer in time", seconds=self._timeout))

    def _cancelled(self, connected: Deferred[IProtocol]) -> None:
        self._connected = None
        self._sharedTimer.discard(self)
        self.transport.abortConnection()

    def _fail(self, reason: Exception | Failure) -> None:
        """
        Reset the stream, and report the reason to its application, or to the caller that waits for one.
        """
        self._sharedTimer.discard(self)
        self._lost = reason if isinstance(reason, Failure) else Failure(reason)
        self.transport.abortConnection()
        if self._connected is not None:
            connected, self._connected = self._connected, None
            connected.errback(self._lost)

"""
The accepting end of a negotiation: the protocol of a stream from its arrival until its handler has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import PeerError, Refused, TunnelError
from tunnelstack.interfaces import Handler, IDiallingHandler
from tunnelstack.negotiation._base import NegotiatedStream, NegotiationProtocol, withProtocolName
from tunnelstack.negotiation._leftover import filterLeftover
from tunnelstack.stream.address import StreamAddress
from tunnelstack.wire.negotiation import base
from tunnelstack.wire.negotiation.base import Agreed, Negotiation, NegotiationEvent, Proposed

Refuse = Callable[[NegotiatedStream, str], object]
"""Closes a stream, for a reason."""

FAILED = "the handler failed"
"""What the peer is sent about a defect of this program."""


class OpeningReader(Protocol):
    """
    What openings of streams usually are, read without a negotiation.
    """

    @property
    def greeting(self) -> bytes:
        """
        Octets to send before anything has arrived.
        """

    def read(self, octets: bytes) -> tuple[bytes, Agreed] | None:
        """
        @param octets: the first of a stream.
        @return: what to answer after the greeting, and what was agreed; C{None} if it is to be negotiated.
        @raise PeerError: the peer broke a rule.
        """


@implementer(IProtocol, IHalfCloseableProtocol)
class ResponderProtocol(NegotiationProtocol):
    """
    One arrival.
    """

    __slots__ = (
        "_agreed", "_application", "_dialling", "_handlers", "_known", "_makeNegotiation", "_name", "_onRefusal",
    )  # fmt: skip

    _log = Logger()

    def __init__(
        self, makeNegotiation: Callable[[], Negotiation], handlers: Mapping[bytes, Handler], timeout: float,
        onRefusal: Refuse | None = None, known: OpeningReader | None = None,
    ) -> None:
        """
        @param onRefusal: as of L{NegotiatingFactory<tunnelstack.negotiation.endpoint.NegotiatingFactory>};
        @param known: as well.
        """
        if known is None:
            self._negotiation = makeNegotiation()
        self._makeNegotiation = makeNegotiation
        self._known = known                   # until the peer's first octets
        self._timeout = timeout
        self._deadline = 0.0
        self._onRefusal = onRefusal
        self._handlers = handlers
        self._name = b""
        self._application: IProtocol | None = None         # what is to have the stream once the peer has its answer
        self._dialling: Deferred[IProtocol] | None = None
        self._agreed: Agreed | None = None    # before the handler had dialled

    def makeConnection(self, transport: Any) -> None:
        """
        A stream has arrived.
        """
        known = self._known
        if known is not None:
            self._start(transport, None)
            transport.write(known.greeting)
            return
        self._start(transport, self._negotiation)
        self._sendPending()

    def connectionMade(self) -> None:
        """
        Nothing to do: L{makeConnection} does it.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the peer's half.
        """
        known = self._known
        if known is not None:
            try:
                found = known.read(data)
            except PeerError as broken:
                self._known = None
                self._negotiationFailed(broken)
                return
            if found is not None:
                self._known = None
                self.transport.write(found[0])
                self._agreed = found[1]
                self._serve(found[1])
                return
            self._negotiate()
        NegotiationProtocol.dataReceived(self, data)

    def readConnectionLost(self) -> None:
        """
        The peer's half has ended.
        """
        if self._known is not None:
            self._negotiate()
        super().readConnectionLost()

    def _negotiate(self) -> None:
        """
        The peer's first octets are not an opening that is known: have a negotiation read them.
        """
        self._known = None
        self._negotiation = negotiation = self._makeNegotiation()
        negotiation.begin(self._sharedTimer.seconds())
        negotiation.data_to_send()            # which is the greeting

    def writeConnectionLost(self) -> None:
        """
        Nothing to do: the application has not got the stream yet.
        """

    def connectionLost(self, reason: Failure) -> None:
        """
        The stream is lost before its handler had it.
        """
        self._sharedTimer.discard(self)
        self._stopDialling()

    # What the negotiation comes to

    def _eventReceived(self, event: NegotiationEvent) -> None:
        if isinstance(event, Agreed):         # the peer has its answer, so the handler must do
            self._agreed = event
            if self._application is None:
                self._serve(event)
            else:
                self._handOver(event, self._application)
        elif isinstance(event, Proposed):
            self._proposalReceived(event)
        else:
            self._reset("it was refused")

    def _proposalReceived(self, event: Proposed) -> None:
        """
        The peer waits for an answer that the handler gives.
        """
        if self._application is None:
            self._serve(event)
        else:                                 # it knew it already, from the first of two questions
            self._advance(self._negotiation.accept)

    def _serve(self, event: Agreed | Proposed) -> None:
        """
        Have the handler build its protocol, or dial for it.
        """
        self._name = event.name
        handler = self._handlers.get(event.name)
        if handler is None:
            self._reject("there is no handler of that name")
            return
        address = withProtocolName(self.transport, event.name, event.parameters)
        if IDiallingHandler.providedBy(handler):
            self._dial(handler, address)
            return
        try:
            application = handler.buildProtocol(address)
        except Exception:
            self._handlerFailed(Failure())
        else:
            self._handlerDecided(application)

    def _handlerDecided(self, application: IProtocol | None) -> None:
        """
        The handler has decided.
        """
        self._application = application
        if application is None:
            self._reject("the handler refused the stream")
        elif self._agreed is not None:
            self._handOver(self._agreed, application)
        elif self.transport.connected:
            self._advance(self._negotiation.accept)
        else:
            self._handOver(Agreed(self._name), application)     # to be called when it is lost, and free what it holds

    def _handOver(self, event: Agreed, application: IProtocol) -> None:
        self._sharedTimer.discard(self)
        try:
            self.transport.handOver(application, event.leftover)
        except Exception:
            self._handlerFailed(Failure())
        else:
            if event.leftover_filter is not None:
                filterLeftover(self.transport, event)

    # Handlers that dial first

    def _dial(self, handler: IDiallingHandler, address: StreamAddress) -> None:
        self.transport.pauseProducing()       # one window at most waits for the outcome
        self._dialling = dialling = maybeDeferred(handler.connect, address)
        dialling.addCallbacks(self._dialled, self._diallingFailed)

    def _dialled(self, application: IProtocol | None) -> None:
        self._dialling = None
        self.transport.resumeProducing()
        self._handlerDecided(application)

    def _diallingFailed(self, reason: Failure) -> None:
        self._dialling = None
        self.transport.resumeProducing()
        if reason.check(TunnelError, ConnectError, CancelledError):
            self._reject(_peerReason(reason), reason.value.code if isinstance(reason.value, Refused) else "")
        else:
            self._handlerFailed(reason)

    def _stopDialling(self) -> None:
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()

    # No

    def _reject(self, reason: str, code: str = "") -> None:
        """
        Refuse the stream, unless it is too late for that.  A peer that is sent a reason can read it to the end.
        """
        if not self.transport.connected:
            return
        if self._agreed is not None:
            self._reset(reason)
            return
        try:
            events = self._negotiation.reject(reason, code)
        except PeerError as broken:
            self._negotiationFailed(broken)
            return
        said = self._sendPending()
        for event in events:
            if said and isinstance(event, base.Rejected):
                self._sharedTimer.discard(self)
                self.transport.loseConnection()
            else:
                self._eventReceived(event)

    def _handlerFailed(self, reason: Failure) -> None:
        """
        The handler raised: its stream is lost, and nothing else is touched.
        """
        self._log.failure(
            "the handler of {name} failed on stream {stream} of {key}", failure=reason, name=self._name,
            stream=self.transport.streamId, key=self.transport.address.key,
        )
        if self._agreed is None and self._application is None:
            self._reject(FAILED)
        else:
            self._reset(FAILED)

    def _negotiationFailed(self, broken: PeerError) -> None:
        self._reset(str(broken))

    def _negotiationTimedOut(self) -> None:
        if self._dialling is None:
            self._reset("the negotiation did not finish in time")
            return
        self._stopDialling()                  # and a refusal is sent, if there is still time for one
        self.transport.loseConnection()

    def _reset(self, why: str) -> None:
        self._sharedTimer.discard(self)
        if self._onRefusal is not None:
            self._onRefusal(self.transport, why)
            return
        self._log.debug(
            "stream {stream} of {key} reset: {why}", stream=self.transport.streamId, key=self.transport.address.key, why=why,
        )
        self.transport.abortConnection()


def _peerReason(reason: Failure) -> str:
    """
    @return: what is sent to the peer of an error: the sentence, without its details.
    """
    error = reason.value
    if isinstance(error, TunnelError):
        return str(error.args[0]) if error.args else type(error).__name__
    return "the target was not reached in time" if isinstance(error, CancelledError) else str(error)

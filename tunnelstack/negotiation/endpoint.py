"""
Runs a negotiation at the beginning of each stream, then hands the stream over to its application with what was read too far.

Both are wrappers of words that Twisted has: L{NegotiatingEndpoint} is a client endpoint around a session's connector,
L{NegotiatingFactory} the factory that a session's listener gives its streams to.  Nothing of them stays on a stream's path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from tunnelstack.interfaces import Handler, IImmediateConnector
from tunnelstack.negotiation._initiator import InitiatorProtocol
from tunnelstack.negotiation._responder import OpeningReader, Refuse, ResponderProtocol
from tunnelstack.wire.negotiation.base import KnownExchange, Negotiation

TIMEOUT = 30.0
"""Seconds for all of a negotiation."""


@implementer(IStreamClientEndpoint)
class NegotiatingEndpoint:
    """
    Opens streams for one purpose.
    """

    def __init__(
        self, connector: IStreamClientEndpoint, makeNegotiation: Callable[[], Negotiation], timeout: float = TIMEOUT,
        known: KnownExchange | None = None,
    ) -> None:
        """
        @param connector: an L{IStreamClientEndpoint} whose transports are
            L{StreamTransport<tunnelstack.stream.transport.StreamTransport>}s.
        @param makeNegotiation: returns the initiator's side of a negotiation.
        @param timeout: seconds from the opening of the stream until the application may have it (and where it does not wait,
            until the peer has agreed).
        @param known: the usual course of such a negotiation, where it has one, to do without one then.
        """
        self._connector = connector
        self._connectNow = connector.connectNow if IImmediateConnector.providedBy(connector) else None
        self._makeNegotiation = makeNegotiation
        self._timeout = timeout
        self._known = known

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream, and propose what it is for.

        With C{Release.AT_ONCE} it fires when the opening is queued, and what the application writes leaves with the proposal:
        if the peer refuses, the application learns it by C{connectionLost}.  Else it fires when the peer has agreed, with
        C{ON_FIRST_OCTET} when the far application has also begun to send.  The factory is given a
        L{StreamAddress<tunnelstack.stream.address.StreamAddress>} with the name agreed.

        @return: fails with L{NegotiationRefused<tunnelstack.negotiation.errors.NegotiationRefused>},
            L{NegotiationTimeout<tunnelstack.negotiation.errors.NegotiationTimeout>}, C{StreamResetError} where the peer broke a
            rule, or as the connector does.  Cancelling it resets the stream.
        """
        try:
            opening = InitiatorProtocol(self._makeNegotiation, protocolFactory, self._timeout, self._known)
            opened = None if self._connectNow is None else self._connectNow(opening)
        except Exception:
            return fail()
        if opened is None:
            connected: Deferred[IProtocol] = self._connector.connect(opening)
            if opening.early is None:
                return connected.addCallback(opening.streamOpened)
        if opening.early is not None:
            return succeed(opening.early)
        result = opening.streamOpened(opened)
        return result if isinstance(result, Deferred) else succeed(result)


class NegotiatingFactory(Factory):
    """
    Accepts streams, negotiates what they are for, and gives each to its handler.

    A handler is an L{IProtocolFactory}, whose C{buildProtocol} gets a
    L{StreamAddress<tunnelstack.stream.address.StreamAddress>} with the name and the parameters agreed, and which refuses the
    stream with C{None}; or an L{IDiallingHandler<tunnelstack.interfaces.IDiallingHandler>}.  What a handler raises is logged
    and costs its stream, nothing else.
    """

    noisy = False

    def __init__(
        self, handlers: Mapping[bytes, Handler], timeout: float = TIMEOUT, *, makeNegotiation: Callable[[], Negotiation],
        onRefusal: Refuse | None = None, known: OpeningReader | None = None,
    ) -> None:
        """
        @param handlers: by name, looked up when a stream has come to it.
        @param timeout: seconds for all of a negotiation, a handler's dialling included.
        @param makeNegotiation: returns the responder's side of a negotiation.
        @param onRefusal: called with the transport and the reason instead of resetting a stream to whose peer no answer can be
            sent; it is to close the stream.
        @param known: the usual openings, where there are some, to do without a negotiation then.
        """
        self.handlers = handlers
        self._makeNegotiation = makeNegotiation
        self._timeout = timeout
        self._onRefusal = onRefusal
        self._known = known

    def buildProtocol(self, addr: object) -> Any:
        """
        As in L{IProtocolFactory}: the responder's end of one stream.
        """
        return ResponderProtocol(self._makeNegotiation, self.handlers, self._timeout, self._onRefusal, self._known)

"""
Streams that are named by multistream-select, and may carry a line of parameters after the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.interfaces import IStreamClientEndpoint

from tunnelstack.errors import UsageError
from tunnelstack.interfaces import Handler, IDiallingHandler
from tunnelstack.negotiation.endpoint import TIMEOUT, NegotiatingEndpoint, NegotiatingFactory
from tunnelstack.wire.jsonline import encode
from tunnelstack.wire.negotiation.base import (
    KnownExchange,
    Negotiation,
    NegotiationSequence,
    Parameters,
    Release,
)
from tunnelstack.wire.negotiation.json_object import AnswerFormat, JSONInitiator
from tunnelstack.wire.negotiation.multistream.initiator import MultistreamInitiator
from tunnelstack.wire.negotiation.multistream.names import NameTable
from tunnelstack.wire.negotiation.multistream.responder import KnownOpenings, MultistreamResponder
from tunnelstack.wire.negotiation.multistream.tokens import opening


def multistreamEndpoint(
    connector: IStreamClientEndpoint,
    names: bytes | Sequence[bytes],
    timeout: float = TIMEOUT,
    *,
    release: Release = Release.ON_REPLY,
    parameters: Parameters | None = None,
    answers: AnswerFormat | None = None,
) -> NegotiatingEndpoint:
    """
    @param connector: opens the streams, as in L{NegotiatingEndpoint}.
    @param names: what to propose: one name, or several in order of preference.
    @param release: when what follows the names may leave; C{AT_ONCE} only toward responders that reset a stream whose name
        they do not know, or that are known to know it.
    @param parameters: an object for a line after the name; C{None} for no such line.
    @param answers: how that line is answered; C{None} if it is not.
    @return: an endpoint whose every C{connect()} opens a stream of that name.
    """
    known = _knownExchange(names, parameters) if release is Release.AT_ONCE and answers is None else None
    if parameters is None:
        return NegotiatingEndpoint(connector, lambda: MultistreamInitiator(names, release=release), timeout, known)
    first = Release.AT_ONCE if release is Release.AT_ONCE else Release.ON_REPLY
    second = release if release is Release.ON_FIRST_OCTET else None
    return NegotiatingEndpoint(
        connector,
        lambda: NegotiationSequence(
            MultistreamInitiator(names, release=first),
            JSONInitiator(parameters, answers=answers, release=second),
        ),
        timeout,
        known,
    )


def _knownExchange(names: bytes | Sequence[bytes], parameters: Parameters | None) -> KnownExchange | None:
    """
    @return: what is sent of a name, and of parameters that are not answered; C{None} if no stream can be opened so, which each
        attempt reports.
    """
    if not isinstance(names, bytes):
        if len(names) != 1:
            return None
        (names,) = names
    try:
        agreement = opening(names)
        return KnownExchange(names, agreement if parameters is None else agreement + encode(parameters), agreement)
    except UsageError:
        return None


class MultistreamFactory(NegotiatingFactory):
    """
    Gives streams to handlers by the names that multistream-select agreed on.
    """

    def __init__(
        self,
        handlers: Mapping[bytes, Handler],
        timeout: float = TIMEOUT,
        *,
        strict: bool = False,
        follow: Callable[[bytes], Negotiation | None] | None = None,
    ) -> None:
        """
        @param handlers: by name, as in L{NegotiatingFactory}; more can follow (L{handle}).
        @param strict: reset a stream whose first name is not known, and read nothing after it; for openers that do not wait.
        @param follow: what is negotiated after a name, such as
            L{JSONResponder<tunnelstack.wire.negotiation.json_object.JSONResponder>} for a line of parameters, or C{None} for
            nothing.  An L{IDiallingHandler} answers there if anything follows, and by the name itself otherwise.
        """
        self._names = names = NameTable()
        self._follow = follow

        def respond() -> Negotiation:
            responder = MultistreamResponder(names, strict=strict)
            return responder if follow is None else NegotiationSequence(responder, follow)

        super().__init__({}, timeout, makeNegotiation=respond, known=KnownOpenings(names, follow))
        for name, handler in handlers.items():
            self.handle(name, handler)

    def handle(self, name: bytes, handler: Handler) -> None:
        """
        Serve streams of a name from now on; a former handler of it gets no new ones.
        """
        answersLater = self._follow is None or self._follow(name) is None
        self._names.add(name, ask=answersLater and IDiallingHandler.providedBy(handler))
        self.handlers = {**self.handlers, name: handler}

    def forget(self, name: bytes) -> None:
        """
        Serve streams of a name no longer; open ones continue.
        """
        self._names.discard(name)
        self.handlers = {known: handler for known, handler in self.handlers.items() if known != name}

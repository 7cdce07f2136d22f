"""
Streams that begin with an octet for their purpose, and metadata.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import IStreamClientEndpoint

from tunnelstack.interfaces import Handler
from tunnelstack.negotiation.endpoint import TIMEOUT, NegotiatingEndpoint, NegotiatingFactory
from tunnelstack.wire.negotiation.typed_head import LIMIT, TypedHead, TypedHeadInitiator, TypedHeadResponder


def typedHeadEndpoint(
    connector: IStreamClientEndpoint, name: bytes, head: TypedHead, *, ownFrame: bool = False, timeout: float = TIMEOUT,
) -> NegotiatingEndpoint:
    """
    @param connector: opens the streams, as in L{NegotiatingEndpoint}.
    @param name: what the purpose is called here.
    @param ownFrame: the head travels in a frame of its own.
    @return: an endpoint whose every C{connect()} opens a stream that begins with the head; it fires when the opening is queued.
    """
    return NegotiatingEndpoint(connector, lambda: TypedHeadInitiator(name, head, own_frame=ownFrame), timeout)


class TypedHeadFactory(NegotiatingFactory):
    """
    Gives streams to handlers by the types that they begin with.  A handler finds the metadata in the parameters of its address,
    as L{METADATA<tunnelstack.wire.negotiation.typed_head.METADATA>}.  A stream of another type is reset.
    """

    def __init__(
        self,
        handlers: Mapping[bytes, Handler],
        names: Mapping[int, bytes],
        timeout: float = TIMEOUT,
        *,
        limit: int = LIMIT,
    ) -> None:
        """
        @param handlers: by name, as in L{NegotiatingFactory}.
        @param names: from types to names.
        @param limit: octets of the longest metadata.
        """
        super().__init__(handlers, timeout, makeNegotiation=lambda: TypedHeadResponder(names, limit=limit))

"""
Streams that are named by an HTTP/1.1 request: one each, which is a message of its own on what keeps messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IStreamClientEndpoint

from tunnelstack.interfaces import Handler
from tunnelstack.negotiation.endpoint import TIMEOUT, NegotiatingEndpoint, NegotiatingFactory
from tunnelstack.wire.http1.head import RequestHead, ResponseHead
from tunnelstack.wire.negotiation.http_request import (
    HTTPRequestInitiator,
    HTTPRequestResponder,
    StreamRequest,
)


def requestEndpoint(
    connector: IStreamClientEndpoint,
    name: bytes,
    request: bytes,
    timeout: float = TIMEOUT,
    *,
    refusal: Callable[[ResponseHead], str | None] | None = None,
) -> NegotiatingEndpoint:
    """
    @param connector: opens the streams, as in L{NegotiatingEndpoint}.
    @param name: what the purpose is called here.
    @param request: its octets.
    @param refusal: from the head of an answer to the reason why not, or C{None} for a yes; unless given, no answer is waited
        for, and what the application writes follows in messages of its own.
    @return: an endpoint whose every C{connect()} opens a stream for it.
    """
    return NegotiatingEndpoint(connector, lambda: HTTPRequestInitiator(name, request, refusal=refusal), timeout)


class HTTPRequestFactory(NegotiatingFactory):
    """
    Gives streams to handlers by the requests that they begin with.
    """

    def __init__(
        self,
        handlers: Mapping[bytes, Handler],
        read: Callable[[RequestHead], StreamRequest],
        timeout: float = TIMEOUT,
    ) -> None:
        """
        @param handlers: by name, as in L{NegotiatingFactory}.
        @param read: returns what a request is for, and how that is answered.
        """
        super().__init__(handlers, timeout, makeNegotiation=lambda: HTTPRequestResponder(read))

"""
The streams of edges at an agent: each begins with a header, and goes on as a TCP connection to the destination.

Nothing answers a header.  A stream that is refused, for whatever reason, is closed in an orderly way, as genuine agents do it;
the reason is in the log of the agent.  A probe is closed at once, and leaves no line there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.dialect.godoxy.agent_destinations import Destinations
from tunnelstack.handler.tcp import TCPHandler
from tunnelstack.interfaces import Handler, IDiallingHandler
from tunnelstack.negotiation.endpoint import NegotiatingFactory
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.peers import addressText
from tunnelstack.transport.websocket.transport import WebSocketTransport
from tunnelstack.wire.negotiation.fixed_head import FixedHeadResponder
from tunnelstack.wire.records.godoxy import (
    DIAL_SECONDS,
    HEADER_OCTETS,
    HEADER_SECONDS,
    decode_header_untrusted,
    port_of,
)

TCP, PROBE = b"tcp", b"probe"
"""What a stream is for."""


def decodeHead(head: bytes) -> tuple[bytes, Mapping[str, Any]]:
    """
    @param head: the octets that a stream begins with.
    @return: L{PROBE}; or L{TCP} and the destination, as C{host} and C{port}.
    @raise PeerError: the header is not valid, or its port is no port.
    """
    header = decode_header_untrusted(head)
    if header.isProbe:
        return PROBE, {}
    return TCP, {"host": header.host, "port": port_of(header)}


class EdgeStreams(NegotiatingFactory):
    """
    Serves the streams of all edges.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, destinations: Destinations) -> None:
        handlers: dict[bytes, Handler] = {TCP: _DestinationHandler(clock, destinations), PROBE: _ProbeFactory()}
        super().__init__(
            handlers, HEADER_SECONDS + DIAL_SECONDS + 1.0, onRefusal=self._refused,
            makeNegotiation=lambda: FixedHeadResponder(HEADER_OCTETS, decodeHead, HEADER_SECONDS),
        )

    def _refused(self, transport: StreamTransport | WebSocketTransport, reason: str) -> None:
        self.log.warn(
            "a stream from {peer} is closed: {reason}", peer=addressText(transport.address.peer), reason=reason, kind="tcp"
        )
        transport.loseConnection()


@implementer(IDiallingHandler)
class _DestinationHandler:
    """
    Connects to the destination of each stream.
    """

    def __init__(self, clock: IReactorTime, destinations: Destinations) -> None:
        self._clock = clock
        self._destinations = destinations

    def connect(self, address: StreamAddress) -> Deferred[IProtocol]:
        endpoint = self._destinations.endpoint(address.parameters["host"], address.parameters["port"])
        return TCPHandler(endpoint, self._clock).connect(address)


class _ProbeFactory(Factory):
    """
    Closes streams that only test that streams work.
    """

    noisy = False

    def buildProtocol(self, address: object) -> Protocol:
        return _ProbeProtocol()


class _ProbeProtocol(Protocol):
    transport: StreamTransport

    def connectionMade(self) -> None:
        self.transport.loseConnection()

"""
The edge's end of a terminal stream: terminal messages on one side, agentserver's messages on the other.

Agents interpret the first octet of each read, so a message toward them travels in a frame of its own, and the next one leaves
some time later, when the agent has probably read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import PeerError
from tunnelstack.negotiation.typed_head import typedHeadEndpoint
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.negotiation.typed_head import TypedHead
from tunnelstack.wire.records.agentserver import TERMINAL, TERMINAL_NAME
from tunnelstack.wire.records.agentserver_terminal import (
    LARGEST_DATA,
    encode_data,
    encode_resize,
    shown_octets,
)
from tunnelstack.wire.terminal import TerminalMessageReader, WindowSize, encode_terminal_data

MESSAGE_SECONDS = 0.02
"""Seconds between two messages toward an agent."""

STALLED_SECONDS = 0.25
"""Seconds until it is tried again to send a message, while the former one waits for credit."""

HIGH, LOW = 64 * 1024, 16 * 1024
"""Octets that wait to be typed, above which the producer is paused, and below which it is resumed."""


@implementer(IStreamClientEndpoint)
class TerminalEndpoint:
    """
    Opens terminals on one agent.  Its transports carry terminal messages.
    """

    def __init__(self, connector: IStreamClientEndpoint, clock: IReactorTime) -> None:
        """
        @param connector: opens streams of the agent's session.
        """
        self._endpoint = typedHeadEndpoint(connector, TERMINAL_NAME, TypedHead(TERMINAL), ownFrame=True)
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        opened: Deferred[Any] = self._endpoint.connect(_TerminalFactory(protocolFactory, self._clock))
        return opened.addCallback(lambda stream: stream.application)


class _TerminalFactory(Factory):
    noisy = False

    def __init__(self, applications: IProtocolFactory, clock: IReactorTime) -> None:
        self._applications = applications
        self._clock = clock

    def buildProtocol(self, address: IAddress | None) -> Protocol:
        application = self._applications.buildProtocol(cast(IAddress, address))
        if application is None:
            raise NoProtocol
        return TerminalStream(application, self._clock)


@implementer(ITransport, IConsumer, IPushProducer)
class TerminalStream(Protocol):
    """
    The protocol of a terminal stream, and the transport of its application.

    @ivar application: the protocol that reads and writes terminal messages.
    @ivar disconnecting: the application has closed the stream.
    """

    transport: StreamTransport

    def __init__(self, application: IProtocol, clock: IReactorTime) -> None:
        self.application = application
        self.disconnecting = False
        self._clock = clock
        self._reader = TerminalMessageReader()
        self._waiting: list[bytes | WindowSize] = []     # to be sent, in order
        self._octets = 0                      # of what is typed among that
        self._timer: IDelayedCall | None = None
        self._producer: IPushProducer | None = None
        self._producerPaused = False

    # From the stream

    def connectionMade(self) -> None:
        self.application.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        octets = shown_octets(data)
        if octets:
            self.application.dataReceived(encode_terminal_data(octets))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.application.connectionLost(reason)

    # ITransport

    def write(self, data: bytes) -> None:
        """
        Send terminal messages.
        """
        if self.disconnecting or not self.transport.connected:
            return
        try:
            messages = self._reader.receive_data(data)
        except PeerError:
            self.abortConnection()
            return
        for message in messages:
            self._queue(message)
        if self._timer is None:
            self._send()
        self._pauseProducer()

    def _queue(self, message: bytes | WindowSize) -> None:
        """
        Add a message.  Octets are added to those that wait, and a size replaces one that waits directly before it.
        """
        waiting = self._waiting
        last = waiting[-1] if waiting else None
        if isinstance(message, bytes):
            self._octets += len(message)
            if isinstance(last, bytes):
                waiting[-1] = last + message
                return
        elif isinstance(last, WindowSize):
            waiting[-1] = message
            return
        waiting.append(message)

    def _send(self) -> None:
        """
        Send one message, and the next one when the agent has had time to read it.
        """
        self._timer = None
        if not self._waiting:
            if self.disconnecting and self._producer is None:
                self.transport.loseConnection()
            return
        delay = STALLED_SECONDS
        if not self.transport.queued:         # the former message has left
            delay = MESSAGE_SECONDS
            self.transport.writeRecord(self._take())
            self._resumeProducer()
        self._timer = self._clock.callLater(delay, self._send)

    def _take(self) -> bytes:
        first = self._waiting[0]
        if isinstance(first, WindowSize):
            del self._waiting[0]
            return encode_resize(first)
        piece, rest = first[:LARGEST_DATA], first[LARGEST_DATA:]
        self._octets -= len(piece)
        if rest:
            self._waiting[0] = rest
        else:
            del self._waiting[0]
        return encode_data(piece)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """
        Close the stream when everything was sent.
        """
        if not self.disconnecting:
            self.disconnecting = True
            if self._timer is None:
                self._send()

    def abortConnection(self) -> None:
        self.disconnecting = True
        self.transport.abortConnection()

    def getPeer(self) -> IAddress:
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        host: IAddress = self.transport.getHost()
        return host

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self._producer!r} was never unregistered")
        if not self.transport.connected or self.disconnecting:
            producer.stopProducing()
            return
        self._producer = cast(IPushProducer, producer)
        self._producerPaused = False
        self._pauseProducer()

    def unregisterProducer(self) -> None:
        self._producer = None
        if self.disconnecting and self._timer is None:
            self._send()

    def _pauseProducer(self) -> None:
        if self._producer is not None and not self._producerPaused and self._octets > HIGH:
            self._producerPaused = True
            self._producer.pauseProducing()

    def _resumeProducer(self) -> None:
        if self._producer is not None and self._producerPaused and self._octets <= LOW:
            self._producerPaused = False
            self._producer.resumeProducing()

    # IPushProducer

    def pauseProducing(self) -> None:
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

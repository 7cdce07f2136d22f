"""
A WebSocket that looks like any transport to the protocol above it.

The transport decides when the connection ends and why; what stands on the wire is its engine's business.  It is
registered as the engine's consumer all the time, so that pressure is known even when no application asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IConsumer,
    ILoggingContext,
    IPushProducer,
    ISSLTransport,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.interfaces import IRecordTransport
from tunnelstack.transport.direct_write import Write
from tunnelstack.transport.pull_producer import PullProducerAdapter
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.transport.websocket._closing import CloseHandshake
from tunnelstack.transport.websocket._frames import BINARY, TEXT
from tunnelstack.transport.websocket._keepalive import WebSocketKeepalive
from tunnelstack.transport.websocket.settings import WebSocketLimits


@implementer(ITransport, IConsumer, IPushProducer, ILoggingContext, IRecordTransport)
class WebSocketTransport(CloseHandshake):
    """
    An C{ITransport} whose octets travel as binary messages.

    Every C{write} and every C{writeSequence} is one message, or as many as L{WebSocketLimits.message} asks for.
    What arrives is handed on as it comes, whatever its messages and fragments; with C{records}, whole messages go
    to the protocol's C{recordReceived(octets, text)} instead.  There is no half-close.

    @ivar protocol: the application; L{handOver} gives the WebSocket to another.
    @ivar subprotocol: what both sides agreed on, or C{None}.
    @ivar resource: path and query that the client asked for.
    @ivar connected: false before the WebSocket is open and once it is over.
    @ivar disconnecting: C{loseConnection} was called, or the peer said Close.
    @ivar readPaused: the application has asked for a pause.
    @ivar octetsIn: octets of payload received.
    @ivar octetsOut: octets of payload sent.
    @ivar onPeerAlive: called each time that the peer was heard after a ping of ours; C{None} if nobody wants to know.
    @ivar onEnded: called when the WebSocket is over and its protocol was told; C{None} if nobody wants to know.
    @ivar address: where the WebSocket is a stream of a session, what the session says of its other end; C{getPeer} gives its
        C{visitor}, or else the address itself.
    @ivar streamId: the stream's number then.
    """

    protocol: Any = None
    subprotocol: str | None = None
    resource = ""
    onPeerAlive: Callable[[], object] | None = None
    onEnded: Callable[[], object] | None = None
    address: Any = None
    streamId = 0

    _log = Logger()

    def __init__(self, clock: Any, limits: WebSocketLimits, records: bool = False) -> None:
        """
        @param clock: an C{IReactorTime}.
        """
        super().__init__()
        self.connected = False
        self.disconnecting = False
        self.readPaused = False
        self.octetsIn = self.octetsOut = 0
        self.records = records
        self.maxMessage = limits.maxMessage
        self._clock = clock
        self._limits = limits
        self._limit = limits.message
        self._engine: Any = None
        self._producer: Any = None
        self._paused = False            # the producer was told to
        self._pieces: list[bytes] = []  # of a record that is not whole
        self._keepalive: WebSocketKeepalive | None = None
        self._leftover = b""            # given back by a former protocol, and held for a paused one
        self._sharedTimer: SharedTimer | None = None

    def begin(self, engine: Any, protocol: Any) -> None:
        """
        The WebSocket is open: connect the application.
        """
        self._engine = engine
        self._send = partial(engine.sendFrame, BINARY)
        engine.webSocketOpened(self)
        self.protocol = protocol
        self.connected = self._writable = True
        if self._limits.keepalive:
            self._keepalive = WebSocketKeepalive(self._clock, self, engine, self._limits, self._keepaliveTimedOut)
        protocol.makeConnection(self)

    def handOver(self, protocol: Any, leftover: bytes = b"") -> None:
        """
        Give the WebSocket to another protocol; the present one is out of the path.

        @param leftover: octets of the peer that the present protocol was given and that belong to the next one.
        """
        replaceProtocol = getattr(self.protocol, "replaceProtocol", None)
        if replaceProtocol is None:
            self.protocol = protocol
        else:
            replaceProtocol(protocol)       # it takes an answer off what arrives first, on behalf of who writes already
        protocol.makeConnection(self)
        if leftover:
            self.redeliver(leftover)

    def redeliver(self, leftover: bytes) -> None:
        """
        Give the protocol, before anything that is yet to come, octets that a former one was given and did not need.
        """
        if self.connected and not self.disconnecting:
            if self.readPaused or self._leftover:
                self._leftover = leftover + self._leftover
            else:
                self.protocol.dataReceived(leftover)

    @property
    def sharedTimer(self) -> SharedTimer:
        """
        Who tells of deadlines as long as the WebSocket lasts.
        """
        if self._sharedTimer is None:
            self._sharedTimer = SharedTimer(self._clock)
        return self._sharedTimer

    # ITransport

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if not self._writable or not data:
            return
        limit = self._limit
        self.octetsOut += len(data)
        if len(data) <= limit:
            self._send(data)
            return
        for start in range(0, len(data), limit):
            self._send(data[start : start + limit])

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def writeRecord(self, octets: bytes, text: bool = False) -> None:
        """
        Send one message.

        @param text: as a text message; the octets are UTF-8 then.
        @raise UsageError: it is empty, or longer than a message may be; a text has no such limit.
        """
        if not octets or (len(octets) > self._limit and not text):
            raise UsageError("no such message can be sent", octets=len(octets), limit=self._limit)
        if self._writable:
            self.octetsOut += len(octets)
            self._engine.sendFrame(TEXT if text else BINARY, octets)

    def loseConnection(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self._producer is None:
                self._close()

    def abortConnection(self) -> None:
        if self.connected:
            self._setReason(ConnectionAborted())
            self._engine.abort()

    def immediateWrite(self) -> Write:
        """
        @return: see L{immediateWrite<tunnelstack.transport.direct_write.immediateWrite>}; from now on C{write} is the same.
        """
        self._engine.writeImmediately()
        return self.write

    def getPeer(self) -> Any:
        if self.address is not None:
            return self.address.visitor or self.address
        return self._engine.transport.getPeer()

    def getHost(self) -> Any:
        return self._engine.transport.getHost()

    def getPeerCertificate(self) -> Any:
        """
        @return: the certificate of the TLS connection below, a pyOpenSSL C{X509}; C{None} where there is none.
        """
        below = self._engine.transport
        return below.getPeerCertificate() if ISSLTransport.providedBy(below) else None

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """
        What ALPN chose for the TLS connection below.
        """
        protocol: bytes | None = getattr(self._engine.transport, "negotiatedProtocol", None)
        return protocol

    def logPrefix(self) -> str:
        return type(self.protocol).__name__

    # IPushProducer: the reading half

    @property
    def held(self) -> int:
        """
        Octets that arrived, with the heads of their frames, and wait for a paused application.
        """
        return len(self._leftover) + len(self._engine.data) if self.readPaused else 0

    def pauseProducing(self) -> None:
        if not self.disconnecting:
            self.readPaused = True
            self._engine.transport.pauseProducing()

    def resumeProducing(self) -> None:
        if self.readPaused:
            self.readPaused = False
            self._clock.callLater(0, self._continue)

    def stopProducing(self) -> None:
        self.loseConnection()

    # IConsumer: the writing half

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self._producer!r} was never unregistered")
        if not self._writable:
            producer.stopProducing()
            return
        self._producer = producer if streaming else PullProducerAdapter(producer, self._clock)
        self._paused = False
        if self._engine.full:
            self.writesPaused()
        elif not streaming:
            self._producer.resumeProducing()

    def unregisterProducer(self) -> None:
        producer, self._producer = self._producer, None
        if isinstance(producer, PullProducerAdapter):
            producer.pauseProducing()
        if self.disconnecting and self._writable:
            self._close()

    # What the engine tells

    def octetsReceived(self, octets: bytes) -> None:
        if self.records:
            self._pieces.append(octets)
        elif octets and not self.disconnecting:
            self.octetsIn += len(octets)
            if self._leftover:
                self._leftover += octets
            else:
                try:
                    self.protocol.dataReceived(octets)
                except Exception:
                    self._protocolFailed()

    def messageEnded(self, text: bool) -> None:
        record, self._pieces = b"".join(self._pieces), []
        if not self.disconnecting:
            self.octetsIn += len(record)
            self.protocol.recordReceived(record, text)

    def writesPaused(self) -> None:
        if self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writesResumed(self) -> None:
        if self._paused and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()
        elif self._timer is not None:     # closing, and all that was written has left
            self._timer.reset(self._limits.closeTimeout)

    # Later turns

    def _continue(self) -> None:
        """
        Reading goes on, first with what had arrived before the pause.
        """
        if self.readPaused or not self.connected:
            return
        try:
            self._deliverLeftover()
            self._engine.consume()
        except Exception:
            self._protocolFailed()
            return
        if not self.readPaused:
            self._engine.transport.resumeProducing()

    def _deliverLeftover(self) -> None:
        leftover, self._leftover = self._leftover, b""
        if leftover and not self.disconnecting:
            self.protocol.dataReceived(leftover)

    def _protocolFailed(self) -> None:
        """
        The protocol raised: its connection goes, and it is told why.
        """
        failure = Failure()
        self._log.failure("{protocol} failed", failure=failure, protocol=self.logPrefix())
        self._setReason(failure)
        self._engine.abort()

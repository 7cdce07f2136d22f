"""
A WebSocket as a transport: any protocol runs over it unchanged.

The transport decides when the WebSocket ends and why; frames are the business of its L{WebSocketConnection
<tunnelstack.transport.websocket._connection.WebSocketConnection>}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from OpenSSL.crypto import X509
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    ILoggingContext,
    IProducer,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.interfaces import IRecordTransport
from tunnelstack.transport import handover
from tunnelstack.transport.direct_write import Write
from tunnelstack.transport.pull_producer import pushProducer
from tunnelstack.transport.send_buffer import SendBuffer, sendBuffer
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.transport.websocket._connection import WebSocketConnection
from tunnelstack.transport.websocket._frames import BINARY, GOING_AWAY, LONGEST_REASON, NORMAL, PING, TEXT
from tunnelstack.transport.websocket._keepalive import WebSocketKeepalive
from tunnelstack.transport.websocket.errors import ClosedByPeer, KeepaliveTimeout, WebSocketProtocolError
from tunnelstack.transport.websocket.settings import WebSocketLimits


@implementer(ITransport, IConsumer, IPushProducer, ILoggingContext, IRecordTransport)
class WebSocketTransport:
    """
    An C{ITransport} whose octets travel as binary messages.

    Every C{write} and every C{writeSequence} is one message, or as many as L{WebSocketLimits.message} requires.  Received
    octets are delivered as they arrive, whatever their messages and fragments; with C{records}, whole messages go to the
    protocol's C{recordReceived(octets, text)} instead.  There is no half-close.

    @ivar protocol: the application; L{handOver} gives the WebSocket to another.
    @ivar subprotocol: what both sides agreed on, or C{None}.
    @ivar resource: path and query of the client's request.
    @ivar connected: false before the WebSocket is open and once it is over.
    @ivar disconnecting: C{loseConnection} was called, or the peer sent a Close frame.
    @ivar readPaused: the application has paused reading.
    @ivar endsBothDirections: as of L{StreamTransport<tunnelstack.stream.transport.StreamTransport>}.
    @ivar octetsIn: octets of payload received.
    @ivar octetsOut: octets of payload sent.
    @ivar full: the network takes no more for now.
    @ivar onPong: called with the payload of each pong of the peer; or C{None}.
    @ivar onPeerAlive: called each time that the peer has sent something after a ping; or C{None}.
    @ivar onEnded: called when the WebSocket is closed, after its protocol was called; or C{None}.
    @ivar address: where the WebSocket is a stream of a session, the address of the session's other end; C{getPeer} gives its
        C{visitor}, or else the address itself.
    @ivar streamId: the stream's number then.
    """

    __slots__ = (
        "_clock", "_closeCode", "_closeReason", "_closeSent", "_closeTimer", "_connection", "_keepalive", "_leftover",
        "_limit", "_limits", "_lostReason", "_pieces", "_producer", "_producerPaused", "_sharedTimer", "_streaming",
        "_writable", "address", "connected", "disconnecting", "endsBothDirections", "maxMessage", "octetsIn", "octetsOut",
        "onEnded", "onPeerAlive", "onPong", "protocol", "readPaused", "records", "resource", "streamId", "subprotocol",
    )  # fmt: skip

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, limits: WebSocketLimits, records: bool = False, resource: str = "",
        subprotocol: str | None = None,
    ) -> None:
        """
        @param records: deliver whole messages.
        """
        self.protocol: Any = None
        self.onPong: Callable[[bytes], object] | None = None
        self.onPeerAlive: Callable[[], object] | None = None
        self.onEnded: Callable[[], object] | None = None
        self.resource = resource
        self.subprotocol = subprotocol
        self.address: Any = None
        self.streamId = 0
        self.endsBothDirections = True
        self.connected = False
        self.disconnecting = False
        self.readPaused = False
        self.octetsIn = self.octetsOut = 0
        self.records = records
        self.maxMessage = limits.maxMessage
        self._clock = clock
        self._limits = limits
        self._limit = limits.message
        self._connection: WebSocketConnection
        self._writable = False               # later writes vanish
        self._producer: IPushProducer | None = None
        self._streaming = False
        self._producerPaused = False
        self._pieces: list[bytes] = []       # of a record that is not complete
        self._leftover = b""                 # given back by a former protocol, and held for a paused one
        self._keepalive: WebSocketKeepalive | None = None
        self._sharedTimer: SharedTimer | None = None
        self._lostReason: Failure | None = None
        self._closeCode, self._closeReason = NORMAL, b""     # of the Close frame that we send of our own accord
        self._closeSent = False              # it was sent; an answer to the peer's does not count
        self._closeTimer: IDelayedCall | None = None

    def begin(self, connection: WebSocketConnection, protocol: IProtocol) -> None:
        """
        The WebSocket is open: connect the application.
        """
        self._connection = connection
        connection.webSocketOpened(self)
        self.protocol = protocol
        self.connected = self._writable = True
        if self._limits.keepalive:
            self._keepalive = WebSocketKeepalive(self._clock, self, connection, self._limits)
        protocol.makeConnection(self)

    @property
    def sharedTimer(self) -> SharedTimer:
        """
        A timer for deadlines that are void when the WebSocket ends.
        """
        if self._sharedTimer is None:
            self._sharedTimer = SharedTimer(self._clock)
        return self._sharedTimer

    # A change of protocol

    def handOver(self, protocol: IProtocol, leftover: bytes = b"") -> None:
        """
        See L{tunnelstack.transport.handover.handOver}.
        """
        handover.handOver(self, protocol, leftover)

    def redeliver(self, leftover: bytes) -> None:
        """
        As in L{SwitchableTransport<tunnelstack.transport.handover.SwitchableTransport>}.
        """
        if not self.connected or self.disconnecting:
            return
        if self.readPaused or self._leftover:
            self._leftover = leftover + self._leftover
        else:
            self.protocol.dataReceived(leftover)

    # ITransport

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if not self._writable or not data:
            return
        limit = self._limit
        self.octetsOut += len(data)
        if len(data) <= limit:
            self._connection.sendFrame(BINARY, data)
            return
        for start in range(0, len(data), limit):
            self._connection.sendFrame(BINARY, data[start : start + limit])

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def writeRecord(self, octets: bytes, text: bool = False) -> None:
        """
        Send one message.

        @param text: as a text message; the octets are UTF-8 then.
        @raise UsageError: it is empty, or longer than L{WebSocketLimits.message}, which does not apply to text.
        """
        if not octets or (len(octets) > self._limit and not text):
            raise UsageError("no such message can be sent", octets=len(octets), limit=self._limit)
        if self._writable:
            self.octetsOut += len(octets)
            self._connection.sendFrame(TEXT if text else BINARY, octets)

    def ping(self, payload: bytes) -> None:
        """
        Send a ping, which the peer answers.

        @param payload: at most 125 octets.
        """
        if self._writable:
            self._connection.sendFrame(PING, payload)

    def takeDataSeen(self) -> bool:
        """
        @return: whether the peer has sent anything since the last call.  For those that have no C{keepalive} in their limits.
        """
        seen, self._connection.dataSeen = self._connection.dataSeen, False
        return seen

    @property
    def full(self) -> bool:
        return self._connection.full

    def loseConnection(self, code: int = NORMAL, reason: str = "") -> None:
        """
        As in C{ITransport}.

        @param code: of the Close frame.
        @param reason: the text in it, which is cut to what fits.
        """
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._closeCode = code
            self._closeReason = reason.encode()[:LONGEST_REASON].decode("utf-8", "ignore").encode()
            if self._producer is None:
                self._close()

    def abortConnection(self) -> None:
        if self.connected:
            self._abort(ConnectionAborted())

    def immediateWrite(self) -> Write:
        """
        @return: see L{immediateWrite<tunnelstack.transport.direct_write.immediateWrite>}; from now on C{write} is the same.
        """
        self._connection.writeImmediately()
        return self.write

    def sendBuffer(self) -> SendBuffer:
        """
        @return: see L{sendBuffer<tunnelstack.transport.send_buffer.sendBuffer>}.
        """
        return sendBuffer(self._connection.transport)

    def getPeer(self) -> IAddress:
        if self.address is not None:
            peer: IAddress = self.address.visitor or self.address
            return peer
        address: IAddress = self._connection.transport.getPeer()
        return address

    def getHost(self) -> IAddress:
        address: IAddress = self._connection.transport.getHost()
        return address

    def getPeerCertificate(self) -> X509 | None:
        """
        @return: the certificate of the TLS connection below; C{None} where there is none.
        """
        below = self._connection.transport
        if not ISSLTransport.providedBy(below):
            return None
        return cast(X509 | None, below.getPeerCertificate())

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """
        What ALPN chose for the TLS connection below.
        """
        protocol: bytes | None = getattr(self._connection.transport, "negotiatedProtocol", None)
        return protocol

    def logPrefix(self) -> str:
        return type(self.protocol).__name__

    # IPushProducer: the reading half

    @property
    def held(self) -> int:
        """
        Octets that were received, with the heads of their frames, and wait for a paused application.
        """
        return len(self._leftover) + self._connection.unread if self.readPaused else 0

    def pauseProducing(self) -> None:
        if not self.disconnecting:
            self.readPaused = True
            self._connection.transport.pauseProducing()

    def resumeProducing(self) -> None:
        if self.readPaused:
            self.readPaused = False
            self._clock.callLater(0, self._continueReading)

    def stopProducing(self) -> None:
        self.loseConnection()

    def _continueReading(self) -> None:
        """
        On a later turn, since an application may resume from inside C{dataReceived}: first what arrived before the pause.
        """
        if self.readPaused or not self.connected:
            return
        try:
            self._deliverLeftover()
            self._connection.consume()
        except Exception:
            self._protocolFailed()
            return
        if not self.readPaused:
            self._connection.transport.resumeProducing()

    def _deliverLeftover(self) -> None:
        leftover, self._leftover = self._leftover, b""
        if leftover and not self.disconnecting:
            self.protocol.dataReceived(leftover)

    # IConsumer: the writing half

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self._producer!r} was never unregistered")
        if not self._writable:
            producer.stopProducing()
            return
        self._producer = pushProducer(producer, streaming, self._clock)
        self._streaming = streaming
        self._producerPaused = False
        if self._connection.full:
            self.writesPaused()
        elif not streaming:
            self._producer.resumeProducing()

    def unregisterProducer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None and not self._streaming:
            producer.pauseProducing()         # the adapter calls it no more
        if self.disconnecting and self._writable:
            self._close()

    # What the connection reports

    def writesPaused(self) -> None:
        if self._producer is not None and not self._producerPaused:
            self._producerPaused = True
            self._producer.pauseProducing()

    def writesResumed(self) -> None:
        if self._producerPaused and self._producer is not None:
            self._producerPaused = False
            self._producer.resumeProducing()
        elif self._closeTimer is not None:    # closing, and everything written has left
            self._closeTimer.reset(self._limits.closeTimeout)

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

    def pongReceived(self, payload: bytes) -> None:
        if self.onPong is not None:
            self.onPong(payload)

    def closeReceived(self, code: int | None, reason: str) -> None:
        if not self._closeSent:
            self._connection.close(code)
            orderly = code is None or code in (NORMAL, GOING_AWAY)
            self._setReason(ConnectionDone() if orderly else ClosedByPeer(code or 0, reason))
        else:
            self._setReason(ConnectionDone())
        self._startCloseTimer()
        self._connection.flushAndClose()

    def protocolViolated(self, code: int, reason: str) -> None:
        self._setReason(WebSocketProtocolError(code, reason))
        self._startCloseTimer()

    def keepaliveTimedOut(self) -> None:
        self._abort(KeepaliveTimeout("no answer to a ping", seconds=self._limits.keepaliveTimeout))

    def lost(self, reason: Failure) -> None:
        """
        The connection below is gone.
        """
        self._stopTimers()
        if not self.connected:
            return
        self._setReason(self._endReason(reason))
        self.connected = False
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(self._lostReason)
        if self.onEnded is not None:
            self.onEnded()

    # How it ends

    def _close(self) -> None:
        self._writable = False
        self._startCloseTimer()
        if not self._limits.closeFrame:
            self._connection.flushAndClose()
            return
        self._closeSent = True
        self._connection.close(self._closeCode, self._closeReason)
        if self.readPaused:                   # the peer's Close frame comes after what was not read
            self.resumeProducing()

    def _abort(self, reason: Exception | Failure) -> None:
        self._setReason(reason)
        self._connection.abort()

    def _setReason(self, reason: Exception | Failure) -> None:
        """
        Remember why it ends, unless that is known already; from here on writes vanish.
        """
        self._writable = False
        self.disconnecting = True
        if self._lostReason is None:
            self._lostReason = reason if isinstance(reason, Failure) else Failure(reason)

    def _endReason(self, below: Failure) -> Exception | Failure:
        """
        Why the WebSocket ended, when the connection below ends.  An end without a Close frame is not orderly, unless it answers
        ours or there are no Close frames between these two; inside a message it never is.
        """
        if not below.check(ConnectionDone) or self._closeSent or not self._writable:
            return below
        if self._limits.closeFrame:
            return ConnectionLost("the connection ended without a Close frame (code 1006)")
        return ConnectionLost("the connection ended inside a message") if self._connection.messagePending else below

    def _startCloseTimer(self) -> None:
        """
        Give the peer C{closeTimeout} seconds from when everything written has left.
        """
        seconds = self._limits.flushTimeout if self._connection.full else self._limits.closeTimeout
        if self._closeTimer is None:
            self._closeTimer = self._clock.callLater(seconds, self._closeTimedOut)
        else:
            self._closeTimer.reset(seconds)

    def _closeTimedOut(self) -> None:
        self._closeTimer = None
        self._abort(ConnectionLost("the peer did not complete the close in time"))

    def _stopTimers(self) -> None:
        if self._closeTimer is not None:
            self._closeTimer.cancel()
            self._closeTimer = None
        if self._keepalive is not None:
            self._keepalive.stop()
        if self._sharedTimer is not None:
            self._sharedTimer.stop()

    def _protocolFailed(self) -> None:
        """
        The protocol raised an exception: its connection is aborted for that reason.
        """
        failure = Failure()
        self._log.failure("{protocol} failed", failure=failure, protocol=self.logPrefix())
        self._abort(failure)

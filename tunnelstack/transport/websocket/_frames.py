"""
WebSocket frames: the network's side of a connection and the listener's, between which frames are taken and said.

What needs a parser of everything that RFC 6455 allows is left to the subclass that has one; here is the short path, for whole
messages in one frame, and all that we send.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, Protocol

from twisted.internet.interfaces import ITCPTransport
from twisted.python.failure import Failure

from tunnelstack.transport.direct_write import Write, immediateWrite

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10     # opcodes
LAST = 0x80                                          # this frame ends its message
MASKED = 0x80                                        # in the octet of the length
SHORT, LONG = Struct("!BBH"), Struct("!BBQ")         # heads of frames from 126 and from 65536 octets
CLOSE_PROTOCOL, CLOSE_TEXT, CLOSE_PAYLOAD, CLOSE_SIZE = 1002, 1003, 1007, 1009
RESERVED_CODES = frozenset((1004, 1005, 1006, 1015))   # never in a Close frame


class HandshakeListener(Protocol):
    """
    What an engine tells whoever waits for its WebSocket to open.
    """

    def writesPaused(self) -> None: ...
    def writesResumed(self) -> None: ...
    def lost(self, reason: Failure) -> None: ...


class FrameListener(HandshakeListener, Protocol):
    """
    What it tells the transport that it serves once the WebSocket is open.

    @ivar readPaused: the application does not read: no frame is taken from the octets at hand.
    @ivar records: whole messages of either kind are wanted; without it, text is refused.
    @ivar maxMessage: octets that one incoming message may have.
    """

    readPaused: bool
    records: bool
    maxMessage: int

    def octetsReceived(self, octets: bytes) -> None: ...
    def messageEnded(self, text: bool) -> None: ...
    def closeReceived(self, code: int | None, reason: str) -> None: ...
    def protocolViolated(self, code: int, reason: str) -> None: ...


def _keys() -> Iterator[bytes]:
    """
    Masking keys nobody can foretell (RFC 6455, section 5.3), without a system call for each.
    """
    while True:
        pool = os.urandom(4096)
        for at in range(0, 4096, 4):
            yield pool[at : at + 4]


nextKey = _keys().__next__


def validCode(code: int) -> bool:
    """
    Whether a Close frame may carry this code (RFC 6455, section 7.4, and the registry for 1012-1014).
    """
    return (1000 <= code <= 1014 and code not in RESERVED_CODES) or 3000 <= code <= 4999


class WebSocketFraming:
    """
    What both sides of a WebSocket have in common.  Mixed in before the class of a parser.

    @ivar handshakeListener: who waits for the WebSocket to open, then the same as C{listener}.
    @ivar listener: the transport it serves, from L{webSocketOpened} on.
    @cvar ownMask: the bit that says that our frames are masked, where they are.
    @cvar peerMask: the same for the peer's.
    @cvar handshake: names of what is needed only until the WebSocket is open.
    @cvar mask: masks octets with a key, or unmasks them.
    @ivar dataSeen: something arrived since somebody last set this to false.
    @ivar pongSeen: a pong did.
    @ivar full: the network takes no more for now.
    @ivar out: takes the octets of each frame.
    """

    ownMask: int
    peerMask: int
    handshake: tuple[str, ...]
    mask: Callable[[bytes, bytes], bytes]
    dataSeen = False
    pongSeen = False
    full = False
    _pong: bytes | None = None

    # what the parser provides
    STATE_CLOSED: int
    STATE_CONNECTING: int
    STATE_OPEN: int
    state: int
    data: bytes
    transport: Any
    processData: Callable[[], bool]
    processHandshake: Callable[[], Any]
    current_frame: Any
    inside_message: bool
    _connectionMade: Callable[[], None]
    out: Write

    handshakeListener: HandshakeListener
    listener: FrameListener

    @property
    def messagePending(self) -> bool:
        """
        Some of a message has come, or of a frame, and its end has not; or nobody has taken it.
        """
        return bool(self.data) or self.inside_message

    # The network's side

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.out = self.transport.write
        self._connectionMade()

    def dataReceived(self, data: bytes) -> None:
        self.dataSeen = True
        state = self.state
        if state == self.STATE_OPEN:
            self.data = self.data + data if self.data else data
            self.consume()
        elif state == self.STATE_CONNECTING:
            self.data += data
            self.handshakeDataReceived()

    def connectionLost(self, reason: Failure) -> None:
        self.state = self.STATE_CLOSED
        self.handshakeListener.lost(reason)

    def pauseProducing(self) -> None:
        self.full = True
        self.handshakeListener.writesPaused()

    def resumeProducing(self) -> None:
        self.full = False
        self._answerPing()
        self.handshakeListener.writesResumed()

    def stopProducing(self) -> None:
        """
        The network is gone; C{connectionLost} says so.
        """

    # The listener's side

    def webSocketOpened(self, listener: FrameListener) -> None:
        """
        The WebSocket is open, and this is who it is for.  What was needed to get there is let go.
        """
        self.handshakeListener = self.listener = listener
        for name in self.handshake:
            self.__dict__.pop(name, None)

    def writeImmediately(self) -> None:
        """
        From now on who writes has collected: what is said leaves at once.
        """
        self.out = immediateWrite(self.transport)

    def handshakeDataReceived(self) -> None:
        """
        Octets of the other side's head have arrived.
        """
        raise NotImplementedError

    def consume(self) -> None:
        """
        Take frames from the octets at hand, until the application stops reading.  Of many pings in one delivery
        only the last is answered (RFC 6455, section 5.5.3), and none while the network takes no more, so that
        pings cannot make us hold anything.
        """
        listener = self.listener
        while self.state == self.STATE_OPEN and not listener.readPaused:
            if self.current_frame is None:    # else there may be one without any octets, which the parser has yet to end
                if not self.data:
                    break
                if not self.inside_message and self._takeWholeFrames():
                    continue
            if not self.processData():
                break
        if self._pong is not None and not self.full:
            self._answerPing()

    def _takeWholeFrames(self) -> bool:
        """
        Take the binary messages at hand that came in one whole frame each, which is how most come: the parser
        needs 7 us for one, this 2.  Whatever else there is, and whatever is wrong, is left to the parser.

        @return: whether there were any.
        """
        listener, data, size, start = self.listener, self.data, len(self.data), 0
        while size - start > 6 and data[start] == LAST | BINARY:
            length = data[start + 1] ^ self.peerMask      # beyond 127: masked where it must not be, or not masked
            body = start + 2
            if length == 126:
                length = data[body] << 8 | data[body + 1]
                body += 2
                if length < 126:
                    break
            elif length > 126:
                break
            if self.peerMask:
                body += 4
            end = body + length
            if end > size or length > listener.maxMessage:
                break
            octets = data[body:end]
            start = end
            listener.octetsReceived(self.mask(data[body - 4 : body], octets) if self.peerMask else octets)
            if listener.records:
                listener.messageEnded(False)
            if self.state != self.STATE_OPEN or listener.readPaused:
                break
        if start:
            self.data = data[start:]
        return start > 0

    def sendFrame(self, opcode: int, payload: bytes) -> None:
        """
        Send a frame that is a whole message, or control; the parser's own way takes three times as long.

        @param payload: of a L{TEXT}, UTF-8.
        """
        length = len(payload)
        high = self.ownMask
        if length < 126:
            head = bytes((LAST | opcode, high | length))
        elif length < 65536:
            head = SHORT.pack(LAST | opcode, high | 126, length)
        else:
            head = LONG.pack(LAST | opcode, high | 127, length)
        if high:
            key = nextKey()
            head += key
            payload = self.mask(key, payload)
        self.out(head + payload)

    def close(self, code: int | None) -> None:
        """
        Send a Close frame; frames of the peer are still read.

        @param code: C{None} sends an empty one.
        """
        self.sendFrame(CLOSE, b"" if code is None else code.to_bytes(2, "big"))

    def flushAndClose(self) -> None:
        """
        Read no more frames; flush what was written and close the connection below.
        """
        self.state = self.STATE_CLOSED
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        End the connection below at once.
        """
        self.state = self.STATE_CLOSED
        self.transport.abortConnection()

    def _answerPing(self) -> None:
        payload, self._pong = self._pong, None
        if payload is not None and self.state == self.STATE_OPEN:
            self.sendFrame(PONG, payload)

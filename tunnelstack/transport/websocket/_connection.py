"""
A WebSocket's connection: the protocol on the network's side, between which and the L{WebSocketTransport
<tunnelstack.transport.websocket.transport.WebSocketTransport>} frames are exchanged.

Frames of binary messages, and everything that is sent, take a short path here.  Text, control frames and everything that is
wrong go through autobahn's parser.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet import protocol
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from tunnelstack.transport.direct_write import Write, disableNagle, immediateWrite
from tunnelstack.transport.endpoint_wrapper import leaveWrapper
from tunnelstack.transport.websocket._autobahn import FrameParser, xor
from tunnelstack.transport.websocket._frames import (
    BINARY,
    CLOSE,
    CLOSE_PAYLOAD,
    CLOSE_PROTOCOL,
    CLOSE_SIZE,
    CLOSE_TEXT,
    CONTINUATION,
    LAST,
    LONG,
    MASKED,
    PONG,
    SHORT,
    nextKey,
    validCode,
)
from tunnelstack.transport.whole_read import wholeRead

READ, LARGE_READ = 64 * 1024, 124 * 1024
"""Octets that are read at once: at first, as Twisted does, and after a read of that size.  Frames have up to 64 KiB, so small
reads cut nearly all of them; but Python takes memory for a large read from the kernel, and returns it, for 128 KiB or more each
time, which is slow."""

CONNECTING, OPEN, CLOSED = range(3)      # states: before the end of the handshake; frames are read; no more of them are


class ConnectionListener(typing.Protocol):
    """
    What a connection reports at any time.
    """

    def writesPaused(self) -> None: ...
    def writesResumed(self) -> None: ...
    def lost(self, reason: Failure) -> None: ...


class Handshake(ConnectionListener, typing.Protocol):
    """
    What a connection reports until the WebSocket is open.
    """

    def connectionMade(self) -> None: ...
    def dataReceived(self, data: bytes) -> None: ...


class FrameListener(ConnectionListener, typing.Protocol):
    """
    What it reports from then on.

    @ivar readPaused: the application does not read: received octets are not parsed.
    @ivar records: the application takes whole messages of both kinds; without it, text is rejected.
    @ivar maxMessage: octets of the largest message that is accepted.
    """

    readPaused: bool
    records: bool
    maxMessage: int

    def octetsReceived(self, octets: bytes) -> None: ...
    def messageEnded(self, text: bool) -> None: ...
    def pongReceived(self, payload: bytes) -> None: ...
    def closeReceived(self, code: int | None, reason: str) -> None: ...
    def protocolViolated(self, code: int, reason: str) -> None: ...


class WebSocketConnection(protocol.Protocol):
    """
    Either side of a WebSocket.

    Octets go to the handshake until it calls L{webSocketOpened}, and then as frames to the listener.

    @ivar state: L{CONNECTING}, L{OPEN} or L{CLOSED}.
    @ivar full: the network takes no more at the moment.
    @ivar dataSeen: set when anything arrives; the keepalive resets it.
    @ivar pongSeen: the same for pongs.
    """

    transport: Any

    def __init__(self, server: bool, handshake: Handshake) -> None:
        """
        @param server: whether this is the server's side: the client's frames are masked, the server's not.
        """
        self.state = CONNECTING
        self.full = self.dataSeen = self.pongSeen = False
        self._handshake: Handshake | None = handshake
        self._upper: ConnectionListener = handshake
        self._listener: FrameListener
        self._ownMask, self._peerMask = (0, MASKED) if server else (MASKED, 0)
        self._parser = FrameParser(server, self)
        self._write: Write
        self._manyOctets = inf                # a read of so many is followed by large ones
        self._largeReads = False
        self._joined = False                  # what a read has of several frames is delivered in one piece
        self._whole: Callable[[bytes], bytes] | None = None      # takes all records of TLS that have arrived
        self._pong: bytes | None = None       # the payload of the pong to send
        self._size = 0                        # octets of the message that has begun
        self._text = False                    # it is a text message
        self._left = 0                        # octets to come of a binary message's frame
        self._last = True                     # that frame ends its message
        self._key = b""                       # its masking key, from the next octet on

    @property
    def unread(self) -> int:
        """
        Octets that were received and not parsed yet, with the heads of their frames.
        """
        return len(self._parser.data)

    @property
    def messagePending(self) -> bool:
        """
        Some of a message, or of a frame, was received and its end was not; or the application has not taken it.
        """
        return bool(self._parser.data or self._left) or self._parser.inside_message

    # The network's side

    def connectionMade(self) -> None:
        disableNagle(self.transport)
        leaveWrapper(self.transport, self)
        # Registered all the time, so that the pressure is known even without a producer of the application.
        self.transport.registerProducer(self, True)
        self._write = self.transport.write
        assert self._handshake is not None
        self._handshake.connectionMade()

    def dataReceived(self, data: bytes) -> None:
        self.dataSeen = True
        if self._whole is not None:
            data = self._whole(data)
        large = len(data) >= self._manyOctets
        if large is not self._largeReads:
            self._largeReads = large
            self.transport.bufferSize = LARGE_READ if large else READ
        if self.state == OPEN:
            parser = self._parser
            if parser.data or parser.current_frame is not None or self._listener.readPaused:
                parser.data += data
            else:
                if not self._left and not parser.inside_message and self._takeMessage(data):
                    return
                parser.data = data
                self._takeBinary()            # at once, as consume() would
            if parser.data or self._pong is not None:
                self.consume()
        elif self._handshake is not None and self.state == CONNECTING:
            self._handshake.dataReceived(data)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.state = CLOSED
        self._upper.lost(reason)

    def pauseProducing(self) -> None:
        self.full = True
        self._upper.writesPaused()

    def resumeProducing(self) -> None:
        self.full = False
        self._answerPing()
        self._upper.writesResumed()

    def stopProducing(self) -> None:
        """
        The network is gone; C{connectionLost} reports it.
        """

    # The listener's side

    def webSocketOpened(self, listener: FrameListener) -> None:
        """
        The handshake is done.
        """
        self.state = OPEN
        self._upper = self._listener = listener
        self._handshake = None

    def writeImmediately(self) -> None:
        """
        From now on, frames are handed to the network at once: the caller writes once a turn.  It carries much, and does not
        ask where a frame begins: what has arrived together is delivered together, and reads grow, where they can.
        """
        self._write = immediateWrite(self.transport)
        self._joined = not self._listener.records
        if isinstance(self.transport, Connection):
            self._manyOctets = READ
        self._whole = wholeRead(self.transport)

    def feed(self, data: bytes) -> None:
        """
        Octets that arrived with the end of the handshake; call this once the application is connected.
        """
        self._parser.data = data
        self.consume()

    def consume(self) -> None:
        """
        Parse what was received, until the application pauses.  Of many pings in one delivery only the last is answered
        (RFC 6455, section 5.5.3), and none while the network takes no more, so that pings cannot fill memory.
        """
        listener, parser = self._listener, self._parser
        while self.state == OPEN and not listener.readPaused:
            if parser.current_frame is None:  # else there may be one without any octets, which the parser has yet to end
                if not parser.data:
                    break
                if self._takeBinary():
                    continue
            if not parser.processData():
                break
        if self._pong is not None and not self.full:
            self._answerPing()

    def _takeMessage(self, data: bytes) -> bool:
        """
        Take a read that is one whole binary message of less than 64 KiB and nothing else, as nearly all small ones are.

        @return: whether it is one.
        """
        size, masked = len(data), self._peerMask
        if size < 8 or data[0] != LAST | BINARY:
            return False
        length, body = data[1] ^ masked, 6 if masked else 2
        if length > 125:
            if length > 126:                  # longer, or masked where it must not be, or not masked
                return False
            length, body = data[2] << 8 | data[3], body + 2
            if length < 126:
                return False
        listener = self._listener
        if length + body != size or length > listener.maxMessage:
            return False
        listener.octetsReceived(bytes(xor(data[body - 4 : body], data, body, size)) if masked else data[body:])
        if listener.records:
            listener.messageEnded(False)
        return True

    def _takeBinary(self) -> bool:
        """
        Take what has arrived of the frames of binary messages: the parser needs 30 us for a frame that is cut, this 4.
        Anything else, and anything wrong, is left to the parser, which therefore has to know whether a message has begun.

        @return: whether there was any.
        """
        listener, parser = self._listener, self._parser
        data, left, peerMask, joined = parser.data, self._left, self._peerMask, self._joined
        if parser.inside_message and self._text:
            return False
        at, size, pieces = 0, len(data), []
        while at < size:
            if not left:
                inside = parser.inside_message
                if size - at < 2 or data[at] & ~LAST != (CONTINUATION if inside else BINARY):
                    break
                length, body = data[at + 1] ^ peerMask, at + 2      # beyond 127: masked where it must not be, or not masked
                if length > 125:
                    body += 2 if length == 126 else 8
                    least = 126 if length == 126 else 65536 if length == 127 else inf
                    length = int.from_bytes(data[at + 2 : body], "big")
                    if length < least:
                        break
                body += 4 if peerMask else 0
                total = length + self._size if inside else length
                if body > size or total > listener.maxMessage:
                    break
                self._last, self._size, self._key = data[at] >= LAST, total, data[body - 4 : body]
                at, left = body, length
                self._text = False
            end = min(at + left, size)
            left -= end - at
            pieces.append(xor(self._key, data, at, end) if peerMask else data[at:end])
            if left:
                turn = (end - at) % 4
                self._key = self._key[turn:] + self._key[:turn]
            else:
                parser.inside_message = not self._last
            at = end
            if not joined:
                listener.octetsReceived(bytes(pieces.pop()))
                if listener.records and not left and self._last:
                    listener.messageEnded(False)
                if self.state != OPEN or listener.readPaused:
                    break
        self._left = left
        if at:
            parser.data = data[at:]
        if pieces:
            listener.octetsReceived(b"".join(pieces))
        return at > 0

    def sendFrame(self, opcode: int, payload: bytes) -> None:
        """
        Send one frame, a whole message or a control frame.  autobahn's encoder takes three times as long.

        @param payload: of a L{TEXT<tunnelstack.transport.websocket._frames.TEXT>}, UTF-8.
        """
        length = len(payload)
        high = self._ownMask
        if length < 126:
            head = bytes((LAST | opcode, high | length))
        elif length < 65536:
            head = SHORT.pack(LAST | opcode, high | 126, length)
        else:
            head = LONG.pack(LAST | opcode, high | 127, length)
        if high:
            key = nextKey()
            self._write(head + key + xor(key, payload, 0, length))
        else:
            self._write(head + payload)

    def close(self, code: int | None, reason: bytes = b"") -> None:
        """
        Send a Close frame; frames of the peer are still read.

        @param code: C{None} sends an empty one.
        @param reason: UTF-8, at most L{LONGEST_REASON<tunnelstack.transport.websocket._frames.LONGEST_REASON>} octets.
        """
        self.sendFrame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)

    def flushAndClose(self) -> None:
        """
        Read no more frames; close the connection once everything written has left.
        """
        self.state = CLOSED
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        Close the connection at once.
        """
        self.state = CLOSED
        self.transport.abortConnection()

    def _answerPing(self) -> None:
        payload, self._pong = self._pong, None
        if payload is not None and self.state == OPEN:
            self.sendFrame(PONG, payload)

    # The parser's side

    def messageBegun(self, text: bool) -> None:
        self._size = 0
        self._text = text
        if text and not self._listener.records:
            self.violated(CLOSE_TEXT, "a text message where only binary messages are accepted")

    def frameBegun(self, length: int) -> None:
        self._size += length
        if self._size > self._listener.maxMessage:
            self.violated(CLOSE_SIZE, f"a message of more than {self._listener.maxMessage} octets")

    def payloadReceived(self, octets: bytes) -> None:
        self._listener.octetsReceived(octets)

    def messageEnded(self) -> None:
        if self._listener.records:
            self._listener.messageEnded(self._text)

    def pingReceived(self, payload: bytes) -> None:
        self._pong = payload

    def pongReceived(self, payload: bytes) -> None:
        """
        Any pong counts, whatever ping it answers: the peer reads and answers.
        """
        self.pongSeen = True
        self._listener.pongReceived(payload)

    def closeReceived(self, code: int | None, reason: bytes) -> None:
        if code is not None and not validCode(code):
            self.violated(CLOSE_PROTOCOL, f"close code {code}")
            return
        try:
            text = reason.decode("utf-8")
        except UnicodeDecodeError:
            self.violated(CLOSE_PAYLOAD, "a close reason that is not UTF-8")
            return
        self._listener.closeReceived(code, text)

    def violated(self, code: int, reason: str) -> None:
        """
        The peer broke a rule: send the Close frame, and read no more.
        """
        if self.state != CLOSED:
            self.close(code)
            self.state = CLOSED
            self._listener.protocolViolated(code, reason)

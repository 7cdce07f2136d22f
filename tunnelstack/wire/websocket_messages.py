"""
The messages of one direction of a WebSocket connection, read as an observer: of each message, little is kept.

What is compressed by permessage-deflate is inflated as far as it is kept, and a little further so that the next message can be
read as well.  An observer must not be made to spend time or memory that the application would not spend.

Source: RFC 6455, section 5; RFC 7692, section 7.
"""

from __future__ import annotations

import zlib

from attrs import define

from tunnelstack.errors import PeerError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

KINDS = {TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}

CONTROL_OCTETS = 125
"""Octets of the payload of a control frame."""

INFLATED_OCTETS = 4 * 1024 * 1024
"""Octets of one message that are inflated.  Later messages of a longer one that share its context cannot be read."""

PIECE = 64 * 1024
TAIL = b"\x00\x00\xff\xff"


class BadFrame(PeerError):
    """
    The octets are not frames of WebSocket, or of an extension that is not known.
    """


@define
class WebSocketMessage:
    """
    One message, or control frame.

    @ivar kind: C{"text"}, C{"binary"}, C{"close"}, C{"ping"} or C{"pong"}.
    @ivar octets: its length; that of the compressed payload if it could not be inflated.
    @ivar kept: its beginning.
    @ivar readable: it is not compressed, or all of it could be inflated.
    """

    kind: str
    octets: int = 0
    kept: bytes = b""
    readable: bool = True

    @property
    def cut(self) -> bool:
        """
        Not all of the message is kept.
        """
        return len(self.kept) < self.octets or not self.readable


@define
class DeflateParameters:
    """
    The parameters of permessage-deflate that were agreed on.

    @ivar client_takeover: the client compresses all its messages in one context.
    @ivar server_takeover: the server does.
    """

    client_takeover: bool = True
    server_takeover: bool = True


def deflate_parameters(extensions: bytes) -> DeflateParameters | None:
    """
    @param extensions: the value of C{Sec-WebSocket-Extensions} in a response.
    @return: the parameters; C{None} if messages are not compressed.
    """
    for extension in extensions.lower().split(b","):
        name, *parameters = (part.strip(b" \t") for part in extension.split(b";"))
        if name == b"permessage-deflate":
            return DeflateParameters(
                b"client_no_context_takeover" not in parameters, b"server_no_context_takeover" not in parameters
            )
    return None


class MessageInflater:
    """
    Inflates the messages of one direction, and keeps the beginning of each.
    """

    def __init__(self, keep: int, takeover: bool, most: int = INFLATED_OCTETS) -> None:
        """
        @param keep: octets of each message that are kept.
        @param takeover: all messages have one context.
        @param most: octets of each message that are inflated.
        """
        self._keep = keep
        self._takeover = takeover
        self._most = max(most, keep)
        self._context = zlib.decompressobj(-zlib.MAX_WBITS)
        self.broken = False
        self.octets = 0
        self.kept = bytearray()

    def begin(self) -> None:
        """
        A message begins.
        """
        self.octets = 0
        self.kept = bytearray()
        if not self._takeover:
            self._context = zlib.decompressobj(-zlib.MAX_WBITS)
            self.broken = False

    def feed(self, octets: bytes) -> None:
        """
        A piece of the message's payload.
        """
        while not self.broken:
            try:
                piece = self._context.decompress(octets, PIECE)
            except zlib.error:
                self.broken = True
                self.kept.clear()
                return
            octets = self._context.unconsumed_tail
            self.octets += len(piece)
            self.kept += piece[: self._keep - len(self.kept)]
            if self.octets > self._most or self._context.eof:
                self.broken = True
                self._context = zlib.decompressobj(-zlib.MAX_WBITS)      # it may hold much
            elif len(piece) < PIECE and not octets:
                return

    def end(self) -> bool:
        """
        The message has ended.

        @return: whether all of it was inflated.
        """
        self.feed(TAIL)
        return not self.broken


@define
class _Frame:
    """
    A frame whose payload is arriving.
    """

    opcode: int
    final: bool
    left: int
    mask: bytes
    position: int = 0


class WebSocketMessageReader:
    """
    Reads the frames of one direction.
    """

    def __init__(self, keep: int, takeover: bool | None = None) -> None:
        """
        @param keep: octets of each message that are kept.
        @param takeover: messages may be compressed, and share one context or do not; C{None} if they are never compressed.
        """
        self._keep = keep
        self._inflater = None if takeover is None else MessageInflater(keep, takeover)
        self._header = b""
        self._frame: _Frame | None = None
        self._message: WebSocketMessage | None = None       # fragments of it may still come
        self._control: WebSocketMessage | None = None
        self._compressed = False

    def receive_data(self, octets: bytes) -> list[WebSocketMessage]:
        """
        Octets of the connection, cut anywhere.

        @return: the messages that have ended.
        @raise BadFrame: they cannot be read; no more may be received.
        """
        found: list[WebSocketMessage] = []
        at = 0
        while at < len(octets):
            if self._frame is None:
                wanted = _header_octets(self._header) - len(self._header)
                self._header += octets[at : at + wanted]
                at += wanted
                if len(self._header) == _header_octets(self._header):
                    self._begin()
            else:
                at += self._payload(self._frame, octets, at)
            if self._frame is not None and not self._frame.left:
                self._end(self._frame, found)
        return found

    def _begin(self) -> None:
        """
        A frame begins.
        """
        header, self._header = self._header, b""
        opcode, final, compressed = header[0] & 15, bool(header[0] & 128), bool(header[0] & 64)
        masked, length = header[1] & 128, header[1] & 127
        if length > CONTROL_OCTETS:
            length = int.from_bytes(header[2 : 4 if length == 126 else 10], "big")
        if header[0] & 48 or (compressed and (self._inflater is None or opcode not in (TEXT, BINARY))):
            raise BadFrame("a frame has bits of an extension that is not known")
        if opcode in (CLOSE, PING, PONG):
            if length > CONTROL_OCTETS or not final:
                raise BadFrame("a control frame is too long, or a fragment")
            self._control = WebSocketMessage(KINDS[opcode])
        elif opcode in (TEXT, BINARY) and self._message is None:
            self._message = WebSocketMessage(KINDS[opcode])
            self._compressed = compressed
            if compressed and self._inflater is not None:
                self._inflater.begin()
        elif opcode != CONTINUATION or self._message is None:
            raise BadFrame("a frame does not continue what precedes it", opcode=opcode)
        self._frame = _Frame(opcode, final, length, header[-4:] if masked else b"")

    def _payload(self, frame: _Frame, octets: bytes, at: int) -> int:
        """
        Some of a frame's payload.

        @return: how many octets it was.
        """
        size = min(frame.left, len(octets) - at)
        message = self._control if frame.opcode & 8 else self._message
        assert message is not None
        if self._compressed and not frame.opcode & 8 and self._inflater is not None:
            if not self._inflater.broken:
                self._inflater.feed(_unmasked(octets[at : at + size], frame))
        else:
            room = min(size, self._room_of(frame, message))
            if room > 0:
                message.kept += _unmasked(octets[at : at + room], frame)
        message.octets += size
        frame.left -= size
        frame.position += size
        return size

    def _room_of(self, frame: _Frame, message: WebSocketMessage) -> int:
        return (CONTROL_OCTETS if frame.opcode & 8 else self._keep) - len(message.kept)

    def _end(self, frame: _Frame, found: list[WebSocketMessage]) -> None:
        """
        A frame is whole.
        """
        self._frame = None
        if frame.opcode & 8:
            message, self._control = self._control, None
        elif frame.final:
            message, self._message = self._message, None
            if self._compressed and self._inflater is not None and message is not None:
                message.readable = self._inflater.end()
                message.kept = bytes(self._inflater.kept)
                message.octets = self._inflater.octets if message.readable else message.octets
        else:
            return
        assert message is not None
        found.append(message)


def _header_octets(header: bytes) -> int:
    """
    @return: how many octets the header of a frame has, as far as that is known.
    """
    if len(header) < 2:
        return 2
    length = header[1] & 127
    return 2 + (2 if length == 126 else 8 if length == 127 else 0) + (4 if header[1] & 128 else 0)


def _unmasked(octets: bytes, frame: _Frame) -> bytes:
    """
    @return: a piece of a frame's payload without its mask.
    """
    if not frame.mask:
        return octets
    at, size = frame.position % 4, len(octets)
    key = ((frame.mask[at:] + frame.mask[:at]) * (size // 4 + 1))[:size]
    return (int.from_bytes(octets, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")

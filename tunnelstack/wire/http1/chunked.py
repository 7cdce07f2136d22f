"""
Bodies in chunks: each a length in hexadecimal, a line end, so many octets, a line end; the last is empty, and trailers follow.

Source: RFC 9112, section 7.1.
"""

from __future__ import annotations

import re

from tunnelstack.wire.http1.head import (
    BARE_LINE_END,
    DEFAULT_LIMITS,
    FIELD_CONTENT,
    MESSAGE_START,
    BadMessage,
    Fields,
    HeadLimits,
    encode_fields,
    find_end_untrusted,
    read_fields_untrusted,
)

LENIENT_END = re.compile(rb"[^\r\n]\r?\n\r?\n")
LONGEST_LINE = 1024        # octets of a chunk's size with its extensions and its line end
LAST_CHUNK = b"0\r\n\r\n"

# Blanks after the size are not in the grammar, but have to be read before an extension (RFC 9112, 7.1.1), and some servers
# fill the size up with them.  They do not reach anyone else, since bodies are encoded anew.
SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*+(?:;" + FIELD_CONTENT + rb"*+)?\r\n")
LENIENT_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*+(?:;" + FIELD_CONTENT + rb"*+)?\r?\n")
PARTIAL_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}+[\t ]*+(?:;" + FIELD_CONTENT + rb"*+)?\r?\Z")

FORBIDDEN_TRAILERS = frozenset((
    b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer", b"upgrade", b"te", b"keep-alive",
    b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"content-encoding", b"content-type",
    b"content-range", b"expect", b"cache-control", b"max-forwards", b"forwarded", b"proxy-connection",
))
"""Fields that mean nothing, or harm, after a body: they are dropped from trailers."""


class ChunkedDecoder:
    """
    Incremental; holds no more than one incomplete line, or the trailers.

    @ivar ended: the body is whole.
    @ivar trailers: the fields after it.
    @ivar leftover: what was received after the end.
    @ivar irregular: a line feed alone has ended a line.
    """

    __slots__ = (
        "_last_chunk_seen", "_left", "_lenient", "_limits", "_partial", "_size", "ended", "irregular", "leftover", "trailers",
    )  # fmt: skip

    def __init__(self, limits: HeadLimits = DEFAULT_LIMITS, *, lenient: bool = False) -> None:
        """
        @param lenient: a line feed alone ends a line.
        """
        self._limits = limits
        self._lenient = lenient
        self._size = LENIENT_SIZE if lenient else SIZE
        self.irregular = False
        self._left = 0               # octets of the chunk, and of the line end after it, that are still to come
        self._partial = b""             # an incomplete line, or incomplete trailers
        self._last_chunk_seen = False         # the last chunk has come
        self.ended = False
        self.trailers: Fields = []
        self.leftover = b""

    def receive_data(self, octets: bytes) -> bytes:
        """
        @return: the octets of the body among them.
        @raise BadMessage: these are no chunks.
        """
        if self._partial:
            octets, self._partial = self._partial + octets, b""
        pieces: list[bytes] = []
        position, size, left = 0, len(octets), self._left
        while position < size and not self._last_chunk_seen:
            if left > 2:
                piece = octets[position:position + left - 2]
                pieces.append(piece)
                position += len(piece)
                left -= len(piece)
            elif left:
                if octets[position] == (13 if left == 2 else 10):
                    left -= 1
                elif self._lenient and octets[position] == 10:
                    left, self.irregular = 0, True
                else:
                    raise BadMessage("a chunk is longer than its size")
                position += 1
            else:
                line = self._size.match(octets, position, position + LONGEST_LINE)
                if line is None:
                    self._partial = self._partial_size(octets, position)
                    break
                position = line.end()
                self.irregular |= self._lenient and not line[0].endswith(b"\r\n")
                left = int(line[1], 16) + 2
                self._last_chunk_seen = left == 2
        self._left = left
        if self._last_chunk_seen:
            self._receive_trailers(octets[position:])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _partial_size(self, octets: bytes, position: int) -> bytes:
        """
        @return: what may become a chunk's size.
        """
        if len(octets) - position >= LONGEST_LINE or not PARTIAL_SIZE.match(octets, position):
            raise BadMessage("the size of a chunk is malformed")
        return octets[position:]

    def _receive_trailers(self, octets: bytes) -> None:
        """
        After the last chunk: fields until an empty line.
        """
        if octets.startswith(b"\r\n"):
            self.ended, self.leftover = True, octets[2:]
        elif octets == b"" or octets == b"\r":
            self._partial = octets
        elif self._lenient and (octets.startswith(b"\n") or BARE_LINE_END.search(octets)):
            self._receive_irregular_trailers(octets)
        else:
            end = find_end_untrusted(octets, 0, self._limits)
            if end < 0:
                self._partial = octets
                return
            self._end(read_fields_untrusted(octets[:end], self._limits), octets[end:])

    def _receive_irregular_trailers(self, octets: bytes) -> None:
        self.irregular = True
        if octets.startswith(b"\n"):
            self.ended, self.leftover = True, octets[1:]
            return
        end = LENIENT_END.search(octets, 0, self._limits.octets)
        if end is not None:
            lines = b"\r\n".join(line.removesuffix(b"\r") for line in octets[:end.start() + 1].split(b"\n"))
            self._end(read_fields_untrusted(lines + b"\r\n\r\n", self._limits), octets[end.end():])
        elif len(octets) >= self._limits.octets:
            raise BadMessage("the trailers are too long", 431, limit=self._limits.octets)
        elif not MESSAGE_START.match(octets):
            raise BadMessage("a line of the trailers is no field")
        else:
            self._partial = octets

    def _end(self, fields: Fields, leftover: bytes) -> None:
        self.trailers = [field for field in fields if field[0].lower() not in FORBIDDEN_TRAILERS]
        self.ended, self.leftover = True, leftover


def encode_chunk(octets: bytes) -> bytes:
    """
    @param octets: at least one; none would end the body.
    """
    return b"%x\r\n%b\r\n" % (len(octets), octets)


def encode_last_chunk(trailers: Fields) -> bytes:
    """
    The end of a body.
    """
    return b"0\r\n%b\r\n" % encode_fields(trailers) if trailers else LAST_CHUNK

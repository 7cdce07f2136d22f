"""
HPACK, as L{tunnelstack.wire.http2.connection} uses it: the lists of fields pass by C{h2}, which gets to see no more of them
than it needs to know what kind of head one is.

C{h2} would check each list itself, and close the whole connection for one that is malformed or does not fit its Content-Length.
We reset the stream alone.  It would also let the peer choose the size of the encoder's table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.hpack import Decoder, Encoder

from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.events import Fields

LARGEST_TABLE = 4096
"""Octets of the encoder's table, however many the peer offers."""

NEVER_INDEXED = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"})
"""Fields with secrets: an attacker who can have fields of its own encoded by the same table must not be able to guess them.
Source: RFC 7541, section 7.1.3.  A cookie is indexed if it is long."""

LONG_COOKIE = 20
"""Octets of a cookie that cannot be guessed piece by piece."""

INDEXES = 127
"""Indexes that one octet can hold."""

_INDEXED = [bytes((0x80 | index,)) for index in range(INDEXES)]
_REQUEST = [(b":method", b"GET")]
_INFORMATIONAL = [(b":status", b"100")]


class FieldDecoder(Decoder):
    """
    Decodes lists of fields, and keeps the last one.

    @ivar fields: the list that was decoded last.
    @ivar informational: the next list may be that of an interim response.  C{h2} closes the connection for one that arrives
        when the stream was reset.
    @ivar error_code: the L{ErrorCode} of an error that C{decode} has raised; C{None} if it has raised none.
    """

    fields: Fields
    informational = False
    error_code: int | None = None

    def decode(self, data: bytes, raw: bool = False) -> Iterable[tuple[bytes, bytes]]:     # type: ignore[override]
        """
        @return: what C{h2} needs: whether it is an interim response.
        """
        try:
            self.fields = fields = cast(Fields, super().decode(data, True))
        except OversizedHeaderListError:
            self.error_code = ErrorCode.ENHANCE_YOUR_CALM
            raise
        except (HPACKError, IndexError):
            self.error_code = ErrorCode.COMPRESSION_ERROR
            raise
        for name, value in fields if self.informational else ():
            if name == b":status" and value[:1] == b"1":
                return _INFORMATIONAL
            if name[:1] != b":":
                break
        return ()


class FieldEncoder(Encoder):
    """
    Encodes the list of fields that it is given beforehand.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fields: Iterable[tuple[bytes, bytes]] = ()

    def prepare(self, fields: Iterable[tuple[bytes, bytes]], informational: bool) -> list[tuple[bytes, bytes]]:
        """
        @param fields: what L{encode} is to encode next.
        @return: what C{h2} is to be given for it.
        """
        self._fields = fields
        return _INFORMATIONAL if informational else _REQUEST

    def encode(self, headers: object, huffman: bool = True) -> bytes:
        """
        @param headers: are ignored.
        """
        pieces = []
        if self.header_table.resized:
            pieces.append(self._encode_table_size_change())
            self.header_table.resized = False
        search = self.header_table.search
        for name, value in self._fields:
            found = search(name, value)
            if found is not None and found[2] is not None and found[0] < INDEXES:
                pieces.append(_INDEXED[found[0]])
                continue
            secret = name in NEVER_INDEXED and not (name == b"cookie" and len(value) >= LONG_COOKIE)
            pieces.append(self.add((name, value), secret, huffman))
        self._fields = ()
        return b"".join(pieces)

    @property
    def header_table_size(self) -> int:
        """
        Octets of the table.
        """
        return int(self.header_table.maxsize)

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        value = min(value, LARGEST_TABLE)
        self.header_table.maxsize = value
        if self.header_table.resized:
            self.table_size_changes.append(value)

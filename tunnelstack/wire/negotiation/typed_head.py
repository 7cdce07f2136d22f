"""
A stream whose purpose is the octet that it begins with, followed by metadata of a given length::

    +------+----------------------+------------------+
    | type | length               | metadata         |
    | 1 B  | 4 B unsigned, big-end| length octets    |
    +------+----------------------+------------------+

Nothing answers it, so the octets of the application may follow at once.  Which types there are, and what their metadata mean,
its user decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from attrs import frozen

from tunnelstack.errors import UsageError
from tunnelstack.wire.negotiation.base import (
    NO_PARAMETERS,
    Agreed,
    Negotiation,
    NegotiationError,
    NegotiationEvent,
    Release,
)

LIMIT = 1024 * 1024
"""Octets of the longest metadata, unless its reader has another limit."""

METADATA = "metadata"
"""The name of the parameter that holds the metadata, as octets, in what is agreed."""

_PREFIX = Struct(">BI")
_LARGEST_TYPE, _LARGEST_LENGTH = 0xFF, 0xFFFF_FFFF


class MetadataTooLong(NegotiationError):
    """
    The head announces more metadata than its reader accepts.
    """


class UnknownType(NegotiationError):
    """
    The type of the head is not known.
    """


@frozen
class TypedHead:
    """
    @ivar kind: the type, 0 to 255.
    """

    kind: int
    metadata: bytes = b""


def encode_typed_head(kind: int, metadata: bytes = b"") -> bytes:
    """
    @raise UsageError: no octet can be the type, or the length of the metadata does not fit.
    """
    if not 0 <= kind <= _LARGEST_TYPE or len(metadata) > _LARGEST_LENGTH:
        raise UsageError("a type is an octet, and metadata have less than 4 GiB", kind=kind, octets=len(metadata))
    return _PREFIX.pack(kind, len(metadata)) + metadata


class TypedHeadReader:
    """
    Octets, cut anywhere, to one head.

    Call L{feed} with what arrives, and L{next_head} after it, until a head is returned; L{take_leftover} returns what was fed
    after it.
    """

    __slots__ = ("_buffer", "_limit", "_missing")

    def __init__(self, limit: int = LIMIT) -> None:
        """
        @param limit: octets of the longest metadata.
        """
        self._limit = limit
        self._buffer: list[bytes] = []
        self._missing = _PREFIX.size         # octets that are missing before there is something to read

    def feed(self, octets: bytes) -> None:
        self._buffer.append(octets)
        self._missing -= len(octets)

    def next_head(self) -> TypedHead | None:
        """
        @return: the head; C{None} while its end is missing.
        @raise MetadataTooLong: the length is above the limit; none of the metadata is waited for.
        """
        if self._missing > 0:
            return None
        octets = b"".join(self._buffer)
        self._buffer = [octets]
        kind, length = _PREFIX.unpack_from(octets)
        if length > self._limit:
            raise MetadataTooLong(f"stream metadata too large: {length} bytes", limit=self._limit)
        end = _PREFIX.size + length
        self._missing = end - len(octets)
        if self._missing > 0:
            return None
        self._buffer = [octets[end:]]
        return TypedHead(kind, octets[_PREFIX.size : end])

    def take_leftover(self) -> bytes:
        """
        @return: what was fed after the head; it is not held here any more.
        """
        leftover, self._buffer = b"".join(self._buffer), []
        return leftover


class TypedHeadInitiator(Negotiation):
    """
    Sends a head; no answer is expected.
    """

    __slots__ = ()

    def __init__(self, name: bytes, head: TypedHead, *, own_frame: bool = False) -> None:
        """
        @param name: what the purpose is called here; the peer sends the type only.
        @param own_frame: the head travels in a frame of its own, for peers to whom frames matter.
        """
        super().__init__(Release.AT_ONCE, None)
        self.name = name
        self.own_frame = own_frame
        self._out = [encode_typed_head(head.kind, head.metadata)]

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}: agreed at once.
        """
        self._check_open()
        self.settled = True
        return [Agreed(self.name, NO_PARAMETERS, octets)]


class TypedHeadResponder(Negotiation):
    """
    Reads a head.  The parameters of what is agreed are its metadata, under the name L{METADATA}.
    """

    __slots__ = ("_names", "_reader")

    def __init__(self, names: Mapping[int, bytes], *, limit: int = LIMIT, timeout: float | None = None) -> None:
        """
        @param names: from types to the names of purposes.
        @param limit: octets of the longest metadata.
        @param timeout: seconds.
        """
        super().__init__(Release.ON_REPLY, timeout)
        self._names = names
        self._reader = TypedHeadReader(limit)

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.

        @raise UnknownType: no purpose has this type.
        @raise MetadataTooLong: the metadata are longer than the limit.
        """
        self._check_open()
        self._reader.feed(octets)
        head = self._reader.next_head()
        if head is None:
            return []
        name = self._names.get(head.kind)
        if name is None:
            raise UnknownType("the type of the stream is not known", kind=head.kind)
        self.settled = True
        return [Agreed(name, {METADATA: head.metadata}, self._reader.take_leftover())]

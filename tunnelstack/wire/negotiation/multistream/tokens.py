"""
The tokens of multistream-select 1.0: a varint, that many octets less one of text, and a line feed; the varint counts the line
feed.

Source: multiformats/multistream-select README; go-multistream v0.6.1, whose limits these are.
"""

from __future__ import annotations

from functools import lru_cache

from tunnelstack.errors import UsageError
from tunnelstack.wire import varint
from tunnelstack.wire.negotiation.base import NegotiationError

VERSION = b"/multistream/1.0.0"
NOT_AVAILABLE = b"na"

LARGEST = 1024
"""Octets of the largest token, its line feed included."""


class BadMultistreamToken(NegotiationError):
    """
    Octets that are no token: too long, or not ended by a line feed.
    """


class WrongVersion(NegotiationError):
    """
    The peer's first octets are not the header; known as soon as one of them is another.
    """


def token(text: bytes) -> bytes:
    """
    @raise UsageError: more text than a token may have.
    """
    if len(text) >= LARGEST:
        raise UsageError("a multistream token has at most 1023 octets of text", octets=len(text))
    return varint.encode(len(text) + 1) + text + b"\n"


def next_token(buffer: bytes) -> tuple[bytes, int] | None:
    """
    Read the token that a buffer begins with.

    @return: its text, and where the octets after it begin; C{None} while some of it is missing.
    @raise BadMultistreamToken: too long (known before its text is waited for), or without its line feed.
    @raise BadVarint: its length is none.
    """
    found = varint.decode(buffer, 0, 2)
    if found is None:
        return None
    length, start = found
    if not 0 < length <= LARGEST:
        raise BadMultistreamToken("a token has 1 to 1024 octets", octets=length)
    end = start + length
    if len(buffer) < end:
        return None
    if buffer[end - 1] != 0x0A:
        raise BadMultistreamToken("a token does not end with a line feed")
    return buffer[start : end - 1], end


HEADER = token(VERSION)
HEADER_SIZE = len(HEADER)
NOT_AVAILABLE_TOKEN = token(NOT_AVAILABLE)


def starts_with_header(buffer: bytes) -> bool:
    """
    @return: whether the whole header is there.
    @raise WrongVersion: it will never be.
    """
    if buffer.startswith(HEADER):
        return True
    if not HEADER.startswith(buffer):
        raise WrongVersion("the peer does not use multistream 1.0", seen=buffer[: len(HEADER)])
    return False


@lru_cache(maxsize=1024)
def opening(name: bytes) -> bytes:
    """
    Header and proposal; also what a responder sends that agrees.

    @raise UsageError: a name that could be taken for something else, or that is too long.
    """
    if name in (b"", NOT_AVAILABLE, VERSION) or b"\n" in name:
        raise UsageError("not a name for a stream protocol", name=name)
    return HEADER + token(name)

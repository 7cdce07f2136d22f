"""
Unsigned varints: seven bits an octet, least significant first, the top bit set on all octets but the last.

Only the shortest form of a number is a number, and no number has more than nine octets (63 bits).

Source: multiformats/unsigned-varint README.
"""

from __future__ import annotations

from tunnelstack.errors import PeerError, UsageError

LONGEST = 9
"""Octets of the largest number."""

LARGEST = (1 << 7 * LONGEST) - 1


class BadVarint(PeerError):
    """
    A number that is longer than may be, or not in its shortest form.
    """


def encode(number: int) -> bytes:
    """
    @raise UsageError: negative, or beyond L{LARGEST}.
    """
    if not 0 <= number <= LARGEST:
        raise UsageError("a varint holds 0 to 2**63 - 1", number=number)
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def decode(buffer: bytes, start: int = 0, longest: int = LONGEST) -> tuple[int, int] | None:
    """
    Read one number.

    @param start: where in C{buffer} it begins.
    @param longest: octets it may have, at most L{LONGEST}.
    @return: the number, and where the octets after it begin; C{None} while its last octet is missing.
    @raise BadVarint: it has more octets than C{longest}, or could be written in fewer.
    """
    number = 0
    for position, octet in enumerate(buffer[start : start + longest]):
        number |= (octet & 0x7F) << 7 * position
        if octet < 0x80:
            if not octet and position:
                raise BadVarint("a varint is not in its shortest form", octets=position + 1)
            return number, start + position + 1
    if len(buffer) - start >= longest:
        raise BadVarint("a varint is too long", longest=longest)
    return None

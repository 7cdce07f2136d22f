"""
Octets bent in the ways that break decoders: bits, edges of integers, pieces lost, doubled, swapped, or taken from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

LIMIT = 64 * 1024  # octets of the longest input: past that, decoders see nothing new

#: Values at the edges of the integers that protocols are made of, big-endian.
EDGES = [
    value.to_bytes(size, "big")
    for size in (1, 2, 4, 8)
    for value in {0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 2, 2 ** (8 * size) - 1}
]


def flip(data: bytes, random: Random) -> bytes:
    """
    One bit, the other way round.
    """
    where = random.randrange(len(data))
    return data[:where] + bytes([data[where] ^ 1 << random.randrange(8)]) + data[where + 1 :]


def overwrite(data: bytes, random: Random) -> bytes:
    """
    An integer at its edge, over what was there.
    """
    where, edge = random.randrange(len(data)), random.choice(EDGES)
    return data[:where] + edge + data[where + len(edge) :]


def insert(data: bytes, random: Random) -> bytes:
    """
    Up to 16 octets of noise, between what was there.
    """
    where = random.randrange(len(data) + 1)
    return data[:where] + random.randbytes(random.randint(1, 16)) + data[where:]


def lose(data: bytes, random: Random) -> bytes:
    """
    A piece is missing.
    """
    start, end = _piece(data, random)
    return data[:start] + data[end:]


def double(data: bytes, random: Random) -> bytes:
    """
    A piece comes again, once or often.
    """
    start, end = _piece(data, random)
    return data[:end] + data[start:end] * random.choice((1, 1, 2, 7, 300)) + data[end:]


def cut(data: bytes, random: Random) -> bytes:
    """
    The end is missing.
    """
    return data[: random.randrange(len(data))]


BENDS: Sequence[Callable[[bytes, Random], bytes]] = (flip, overwrite, insert, lose, double, cut)


def mutate(corpus: Sequence[bytes], random: Random) -> bytes:
    """
    A new input from old ones.

    @param corpus: at least one input, any of which may be empty.
    @return: at most C{LIMIT} octets.
    """
    data = random.choice(corpus)
    if random.random() < 0.3:
        data += random.choice(corpus)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        data = random.choice(BENDS)(data, random) if data else random.randbytes(random.randint(1, 16))
    return data[:LIMIT]


def _piece(data: bytes, random: Random) -> tuple[int, int]:
    """
    @return: the start and the end of a piece of C{data}, at most 64 octets.
    """
    start = random.randrange(len(data))
    return start, min(len(data), start + random.randint(1, 64))

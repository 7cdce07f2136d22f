"""
Bent octets for both sides of revdial's control connection, in one piece and in two.
"""

from __future__ import annotations

from collections.abc import Hashable

from tests.wire.vectors_shellhub import CONN_READY, DIALLER, KEEP_ALIVE, PATH, PICKUP_FAILED, TICKET
from tunnelstack.errors import PeerError
from tunnelstack.wire.revdial import LINE, DiallerLines, ListenerLines, encode_line

SEEDS = [
    KEEP_ALIVE + CONN_READY + KEEP_ALIVE,
    PICKUP_FAILED + KEEP_ALIVE,
    encode_line("pickup-failed", PATH, "refused"),
    b'{"command":"conn-ready","connPath":"/a&b"}\n' * 3,
    b'{"command":null,"err":"","more":[]}\n',
]


def target(data: bytes) -> Hashable:
    """
    @return: the kinds of events of each side.
    """
    whole = feed([data])
    middle = len(data) // 2
    if feed([data[:middle], data[middle:]]) != whole:
        raise AssertionError("it matters where the octets are cut")
    return whole


def feed(pieces: list[bytes]) -> Hashable:
    """
    @return: the kinds of events of the dialler, and of the listener, whose every pick-up fails.
    """
    dialler, listener = DiallerLines(DIALLER, "/ssh/revdial"), ListenerLines()
    dialler.dial(TICKET, 0.0)
    listener.expire(0.0)
    kinds: list[list[str]] = [[], []]
    sides: list[DiallerLines | ListenerLines] = [dialler, listener]
    for number, side in enumerate(sides):
        try:
            for piece in pieces:
                for event in side.receive_data(piece):
                    kinds[number].append(event.__class__.__name__)
                    if side is listener:
                        listener.report_failure(event.path, event.path)
        except PeerError as error:
            kinds[number] = [error.__class__.__name__]
    if any(len(line) > LINE for line in listener.data_to_send()):
        raise AssertionError("a line of ours is too long")
    return tuple(tuple(sorted(set(found))) for found in kinds)

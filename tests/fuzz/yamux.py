"""
A yamux session of either part, fed by a peer that may say anything, with an application that accepts, reads and answers.

The first octet of an input chooses the part, how the rest is cut, and what the application does.
"""

from __future__ import annotations

from collections.abc import Hashable

from tests.wire.transcripts_yamux import TRANSCRIPTS
from tests.wire.vectors_yamux import GOLDEN, ODD, octets
from tunnelstack.errors import PeerError
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.events import DataArrived, StreamOpened, YamuxEvent

CLIENT, ACCEPTS, READS, ANSWERS = 0x1, 0x2, 0x4, 0x8     # bits of the first octet; the upper four choose the cut
CUTS = (None, 1, 5, 11, 12, 13, 64, 4096)
SLACK = 64 * 1024       # octets that we may say whatever was heard


def target(data: bytes) -> Hashable:
    """
    @return: the kinds of events, and of the error at the end.
    """
    choice, rest = (data[0], data[1:]) if data else (0, b"")
    ours = YamuxConnection(client=bool(choice & CLIENT))
    if choice & CLIENT:
        ours.open_stream(0.0)
    cut = CUTS[choice >> 4 & 7] or len(rest) or 1
    seen: set[str] = set()
    said = 0
    try:
        for start in range(0, len(rest), cut):
            for event in ours.receive_data(rest[start : start + cut]):
                seen.add(event.__class__.__name__)
                behave(ours, event, choice)
            said += sum(map(len, ours.data_to_send()))
        ours.receive_eof()
    except PeerError as error:
        seen.add(error.__class__.__name__)
    assert said <= 4 * len(rest) + SLACK, f"{len(rest)} octets made us say {said}"
    assert ours.held <= len(rest), f"{ours.held} octets held of {len(rest)}"
    return choice & 0xF, frozenset(seen)


def behave(ours: YamuxConnection, event: YamuxEvent, choice: int) -> None:
    """
    What an application does.
    """
    if isinstance(event, StreamOpened) and choice & ACCEPTS:
        ours.accept_stream(event.stream_id)
        if choice & ANSWERS:
            ours.send_data(event.stream_id, b"answer")
            ours.end_stream(event.stream_id)
    if isinstance(event, DataArrived) and choice & READS:
        ours.acknowledge(event.stream_id, len(event.data))


def frames() -> list[bytes]:
    """
    Every vector, every odd one, and each side of every transcript.
    """
    said = [octets(text) for text in GOLDEN.values()] + [data for data, _ in ODD.values()]
    for transcript in TRANSCRIPTS.values():
        said += [b"".join(line.data for line in transcript.lines if line.sender == side) for side in "<>"]
    return [data for data in said if len(data) <= 4096]


SEEDS = [bytes([choice]) + data for data in frames() for choice in (0x0, 0x1, 0xE, 0xF, 0x1E)]

FOUND = [
    # The same number opened, ended and opened again before the owner heard of any of it.
    bytes.fromhex("000001000100000001fffe000000000005000000010000006c"),
    # A stream reset by a rule and opened again in the same read: it was accepted twice.
    bytes.fromhex("0e0001000100000001fffffffe000100010000000100000000"),
    # The same, reset by the peer.
    bytes.fromhex("0e000100010000000100000000000100080000000100000000000100010000000100000000"),
]

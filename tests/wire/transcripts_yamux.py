"""
Conversations recorded between a raw peer and hashicorp/yamux at e14d7fe, line by line, with what each line makes us do when we
take either part.

In each, the side C{>} is the raw peer of the recording and the side C{<} is the Go library.  Where our way to say something
differs (we never put flags on DATA, and always acknowledge a stream), C{instead} has our octets; where we would not say it
at all, there is no C{act}.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen

from tests.wire.vectors_yamux import GOLDEN, KIB, MIB, Action, octets
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.errors import DuplicateStream, SessionError
from tunnelstack.wire.yamux.events import (
    CreditArrived,
    DataArrived,
    PeerWentAway,
    StreamEnded,
    StreamOpened,
    StreamReset,
    YamuxEvent,
)
from tunnelstack.wire.yamux.limits import DEFAULT_LIMITS, SessionLimits


@frozen
class Line:
    """
    Octets that one side said.

    @ivar sender: C{">"} or C{"<"}.
    @ivar act: makes us say it; C{None}: we would not.
    @ivar sees: what the other side is told.
    @ivar instead: what we say where the recorded side said it in its own way.
    @ivar error: what it does to the other side at last.
    """

    sender: str
    data: bytes
    act: Action | None = None
    sees: Sequence[YamuxEvent] = ()
    instead: bytes | None = field(default=None, kw_only=True)
    error: type[SessionError] | None = field(default=None, kw_only=True)


@frozen
class Transcript:
    """
    A conversation.

    @ivar client: which side has the odd numbers.
    @ivar roles: the sides that we can take.
    @ivar limits: ours, by side.
    """

    client: str
    lines: Sequence[Line]
    roles: str = "<>"
    limits: dict[str, SessionLimits] = field(factory=dict)

    def start(self, role: str) -> YamuxConnection:
        return YamuxConnection(role == self.client, self.limits.get(role, DEFAULT_LIMITS))


def data(stream_id: int, payload: bytes) -> bytes:
    return octets(f"00 00 0000 {stream_id:08x} {len(payload):08x}") + payload


def syn_data(stream_id: int, payload: bytes) -> bytes:
    return octets(f"00 00 0001 {stream_id:08x} {len(payload):08x}") + payload


def syn(stream_id: int) -> bytes:
    return octets(f"00 01 0001 {stream_id:08x} 00000000")


def opens(ours: YamuxConnection) -> None:
    ours.open_stream(0.0)


def answers(ours: YamuxConnection) -> None:
    """
    Says what it says by itself.
    """


def accepts(stream_id: int) -> Action:
    return lambda ours: ours.accept_stream(stream_id)


def sends(stream_id: int, payload: bytes) -> Action:
    return lambda ours: ours.send_data(stream_id, payload)


def opens_and_sends(stream_id: int, payload: bytes) -> Action:
    return lambda ours: (opens(ours), ours.send_data(stream_id, payload))


def ends(stream_id: int) -> Action:
    return lambda ours: ours.end_stream(stream_id)


def resets(stream_id: int) -> Action:
    return lambda ours: ours.reset_stream(stream_id)


def consumes(total: int) -> Action:
    return lambda ours: ours.acknowledge(1, total)


def expires(now: float) -> Action:
    return lambda ours: ours.expire(now)


def frame(sender: str, stream_id: int, payload: bytes) -> Line:
    """
    Payload, plainly.
    """
    return Line(sender, data(stream_id, payload), sends(stream_id, payload), [DataArrived(stream_id, payload)])


def opening(sender: str, stream_id: int) -> Line:
    return Line(sender, syn(stream_id), opens, [StreamOpened(stream_id)])


def opening_with(stream_id: int, payload: bytes, refused: bool = False) -> Line:
    return Line(
        ">",
        syn_data(stream_id, payload),
        opens_and_sends(stream_id, payload),
        [] if refused else [StreamOpened(stream_id), DataArrived(stream_id, payload)],
        instead=syn(stream_id) + data(stream_id, payload),
    )


def acceptance(sender: str, stream_id: int) -> Line:
    return Line(sender, octets(f"00 01 0002 {stream_id:08x} 00000000"), accepts(stream_id))


def fin(sender: str, stream_id: int = 1) -> Line:
    return Line(sender, octets(f"00 01 0004 {stream_id:08x} 00000000"), ends(stream_id), [StreamEnded(stream_id)])


def update(sender: str, total: int, sees: Sequence[YamuxEvent] = ()) -> Line:
    return Line(sender, octets(f"00 01 0000 00000001 {total:08x}"), consumes(total), sees)


FIXED = SessionLimits(max_window=256 * KIB)     # hashicorp's windows do not grow
STEP = 128 * KIB
PIECE = bytes(16 * KIB)


def pieces(count: int) -> Line:
    """
    Frames of 16 KiB in one write.
    """

    def act(ours: YamuxConnection) -> None:
        for _ in range(count):
            ours.send_data(1, PIECE)

    return Line(">", data(1, PIECE) * count, act, [DataArrived(1, PIECE * count)])


def ping(number: int) -> list[Line]:
    """
    A keepalive after so many fifths of a second, and its answer.
    """
    return [
        Line("<", octets(f"00 02 0001 00000000 {number:08x}"), expires(0.202 * (number + 1))),
        Line(">", octets(f"00 02 0002 00000000 {number:08x}"), answers),
    ]


TRANSCRIPTS = {
    # Go is the client: open, data both ways, half-close, other half, reuse of the session.
    "T1": Transcript(
        "<",
        [
            opening("<", 1),
            frame("<", 1, b"abcde"),
            acceptance(">", 1),
            frame(">", 1, b"xyz"),
            fin("<"),
            frame(">", 1, b"hi"),
            fin(">"),
            opening("<", 3),
        ],
    ),
    # Go is the server: we open, exchange, half-close first; Go opens one too.
    "T2": Transcript(
        ">",
        [
            opening(">", 1),
            acceptance("<", 1),
            frame(">", 1, b"GET /\n"),
            frame("<", 1, b"200 OK\n"),
            fin(">"),
            frame("<", 1, b"bye"),
            fin("<"),
            opening_with(3, b"x"),
            acceptance("<", 3),
            opening("<", 2),
            acceptance(">", 2),
        ],
    ),
    # 1 MiB from Go, credited in halves.
    "T3": Transcript(
        "<",
        [
            opening("<", 1),
            acceptance(">", 1),
            frame("<", 1, bytes(256 * KIB)),
            update(">", STEP),
            update(">", STEP),
            *[line for _ in range(6) for line in (frame("<", 1, bytes(STEP)), update(">", STEP))],
        ],
        roles=">",      # we have no frames as large as Go's
        limits={">": FIXED},
    ),
    # 1 MiB to Go, which reads 32 KiB at a time.
    "T4": Transcript(
        ">",
        [
            opening(">", 1),
            acceptance("<", 1),
            pieces(16),
            *[line for _ in range(6) for line in (update("<", STEP, [CreditArrived(1)]), pieces(8))],
            update("<", STEP, [CreditArrived(1)]),
            update("<", STEP),
        ],
        limits={"<": FIXED},
    ),
    # The same with a window of 1 MiB at the Go side.
    "T4 wide": Transcript(
        ">",
        [
            opening(">", 1),
            Line("<", octets(GOLDEN["V08"]), accepts(1)),
            pieces(64),
            update("<", 512 * KIB, [CreditArrived(1)]),
            update("<", 512 * KIB),
        ],
        limits={"<": SessionLimits(window=MIB, max_window=MIB)},
    ),
    # A large window granted by us: Go does not split.
    "T5": Transcript(
        ">",
        [
            Line(">", octets(GOLDEN["V03"]), opens, [StreamOpened(1)]),
            acceptance("<", 1),
            frame("<", 1, bytes(MIB)),
        ],
        roles=">",
        limits={">": SessionLimits(window=MIB)},
    ),
    # Go Away while streams are open.
    "T6": Transcript(
        ">",
        [
            opening(">", 1),
            acceptance("<", 1),
            Line("<", octets(GOLDEN["V32"]), lambda ours: ours.go_away(), [PeerWentAway(0)]),
            Line(">", syn_data(3, b"zz")),
            Line("<", octets("00 01 0008 00000003 00000000"), answers),
            frame("<", 1, b"ab"),
            Line("<", syn(2), None, [StreamOpened(2)]),
        ],
    ),
    "T6 other direction": Transcript(
        ">",
        [
            opening(">", 1),
            acceptance("<", 1),
            Line(">", octets(GOLDEN["V32"]), lambda ours: ours.go_away(), [PeerWentAway(0)]),
            frame("<", 1, b"ab"),
        ],
    ),
    # Keepalive every 200 ms, 300 ms for the answer.
    "T7": Transcript(
        "<",
        [Line("<", b"", expires(0.0)), *ping(0), *ping(1), *ping(2), ping(3)[0]],
        limits={"<": SessionLimits(keepalive=0.2, keepalive_timeout=0.3)},
    ),
    # Reset in the middle of data.
    "T8": Transcript(
        "<",
        [
            opening("<", 1),
            Line(">", octets("00 01 0002 00000001 00300000"), accepts(1)),
            frame("<", 1, bytes(3_000_000)),
            Line(">", octets(GOLDEN["V25"]), resets(1), [StreamReset(1)]),
            Line("<", data(1, bytes(200_000))),
            Line(">", data(1, b"abc")),
        ],
        roles=">",
        limits={">": SessionLimits(window=3 * MIB + 256 * KIB)},
    ),
    # More streams than may wait to be accepted: two, for the recording.
    "T9": Transcript(
        ">",
        [
            opening_with(1, b"ab"),
            opening_with(3, b"ab"),
            opening_with(5, b"ab", refused=True),
            Line("<", octets("00 01 0008 00000005 00000000"), answers, [StreamReset(5)]),
            acceptance("<", 1),
            opening_with(7, b"ab"),
            acceptance("<", 3),
            acceptance("<", 7),
        ],
        limits={"<": SessionLimits(backlog=2)},
    ),
    # SYN, data and FIN before the accept: Go never acknowledges, we do.
    "T10": Transcript(
        ">",
        [
            opening_with(1, b"hello"),
            fin(">"),
            Line(
                "<",
                data(1, b"abc"),
                lambda ours: (ours.accept_stream(1), ours.send_data(1, b"abc")),
                [DataArrived(1, b"abc")],
                instead=octets(GOLDEN["V07"]) + data(1, b"abc"),
            ),
            fin("<"),
        ],
    ),
    # Go waits for our FIN in vain.
    "T11": Transcript(
        "<",
        [
            opening("<", 1),
            acceptance(">", 1),
            fin("<"),
            Line("<", octets(GOLDEN["V25"]), resets(1), [StreamReset(1)]),
            Line(">", data(1, b"zz")),
            Line(">", octets(GOLDEN["V18"])),
        ],
    ),
    # A violation.
    "T12": Transcript(
        ">",
        [
            opening(">", 1),
            acceptance("<", 1),
            Line(">", syn(1), error=DuplicateStream),
        ],
    ),
}

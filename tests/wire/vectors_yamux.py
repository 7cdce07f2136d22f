"""
Golden octets of yamux and what they mean to us.

Recorded from hashicorp/yamux at e14d7fe, whose wire behaviour is that of v0.1.2; the forms that it accepts and does not send
come from its code and from libp2p's implementations.  The numbers of vectors and transcripts are those of the protocol's
page in the documentation.  Spaces are for reading: version, kind and flags, stream, length, payload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from attrs import frozen

from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.errors import (
    DuplicateStream,
    ForbiddenStream,
    PeerFailed,
    SessionError,
    TruncatedFrame,
    UnknownFrame,
)
from tunnelstack.wire.yamux.events import (
    CREDIT_OVERFLOW,
    OVERRUN,
    CreditArrived,
    DataArrived,
    PeerWentAway,
    PongArrived,
    StreamEnded,
    StreamOpened,
    StreamReset,
    YamuxEvent,
)
from tunnelstack.wire.yamux.limits import SessionLimits

KIB = 1024
MIB = 1024 * KIB

Action = Callable[[YamuxConnection], object]


def octets(text: str) -> bytes:
    """
    Hexadecimal with spaces, as octets.
    """
    return bytes.fromhex(text)


GOLDEN = {
    # open stream 1 (client), default window
    "V01": "00 01 0001 00000001 00000000",
    # open stream 2 (server), default window
    "V02": "00 01 0001 00000002 00000000",
    # open stream 1, receive window 1 MiB (delta 786432)
    "V03": "00 01 0001 00000001 000c0000",
    # open stream 1, receive window 16 MiB (delta 16515072)
    "V04": "00 01 0001 00000001 00fc0000",
    # open stream 1 with data "hello" (Data+SYN)
    "V05": "00 00 0001 00000001 00000005 68656c6c6f",
    # open stream 3 with empty Data+SYN
    "V06": "00 00 0001 00000003 00000000",
    # ACK stream 1, default window
    "V07": "00 01 0002 00000001 00000000",
    # ACK stream 1, receive window 1 MiB
    "V08": "00 01 0002 00000001 000c0000",
    # Data+ACK "hi" on stream 1
    "V09": "00 00 0002 00000001 00000002 6869",
    # Data "hello" on stream 1
    "V10": "00 00 0000 00000001 00000005 68656c6c6f",
    # empty Data, no flags (no-op)
    "V11": "00 00 0000 00000001 00000000",
    # Data header, full default window (262144)
    "V12": "00 00 0000 00000001 00040000",
    # Data header, 16384 bytes
    "V13": "00 00 0000 00000001 00004000",
    # window update +131072
    "V14": "00 01 0000 00000001 00020000",
    # window update +524288
    "V15": "00 01 0000 00000001 00080000",
    # window update +0, no flags (no-op)
    "V16": "00 01 0000 00000001 00000000",
    # window update +1 (legal, silly)
    "V17": "00 01 0000 00000001 00000001",
    # FIN the way HY sends it
    "V18": "00 01 0004 00000001 00000000",
    # FIN on empty Data (the way RY sends it)
    "V19": "00 00 0004 00000001 00000000",
    # FIN on Data "bye" (legal to receive, never send: H1)
    "V20": "00 00 0004 00000001 00000003 627965",
    # FIN plus +131072 credit
    "V21": "00 01 0004 00000001 00020000",
    # ACK+FIN on window update
    "V22": "00 01 0006 00000001 00000000",
    # SYN+FIN on Data "hello" (open, send, half-close)
    "V23": "00 00 0005 00000001 00000005 68656c6c6f",
    # SYN+FIN on window update (empty one-way stream)
    "V24": "00 01 0005 00000001 00000000",
    # RST the way HY sends it
    "V25": "00 01 0008 00000001 00000000",
    # RST on empty Data (the way RY sends it)
    "V26": "00 00 0008 00000001 00000000",
    # RST with error code 7 (GY from 5; others read it as credit on a dead stream)
    "V27": "00 01 0008 00000001 00000007",
    # ping request id 0
    "V28": "00 02 0001 00000000 00000000",
    # ping request id 0x01020304
    "V29": "00 02 0001 00000000 01020304",
    # ping reply id 0x01020304
    "V30": "00 02 0002 00000000 01020304",
    # ping request id 0xffffffff (next id wraps to 0)
    "V31": "00 02 0001 00000000 ffffffff",
    # GoAway normal
    "V32": "00 03 0000 00000000 00000000",
    # GoAway protocol error
    "V33": "00 03 0000 00000000 00000001",
    # GoAway internal error
    "V34": "00 03 0000 00000000 00000002",
    # GoAway libp2p code 0x1005
    "V35": "00 03 0000 00000000 00001005",
    # open with the highest client id
    "V36": "00 01 0001 fffffffd 00000000",
    # open with the highest server id
    "V37": "00 01 0001 fffffffc 00000000",
    # open + "GET /\n" + FIN as three frames in one write
    "V38": (
        "00 01 0001 00000001 00000000 "
        "00 00 0000 00000001 00000006 474554202f0a "
        "00 01 0004 00000001 00000000 "
    ),
}

BROKEN = octets(GOLDEN["V33"])      # the Go Away that says protocol error


def server() -> YamuxConnection:
    return YamuxConnection(client=False)


def client() -> YamuxConnection:
    return YamuxConnection(client=True)


def accepted() -> YamuxConnection:
    """
    A server that accepted stream 1: "setup A" of the page.
    """
    connection = server()
    connection.receive_data(octets(GOLDEN["V01"]))
    connection.accept_stream(1)
    connection.data_to_send()
    return connection


def opened() -> YamuxConnection:
    """
    A client that opened stream 1 and heard nothing yet.
    """
    connection = client()
    connection.open_stream(0.0)
    connection.data_to_send()
    return connection


def without_credit() -> YamuxConnection:
    """
    A client that opened stream 1 and used up its credit.
    """
    connection = opened()
    while connection.send_data(1, bytes(64 * KIB)):
        pass
    connection.data_to_send()
    return connection


def pinging(opaque: int) -> YamuxConnection:
    """
    A client whose next ping has this opaque value.
    """
    connection = client()
    connection._pings.next_opaque = opaque
    return connection


def pinged() -> YamuxConnection:
    """
    A client whose ping 0x01020304 waits for its answer.
    """
    connection = pinging(0x01020304)
    connection.ping()
    connection.data_to_send()
    return connection


def gone() -> YamuxConnection:
    """
    A server that said Go Away.
    """
    connection = server()
    connection.go_away()
    connection.data_to_send()
    return connection


def crowded() -> YamuxConnection:
    """
    A server with 256 streams that wait to be accepted.
    """
    connection = server()
    for stream_id in range(1, 513, 2):
        connection.receive_data(octets(f"00 01 0001 {stream_id:08x} 00000000"))
    return connection


@frozen
class Meaning:
    """
    What octets of a peer mean to us.

    @ivar setup: makes the connection that receives them.
    @ivar events: what is told.
    @ivar answer: what it says in turn by itself.
    @ivar error: what it raises at last.
    @ivar drained: octets of payload that nobody gets.
    @ivar streams: how many streams there are afterwards.
    """

    setup: Callable[[], YamuxConnection]
    events: Sequence[YamuxEvent] = ()
    answer: bytes = b""
    error: type[SessionError] | None = None
    drained: int = 0
    streams: int = 0


FILLED = bytes(256 * KIB)

# What follows a vector of which the page gives the header alone.
PAYLOADS = {"V12": FILLED, "V13": bytes(16 * KIB)}

MEANINGS = {
    "V01": Meaning(server, [StreamOpened(1)], streams=1),
    "V02": Meaning(client, [StreamOpened(2)], streams=1),
    "V03": Meaning(server, [StreamOpened(1)], streams=1),
    "V04": Meaning(server, [StreamOpened(1)], streams=1),
    "V05": Meaning(server, [StreamOpened(1), DataArrived(1, b"hello")], streams=1),
    "V06": Meaning(server, [StreamOpened(3)], streams=1),
    "V07": Meaning(opened, streams=1),
    "V08": Meaning(opened, streams=1),
    "V09": Meaning(opened, [DataArrived(1, b"hi")], streams=1),
    "V10": Meaning(accepted, [DataArrived(1, b"hello")], streams=1),
    "V11": Meaning(accepted, streams=1),
    "V12": Meaning(accepted, [DataArrived(1, FILLED)], streams=1),
    "V13": Meaning(accepted, [DataArrived(1, bytes(16 * KIB))], streams=1),
    "V14": Meaning(without_credit, [CreditArrived(1)], streams=1),
    "V15": Meaning(without_credit, [CreditArrived(1)], streams=1),
    "V16": Meaning(without_credit, streams=1),
    "V17": Meaning(without_credit, [CreditArrived(1)], streams=1),
    "V18": Meaning(accepted, [StreamEnded(1)], streams=1),
    "V19": Meaning(accepted, [StreamEnded(1)], streams=1),
    "V20": Meaning(accepted, [DataArrived(1, b"bye"), StreamEnded(1)], streams=1),
    "V21": Meaning(without_credit, [CreditArrived(1), StreamEnded(1)], streams=1),
    "V22": Meaning(opened, [StreamEnded(1)], streams=1),
    "V23": Meaning(server, [StreamOpened(1), DataArrived(1, b"hello"), StreamEnded(1)], streams=1),
    "V24": Meaning(server, [StreamOpened(1), StreamEnded(1)], streams=1),
    "V25": Meaning(accepted, [StreamReset(1)]),
    "V26": Meaning(accepted, [StreamReset(1)]),
    "V27": Meaning(accepted, [StreamReset(1, 7)]),
    "V28": Meaning(server, answer=octets("00 02 0002 00000000 00000000")),
    "V29": Meaning(server, answer=octets(GOLDEN["V30"])),
    "V30": Meaning(pinged, [PongArrived(0x01020304)]),
    "V31": Meaning(server, answer=octets("00 02 0002 00000000 ffffffff")),
    "V32": Meaning(server, [PeerWentAway(0)]),
    "V33": Meaning(server, error=PeerFailed),
    "V34": Meaning(server, error=PeerFailed),
    "V35": Meaning(server, error=PeerFailed),
    "V36": Meaning(server, [StreamOpened(0xFFFFFFFD)], streams=1),
    "V37": Meaning(client, [StreamOpened(0xFFFFFFFC)], streams=1),
    "V38": Meaning(server, [StreamOpened(1), DataArrived(1, b"GET /\n"), StreamEnded(1)], streams=1),
}

ODD = {
    "X01": (octets("01 00 0000 00000001 00000000"), Meaning(server, answer=BROKEN, error=UnknownFrame)),
    "X02": (octets("00 04 0000 00000000 00000000"), Meaning(server, answer=BROKEN, error=UnknownFrame)),
    "X03": (octets("00 ff 0000 00000000 00000000"), Meaning(server, answer=BROKEN, error=UnknownFrame)),
    "X04": (
        octets("00 00 fff0 00000001 00000002 6162"),
        Meaning(accepted, [DataArrived(1, b"ab")], streams=1),
    ),
    "X05": (octets("00 01 0001 00000000 00000000"), Meaning(client, answer=BROKEN, error=ForbiddenStream)),
    "X06": (octets("00 00 0000 00000000 00000002 6162"), Meaning(server, answer=BROKEN, error=ForbiddenStream)),
    "X07": (octets("00 01 0001 00000002 00000000"), Meaning(server, answer=BROKEN, error=ForbiddenStream)),
    "X08": (octets("00 01 0001 00000001 00000000"), Meaning(accepted, answer=BROKEN, error=DuplicateStream)),
    "X09": (octets("00 00 0001 00000001 00000002 6162"), Meaning(accepted, answer=BROKEN, error=DuplicateStream)),
    "X10": (octets("00 00 0000 00000063 00000002 6162"), Meaning(accepted, drained=2, streams=1)),
    "X11": (octets("00 01 0000 00000063 00000064"), Meaning(accepted, streams=1)),
    "X12": (octets("00 01 0004 00000063 00000000"), Meaning(accepted, streams=1)),
    "X13": (octets("00 01 0008 00000063 00000000"), Meaning(accepted, streams=1)),
    "X14": (octets("00 01 0002 00000001 00000000"), Meaning(accepted, streams=1)),
    "X15": (octets("00 01 0004 00000001 00000000" * 2), Meaning(accepted, [StreamEnded(1)], streams=1)),
    "X16": (octets("00 00 0004 00000001 00000000" * 2), Meaning(accepted, [StreamEnded(1)], streams=1)),
    "X17": (
        octets("00 01 0004 00000001 00000000  00 00 0000 00000001 00000003 616263"),
        Meaning(accepted, [StreamEnded(1)], drained=3, streams=1),
    ),
    "X18": (
        octets("00 00 0000 00000001 00040001"),
        Meaning(accepted, [StreamReset(1, 0, OVERRUN)], answer=octets(GOLDEN["V25"])),
    ),
    "X19": (
        octets(GOLDEN["V12"]) + FILLED + octets("00 00 0000 00000001 00000001 61"),
        Meaning(
            accepted,
            [DataArrived(1, FILLED), StreamReset(1, 0, OVERRUN)],
            answer=octets(GOLDEN["V25"]),
            drained=1,
        ),
    ),
    "X20": (octets("00 03 0000 00000000 00000003"), Meaning(server, error=PeerFailed)),
    "X21": (octets("00 03 0001 00000007 00000000"), Meaning(server, [PeerWentAway(0)])),
    "X22": (
        octets("00 02 0003 00000000 00000005"),
        Meaning(server, answer=octets("00 02 0002 00000000 00000005")),
    ),
    "X23": (octets("00 02 0000 00000000 00000005"), Meaning(server)),
    "X24": (octets("00 02 0002 00000000 00000005"), Meaning(server)),
    "X25": (
        octets("00 02 0001 00000009 00000005"),
        Meaning(server, answer=octets("00 02 0002 00000000 00000005")),
    ),
    "X26": (octets("00 01 0009 00000001 00000000"), Meaning(server)),
    "X27": (octets("00 01 000c 00000001 00000000"), Meaning(accepted, [StreamReset(1)])),
    "X28": (
        octets("00 00 0008 00000001 00000002 6162"),
        Meaning(accepted, [StreamReset(1)], drained=2),
    ),
    "X29": (
        octets("00 01 0000 00000001 ffffffff"),
        Meaning(accepted, [StreamReset(1, 0, CREDIT_OVERFLOW)], answer=octets(GOLDEN["V25"])),
    ),
    "X30": (
        octets("00 01 0000 00000001 fffc0000"),
        Meaning(accepted, [StreamReset(1, 0, CREDIT_OVERFLOW)], answer=octets(GOLDEN["V25"])),
    ),
    "X31": (
        octets("00 00 0001 00000003 00000002 7a7a"),
        Meaning(gone, answer=octets("00 01 0008 00000003 00000000"), drained=2),
    ),
    "X32": (
        octets("00 01 0001 00000201 00000000"),
        Meaning(crowded, answer=octets("00 01 0008 00000201 00000000"), streams=256),
    ),
    "X33": (octets("00 00 00"), Meaning(server, error=TruncatedFrame)),
    "X34": (
        octets("00 00 0000 00000001 0000000a 61626364"),
        Meaning(accepted, [DataArrived(1, b"abcd")], error=TruncatedFrame, streams=1),
    ),
}

ENDED_BY_EOF = {"X33", "X34"}       # the octets end, and only that makes the error


def wide(window: int) -> SessionLimits:
    return SessionLimits(window=window, session_octets=32 * MIB)


def widely_opened(window: int) -> YamuxConnection:
    connection = YamuxConnection(True, wide(window))
    connection.open_stream(0.0)
    return connection


def widely_accepted(window: int) -> YamuxConnection:
    connection = YamuxConnection(False, wide(window))
    connection.receive_data(octets(GOLDEN["V01"]))
    connection.accept_stream(1)
    return connection


def consumed(connection: YamuxConnection, total: int) -> YamuxConnection:
    connection.data_to_send()
    connection.receive_data(octets(f"00 00 0000 00000001 {total:08x}") + bytes(total))
    connection.acknowledge(1, total)
    return connection


def after(connection: YamuxConnection, *actions: Action) -> YamuxConnection:
    for action in actions:
        action(connection)
    return connection


def numbered(connection: YamuxConnection, **counters: int) -> YamuxConnection:
    for name, value in counters.items():
        setattr(connection, name, value)
    return connection


def broken() -> YamuxConnection:
    connection = server()
    with suppress(UnknownFrame):
        connection.receive_data(ODD["X01"][0])
    return connection


# How our side comes to say a vector.
SAYINGS: dict[str, Callable[[], YamuxConnection]] = {
    "V01": lambda: after(client(), lambda ours: ours.open_stream(0.0)),
    "V02": lambda: after(server(), lambda ours: ours.open_stream(0.0)),
    "V03": lambda: widely_opened(MIB),
    "V04": lambda: widely_opened(16 * MIB),
    "V07": lambda: widely_accepted(256 * KIB),
    "V08": lambda: widely_accepted(MIB),
    "V10": lambda: after(accepted(), lambda ours: ours.send_data(1, b"hello")),
    "V13": lambda: after(accepted(), lambda ours: ours.send_data(1, bytes(16 * KIB))),
    "V14": lambda: consumed(accepted(), 128 * KIB),
    "V15": lambda: consumed(widely_accepted(MIB), 512 * KIB),
    "V18": lambda: after(accepted(), lambda ours: ours.end_stream(1)),
    "V25": lambda: after(accepted(), lambda ours: ours.reset_stream(1)),
    "V28": lambda: after(client(), lambda ours: ours.ping()),
    "V29": lambda: after(pinging(0x01020304), lambda ours: ours.ping()),
    "V30": lambda: after(server(), lambda ours: ours.receive_data(octets(GOLDEN["V29"]))),
    "V31": lambda: after(pinging(0xFFFFFFFF), lambda ours: ours.ping()),
    "V32": lambda: after(server(), lambda ours: ours.go_away()),
    "V33": broken,
    "V34": lambda: after(server(), lambda ours: ours.go_away(2)),
    "V35": lambda: after(server(), lambda ours: ours.go_away(0x1005)),
    "V36": lambda: after(numbered(client(), _next_id=0xFFFFFFFD), lambda ours: ours.open_stream(0.0)),
    "V37": lambda: after(numbered(server(), _next_id=0xFFFFFFFC), lambda ours: ours.open_stream(0.0)),
    "V38": lambda: after(
        client(),
        lambda ours: ours.open_stream(0.0),
        lambda ours: ours.send_data(1, b"GET /\n"),
        lambda ours: ours.end_stream(1),
    ),
}

# Legal to receive, and never said by us: flags on DATA, empty DATA, credit of nothing or one, two meanings in one frame, codes
# on RST, a frame above 64 KiB.
NEVER_SAID = {
    "V05", "V06", "V09", "V11", "V12", "V16", "V17", "V19", "V20", "V21", "V22", "V23", "V24", "V26", "V27",
}

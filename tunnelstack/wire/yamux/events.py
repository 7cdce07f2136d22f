"""
What a yamux session reports to its owner: small records, nouns in the past, without methods.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from attrs import define


class ResetReason(Enum):
    """
    Why a stream was reset.
    """

    PEER = auto()               # the peer has reset it
    OVERRUN = auto()            # the peer sent more than its credit
    CREDIT_OVERFLOW = auto()    # the peer gave more credit than fits 32 bits
    OPEN_TIMEOUT = auto()       # the peer never answered our opening


PEER, OVERRUN, CREDIT_OVERFLOW, OPEN_TIMEOUT = ResetReason


class YamuxEvent:
    """
    The kind of all events.
    """

    __slots__ = ()


@define
class StreamOpened(YamuxEvent):
    """
    The peer opened a stream; it waits for C{accept_stream} or C{reset_stream}.
    """

    stream_id: int


class DataArrived(NamedTuple("DataArrived", [("stream_id", int), ("data", bytes)]), YamuxEvent):
    """
    Payload, in order; a frame's payload may come in several of these.  It is a tuple, because nothing else is made as often.

    @ivar data: never empty; the owner owes an C{acknowledge} for it.
    """

    __slots__ = ()


new_data: Callable[[type[DataArrived], tuple[int, bytes]], DataArrived] = tuple.__new__
"""Makes a L{DataArrived} without a call of a Python function."""


@define
class StreamEnded(YamuxEvent):
    """
    The peer's FIN: no more payload will come.  Our direction stays as it is.
    """

    stream_id: int


@define
class StreamReset(YamuxEvent):
    """
    The stream is gone in both directions.

    @ivar code: the number in the peer's RST (libp2p puts an error there), else C{0}.
    """

    stream_id: int
    code: int = 0
    reason: ResetReason = PEER


@define
class CreditArrived(YamuxEvent):
    """
    There was no credit to send on the stream, and now there is.
    """

    stream_id: int


@define
class SlotsFreed(YamuxEvent):
    """
    No stream could be opened, and now one can.  Told for what the peer or the clock did; after its own calls the owner
    looks at C{open_slots}.
    """


@define
class PongArrived(YamuxEvent):
    """
    The answer to a ping of the owner.

    @ivar opaque: what C{ping} returned.
    """

    opaque: int


@define
class PeerWentAway(YamuxEvent):
    """
    The peer accepts no new streams; those that are open continue.
    """

    code: int = 0


@define
class KeepaliveLost(YamuxEvent):
    """
    Nothing was received since a keepalive ping, for as long as the limits allow.
    """

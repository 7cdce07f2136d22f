"""
What a yamux session reports to its owner: small records, nouns in the past, without methods.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, TypeVar

from attrs import define

from tunnelstack.settings.record import Record


class ResetReason(Enum):
    """
    Why a stream was reset.
    """

    PEER = auto()               # the peer has reset it
    OVERRUN = auto()            # the peer sent more than its credit
    CREDIT_OVERFLOW = auto()    # the peer gave more credit than fits 32 bits
    OPEN_TIMEOUT = auto()       # the peer never answered our opening


E = TypeVar("E", bound="YamuxEvent")

PEER, OVERRUN, CREDIT_OVERFLOW, OPEN_TIMEOUT = ResetReason


class YamuxEvent(Record):
    """
    The kind of all events.
    """

    __slots__ = ()


def _same_event(event: tuple[int], other: object) -> bool:
    """
    The equality of events that are tuples of one number: another event of the same stream is not equal.
    """
    return event.__class__ is other.__class__ and tuple.__eq__(event, other)


def _other_event(event: tuple[int], other: object) -> bool:
    return not _same_event(event, other)


# The events that every stream has are tuples: new_event makes them without a call of a Python function.


class StreamOpened(NamedTuple("StreamOpened", [("stream_id", int)]), YamuxEvent):
    """
    The peer opened a stream; it waits for C{accept_stream} or C{reset_stream}.
    """

    __slots__ = ()
    __eq__, __ne__, __hash__ = _same_event, _other_event, tuple.__hash__


class DataArrived(NamedTuple("DataArrived", [("stream_id", int), ("data", bytes)]), YamuxEvent):
    """
    Payload, in order; a frame's payload may come in several of these.

    @ivar data: never empty; the owner owes an C{acknowledge} for it.
    """

    __slots__ = ()


class StreamEnded(NamedTuple("StreamEnded", [("stream_id", int)]), YamuxEvent):
    """
    The peer's FIN: no more payload will come.  Our direction stays as it is.
    """

    __slots__ = ()
    __eq__, __ne__, __hash__ = _same_event, _other_event, tuple.__hash__


new_event: Callable[[type[E], tuple[object, ...]], E] = tuple.__new__  # type: ignore[assignment]


@define(eq=False, repr=False)
class StreamReset(YamuxEvent):
    """
    The stream is gone in both directions.

    @ivar code: the number in the peer's RST (libp2p puts an error there), else C{0}.
    """

    stream_id: int
    code: int = 0
    reason: ResetReason = PEER


@define(eq=False, repr=False)
class CreditArrived(YamuxEvent):
    """
    There was no credit to send on the stream, and now there is.
    """

    stream_id: int


@define(eq=False, repr=False)
class SlotsFreed(YamuxEvent):
    """
    No stream could be opened, and now one can.  Told for what the peer or the clock did; after its own calls the owner
    looks at C{open_slots}.
    """


@define(eq=False, repr=False)
class PongArrived(YamuxEvent):
    """
    The answer to a ping of the owner.

    @ivar opaque: what C{ping} returned.
    """

    opaque: int


@define(eq=False, repr=False)
class PeerWentAway(YamuxEvent):
    """
    The peer accepts no new streams; those that are open continue.
    """

    code: int = 0


@define(eq=False, repr=False)
class KeepaliveLost(YamuxEvent):
    """
    Nothing was received since a keepalive ping, for as long as the limits allow.
    """

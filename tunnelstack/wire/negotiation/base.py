"""
What a new stream is for: the words that all negotiations share, and the one that follows another.

A negotiation is one side's half of agreeing on a name and its parameters, pure octets.  Its owner writes C{data_to_send()}
after every call, feeds what arrives to C{receive_data} (once with no octets at the beginning, for what is settled without the
peer), and feeds nothing more after L{Agreed} or L{Rejected}.  No call returns more than one event.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

from attrs import define, field, frozen

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.settings.record import Record

BUFFER_LIMIT = 256 * 1024
"""Octets that may arrive while an owner decides on a proposal: one window, which a paused stream never exceeds."""


class Release(Enum):
    """
    When the octets of the initiator's application may follow.

    @cvar AT_ONCE: after the proposal, in the same write.  A refusal then costs the stream.
    @cvar ON_REPLY: once the peer has agreed.
    @cvar ON_FIRST_OCTET: once the peer has agreed and the far application has sent something: for peers whose negotiation may
        read, and lose, what follows it.
    """

    AT_ONCE = "at once"
    ON_REPLY = "on reply"
    ON_FIRST_OCTET = "on first octet"


Parameters = Mapping[str, Any]

NO_PARAMETERS: Parameters = MappingProxyType({})
"""One for all streams that have none."""
"""What one side sends with a name: the members of a JSON object."""


@define(eq=False, repr=False)
class NegotiationEvent(Record):
    """
    What a negotiation has come to.
    """


@define(eq=False, repr=False)
class Agreed(NegotiationEvent):
    """
    Both sides have agreed on the purpose of the stream; the negotiation is over.

    @ivar name: the protocol's name, C{b""} where only parameters were exchanged.
    @ivar parameters: what the peer sent with it.
    @ivar leftover: octets of the peer that were read too far: they belong to the application.
    @ivar leftover_filter: what the next octets of the peer are passed through before they are the application's; C{None} for
        nothing.
    """

    name: bytes
    parameters: Parameters = NO_PARAMETERS
    leftover: bytes = b""
    leftover_filter: Callable[[bytes], bytes] | None = field(default=None, eq=False)


@define(eq=False, repr=False)
class Rejected(NegotiationEvent):
    """
    One side has refused, in the way of the protocol; the negotiation is over, and the stream with it.

    @ivar code: why, as a word for programs; C{""} if the protocol has none, or the peer sent none.
    """

    reason: str
    code: str = ""


@define(eq=False, repr=False)
class Proposed(NegotiationEvent):
    """
    The peer proposes; the owner answers with C{accept()} or C{reject()}, in its own time.
    """

    name: bytes
    parameters: Parameters = NO_PARAMETERS


@frozen(eq=False, repr=False)
class KnownExchange(Record):
    """
    The octets of a negotiation whose course is known beforehand: the initiator proposes one thing and does not wait.  All
    streams of one purpose share it; a L{Negotiation} is needed only where the peer answers anything else.

    @ivar name: what is proposed.
    @ivar proposal: all that the initiator sends.
    @ivar agreement: what a peer that agrees sends.  What follows it is the application's.
    """

    name: bytes
    proposal: bytes
    agreement: bytes


class NegotiationError(PeerError):
    """
    The peer's octets are no negotiation.  The stream is to be reset.
    """


class NegotiationTruncated(NegotiationError):
    """
    The peer's octets ended before anything was agreed.
    """


class NegotiationExpired(NegotiationError):
    """
    The peer did not send its part in time.
    """


class ReceiveBuffer:
    """
    Octets that arrive while the owner decides.  They are the application's if it accepts.
    """

    __slots__ = ("_octets", "_pieces")

    def __init__(self, octets: bytes) -> None:
        """
        @param octets: those that came together with the question.
        """
        self._pieces = [octets]
        self._octets = 0

    def add(self, octets: bytes) -> None:
        """
        @raise NegotiationError: more than L{BUFFER_LIMIT}.
        """
        self._octets += len(octets)
        if self._octets > BUFFER_LIMIT:
            raise NegotiationError("the peer sent too much before it was answered", octets=self._octets)
        self._pieces.append(octets)

    def joined(self) -> bytes:
        """
        @return: all of them.
        """
        return b"".join(self._pieces)


class Negotiation(ABC):
    """
    What both halves of every negotiation have in common: what is queued, a deadline, and an answer to what was proposed only.

    @ivar name: what an initiator proposes; C{b""} where that is not known, or nothing is.
    @ivar release: see L{Release}; for a responder, whose application sends once it has agreed, always C{ON_REPLY}.
    @ivar settled: an L{Agreed} or a L{Rejected} was returned.
    @ivar own_frame: what it sends travels in a frame (or message) of its own, for peers that lose what they read with it.
    """

    __slots__ = ("_deadline", "_out", "_timeout", "name", "own_frame", "release", "settled")

    def __init__(self, release: Release, timeout: float | None) -> None:
        """
        @param timeout: seconds from L{begin} until the peer must have sent its part; C{None} for no limit.
        """
        self.name = b""
        self.release = release
        self.settled = False
        self.own_frame = False
        self._out: list[bytes] = []
        self._timeout = timeout
        self._deadline: float | None = None

    def data_to_send(self) -> list[bytes]:
        """
        @return: octets to write now, in order, together.
        """
        out, self._out = self._out, []
        return out

    @abstractmethod
    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        @raise PeerError: the peer broke a rule: the stream is to be reset.
        """

    def receive_eof(self) -> list[NegotiationEvent]:
        """
        The peer ended its direction.

        @raise NegotiationTruncated: too early.
        """
        self._check_open()
        raise NegotiationTruncated("the stream ended before anything was agreed")

    def accept(self, parameters: Parameters | None = None) -> list[NegotiationEvent]:
        """
        Accept what was L{Proposed}.

        @param parameters: what the answer contains, in negotiations whose answers have parameters.
        @return: as from L{receive_data}, of what arrived in the meantime.
        @raise UsageError: nothing was proposed.
        """
        raise UsageError("nothing was proposed")

    def reject(self, reason: str, code: str = "") -> list[NegotiationEvent]:
        """
        Refuse what was L{Proposed}.

        @param code: as of L{Rejected}; it is sent if the protocol has a place for it.
        @return: L{Rejected}, or nothing where the peer may propose something else.
        @raise UsageError: nothing was proposed.
        """
        raise UsageError("nothing was proposed")

    def begin(self, now: float) -> float | None:
        """
        The stream is there: time runs.

        @return: as C{next_deadline}.
        """
        if self._timeout is not None:
            self._deadline = now + self._timeout
        return self._deadline

    def next_deadline(self) -> float | None:
        """
        @return: when to call L{expire}, on the caller's clock; C{None} before L{begin} and where there is no deadline.
        """
        return None if self.settled else self._deadline

    def expire(self, now: float) -> list[NegotiationEvent]:
        """
        Time has passed.

        @raise NegotiationExpired: the deadline has.
        """
        if self._deadline is not None and now >= self._deadline and not self.settled:
            raise NegotiationExpired("the negotiation did not finish in time", seconds=self._timeout)
        return []

    def _check_open(self) -> None:
        if self.settled:
            raise UsageError("the negotiation is over")


class NegotiationSequence(Negotiation):
    """
    One negotiation followed by another, such as a name and then a line of parameters.  Together they are one.

    The name agreed is that of the first, the parameters are those of the second; each has its own time.
    """

    __slots__ = ("_current", "_ended", "_first", "_now", "_second")

    def __init__(self, first: Negotiation, second: Negotiation | Callable[[bytes], Negotiation | None]) -> None:
        """
        @param second: what follows; or a function of the name that was agreed, which gives what follows it, or C{None} where
            nothing does.
        @raise UsageError: the second would have to wait for the first one's application.
        """
        if first.release is Release.ON_FIRST_OCTET:
            raise UsageError("nothing can follow a negotiation that waits for the far application")
        release: Release = first.release
        if isinstance(second, Negotiation) and second.release is not Release.AT_ONCE:
            release = second.release
        super().__init__(release, None)
        self.name = first.name
        self._first = self._current = first
        self._second = second
        self._now: float | None = None
        self._ended = False

    def data_to_send(self) -> list[bytes]:
        """
        As in L{Negotiation}; that of the second follows in the same write where the C{release} of the first permits it.
        """
        out, second = self._first.data_to_send(), self._second
        if self._current is not self._first:
            out += self._current.data_to_send()
        elif self._first.release is Release.AT_ONCE and isinstance(second, Negotiation):
            out += second.data_to_send()
        return out

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.
        """
        return self._advance(self._current.receive_data(octets))

    def receive_eof(self) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.
        """
        self._ended = True
        return self._advance(self._current.receive_eof())

    def accept(self, parameters: Parameters | None = None) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.
        """
        return self._advance(self._current.accept(parameters))

    def reject(self, reason: str, code: str = "") -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.
        """
        return self._advance(self._current.reject(reason, code))

    def next_deadline(self) -> float | None:
        """
        As in L{Negotiation}.
        """
        return self._current.next_deadline()

    def begin(self, now: float) -> float | None:
        """
        As in L{Negotiation}.
        """
        self._now = now
        return self._first.begin(now)

    def expire(self, now: float) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.
        """
        self._now = now
        return self._advance(self._current.expire(now))

    def _advance(self, events: list[NegotiationEvent]) -> list[NegotiationEvent]:
        """
        Go on to the second when the first has agreed, and put the name into the events of the second.
        """
        if not events:
            return events
        (event,) = events
        if self._current is self._first:
            if isinstance(event, Agreed):
                return self._start_second(event)
        elif isinstance(event, (Agreed, Proposed)):
            event.name = self.name
        self.settled = self._current.settled
        return events

    def _start_second(self, first: Agreed) -> list[NegotiationEvent]:
        second = self._second if isinstance(self._second, Negotiation) else self._second(first.name)
        if second is None:
            self.settled = True
            return [first]
        self._current, self.name, self.own_frame = second, first.name, second.own_frame
        if self._now is not None:
            second.begin(self._now)
        events = second.receive_data(first.leftover)
        if self._ended and not second.settled:
            events += second.receive_eof()
        return self._advance(events)

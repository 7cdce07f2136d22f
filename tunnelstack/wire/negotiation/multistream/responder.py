"""
Multistream-select 1.0, the side that answers: a header, and to each name its echo, or C{na}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tunnelstack.errors import UsageError
from tunnelstack.wire.negotiation.base import (
    NO_PARAMETERS,
    Agreed,
    Negotiation,
    NegotiationError,
    NegotiationEvent,
    NegotiationTruncated,
    Parameters,
    Proposed,
    ReceiveBuffer,
    Rejected,
    Release,
)
from tunnelstack.wire.negotiation.multistream.names import NameTable
from tunnelstack.wire.negotiation.multistream.tokens import (
    HEADER,
    HEADER_SIZE,
    NOT_AVAILABLE_TOKEN,
    next_token,
    starts_with_header,
)

ON_REPLY = Release.ON_REPLY                  # a look into an Enum takes as long as a call

PROPOSALS = 64
"""Names that a peer may propose on one stream: with the largest of tokens, 64 KiB."""


class KnownOpenings:
    """
    What openings of streams usually are: their first octets are a name that is known, with all that follows a name.  Only for
    others is a L{Negotiation} needed, which then reads those octets as well.

    @cvar greeting: octets to send before anything has arrived.
    """

    __slots__ = ("_follow", "_names")

    greeting = HEADER

    def __init__(self, names: NameTable, follow: Callable[[bytes], Negotiation | None] | None) -> None:
        """
        @param follow: what is negotiated after a name, or C{None} for nothing.
        """
        self._names = names
        self._follow = follow

    def read(self, octets: bytes) -> tuple[bytes, Agreed] | None:
        """
        @param octets: the first of a stream.
        @return: what to answer after the greeting, and what was agreed; C{None} if it is to be negotiated.
        @raise PeerError: what follows the name cannot be read.
        """
        found = self._names.match_start(octets)
        if found is None or found[2]:
            return None
        name, echo, _ = found
        rest = octets[HEADER_SIZE + len(echo) :]
        following = None if self._follow is None else self._follow(name)
        if following is None:
            return echo, Agreed(name, NO_PARAMETERS, rest)
        events = following.receive_data(rest)
        if not events or events[0].__class__ is not Agreed or following.own_frame:
            return None
        agreed: Agreed = events[0]
        agreed.name = name
        return b"".join((echo, *following.data_to_send())), agreed


class TooManyProposals(NegotiationError):
    """
    The initiator proposed as many as L{PROPOSALS} names, and we took none.
    """


class MultistreamResponder(Negotiation):
    """
    Accepts the first name that it has.

    The header leaves at the first call of C{data_to_send}, whatever has arrived by then: together with the answer if that is
    ready, else at once, since a peer may wait for it.
    """

    __slots__ = (
        "_buffer",
        "_buffered",
        "_ended",
        "_header_received",
        "_header_sent",
        "_names",
        "_proposals",
        "_proposed",
        "_strict",
    )

    def __init__(
        self,
        names: NameTable | Iterable[bytes] | Callable[[bytes], bool],
        *,
        strict: bool = False,
        timeout: float | None = None,
    ) -> None:
        """
        @param names: a table, made once for many; or names, or a function that finds them.
        @param strict: refuse the stream with the first name that is not known (or that the owner refuses), and read nothing
            further, so that octets after it cannot be taken for a proposal.
        @param timeout: seconds.
        """
        Negotiation.__init__(self, ON_REPLY, timeout)
        self._names = names if isinstance(names, NameTable) else _table(names)
        self._strict = strict
        self._header_sent = False             # our header is out
        self._header_received = False            # the peer's header was seen
        self._ended = False
        self._proposed: tuple[bytes, bytes] | None = None     # name and echo of what the owner decides on
        self._buffered: ReceiveBuffer                  # beside it, what comes meanwhile
        self._buffer = b""
        self._proposals = 0

    def data_to_send(self) -> list[bytes]:
        """
        As in L{Negotiation}.
        """
        out, self._out = self._out, []
        if not self._header_sent:
            self._header_sent = True
            return [HEADER, *out]
        return out

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.

        @raise WrongVersion: the peer uses another protocol.
        @raise TooManyProposals: it does not come to an end.
        @raise BadMultistreamToken: no token at all; nor is a L{BadVarint<tunnelstack.wire.varint.BadVarint>}.
        """
        if self.settled:
            self._check_open()
        if self._proposed is not None:
            self._buffered.add(octets)
            return []
        if not self._header_received and not self._buffer:
            found = self._names.match_start(octets)
            if found is not None:
                self._header_received = True
                return self._answer_known(found, octets[HEADER_SIZE + len(found[1]) :])
        return self._read(self._buffer + octets if self._buffer else octets)

    def receive_eof(self) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}; while the owner decides, it is no fault.
        """
        self._check_open()
        self._ended = True
        if self._proposed is None:
            raise NegotiationTruncated("the stream ended before a name was agreed")
        return []

    def accept(self, parameters: Parameters | None = None) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.

        @raise UsageError: nothing was proposed, or there are parameters, for which this answer has no place.
        """
        if parameters:
            raise UsageError("a multistream answer carries no parameters")
        name, echo = self._take_proposal()
        self._out.append(echo)
        self.settled = True
        return [Agreed(name, NO_PARAMETERS, self._buffered.joined())]

    def reject(self, reason: str, code: str = "") -> list[NegotiationEvent]:
        """
        As in L{Negotiation}: C{na}, and the peer may propose another; where strict, the end.
        """
        self._take_proposal()
        if self._strict:
            return self._reject_all(reason)
        self._decline()
        events = self._read(self._buffered.joined())
        if self._ended and not events:
            self.receive_eof()
        return events

    def _take_proposal(self) -> tuple[bytes, bytes]:
        if self._proposed is None:
            raise UsageError("nothing was proposed")
        asked, self._proposed = self._proposed, None
        return asked

    def _read(self, buffer: bytes) -> list[NegotiationEvent]:
        """
        Token by token.
        """
        if not self._header_received and starts_with_header(buffer):
            self._header_received = True
            buffer = buffer[HEADER_SIZE:]
        while self._header_received and (read := next_token(buffer)) is not None:
            text, end = read
            buffer = buffer[end:]
            found = self._names.find(text)
            if found is not None:
                return self._answer_known(found, buffer)
            if self._strict:
                return self._reject_all("the name that was proposed is not known")
            self._decline()
        self._buffer = buffer
        return []

    def _decline(self) -> None:
        self._proposals += 1
        if self._proposals >= PROPOSALS:
            raise TooManyProposals("the peer proposed too many names", proposals=self._proposals)
        self._out.append(NOT_AVAILABLE_TOKEN)

    def _answer_known(self, found: tuple[bytes, bytes, bool], leftover: bytes) -> list[NegotiationEvent]:
        name, echo, ask = found
        if ask:
            self._proposed = (name, echo)
            self._buffered = ReceiveBuffer(leftover)
            return [Proposed(name)]
        self._out.append(echo)
        self.settled = True
        return [Agreed(name, NO_PARAMETERS, leftover)]

    def _reject_all(self, reason: str) -> list[NegotiationEvent]:
        """
        The stream is to be reset: nothing is left to send, the header included.
        """
        self.settled = self._header_sent = True
        self._out.clear()
        return [Rejected(reason)]


def _table(names: Iterable[bytes] | Callable[[bytes], bool]) -> NameTable:
    return NameTable(match=names) if callable(names) else NameTable(names)

"""
Multistream-select 1.0, the side that answers: a header, and to each name its echo, or C{na}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tunnelstack.errors import UsageError
from tunnelstack.wire.negotiation.base import (
    Agreed,
    Asked,
    CutShort,
    Event,
    Kept,
    Negotiation,
    NegotiationBroken,
    Refused,
    Release,
)
from tunnelstack.wire.negotiation.multistream.names import Names
from tunnelstack.wire.negotiation.multistream.tokens import HEADER, HEADER_SIZE, NA, greeted, next_token

PROPOSALS = 64
"""Names that a peer may propose on one stream: with the largest of tokens, 64 KiB."""


class TooManyProposals(NegotiationBroken):
    """
    The initiator proposed as many as L{PROPOSALS} names, and we took none.
    """


class Responder(Negotiation):
    """
    Takes the first name that it knows.

    The header leaves at the first call of C{data_to_send}, whatever has arrived by then: together with the answer if that is
    ready, else at once, since a peer may wait for it.
    """

    __slots__ = ("_asked", "_buffer", "_ended", "_greeted", "_kept", "_names", "_proposals", "_strict", "_verified")

    def __init__(
        self,
        names: Names | Iterable[bytes] | Callable[[bytes], bool],
        *,
        strict: bool = False,
        timeout: float | None = None,
    ) -> None:
        """
        @param names: a table, made once for many; or names, or a function that knows them.
        @param strict: refuse the stream with the first name that is not known (or that the owner refuses), and read nothing
            further, so that octets behind it cannot be taken for a proposal.
        @param timeout: seconds.
        """
        Negotiation.__init__(self, Release.ON_REPLY, timeout)
        self._names = names if isinstance(names, Names) else _table(names)
        self._strict = strict
        self._greeted = False             # our header is out
        self._verified = False            # the peer's header was seen
        self._ended = False
        self._asked: tuple[bytes, bytes] | None = None     # name and echo of what the owner thinks about
        self._kept: Kept                  # beside it, what comes meanwhile
        self._buffer = b""
        self._proposals = 0

    def data_to_send(self) -> list[bytes]:
        """
        As in L{Negotiation}.
        """
        out, self._out = self._out, []
        if not self._greeted:
            self._greeted = True
            return [HEADER, *out]
        return out

    def receive_data(self, octets: bytes) -> list[Event]:
        """
        As in L{Negotiation}.

        @raise WrongVersion: the peer speaks something else.
        @raise TooManyProposals: it does not come to an end.
        @raise BadToken: no token at all; nor is a L{BadVarint<tunnelstack.wire.varint.BadVarint>}.
        """
        self._unsettled()
        if self._asked is not None:
            self._kept.add(octets)
            return []
        if not self._verified and not self._buffer:
            found = self._names.opened(octets)
            if found is not None:
                self._verified = True
                return self._found(found, octets[HEADER_SIZE + len(found[1]) :])
        return self._read(self._buffer + octets if self._buffer else octets)

    def receive_eof(self) -> list[Event]:
        """
        As in L{Negotiation}; while the owner thinks, it is no fault.
        """
        self._unsettled()
        self._ended = True
        if self._asked is None:
            raise CutShort("the stream ended before a name was agreed")
        return []

    def accept(self, parameters: Mapping[str, Any] | None = None) -> list[Event]:
        """
        As in L{Negotiation}.

        @raise UsageError: nothing was asked, or there are parameters, for which this answer has no place.
        """
        if parameters:
            raise UsageError("a multistream answer carries no parameters")
        name, echo = self._answering()
        self._out.append(echo)
        return self._agree(name, self._kept.joined())

    def refuse(self, reason: str) -> list[Event]:
        """
        As in L{Negotiation}: C{na}, and the peer may propose another; where strict, the end.
        """
        self._answering()
        if self._strict:
            return self._give_up(reason)
        self._decline()
        events = self._read(self._kept.joined())
        if self._ended and not events:
            self.receive_eof()
        return events

    def _answering(self) -> tuple[bytes, bytes]:
        if self._asked is None:
            raise UsageError("nothing was asked")
        asked, self._asked = self._asked, None
        return asked

    def _read(self, buffer: bytes) -> list[Event]:
        """
        Token by token.
        """
        if not self._verified and greeted(buffer):
            self._verified = True
            buffer = buffer[HEADER_SIZE:]
        while self._verified and (read := next_token(buffer)) is not None:
            text, end = read
            buffer = buffer[end:]
            found = self._names.known(text)
            if found is not None:
                return self._found(found, buffer)
            if self._strict:
                return self._give_up("the name that was proposed is not known")
            self._decline()
        self._buffer = buffer
        return []

    def _decline(self) -> None:
        self._proposals += 1
        if self._proposals >= PROPOSALS:
            raise TooManyProposals("the peer proposed too many names", proposals=self._proposals)
        self._out.append(NA)

    def _found(self, found: tuple[bytes, bytes, bool], leftover: bytes) -> list[Event]:
        name, echo, ask = found
        if ask:
            self._asked = (name, echo)
            self._kept = Kept(leftover)
            return [Asked(name)]
        self._out.append(echo)
        return self._agree(name, leftover)

    def _agree(self, name: bytes, leftover: bytes) -> list[Event]:
        self.settled = True
        return [Agreed(name, {}, leftover)]

    def _give_up(self, reason: str) -> list[Event]:
        """
        The stream is to be reset: nothing is left to say, the header included.
        """
        self.settled = self._greeted = True
        self._out.clear()
        return [Refused(reason)]


def _table(names: Iterable[bytes] | Callable[[bytes], bool]) -> Names:
    return Names(match=names) if callable(names) else Names(names)

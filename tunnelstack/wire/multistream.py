"""
Multistream-select 1.0, both sides: each says a header, the initiator proposes names, the responder echoes one or says C{na}.

A token is a varint, that many octets less one of text, and a line feed; the varint counts the line feed.  Nothing is read
beyond a token, so what follows the accepted one is the application's, and the common exchange is one comparison with octets
that are made once: what an initiator sends first is what it wants to hear.

Source: multiformats/multistream-select README; go-multistream v0.6.1, whose limits these are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from tunnelstack.errors import UsageError
from tunnelstack.wire import varint
from tunnelstack.wire.negotiate import (
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

VERSION = b"/multistream/1.0.0"
NO = b"na"

LARGEST = 1024
"""Octets of the largest token, its line feed included."""

PROPOSALS = 64
"""Names that a peer may propose on one stream: with the largest of tokens, 64 KiB."""


class BadToken(NegotiationBroken):
    """
    Octets that are no token: too long, or not ended by a line feed.
    """


class WrongVersion(NegotiationBroken):
    """
    The peer's first octets are not the header; known as soon as one of them is another.
    """


class UnexpectedAnswer(NegotiationBroken):
    """
    The responder said neither the name that was proposed nor C{na}.
    """


class TooManyProposals(NegotiationBroken):
    """
    The initiator proposed as many as L{PROPOSALS} names, and we took none.
    """


def token(text: bytes) -> bytes:
    """
    @raise UsageError: more text than a token may have.
    """
    if len(text) >= LARGEST:
        raise UsageError("a multistream token has at most 1023 octets of text", octets=len(text))
    return varint.encode(len(text) + 1) + text + b"\n"


def next_token(buffer: bytes) -> tuple[bytes, int] | None:
    """
    Read the token that a buffer begins with.

    @return: its text, and where the octets behind it begin; C{None} while some of it is missing.
    @raise BadToken: too long (known before its text is waited for), or without its line feed.
    @raise BadVarint: its length is none.
    """
    found = varint.decode(buffer, 0, 2)
    if found is None:
        return None
    length, start = found
    if not 0 < length <= LARGEST:
        raise BadToken("a token has 1 to 1024 octets", octets=length)
    end = start + length
    if len(buffer) < end:
        return None
    if buffer[end - 1] != 0x0A:
        raise BadToken("a token does not end with a line feed")
    return buffer[start : end - 1], end


HEADER = token(VERSION)
NA = token(NO)


def greeted(buffer: bytes) -> bool:
    """
    @return: whether the whole header is there.
    @raise WrongVersion: it will never be.
    """
    if buffer.startswith(HEADER):
        return True
    if not HEADER.startswith(buffer):
        raise WrongVersion("the peer does not speak multistream 1.0", seen=buffer[: len(HEADER)])
    return False


@lru_cache(maxsize=1024)
def _opening(name: bytes) -> bytes:
    """
    Header and proposal; also what a responder says that agrees.

    @raise UsageError: a name that could be taken for something else, or that is too long.
    """
    if name in (b"", NO, VERSION) or b"\n" in name:
        raise UsageError("not a name for a stream protocol", name=name)
    return HEADER + token(name)


class Names:
    """
    The names that a responder knows, with their answers made once; shared by all responders of a listener.
    """

    __slots__ = ("_echoes", "_match", "_openings")

    def __init__(
        self, names: Iterable[bytes] = (), *, asked: Iterable[bytes] = (), match: Callable[[bytes], bool] | None = None,
    ) -> None:
        """
        @param names: those that are accepted by the responder itself.
        @param asked: those that are accepted by its owner, who is L{Asked}.
        @param match: says of any other name whether it is accepted.
        """
        self._echoes: dict[bytes, tuple[bytes, bytes, bool]] = {}
        self._openings: dict[bytes, tuple[bytes, bytes, bool]] = {}
        self._match = match
        for name in names:
            self.add(name)
        for name in asked:
            self.add(name, ask=True)

    def add(self, name: bytes, ask: bool = False) -> None:
        """
        Know a name, or change whether the owner is asked.
        """
        opening = _opening(name)
        self._echoes[name] = self._openings[opening] = (name, opening[len(HEADER) :], ask)

    def discard(self, name: bytes) -> None:
        """
        Know a name no longer.
        """
        if self._echoes.pop(name, None) is not None:
            del self._openings[_opening(name)]

    def opened(self, octets: bytes) -> tuple[bytes, bytes, bool] | None:
        """
        The common case, by one look: C{octets} begin with the header and a known name of fewer than 127 octets.

        @return: name, echo, and whether to ask.
        """
        if len(octets) <= len(HEADER):
            return None
        return self._openings.get(octets[: len(HEADER) + 1 + octets[len(HEADER)]])

    def known(self, name: bytes) -> tuple[bytes, bytes, bool] | None:
        """
        @return: name, echo, and whether to ask; C{None} for a name that is not known.
        """
        found = self._echoes.get(name)
        if found is None and self._match is not None and self._match(name):
            return (name, token(name), False)
        return found


class Initiator(Negotiation):
    """
    Proposes names, in order, until one is accepted.
    """

    __slots__ = ("_buffer", "_expected", "_greeted", "_others")

    def __init__(
        self,
        names: bytes | Sequence[bytes],
        *,
        release: Release = Release.ON_REPLY,
        early: bytes = b"",
        timeout: float | None = None,
    ) -> None:
        """
        @param names: one name, or several; each after the first costs a round trip.
        @param release: C{AT_ONCE} with a single name only, and never where a peer that does not know the name could be led
            astray: it reads what follows as further proposals.
        @param early: octets that follow the proposal in the same write; only with C{AT_ONCE}.
        @param timeout: seconds.
        @raise UsageError: no name, several names at once, or a name that cannot be one.
        """
        super().__init__(release, timeout)
        offered = [names] if isinstance(names, bytes) else list(names)
        if not offered:
            raise UsageError("there is no name to propose")
        if release is Release.AT_ONCE and len(offered) > 1:
            raise UsageError("octets may follow a proposal at once only if it is the only one", names=len(offered))
        if early and release is not Release.AT_ONCE:
            raise UsageError("octets may follow a proposal only where the application's may", release=release.name)
        self.name = offered[0]
        self._others = offered[1:]
        self._expected = _opening(self.name)
        self._out = [self._expected, early] if early else [self._expected]
        self._greeted = False
        self._buffer = b""

    def receive_data(self, octets: bytes) -> list[Event]:
        """
        As in L{Negotiation}.

        @raise WrongVersion: the peer speaks something else.
        @raise UnexpectedAnswer: neither yes nor no.
        @raise BadToken: no token at all; nor is a L{BadVarint<tunnelstack.wire.varint.BadVarint>}.
        """
        self._unsettled()
        if not octets:
            return []
        buffer = self._buffer + octets if self._buffer else octets
        expected = self._expected
        if buffer.startswith(expected):
            self.settled = True
            return [Agreed(self.name, {}, buffer[len(expected) :])]
        return self._read(buffer)

    def _read(self, buffer: bytes) -> list[Event]:
        """
        Token by token, where they do not come as one.
        """
        if not self._greeted and greeted(buffer):
            self._greeted = True
            self._expected = self._expected[len(HEADER) :]
            buffer = buffer[len(HEADER) :]
        while self._greeted and (found := next_token(buffer)) is not None:
            text, end = found
            buffer = buffer[end:]
            if text == self.name:
                self.settled = True
                return [Agreed(self.name, {}, buffer)]
            if text != NO:
                raise UnexpectedAnswer("the peer answered another name", proposed=self.name, seen=text[:64])
            if not self._others:
                self.settled = True
                return [Refused("the peer knows none of the names that were proposed")]
            self._propose()
        self._buffer = buffer
        return []

    def _propose(self) -> None:
        self.name = self._others.pop(0)
        self._expected = _opening(self.name)[len(HEADER) :]
        self._out.append(self._expected)


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
        super().__init__(Release.ON_REPLY, timeout)
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
            out.insert(0, HEADER)
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
                return self._found(found, octets[len(HEADER) + len(found[1]) :])
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
            buffer = buffer[len(HEADER) :]
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

"""
Multistream-select 1.0, the side that proposes: a header, and names until one is accepted.

Nothing is read beyond a token, so what follows the accepted one is the application's; and the common exchange is one comparison
with octets that are made once: what an initiator sends first is what it expects as the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunnelstack.errors import UsageError
from tunnelstack.wire.negotiation.base import (
    NO_PARAMETERS,
    Agreed,
    Negotiation,
    NegotiationError,
    NegotiationEvent,
    Rejected,
    Release,
)
from tunnelstack.wire.negotiation.multistream.tokens import (
    HEADER_SIZE,
    NOT_AVAILABLE,
    next_token,
    opening,
    starts_with_header,
)

AT_ONCE = Release.AT_ONCE                    # a look into an Enum takes as long as a call


class UnexpectedAnswer(NegotiationError):
    """
    The responder sent neither the name that was proposed nor C{na}.
    """


class MultistreamInitiator(Negotiation):
    """
    Proposes names, in order, until one is accepted.
    """

    __slots__ = ("_buffer", "_expected", "_header_received", "_others")

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
        @param release: C{AT_ONCE} with a single name only, and never where a peer without the name could be led
            astray: it reads what follows as further proposals.
        @param early: octets that follow the proposal in the same write; only with C{AT_ONCE}.
        @param timeout: seconds.
        @raise UsageError: no name, several names at once, or a name that cannot be one.
        """
        self._others: list[bytes] = []
        if isinstance(names, bytes):
            name = names
        else:
            name, *self._others = names or (b"",)
        if not name:
            raise UsageError("there is no name to propose")
        if self._others and release is AT_ONCE:
            raise UsageError("octets may follow a proposal at once only if it is the only one", names=1 + len(self._others))
        if early and release is not AT_ONCE:
            raise UsageError("octets may follow a proposal only where the application's may", release=release.name)
        Negotiation.__init__(self, release, timeout)
        self.name = name
        self._expected = opening(name)
        self._out = [self._expected, early] if early else [self._expected]
        self._header_received = False
        self._buffer = b""

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.

        @raise WrongVersion: the peer uses another protocol.
        @raise UnexpectedAnswer: neither yes nor no.
        @raise BadMultistreamToken: no token at all; nor is a L{BadVarint<tunnelstack.wire.varint.BadVarint>}.
        """
        if self.settled:
            self._check_open()
        if not octets:
            return []
        buffer = self._buffer + octets if self._buffer else octets
        expected = self._expected
        if buffer.startswith(expected):
            self.settled = True
            return [Agreed(self.name, NO_PARAMETERS, buffer[len(expected) :])]
        return self._read(buffer)

    def _read(self, buffer: bytes) -> list[NegotiationEvent]:
        """
        Token by token, where they do not come as one.
        """
        if not self._header_received and starts_with_header(buffer):
            self._header_received = True
            self._expected = self._expected[HEADER_SIZE:]
            buffer = buffer[HEADER_SIZE:]
        while self._header_received and (found := next_token(buffer)) is not None:
            text, end = found
            buffer = buffer[end:]
            if text == self.name:
                self.settled = True
                return [Agreed(self.name, NO_PARAMETERS, buffer)]
            if text != NOT_AVAILABLE:
                raise UnexpectedAnswer("the peer answered another name", proposed=self.name, seen=text[:64])
            if not self._others:
                self.settled = True
                return [Rejected("the peer supports none of the names that were proposed")]
            self._propose()
        self._buffer = buffer
        return []

    def _propose(self) -> None:
        self.name = self._others.pop(0)
        self._expected = opening(self.name)[HEADER_SIZE:]
        self._out.append(self._expected)

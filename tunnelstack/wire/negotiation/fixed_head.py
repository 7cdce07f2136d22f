"""
A stream that begins with a head of fixed length, which nothing answers.
"""

from __future__ import annotations

from collections.abc import Callable

from tunnelstack.wire.negotiation.base import (
    NO_PARAMETERS,
    Agreed,
    Negotiation,
    NegotiationEvent,
    NegotiationTruncated,
    Parameters,
    Release,
)

Decode = Callable[[bytes], tuple[bytes, Parameters]]
"""From the octets of a head to the name of the purpose and its parameters.  It raises a C{PeerError} for a bad head."""


class FixedHeadInitiator(Negotiation):
    """
    Sends a head; no answer is expected.
    """

    __slots__ = ()

    def __init__(self, name: bytes, head: bytes) -> None:
        """
        @param name: what the purpose is called here.
        """
        super().__init__(Release.AT_ONCE, None)
        self.name = name
        self._out = [head]

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}: agreed at once.
        """
        self._check_open()
        self.settled = True
        return [Agreed(self.name, NO_PARAMETERS, octets)]


class FixedHeadResponder(Negotiation):
    """
    Reads a head.
    """

    __slots__ = ("_decode", "_length", "_received")

    def __init__(self, length: int, decode: Decode, timeout: float | None = None) -> None:
        """
        @param length: octets of the head.
        @param timeout: seconds within which it must have arrived.
        """
        super().__init__(Release.ON_REPLY, timeout)
        self._length = length
        self._decode = decode
        self._received = b""

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.

        @raise PeerError: the head is bad.
        """
        self._check_open()
        self._received += octets
        if len(self._received) < self._length:
            return []
        head, leftover = self._received[: self._length], self._received[self._length :]
        self._received = b""
        self.name, parameters = self._decode(head)
        self.settled = True
        return [Agreed(self.name, parameters, leftover)]

    def receive_eof(self) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.

        @raise NegotiationTruncated: the head is incomplete.
        """
        self._check_open()
        raise NegotiationTruncated("the stream ended within its head", octets=len(self._received), of=self._length)

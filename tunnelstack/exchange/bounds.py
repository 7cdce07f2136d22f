"""
What an edge lets the exchanges of an agent take, in one record: the edge announces it, and both sides work by it.

An edge makes it from its C{[limits]}.  An agent takes what its edges announce, as far as its own C{[limits]} allow.
"""

from __future__ import annotations

from attrs import asdict, frozen

from tunnelstack.exchange.traits import Timeouts
from tunnelstack.settings.record import Record
from tunnelstack.wire.http1.head import HeadLimits

OWN_OCTETS = 16 * 1024
"""Octets of a head that the edge or the agent may add to those of a visitor or of a server."""

OWN_FIELDS = 16
"""Header fields that they may add."""

EARLIER = 3.0
"""Seconds that an agent waits less than its edge for the response of a server, so that visitors see the agent's explanation."""


@frozen(kw_only=True, eq=False, repr=False)
class ExchangeBounds(Record):
    """
    The defaults are what an edge means that announces nothing.

    @ivar headOctets: of the head of a request, as the visitor sent it.
    @ivar headFields: fields of the same.
    @ivar responseHeadOctets: of the head of a response, as the local server sent it.
    @ivar responseHeadFields: fields of the same.
    @ivar firstOctetSeconds: the edge waits so long for the head of a response.
    @ivar interimSeconds: the same after an interim response.
    @ivar idleSeconds: without an octet, in a body of known length or between requests.
    @ivar streams: that each side of a session may have open.
    """

    headOctets: int = 32 * 1024
    headFields: int = 100
    responseHeadOctets: int = 32 * 1024
    responseHeadFields: int = 100
    firstOctetSeconds: float = 60.0
    interimSeconds: float = 600.0
    idleSeconds: float = 300.0
    streams: int = 1024

    @property
    def requestLimits(self) -> HeadLimits:
        """
        Of the requests that the edge sends: those of a visitor, and what the edge adds.
        """
        return HeadLimits(octets=self.headOctets + OWN_OCTETS, fields=self.headFields + OWN_FIELDS)

    @property
    def responseLimits(self) -> HeadLimits:
        """
        Of the responses that the edge receives.
        """
        return HeadLimits(octets=self.responseHeadOctets + OWN_OCTETS, fields=self.responseHeadFields + OWN_FIELDS)

    @property
    def timeouts(self) -> Timeouts:
        """
        Of the edge's exchanges with the agent.
        """
        return Timeouts(first=self.firstOctetSeconds, interim=self.interimSeconds, idle=self.idleSeconds)

    @property
    def streamTimeouts(self) -> Timeouts:
        """
        Of the agent's end of the edge's exchanges.  The edge sends a head at once, so only the session delays it.
        """
        return Timeouts(head=self.firstOctetSeconds, idle=self.idleSeconds)

    @property
    def serverTimeouts(self) -> Timeouts:
        """
        Of the agent's exchanges with a local server.
        """
        return Timeouts(
            first=earlier(self.firstOctetSeconds), interim=earlier(self.interimSeconds), idle=self.idleSeconds
        )

    def atLeast(self, other: ExchangeBounds) -> ExchangeBounds:
        """
        @return: of each bound the larger one.
        """
        mine, its = asdict(self), asdict(other)
        return ExchangeBounds(**{name: max(mine[name], its[name]) for name in mine})


DEFAULT_BOUNDS = ExchangeBounds()


def earlier(seconds: float) -> float:
    """
    @return: a little less, so that a peer that waits for so long is answered in time.
    """
    return max(seconds - EARLIER, seconds * 0.75)

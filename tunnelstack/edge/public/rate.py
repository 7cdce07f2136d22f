"""
Rate limits: of events, which are rejected beyond the limit, and of octets, which are delayed beyond it.

Both use the generic cell rate algorithm (ITU-T I.371): one number is the time until which everything accepted so far is paid
for.  So no timer runs, and a limit that is not used costs nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from math import ceil

from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.wire.addresses import read_address

REMEMBERED = 1024
"""Addresses whose keys are remembered: visitors come back on new connections."""

SMALLEST_BURST = 64 * 1024
"""Octets that a bucket lets through at once, at least: as many as one read of a socket gives."""

BURST_SECONDS = 0.25
"""Seconds' worth of octets that a bucket lets through at once, where that is more."""

PREFIX = 64
"""Bits of an IPv6 address that identify a site: each site may use all 2**64 addresses below its prefix."""

TOLERANCE = 1e-9
"""Seconds by which sums of floating-point times may be wrong."""


class Rate:
    """
    A limit of events a second, and of the events that may come at once.
    """

    __slots__ = ("_interval", "_paid", "_tolerance")

    def __init__(self, perSecond: float, burst: float = 0) -> None:
        """
        @param burst: events that may come at once, at least one; C{0} is one second's worth.
        """
        self._interval = 1 / perSecond
        self._tolerance = (max(burst or perSecond, 1) - 1) * self._interval
        self._paid = 0.0                      # the time until which all events so far are paid for

    def take(self, now: float) -> float:
        """
        Count one event, if the limit allows it.

        @param now: in seconds, of any clock.
        @return: C{0.0} if it was counted, else the seconds after which the limit allows it.
        """
        paid = max(self._paid, now)
        late = paid - now - self._tolerance
        if late > TOLERANCE:
            return late
        self._paid = paid + self._interval
        return 0.0


class Bucket:
    """
    A limit of octets a second.  It rejects nothing: a caller that has exceeded it has to wait.

    @ivar delayed: the complete responses that wait for this bucket.
    """

    __slots__ = ("_interval", "_paid", "_tolerance", "delayed")

    def __init__(self, perSecond: float) -> None:
        self.delayed = 0
        self._interval = 1 / perSecond
        self._tolerance = max(SMALLEST_BURST * self._interval, BURST_SECONDS)
        self._paid = 0.0

    def take(self, octets: int, now: float) -> float:
        """
        Count octets that have passed.

        @param octets: C{0} only returns how long to wait.
        @param now: in seconds, of any clock.
        @return: the seconds for which no more octets should pass.
        """
        self._paid = paid = max(self._paid, now) + octets * self._interval
        return max(0.0, paid - now - self._tolerance)


class KeyedRates:
    """
    A L{Rate} for each of many keys.  Strangers choose the keys, so the number of keys in memory is bounded.
    """

    def __init__(self, perSecond: float, burst: float = 0, most: int = 65_536) -> None:
        """
        @param perSecond: for each key; C{0} is no limit.
        @param burst: as for L{Rate}.
        @param most: keys in memory.  When there are more, those that owe nothing are forgotten; if too many are left, all are.
        """
        self._interval = 1 / perSecond if perSecond else 0.0
        self._tolerance = (max(burst or perSecond, 1) - 1) * self._interval
        self._most = most
        self._paid: dict[Hashable, float] = {}

    def take(self, key: Hashable, now: float) -> bool:
        """
        Count one event of C{key}, if the limit allows it.

        @return: whether it was counted.
        """
        if not self._interval:
            return True
        paid = max(self._paid.get(key, now), now)
        if paid - now - self._tolerance > TOLERANCE:
            return False
        self._paid[key] = paid + self._interval
        if len(self._paid) > self._most:
            self._paid = {each: until for each, until in self._paid.items() if until > now}
            if len(self._paid) > self._most:
                self._paid.clear()
        return True

    def __len__(self) -> int:
        return len(self._paid)


@lru_cache(REMEMBERED)
def rateLimitKey(address: str) -> str:
    """
    The key under which an address is counted.

    @return: an IPv4 address, the prefix of an IPv6 address, or C{""} for what is not counted: a loopback address, or a text
        that is no IP address.
    """
    parsed = read_address(address)
    if parsed is None or parsed.is_loopback:
        return ""
    return str(parsed) if parsed.version == 4 else f"{int(parsed) >> (128 - PREFIX):x}"


def rateLimitExceeded(rate: Rate | None, now: float) -> ExchangeFailed | None:
    """
    Count one request.

    @return: C{None} if it is within the limit, or why it is rejected.
    """
    wait = rate.take(now) if rate is not None else 0.0
    return ExchangeFailed(FailureKind.RATE_LIMITED, retryAfter=max(1, ceil(wait))) if wait else None

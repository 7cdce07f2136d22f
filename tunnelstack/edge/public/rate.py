"""
How often and how fast: requests that come too often are told when to come again, octets that come too fast are held back.

Both count in virtual time: one number says until when everything that was let through so far is paid for, so that nothing has
to tick, and a thousand of them that are not used cost nothing.
"""

from __future__ import annotations

from collections.abc import Hashable

from tunnelstack.wire.addresses import read_address

SMALLEST_BURST = 64 * 1024
"""Octets that a bucket lets through at once, at least: what one read of a socket brings."""

BURST_SECONDS = 0.25
"""Seconds' worth of octets that a bucket lets through at once, where that is more."""

PREFIX = 64
"""Bits of an IPv6 address that say whose it is: everybody has 2**64 of the rest."""


class Rate:
    """
    Events a second, and how many may come at once.
    """

    __slots__ = ("_interval", "_paid", "_tolerance")

    def __init__(self, perSecond: float, burst: float = 0) -> None:
        """
        @param burst: a second's worth, unless given; at least one.
        """
        self._interval = 1 / perSecond
        self._tolerance = (max(burst or perSecond, 1) - 1) * self._interval
        self._paid = 0.0                      # until when what came so far has been paid for

    def take(self, now: float) -> float:
        """
        One more.

        @return: C{0.0} and it is counted, or the seconds until there is room for it.
        """
        paid = max(self._paid, now)
        late = paid - now - self._tolerance
        if late > 1e-9:
            return late
        self._paid = paid + self._interval
        return 0.0


class Bucket:
    """
    Octets a second.  Nothing is ever turned away: who has taken too much waits until it is paid for.

    @ivar late: how many whole responses are kept until what came before them is paid for.
    """

    __slots__ = ("_interval", "_paid", "_tolerance", "delayed")

    def __init__(self, perSecond: float) -> None:
        self.delayed = 0
        self._interval = 1 / perSecond
        self._tolerance = max(SMALLEST_BURST * self._interval, BURST_SECONDS)
        self._paid = 0.0

    def take(self, octets: int, now: float) -> float:
        """
        So many have passed.

        @return: the seconds for which no more should.
        """
        self._paid = paid = max(self._paid, now) + octets * self._interval
        return max(0.0, paid - now - self._tolerance)


class KeyedRates:
    """
    A L{Rate} for each of very many: strangers choose the keys, so there is a bound to how many are remembered.
    """

    def __init__(self, perSecond: float, burst: float = 0, most: int = 65_536) -> None:
        """
        @param perSecond: for each key; C{0} lets everything through.
        @param most: keys that are remembered.  When there are more, those who have paid are forgotten, and if that does not
            make room, all are.
        """
        self._interval = 1 / perSecond if perSecond else 0.0
        self._tolerance = (max(burst or perSecond, 1) - 1) * self._interval
        self._most = most
        self._paid: dict[Hashable, float] = {}

    def take(self, key: Hashable, now: float) -> bool:
        """
        One more of C{key}.

        @return: whether there is room for it.
        """
        if not self._interval:
            return True
        paid = max(self._paid.get(key, now), now)
        if paid - now - self._tolerance > 1e-9:
            return False
        self._paid[key] = paid + self._interval
        if len(self._paid) > self._most:
            self._paid = {who: until for who, until in self._paid.items() if until > now}
            if len(self._paid) > self._most:
                self._paid.clear()
        return True

    def __len__(self) -> int:
        return len(self._paid)


def rateLimitKey(address: str) -> str:
    """
    Whom an address stands for when newcomers are counted.

    @return: an IPv4 address, the first half of an IPv6 address, or C{""} for nobody who is counted: this machine itself, and
        what is no IP address.
    """
    parsed = read_address(address)
    if parsed is None or parsed.is_loopback:
        return ""
    return str(parsed) if parsed.version == 4 else f"{int(parsed) >> (128 - PREFIX):x}"

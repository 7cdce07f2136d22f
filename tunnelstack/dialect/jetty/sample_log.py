"""
The requests that agents report to the Bridge: the newest of each tunnel, in memory, without bodies and without secrets.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from attrs import evolve, frozen

from tunnelstack.dialect.jetty.tunnel_store import newIdentifier
from tunnelstack.wire.records.jetty_bridge import RequestSample

MOST_OF_TUNNEL = 50
"""Samples that are kept of one tunnel."""

OCTETS = 8 * 1024 * 1024
"""Octets of all samples; the oldest ones make room."""

OVERHEAD = 1024
"""Octets that are counted for a sample beside its texts."""

SECRET = frozenset(("authorization", "cookie", "set-cookie"))
SECRET_PREFIX = "proxy-"
REDACTED = "[redacted]"


@frozen
class KeptSample:
    """
    @ivar id: by which an agent requests it.
    @ivar at: when it arrived, in seconds since 1970.
    """

    id: str
    tunnelId: str
    at: float
    sample: RequestSample

    @property
    def octets(self) -> int:
        """
        About how much memory it takes.
        """
        sample = self.sample
        return OVERHEAD + len(sample.path) + len(sample.query) + sum(len(name) + len(value) for name, value in sample.headers)


class SampleLog:
    """
    The samples of all tunnels.
    """

    def __init__(self) -> None:
        self._samples: OrderedDict[str, KeptSample] = OrderedDict()
        self._octets = 0

    def add(self, tunnelId: str, sample: RequestSample, now: float) -> KeptSample:
        """
        Keep a sample, without the values of fields that contain credentials.

        @param now: in seconds since 1970.
        """
        kept = KeptSample(newIdentifier(now), tunnelId, now, redacted(sample))
        mine = list(self.of(tunnelId))
        if len(mine) >= MOST_OF_TUNNEL:
            self._drop(mine[0].id)
        self._samples[kept.id] = kept
        self._octets += kept.octets
        while self._octets > OCTETS:
            self._drop(next(iter(self._samples)))
        return kept

    def find(self, identifier: str) -> KeptSample | None:
        return self._samples.get(identifier)

    def of(self, tunnelId: str) -> Iterator[KeptSample]:
        """
        @return: the samples of a tunnel, the oldest first.
        """
        return (each for each in list(self._samples.values()) if each.tunnelId == tunnelId)

    def forget(self, tunnelId: str) -> None:
        """
        The tunnel is gone.
        """
        for each in self.of(tunnelId):
            self._drop(each.id)

    def _drop(self, identifier: str) -> None:
        self._octets -= self._samples.pop(identifier).octets


def redacted(sample: RequestSample) -> RequestSample:
    """
    @return: the sample without credentials.
    """
    headers = tuple((name, REDACTED if _isSecret(name) else value) for name, value in sample.headers)
    return evolve(sample, headers=headers)


def _isSecret(name: str) -> bool:
    return name.lower() in SECRET or name.lower().startswith(SECRET_PREFIX)

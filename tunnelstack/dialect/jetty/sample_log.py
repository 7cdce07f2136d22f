"""
The requests that agents report to the Bridge, as they are kept: without bodies and without secrets.
"""

from __future__ import annotations

from attrs import evolve, frozen

from tunnelstack.dialect.jetty.tunnel_store import newIdentifier
from tunnelstack.wire.http1.redaction import REDACTED, is_secret
from tunnelstack.wire.records.jetty_bridge import RequestSample

MOST_OF_TUNNEL = 50
"""Samples that are kept of one tunnel."""


@frozen
class KeptSample:
    """
    @ivar id: by which an agent requests it.
    """

    id: str
    tunnelId: str
    sample: RequestSample

    @property
    def octets(self) -> int:
        """
        About how long its texts are.
        """
        sample = self.sample
        return len(sample.path) + len(sample.query) + sum(len(name) + len(value) for name, value in sample.headers)


def kept(tunnelId: str, sample: RequestSample, now: float) -> KeptSample:
    """
    @param now: in seconds since 1970.
    @return: the sample without the values of fields that contain credentials.
    """
    headers = tuple((name, REDACTED if is_secret(name.encode()) else value) for name, value in sample.headers)
    return KeptSample(newIdentifier(now), tunnelId, evolve(sample, headers=headers))

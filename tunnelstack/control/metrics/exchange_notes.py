"""
What most exchanges leave behind when they are over.
"""

from __future__ import annotations

MOST_NOTED = 1024
"""Exchanges that are noted and not counted yet, at most."""


class ExchangeNotes:
    """
    Exchanges whose response had the status C{200} and was written at once:
    L{Notes<tunnelstack.exchange.server.Notes>} that connections make themselves.

    @ivar seconds: how long each took.
    @ivar octets: of the bodies of all responses.
    @ivar most: how many there may be.
    """

    __slots__ = ("most", "octets", "seconds")

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.octets = 0
        self.most = MOST_NOTED

    def take(self) -> tuple[list[float], int]:
        """
        @return: the seconds and the octets, which are forgotten here.
        """
        seconds, octets = self.seconds, self.octets
        self.seconds, self.octets = [], 0
        return seconds, octets

"""
The way from an agent to somebody else's service: through whichever session with an edge there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.stream.errors import OpenTimeout

LINK_SECONDS = 30.0
"""Seconds that a dial through an edge waits for a session."""


@implementer(IStreamClientEndpoint)
class DialEndpoint:
    """
    Dials when there is a session.
    """

    def __init__(self, clock: Any, linked: Callable[[], Deferred[Any]], to: str, purpose: str) -> None:
        """
        @param linked: fires with a session.
        """
        self._clock = clock
        self._whenLinked = linked
        self._to = to
        self._purpose = purpose

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        As in L{IStreamClientEndpoint}; fails with L{Refused<tunnelstack.errors.Refused>} when the edge or the far agent says
        no.
        """
        linked = self._whenLinked()
        linked.addTimeout(LINK_SECONDS, self._clock, _linkTimeout)
        return linked.addCallback(lambda link: link.dial(self._to, self._purpose).connect(protocolFactory))


def _linkTimeout(result: Any, seconds: float) -> Any:
    if not isinstance(result, Failure):
        return result
    raise OpenTimeout(f"there was no session with an edge for {seconds:g} seconds")

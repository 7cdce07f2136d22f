"""
Dialling services of other agents through any session with an edge.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IServiceLink
from tunnelstack.stream.errors import OpenTimeout

LINK_SECONDS = 30.0
"""Seconds that a dial through an edge waits for a session."""


@implementer(IStreamClientEndpoint)
class DialEndpoint:
    """
    Waits for a session with an edge, and dials through it.
    """

    def __init__(self, clock: IReactorTime, linked: Callable[[], Deferred[IServiceLink]], to: str, purpose: str) -> None:
        """
        @param linked: gives a C{Deferred} of a link with an edge.
        @param to: a service, C{agent/service}, or an agent's name.
        @param purpose: C{""} for the service itself, or the name of a stream protocol.
        """
        self._clock = clock
        self._whenLinked = linked
        self._to = to
        self._purpose = purpose

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: as in L{IStreamClientEndpoint}; fails with L{Refused<tunnelstack.errors.Refused>} if the edge or the remote
            agent refuses, and with C{OpenTimeout} if there is no session for L{LINK_SECONDS}.
        """
        linked = self._whenLinked()
        linked.addTimeout(LINK_SECONDS, self._clock, _linkTimeout)
        return linked.addCallback(lambda link: link.dial(self._to, self._purpose).connect(protocolFactory))


def _linkTimeout(result: object, seconds: float) -> object:
    if not isinstance(result, Failure):
        return result
    raise OpenTimeout(f"no session with an edge within {seconds:g} seconds")

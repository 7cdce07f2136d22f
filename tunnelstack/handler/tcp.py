"""
Streams joined to outgoing connections, such as an agent's TCP connection to a local server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.splice import Splice


class SpliceFactory(Factory):
    """
    A factory that gives an endpoint one existing protocol, such as an end of a splice.
    """

    noisy = False

    def __init__(self, end: IProtocol) -> None:
        self._end = end

    def buildProtocol(self, address: object) -> Any:
        # Any: Factory annotates the result as Protocol, and an end of a splice is another IProtocol.
        return self._end


@implementer(IDiallingHandler)
class TCPHandler:
    """
    Connects an endpoint for each stream.  The stream is refused if the connection fails.
    """

    log = Logger()

    def __init__(
        self, endpoint: IStreamClientEndpoint, clock: IReactorTime, *, failed: Callable[[Failure], object] | None = None,
        connected: Callable[[], object] | None = None,
    ) -> None:
        """
        @param endpoint: connected for each stream; it has a time-out of its own.
        @param failed: called with each failure to connect, but not if the opener of the stream has gone meanwhile.
        @param connected: called with each connection.
        """
        self._endpoint = endpoint
        self._clock = clock
        self._failed = failed
        self._connected = connected

    def connect(self, address: StreamAddress) -> Deferred[IProtocol]:
        splice = Splice(self._clock)
        dialled = self._endpoint.connect(SpliceFactory(splice.far))
        dialled.addCallbacks(lambda _: self._reached(splice), self._unreachable)
        return dialled

    def _reached(self, splice: Splice) -> IProtocol:
        if self._connected is not None:
            self._connected()
        return splice.near

    def _unreachable(self, failure: Failure) -> Failure:
        if self._failed is not None and not failure.check(CancelledError, ConnectingCancelledError):
            self._failed(failure)
        return failure

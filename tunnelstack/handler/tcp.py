"""
A stream joined to a connection that the agent makes for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.stream.splice import Splice


class SpliceFactory(Factory):
    """
    Builds one end of a splice, for an endpoint to connect.
    """

    noisy = False

    def __init__(self, end: IProtocol) -> None:
        self._end = end

    def buildProtocol(self, address: object) -> Any:
        """
        The end.
        """
        return self._end


@implementer(IDiallingHandler)
class TCPHandler:
    """
    Connects each stream to an endpoint; the stream is refused if that cannot be reached.
    """

    log = Logger()

    def __init__(
        self, endpoint: IStreamClientEndpoint, clock: Any, *, failed: Callable[[Failure], object] | None = None,
    ) -> None:
        """
        @param endpoint: what is connected to; how long that may take is its own business.
        @param failed: told of each failure to connect.
        """
        self._endpoint = endpoint
        self._clock = clock
        self._failed = failed

    def connect(self, address: Any) -> Deferred[IProtocol]:
        """
        As in L{IDiallingHandler}.
        """
        splice = Splice(self._clock)
        dialled = self._endpoint.connect(SpliceFactory(splice.far))
        dialled.addCallbacks(lambda _: splice.near, self._unreachable)
        return dialled

    def _unreachable(self, failure: Failure) -> Failure:
        if self._failed is not None:
            self._failed(failure)
        return failure

"""
What listening to the streams of a session gives.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from zope.interface import implementer

from tunnelstack.stream.address import StreamAddress


class Listener(Protocol):
    """
    What gives the streams of a session to a factory.
    """

    @property
    def address(self) -> StreamAddress:
        """
        The session's address.
        """

    def unlisten(self) -> None:
        """
        Give the factory no more streams.
        """


@implementer(IListeningPort)
class SessionPort:
    """
    The port of one listener.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def startListening(self) -> None:
        """
        Nothing to do: the listener gives streams to its factory already.
        """

    def stopListening(self) -> Deferred[None]:
        self._listener.unlisten()
        return succeed(None)

    def getHost(self) -> StreamAddress:
        return self._listener.address

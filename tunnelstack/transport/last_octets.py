"""
What a peer sent before its connection was lost.

A server that answers early and closes leaves its response in our socket, and a reset after it.  If the next thing that we do
with the connection is a write, that fails, and Twisted closes the socket with the response in it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ITransport
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

MOST_OCTETS = 256 * 1024
"""Octets that are read at most: they go to a protocol that may have paused."""


def readBeforeLoss(transport: ITransport) -> None:
    """
    Deliver what the socket still holds before a loss is reported.

    @param transport: Twisted's TCP connection, or TLS over one.  Any other transport is left as it is.
    """
    below: Any = transport
    while not isinstance(below, Connection):
        below = getattr(below, "transport", None)
        if below is None:
            return
    _Interceptor(below)


class _Interceptor:
    """
    Is called in the place of a connection's own C{connectionLost}, which the reactor calls after an error.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        connection.connectionLost = self.connectionLost

    def connectionLost(self, reason: Failure) -> None:
        connection = self._connection
        if "connectionLost" in vars(connection):
            del connection.connectionLost             # the class's own is called from here on
            if type(reason.value) is ConnectionLost and not connection.disconnected:
                _drain(connection)
        connection.connectionLost(reason)


def _drain(connection: Any) -> None:
    left = MOST_OCTETS
    while left > 0 and not connection._aborting:
        try:
            octets = connection.socket.recv(min(left, connection.bufferSize))
        except OSError:
            return
        if not octets:
            return
        left -= len(octets)
        connection.protocol.dataReceived(octets)

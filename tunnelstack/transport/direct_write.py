"""
To hand the network at once what is written, as far as it takes it.

Twisted's transports send on the next turn of the reactor, after they asked it to look whether they may, and ask it to look no
more when all is sent.  Who writes once a turn, when everything is collected, has nothing to wait for, and half of a round trip
and three system calls to win.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.tcp import Connection

Write = Callable[[bytes], object]


def disableNagle(transport: Any) -> None:
    """
    Ask TCP to send small segments at once: who collects before he writes has nothing to wait for.
    """
    if ITCPTransport.providedBy(transport):
        transport.setTcpNoDelay(True)


def immediateWrite(transport: Any) -> Write:
    """
    A C{write} for those who have collected.

    It may stand beside C{transport.write}: what either was given leaves in the order in which it was given.  What the network
    does not take, and any error, is left to the transport, as is everything while something waits in it.

    @param transport: any transport; one with a C{immediateWrite} method of its own is asked for what lies below it.
    @return: sends octets now, if the transport is a TCP connection of Twisted's; else the transport's own C{write}.
    """
    own = getattr(transport, "immediateWrite", None)
    if own is not None:
        write: Write = own()
        return write
    if isinstance(transport, Connection) and hasattr(transport, "_tempDataLen"):
        return _sender(transport)
    below: Write = transport.write
    return below


def unsent(transport: Any) -> int:
    """
    @return: octets that a TCP connection of Twisted's, or TLS over one, holds because the network has not taken them; C{0} for
        any other transport.
    """
    if isinstance(transport, Connection) and hasattr(transport, "_tempDataLen"):
        return len(transport.dataBuffer) + int(transport._tempDataLen)
    below = getattr(transport, "transport", None)
    return 0 if below is None else sum(map(len, getattr(transport, "_appSendBuffer", ()))) + unsent(below)


def _sender(connection: Any) -> Write:
    def write(octets: bytes) -> None:
        if (
            connection._tempDataLen or connection.dataBuffer or connection.disconnecting or connection.TLS
            or connection._writeDisconnecting or connection._writeDisconnected or not connection.connected
        ):
            connection.write(octets)
            return
        try:
            sent = connection.socket.send(octets)
        except OSError:                       # of errors that matter the reactor will meet another, and tell
            sent = 0
        if sent < len(octets):
            connection.write(octets[sent:])

    return write

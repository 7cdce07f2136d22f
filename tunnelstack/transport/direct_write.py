"""
Writes that are handed to the network at once, as far as it takes them.

Twisted's transports send on the next turn of the reactor, once the descriptor is known to be writable.  A caller that writes
once a turn, when everything is collected, has nothing to wait for: sending at once saves half of a round trip, two C{epoll_ctl}
and a look at every descriptor.  It bypasses Twisted's buffer only while that is empty, so the order of octets is kept.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import MethodType
from typing import Any

from OpenSSL.SSL import Error
from twisted.internet.interfaces import ITCPTransport, ITransport
from twisted.internet.tcp import Connection
from twisted.protocols.tls import BufferingTLSTransport

Write = Callable[[bytes], object]

NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""The option with which TCP sends small segments at once."""

OVERHEAD = 4096
"""Octets of TLS that may leave with what was written, beyond what grows with it."""


def disableNagle(transport: ITransport) -> None:
    """
    Let TCP send small segments at once: the callers collect before they write.
    """
    if NO_DELAY not in getattr(transport, "inherited", ()) and ITCPTransport.providedBy(transport):
        transport.setTcpNoDelay(True)


def immediateWrite(transport: ITransport) -> Write:
    """
    A C{write} for callers that write once a turn.

    It may be used together with C{transport.write}: octets leave in the order of the calls.  What the network does not take is
    left to the transport, as are errors, and everything while something waits in the transport.

    @param transport: any transport; if it has a method C{immediateWrite}, that is called.
    @return: sends octets now, if the transport is Twisted's TCP connection, or TLS over one; else the transport's own C{write}.
        It is the method C{sendAtOnce} of a transport that has one.
    """
    if hasattr(type(transport), "sendAtOnce"):            # not the transport: TLS has the attributes of what is below it
        atOnce: Write = transport.sendAtOnce              # type: ignore[attr-defined]
        return atOnce
    own = getattr(transport, "immediateWrite", None)
    if own is not None:
        write: Write = own()
        return write
    if isinstance(transport, Connection) and hasattr(transport, "_tempDataLen"):
        return MethodType(sendAtOnce, transport)
    if isinstance(transport, BufferingTLSTransport):
        return _encryptingSender(transport)
    below: Write = transport.write
    return below


def unsent(transport: object) -> int:
    """
    @return: octets that Twisted's TCP connection, or TLS over one, holds because the network has not taken them; C{0} for any
        other transport.
    """
    if isinstance(transport, Connection) and hasattr(transport, "_tempDataLen"):
        return len(transport.dataBuffer) + int(transport._tempDataLen)
    below = getattr(transport, "transport", None)
    return 0 if below is None else sum(map(len, getattr(transport, "_appSendBuffer", ()))) + unsent(below)


def sendAtOnce(connection: Any, octets: bytes) -> None:
    """
    The C{write} of L{immediateWrite}, as a method of Twisted's TCP connection.
    """
    if (
        connection._tempDataLen or connection.dataBuffer or connection.disconnecting or connection.TLS
        or connection._writeDisconnecting or connection._writeDisconnected or not connection.connected
    ):
        connection.write(octets)
        return
    try:
        sent = connection.socket.send(octets)
    except OSError:                           # if the error matters, the reactor meets it again and reports it
        sent = 0
    if sent < len(octets):
        connection.write(octets[sent:])


def _encryptingSender(tls: Any) -> Write:
    """
    Encrypt all octets, then send them at once.  Twisted's transport waits for more until the next turn, and sends each record
    of 16 KiB by itself.
    """
    below = immediateWrite(tls.transport)

    def write(octets: bytes) -> None:
        connection = tls._tlsConnection
        if (
            tls._appSendBuffer or tls.disconnecting or tls._lostTLSConnection or not tls._handshakeDone or not tls.connected
            or tls._aggregator._buffer
        ):
            tls.write(octets)
            return
        try:
            connection.sendall(octets)        # into memory, so that all octets are taken, or none
        except Error:                         # it wants to read first, or has failed: Twisted meets it again
            tls.write(octets)
            return
        below(connection.bio_read(len(octets) + len(octets) // 32 + OVERHEAD))      # what 16 KiB grow by is less than 3 %

    return write

"""
What a connection has taken and not sent: in Twisted's buffer, and in the kernel's.

Twisted pauses a producer above 64 KiB, and the kernel keeps megabytes: on a slow network that is minutes, which everything
urgent has to wait for.  A sender that has queues of its own keeps both buffers short.  The kernel's is bounded by
C{TCP_NOTSENT_LOWAT}, which limits what it has not sent yet; what is on its way to the peer is not limited, so nothing is lost
over long distances.  C{SO_SNDBUF} would limit both, and would end the kernel's own tuning.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from struct import unpack
from typing import Any, TypeGuard

from twisted.internet.tcp import Connection

_ioctl: Callable[[int, int, bytes], bytes] | None = None
with suppress(ImportError):                   # on Windows
    from fcntl import ioctl

    _ioctl = ioctl

NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)

SIOCOUTQ = 0x5411
"""Linux: octets that are not acknowledged.  Source: tcp(7)."""

SIOCOUTQNSD = 0x894B
"""Linux: octets that are not sent.  Source: include/uapi/linux/sockios.h."""

TWISTED_BUFFER = 64 * 1024
"""Octets above which Twisted pauses a producer."""


class SendBuffer:
    """
    The send buffers of a transport that is not on a socket, or of which nothing is known: nothing can be bounded.
    """

    __slots__ = ()

    def unacknowledged(self) -> int:
        """
        @return: octets in the kernel that the other end has not acknowledged, sent or not; C{0} where that is not known.
        """
        return 0

    def unsent(self) -> int | None:
        """
        @return: those of them that were not sent; C{None} where that is not known.
        """
        return None

    def bound(self, batch: int, unsent: int) -> None:
        """
        Keep both buffers short.

        @param batch: octets that may wait in Twisted's buffer before its producer is paused.  A caller that writes at once
            (L{immediateWrite<tunnelstack.transport.direct_write.immediateWrite>}) is paused as soon as any wait.
        @param unsent: octets that the kernel may keep unsent.
        """


class SocketBuffer(SendBuffer):
    """
    The send buffers of Twisted's TCP connection, or of TLS over one.
    """

    __slots__ = ("_bound", "_connection", "_immediate", "_most", "_socket")

    def __init__(self, connection: Any, immediate: bool) -> None:
        """
        @param immediate: the writer hands octets to the kernel itself: what is in Twisted's buffer was refused.
        """
        self._connection = connection
        self._socket: socket.socket = connection.socket
        self._immediate = immediate
        self._most = 0 if immediate else TWISTED_BUFFER
        self._bound = 0
        # Twisted has no public way to choose when its producer is paused: C{bufferSize}, which it compares with, is also the
        # size of each read, and cannot be 0.  A test notices when Twisted no longer asks this method, or reads without it.
        connection._isSendBufferFull = self._isFull

    def _isFull(self) -> bool:
        connection = self._connection
        return bool(connection._tempDataLen + len(connection.dataBuffer) > self._most)

    def unacknowledged(self) -> int:
        return self._ask(SIOCOUTQ) or 0

    def unsent(self) -> int | None:
        return self._ask(SIOCOUTQNSD)

    def bound(self, batch: int, unsent: int) -> None:
        if not self._immediate:
            self._most = batch
        if NOTSENT_LOWAT is not None and not 3 * self._bound <= 4 * unsent <= 5 * self._bound:     # not for every change
            self._bound = unsent
            with suppress(OSError):           # not a TCP socket
                self._socket.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, unsent)

    def _ask(self, request: int) -> int | None:
        if _ioctl is None:
            return None
        try:
            octets: int = unpack("i", _ioctl(self._socket.fileno(), request, bytes(4)))[0]
        except (OSError, ValueError):         # another kernel, or the socket is closed
            return None
        return octets


def sendBuffer(transport: object) -> SendBuffer:
    """
    @param transport: any transport; if it has a method C{sendBuffer}, that is called.
    @return: its send buffers.  Ask for them once, after C{immediateWrite}: the producer's pressure changes from now on.
    """
    own = getattr(transport, "sendBuffer", None)
    if own is not None:
        buffer: SendBuffer = own()
        return buffer
    if _isConnection(transport):
        return SocketBuffer(transport, not transport.TLS)
    below = getattr(transport, "transport", None)     # TLS
    return SocketBuffer(below, False) if _isConnection(below) else SendBuffer()


def _isConnection(transport: object) -> TypeGuard[Connection]:
    """
    Whether it is Twisted's TCP connection, as its buffers are known.
    """
    return isinstance(transport, Connection) and hasattr(transport, "_tempDataLen")

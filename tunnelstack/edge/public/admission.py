"""
Admission of connections: while there are as many as allowed, or file descriptors run short, the listening ports are paused.

New connections then wait in the system's queue, so that visitors see a slow edge and not a broken one.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall, IListeningPort, IPushProducer, IReactorTime
from twisted.internet.tcp import Port
from twisted.logger import Logger

from tunnelstack.edge.public.rate import KeyedRates, rateLimitKey
from tunnelstack.transport.direct_write import NO_DELAY

resource: ModuleType | None
try:
    import resource
except ImportError:                           # Windows has no such limit
    resource = None

RESERVED_DESCRIPTORS = 64
"""File descriptors that visitors do not get: for agents' ports, certificates, logs, and whatever else the process opens."""

ACCEPTS = 32
"""
Connections that one port accepts in a turn of the reactor.  A port that pauses ends its turn first, and Twisted's ports accept
20 more in each turn than in the one before while as many come, so that they would use what is reserved.
"""

CHECK_SECONDS = 1.0
"""Seconds between two checks for free file descriptors, while there are none."""

WARN_INTERVAL_SECONDS = 60.0
"""Seconds for which a warning is not repeated."""

MAX_UNSENT_OCTETS = 256 * 1024
"""Octets that the system may queue for a visitor and has not sent yet."""

UNSENT_OPTION = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)

KEEPALIVE_OPTION = getattr(socket, "TCP_KEEPIDLE", None)

KEEPALIVE_SECONDS = 120
"""Seconds of silence after which the system sends a keepalive probe to a visitor."""

VISITOR_OPTIONS = (
    *(((socket.IPPROTO_TCP, UNSENT_OPTION, MAX_UNSENT_OCTETS),) if UNSENT_OPTION is not None else ()),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(((socket.IPPROTO_TCP, KEEPALIVE_OPTION, KEEPALIVE_SECONDS),) if KEEPALIVE_OPTION is not None else ()),
)
"""
Options of the sockets of visitors.  They limit what the system queues for a visitor that reads slowly: without a limit it
queues megabytes for each, and the visitor seems to be fast.  And they let the system find visitors that are gone without a
word.
"""

PORT_OPTIONS = (*VISITOR_OPTIONS, NO_DELAY)
"""What the port of visitors passes on to their sockets, if it can."""

REMEMBERED = 65_536
"""Addresses whose new connections are counted."""

UNLIMITED = 1 << 30
"""Stands for any number of file descriptors."""


def maxDescriptors() -> int:
    """
    @return: how many file descriptors this process may have; L{UNLIMITED} where there is no limit.
    """
    if resource is None:
        return UNLIMITED
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if soft == resource.RLIM_INFINITY else int(soft)


def raiseDescriptors(wanted: int) -> None:
    """
    Raise the limit of file descriptors to C{wanted}, or to what the system allows this user.  It is never lowered.
    """
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if most > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def configureSocket(transport: Any) -> None:
    """
    Set L{VISITOR_OPTIONS}, unless the socket has them from its port.

    @param transport: a transport over a socket, or over one that has such a transport.
    """
    while hasattr(transport, "wrappedProtocol"):
        transport = transport.transport
    if getattr(transport, "inherited", None) is PORT_OPTIONS:
        return
    handle = getattr(transport, "socket", None)
    if handle is not None and handle.family != getattr(socket, "AF_UNIX", None):
        for option in VISITOR_OPTIONS:
            handle.setsockopt(*option)


def passOptionsOn(port: IListeningPort) -> None:
    """
    Let a port give the connections of visitors their options, if it can do that.
    """
    passOn = getattr(port, "passOn", None)
    if passOn is not None:
        passOn(PORT_OPTIONS)


def nextDescriptor() -> int:
    """
    @return: the number of the next file descriptor, so all below it are in use; L{UNLIMITED} if there is none left.
    """
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return UNLIMITED
    os.close(descriptor)
    return descriptor


def _boundAccepts(port: Port) -> None:
    """
    Let a port accept at most L{ACCEPTS} connections in each turn.
    """
    if hasattr(port, "mostAccepts"):          # our reactor's have it
        port.mostAccepts = ACCEPTS
        return
    accept = port.doRead

    def doRead() -> object:
        port.numberAccepts = min(port.numberAccepts, ACCEPTS)
        return accept()

    port.doRead = doRead  # type: ignore[method-assign]


class Admission:
    """
    Counts the connections of visitors, and pauses the listening ports of an edge.

    @ivar connectionCount: how many connections are open.
    @ivar maxConnections: how many may be.
    @ivar refused: connections that were closed at once, because too many came from their address.
    @ivar makeRoom: called when there are as many as allowed, and once a second as long as there are: closes connections that
        are of no use at the moment.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        most: int,
        perSecond: float = 0,
        isTrusted: Callable[[str], bool] = lambda address: False,
        descriptors: Callable[[], int] = maxDescriptors,
        next: Callable[[], int] = nextDescriptor,
    ) -> None:
        """
        @param most: connections at a time.
        @param perSecond: new connections of one address; C{0} is no limit.
        @param isTrusted: whether an address is that of a trusted proxy, whose connections are not limited because they are of
            many visitors.
        """
        self.connectionCount = 0
        self.refused = 0
        self._clock = clock
        self._isTrusted = isTrusted
        self._descriptors = descriptors
        self._next = next
        self._ports: set[IPushProducer] = set()
        self._paused = False
        self._highest = -1                    # the highest descriptor that was found to be within the limit
        self._timer: IDelayedCall | None = None
        self._roomTimer: IDelayedCall | None = None
        self.makeRoom: Callable[[], object] = lambda: None
        self._warnedUntil: dict[str, float] = {}
        self.configure(most, perSecond)

    def configure(self, most: int, perSecond: float) -> None:
        """
        Change the limits.  Addresses are counted anew.
        """
        self.maxConnections = most
        self._connectionRates = KeyedRates(perSecond, most=REMEMBERED)
        if self._paused:
            self._resumeIfPossible()

    @property
    def paused(self) -> bool:
        """
        Whether the ports are paused.
        """
        return self._paused

    # ports

    def addPort(self, port: IListeningPort) -> None:
        """
        Pause this listening port together with the others.
        """
        if isinstance(port, Port):
            _boundAccepts(port)
        pausable = cast(IPushProducer, port)      # Twisted's ports are, although C{IListeningPort} does not have it
        self._ports.add(pausable)
        if self._paused:
            pausable.pauseProducing()

    def removePort(self, port: IListeningPort) -> None:
        """
        The port is about to be closed.
        """
        self._ports.discard(cast(IPushProducer, port))

    def stop(self) -> None:
        """
        Forget all ports: the edge stops.
        """
        self._ports.clear()
        for timer in (self._timer, self._roomTimer):
            if timer is not None:
                timer.cancel()
        self._timer = self._roomTimer = None

    # connections

    def admit(self, address: str) -> bool:
        """
        Count a new connection against the rate limit of its address.

        @return: whether it is within the limit.
        """
        key = rateLimitKey(address)
        if not key or self._isTrusted(address) or self._connectionRates.take(key, self._clock.seconds()):
            return True
        self.refused += 1
        self.warnOnce(
            "newcomers", "too many new connections from {visitor}: further ones are closed at once", visitor=address
        )
        return False

    def connectionOpened(self, descriptor: int = -1) -> None:
        """
        Count a connection that was accepted.

        @param descriptor: its file descriptor; C{-1} if it is not known.
        """
        self.connectionCount += 1
        if self.connectionCount >= self.maxConnections:
            self._pause(
                "visitors",
                "{visitors} visitors' connections are open, as many as allowed: new connections wait until some are closed",
                visitors=self.connectionCount,
            )
            self._askForRoom()
        elif descriptor > self._highest:      # the limit is a call of the system
            if descriptor >= self._descriptors() - RESERVED_DESCRIPTORS:
                self._descriptorsExhausted(descriptor)
            else:
                self._highest = descriptor

    def _askForRoom(self) -> None:
        if self._roomTimer is None:
            self._roomTimer = self._clock.callLater(CHECK_SECONDS, self._stillFull)
        self.makeRoom()

    def _stillFull(self) -> None:
        self._roomTimer = None
        if self._paused and self.connectionCount >= self.maxConnections:
            self._askForRoom()

    def connectionClosed(self) -> None:
        """
        Count a connection no longer.
        """
        self.connectionCount -= 1
        if self._paused and self._timer is None:
            self._resumeIfPossible()

    def _descriptorsExhausted(self, descriptor: int) -> None:
        self._pause(
            "descriptors",
            "{descriptors} of {most} file descriptors are in use (see ulimit -n): new connections wait until some are free",
            descriptors=descriptor, most=self._descriptors(),
        )
        if self._timer is None:
            self._timer = self._clock.callLater(CHECK_SECONDS, self._recheck)

    def _recheck(self) -> None:
        self._timer = None
        self._resumeIfPossible()

    def _pause(self, why: str, sentence: str, **fields: object) -> None:
        if not self._paused:
            self._paused = True
            for port in self._ports:
                port.pauseProducing()
            self.warnOnce(why, sentence, **fields)

    def _resumeIfPossible(self) -> None:
        if self.connectionCount >= self.maxConnections:
            return
        descriptor = self._next()
        if descriptor >= self._descriptors() - RESERVED_DESCRIPTORS:
            self._descriptorsExhausted(descriptor)
            return
        self._paused = False
        for port in self._ports:
            port.resumeProducing()

    def warnOnce(self, why: str, sentence: str, **fields: object) -> None:
        """
        Log a warning, unless one for the same reason was logged in the last minute.

        @param why: the reason, as a word.
        @param sentence: the format of the log event.
        @param fields: its fields.
        """
        now = self._clock.seconds()
        if now >= self._warnedUntil.get(why, now):
            self._warnedUntil[why] = now + WARN_INTERVAL_SECONDS
            self.log.warn(sentence, status="limit", why=why, **fields)

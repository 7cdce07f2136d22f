"""
Whether the edge takes newcomers: when there are as many as there may be, or descriptors run short, whoever else wants in waits
in the system's queue and sees a slow edge, not a broken one.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from tunnelstack.edge.public.rate import KeyedRates, rateLimitKey

resource: Any
try:
    import resource
except ImportError:                           # Windows has no such limit
    resource = None

RESERVED_DESCRIPTORS = 64
"""Descriptors that visitors do not get: for agents' ports, certificates, logs, and whatever else a process opens."""

CHECK_SECONDS = 1.0
"""Seconds between two looks whether there are descriptors again."""

WARN_INTERVAL_SECONDS = 60.0
"""Seconds for which the same thing is not said again."""

MAX_UNSENT_OCTETS = 256 * 1024
"""Octets that the system holds of what a visitor was not sent yet."""

UNSENT_OPTION = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)

REMEMBERED = 65_536
"""Addresses whose newcomers are counted."""


def maxDescriptors() -> int:
    """
    How many descriptors this process may have; a very large number where nobody counts.
    """
    if resource is None:
        return 1 << 30
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else int(soft)


def raiseDescriptors(wanted: int) -> None:
    """
    Ask the system for as many descriptors, as far as it lets this user have them.
    """
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if most > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def limitUnsent(transport: Any) -> None:
    """
    Let the system hold little for a visitor who reads slowly: otherwise it takes megabytes for each, and he seems fast.
    """
    while hasattr(transport, "wrappedProtocol"):
        transport = transport.transport
    handle = getattr(transport, "socket", None)
    if UNSENT_OPTION is not None and handle is not None and handle.family != getattr(socket, "AF_UNIX", None):
        handle.setsockopt(socket.IPPROTO_TCP, UNSENT_OPTION, MAX_UNSENT_OCTETS)


def nextDescriptor() -> int:
    """
    The number that the next descriptor will have: all below it are taken.  A very large one if there is none.
    """
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return 1 << 30
    os.close(descriptor)
    return descriptor


class Admission:
    """
    The listening ports of an edge, and when they listen.

    @ivar most: connections of visitors at a time.
    @ivar here: how many there are.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        *,
        most: int,
        perSecond: float = 0,
        isTrusted: Callable[[str], bool] = lambda address: False,
        descriptors: Callable[[], int] = maxDescriptors,
        next: Callable[[], int] = nextDescriptor,
    ) -> None:
        """
        @param perSecond: new connections of one address; C{0} counts none.
        @param isTrusted: whether an address is a proxy's, behind which very many are.
        """
        self.connectionCount = 0
        self._clock = clock
        self._isTrusted = isTrusted
        self._descriptors = descriptors
        self._next = next
        self._ports: set[Any] = set()
        self._paused = False
        self._timer: Any = None
        self._warnedUntil: dict[str, float] = {}
        self.configure(most, perSecond)

    def configure(self, most: int, perSecond: float) -> None:
        """
        From now on, other bounds.
        """
        self.maxConnections = most
        self._connectionRates = KeyedRates(perSecond, most=REMEMBERED)
        if self._paused:
            self._resumeIfPossible()

    @property
    def paused(self) -> bool:
        """
        Nobody is let in at the moment.
        """
        return self._paused

    # ports

    def addPort(self, port: Any) -> None:
        """
        A port listens.
        """
        self._ports.add(port)
        if self._paused:
            port.pauseProducing()

    def removePort(self, port: Any) -> None:
        """
        A port will listen no more.
        """
        self._ports.discard(port)

    def stop(self) -> None:
        """
        Nobody comes any more.
        """
        self._ports.clear()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # visitors

    def admit(self, address: str) -> bool:
        """
        Whether a newcomer may stay: not too many came from where he comes from in the last second.
        """
        who = rateLimitKey(address)
        if not who or self._isTrusted(address) or self._connectionRates.take(who, self._clock.seconds()):
            return True
        self.warnOnce("newcomers", "too many new connections from {visitor}, which are closed at once", visitor=address)
        return False

    def connectionOpened(self, descriptor: int = -1) -> None:
        """
        Somebody is in.

        @param descriptor: the number of his connection's, if it is known.
        """
        self.connectionCount += 1
        if self.connectionCount >= self.maxConnections:
            self._pause(
                "visitors",
                "{visitors} visitors are here: the next wait until somebody goes",
                visitors=self.connectionCount,
            )
        elif descriptor >= self._descriptors() - RESERVED_DESCRIPTORS:
            self._descriptorsExhausted(descriptor)

    def connectionClosed(self) -> None:
        """
        Somebody is gone.
        """
        self.connectionCount -= 1
        if self._paused and self._timer is None:
            self._resumeIfPossible()

    def _descriptorsExhausted(self, descriptor: int) -> None:
        self._pause(
            "descriptors", "{descriptors} descriptors of {most} are in use: visitors wait until some are free (ulimit -n)",
            descriptors=descriptor, most=self._descriptors(),
        )
        if self._timer is None:
            self._timer = self._clock.callLater(CHECK_SECONDS, self._recheck)

    def _recheck(self) -> None:
        self._timer = None
        self._resumeIfPossible()

    def _pause(self, why: str, sentence: str, **fields: Any) -> None:
        if not self._paused:
            self._paused = True
            for port in self._ports:
                port.pauseProducing()
            self.warnOnce(why, sentence, **fields)

    def _resumeIfPossible(self) -> None:
        """
        Listen again, if there is room.
        """
        if self.connectionCount >= self.maxConnections:
            return
        descriptor = self._next()
        if descriptor >= self._descriptors() - RESERVED_DESCRIPTORS:
            self._descriptorsExhausted(descriptor)
            return
        self._paused = False
        for port in self._ports:
            port.resumeProducing()

    def warnOnce(self, why: str, sentence: str, **fields: Any) -> None:
        """
        Warn once a minute; not for each of thousands.

        @param why: what is not said again.
        """
        now = self._clock.seconds()
        if now >= self._warnedUntil.get(why, now):
            self._warnedUntil[why] = now + WARN_INTERVAL_SECONDS
            self.log.warn(sentence, status="limit", why=why, **fields)

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

from tunnelstack.edge.public.rate import Rates, household

resource: Any
try:
    import resource
except ImportError:                           # Windows has no such limit
    resource = None

RESERVE = 64
"""Descriptors that visitors do not get: for agents' ports, certificates, logs, and whatever else a process opens."""

LOOK_SECONDS = 1.0
"""Seconds between two looks whether there are descriptors again."""

HUSH_SECONDS = 60.0
"""Seconds for which the same thing is not said again."""

UNSENT = 256 * 1024
"""Octets that the system holds of what a visitor was not sent yet."""

UNSENT_OPTION = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)

REMEMBERED = 65_536
"""Addresses whose newcomers are counted."""


def mostDescriptors() -> int:
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


def boundUnsent(transport: Any) -> None:
    """
    Let the system hold little for a visitor who reads slowly: otherwise it takes megabytes for each, and he seems fast.
    """
    while hasattr(transport, "wrappedProtocol"):
        transport = transport.transport
    handle = getattr(transport, "socket", None)
    if UNSENT_OPTION is not None and handle is not None and handle.family != getattr(socket, "AF_UNIX", None):
        handle.setsockopt(socket.IPPROTO_TCP, UNSENT_OPTION, UNSENT)


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


class Accept:
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
        trusts: Callable[[str], bool] = lambda address: False,
        descriptors: Callable[[], int] = mostDescriptors,
        next: Callable[[], int] = nextDescriptor,
    ) -> None:
        """
        @param perSecond: new connections of one address; C{0} counts none.
        @param trusts: whether an address is a proxy's, behind which very many are.
        """
        self.here = 0
        self._clock = clock
        self._trusts = trusts
        self._descriptors = descriptors
        self._next = next
        self._ports: set[Any] = set()
        self._paused = False
        self._look: Any = None
        self._said: dict[str, float] = {}
        self.configure(most, perSecond)

    def configure(self, most: int, perSecond: float) -> None:
        """
        From now on, other bounds.
        """
        self.most = most
        self._newcomers = Rates(perSecond, most=REMEMBERED)
        if self._paused:
            self._reconsider()

    @property
    def paused(self) -> bool:
        """
        Nobody is let in at the moment.
        """
        return self._paused

    # ports

    def opened(self, port: Any) -> None:
        """
        A port listens.
        """
        self._ports.add(port)
        if self._paused:
            port.pauseProducing()

    def closed(self, port: Any) -> None:
        """
        A port will listen no more.
        """
        self._ports.discard(port)

    def stop(self) -> None:
        """
        Nobody comes any more.
        """
        self._ports.clear()
        look, self._look = self._look, None
        if look is not None:
            look.cancel()

    # visitors

    def admits(self, address: str) -> bool:
        """
        Whether a newcomer may stay: not too many came from where he comes from in the last second.
        """
        who = household(address)
        if not who or self._trusts(address) or self._newcomers.take(who, self._clock.seconds()):
            return True
        self.say("newcomers", "too many new connections from {visitor}, which are closed at once", visitor=address)
        return False

    def entered(self, descriptor: int = -1) -> None:
        """
        Somebody is in.

        @param descriptor: the number of his connection's, if it is known.
        """
        self.here += 1
        if self.here >= self.most:
            self._pause("visitors", "{visitors} visitors are here: the next wait until somebody goes", visitors=self.here)
        elif descriptor >= self._descriptors() - RESERVE:
            self._short(descriptor)

    def left(self) -> None:
        """
        Somebody is gone.
        """
        self.here -= 1
        if self._paused and self._look is None:
            self._reconsider()

    def _short(self, descriptor: int) -> None:
        self._pause(
            "descriptors", "{descriptors} descriptors of {most} are in use: visitors wait until some are free (ulimit -n)",
            descriptors=descriptor, most=self._descriptors(),
        )
        if self._look is None:
            self._look = self._clock.callLater(LOOK_SECONDS, self._looked)

    def _looked(self) -> None:
        self._look = None
        self._reconsider()

    def _pause(self, why: str, sentence: str, **fields: Any) -> None:
        if not self._paused:
            self._paused = True
            for port in self._ports:
                port.pauseProducing()
            self.say(why, sentence, **fields)

    def _reconsider(self) -> None:
        """
        Listen again, if there is room.
        """
        if self.here >= self.most:
            return
        descriptor = self._next()
        if descriptor >= self._descriptors() - RESERVE:
            self._short(descriptor)
            return
        self._paused = False
        for port in self._ports:
            port.resumeProducing()

    def say(self, why: str, sentence: str, **fields: Any) -> None:
        """
        Warn once a minute; not for each of thousands.

        @param why: what is not said again.
        """
        now = self._clock.seconds()
        if now >= self._said.get(why, now):
            self._said[why] = now + HUSH_SECONDS
            self.log.warn(sentence, status="limit", why=why, **fields)

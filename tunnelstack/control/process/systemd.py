"""
What systemd is told of a process: that it is ready, that it reads its configuration again, that it is about to stop, and
that it is still alive.

Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

FAMILIES = {socket.AF_INET: "INET", socket.AF_INET6: "INET6", socket.AF_UNIX: "UNIX"}


class Notifier:
    """
    Tells systemd, if systemd has started this process.
    """

    log = Logger()

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        """
        @param pid: of this process.
        """
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdogSeconds = _watchdog(environ, os.getpid() if pid is None else pid)
        self._timer: Any = None

    def notify(self, *lines: str) -> None:
        """
        Say something, such as C{"READY=1"}.
        """
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            self.log.warn("systemd cannot be told {lines}: {reason}", lines=", ".join(lines), reason=str(error))

    def ready(self) -> None:
        """
        It does what it is for.
        """
        self.notify("READY=1")

    def reloading(self) -> None:
        """
        It reads its configuration; C{ready} follows.
        """
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> None:
        """
        It is about to stop.

        @param seconds: which that may take.
        """
        self.notify("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int((seconds + 5) * 1_000_000)}")

    def startWatchdog(self, clock: Any) -> Callable[[], None]:
        """
        Say from now on, twice as often as is asked for, that it is alive.

        @return: ends that.
        """
        if self.watchdogSeconds:
            self.notify("WATCHDOG=1")
            self._timer = clock.callLater(self.watchdogSeconds / 2, self.startWatchdog, clock)
        return self._stopWatchdog

    def _stopWatchdog(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


def _watchdog(environ: Mapping[str, str], pid: int) -> float:
    """
    Seconds within which systemd wants to hear something, C{0.0} if it does not.
    """
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    return int(microseconds) / 1_000_000


def activatedSockets() -> tuple[str, ...]:
    """
    The sockets that systemd listens on for this process, as far as Twisted knows of them: it has taken them out of the
    environment when its endpoints were imported.

    @return: an endpoint string for each.
    """
    found = []
    with suppress(IndexError):
        for index in count():
            endpoint: Any = serverFromString(object(), f"systemd:domain=INET:index={index}")
            family = _family(endpoint.fileno)
            if family:
                found.append(f"systemd:domain={family}:index={index}")
    return tuple(found)


def _family(descriptor: int) -> str:
    """
    C{""} for what is no socket on which a stream can be accepted.
    """
    try:
        with socket.socket(fileno=os.dup(descriptor)) as found:
            listens = found.type == socket.SOCK_STREAM and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return FAMILIES.get(found.family, "") if listens else ""
    except OSError:
        return ""

"""
Notification of systemd: the process is ready, reloads its configuration, is about to stop, or still works.

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

from twisted.internet.endpoints import _SystemdParser
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

FAMILIES = {socket.AF_INET: "INET", socket.AF_INET6: "INET6", socket.AF_UNIX: "UNIX"}


class Notifier:
    """
    Notifies systemd, if systemd has started this process.
    """

    log = Logger()

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        """
        @param pid: the process identifier, by default of this process.
        """
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdogSeconds = _watchdog(environ, os.getpid() if pid is None else pid)
        self._timer: IDelayedCall | None = None

    def notify(self, *lines: str) -> None:
        """
        Send lines such as C{"READY=1"}.
        """
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            self.log.warn("systemd could not be notified of {lines}: {reason}", lines=", ".join(lines), reason=str(error))

    def ready(self) -> None:
        """
        Report that the process is ready.
        """
        self.notify("READY=1")

    def reloading(self) -> None:
        """
        Report that the configuration is being read.  Call L{ready} afterwards.
        """
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> None:
        """
        Report that the process is about to stop.

        @param seconds: the time that it may need.
        """
        self.notify("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int((seconds + 5) * 1_000_000)}")

    def startWatchdog(self, clock: IReactorTime) -> Callable[[], None]:
        """
        Report that the process works, twice as often as systemd requires.

        @return: a function that stops the reports.
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
    @return: seconds within which systemd expects a report; C{0.0} if it expects none.
    """
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    return int(microseconds) / 1_000_000


def activatedSockets() -> tuple[str, ...]:
    """
    The sockets that systemd has opened for this process.  They are found through Twisted, which removes them from the
    environment when its endpoints are imported.

    @return: an endpoint string for each socket.
    """
    parser: Any = _SystemdParser()      # the public way to it imports all plugins that parse endpoint strings
    found = []
    with suppress(IndexError):
        for index in count():
            endpoint: Any = parser.parseStreamServer(object(), "INET", str(index))
            family = _family(endpoint.fileno)
            if family:
                found.append(f"systemd:domain={family}:index={index}")
    return tuple(found)


def _family(descriptor: int) -> str:
    """
    @return: C{""} for a descriptor that is not a listening stream socket.
    """
    try:
        with socket.socket(fileno=os.dup(descriptor)) as found:
            listens = found.type == socket.SOCK_STREAM and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return FAMILIES.get(found.family, "") if listens else ""
    except OSError:
        return ""

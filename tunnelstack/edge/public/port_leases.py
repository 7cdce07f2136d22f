"""
The public ports of services: which port a service gets, and when it is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from random import randrange

from attrs import define
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from tunnelstack.control.auth.permissions import EVERY_PORT
from tunnelstack.errors import Denied
from tunnelstack.transport.peers import portOf
from tunnelstack.waiters import Waiters

MAX_TRIED_PORTS = 256
"""Ports of one range that are tried until a free one is found."""

PORT_KINDS = ("tcp", "udp")
"""The kinds of services that have a port of the edge."""

REMEMBERED = 1024
"""Services whose last port is remembered, so that an agent that reconnects gets the same port."""


@define(eq=False, repr=False)
class _OpenPort:
    """
    One service's port.
    """

    number: int
    listening: IListeningPort


Listen = Callable[[int, str, str], IListeningPort]
"""Opens a port, 0 for any, for a service, on an address that is C{""} for the default.  It raises C{CannotListenError}."""


class PortLeases:
    """
    The ports of one protocol, by the service that has each.
    """

    def __init__(self, protocol: str, listen: Listen, closing: Callable[[IListeningPort], object] = lambda port: None) -> None:
        """
        @param protocol: C{"tcp"} or C{"udp"}, as in rights and sentences.
        @param listen: opens a port.
        @param closing: called with each port that is about to be closed.
        """
        self._protocol = protocol
        self._listen = listen
        self._announceClosing = closing
        self._open: dict[str, _OpenPort] = {}
        self._closing = 0
        self._waiting: Waiters[None] = Waiters()      # callers of C{open}, while ports are being closed
        self._last: dict[tuple[str, str], int] = {}

    @inlineCallbacks
    def open(
        self, agent: str, name: str, asked: int, allowed: tuple[range, ...], address: str = ""
    ) -> Generator[Deferred[None], None, int]:
        """
        Open a port for a service.  If the service has one, that is used.

        @param asked: the requested port; C{0} for any.
        @param allowed: the ports that the agent may have.
        @param address: on which the port is opened; C{""} for the interface of all ports.
        @return: a C{Deferred} of the port; it fails with L{Denied}.
        """
        if asked and not any(asked in ports for ports in allowed):
            raise Denied("not-allowed", f"the token does not allow {self._protocol}:{asked}", port=asked)
        if not allowed:
            raise Denied("not-allowed", f"the token allows no {self._protocol.upper()} port")
        while self._closing:                  # the requested port may be among those that are being closed
            yield self._waiting.wait()
        present = self._open.get(name)
        if present is None:
            return self._openPort(agent, name, asked, allowed, address)
        if asked not in (0, present.number):
            raise Denied("port-taken", f"{name} has port {present.number} already", name=name)
        if not any(present.number in ports for ports in allowed):
            sentence = f"the token does not allow {self._protocol}:{present.number}, the present port of {name}"
            raise Denied("not-allowed", sentence, port=present.number)
        return present.number

    def _openPort(self, agent: str, name: str, asked: int, allowed: tuple[range, ...], address: str) -> int:
        for port in [asked] if asked else self._candidates((agent, name), allowed):
            try:
                listening = self._listen(port, name, address)
            except CannotListenError:
                continue
            number = portOf(listening.getHost())
            self._open[name] = _OpenPort(number, listening)
            self._last[agent, name] = number
            if len(self._last) > REMEMBERED:
                del self._last[next(iter(self._last))]
            return number
        what = f"port {asked} is" if asked else "all ports that the token allows are"
        raise Denied("port-taken", f"{what} taken", port=asked)

    def check(self, name: str, port: int) -> None:
        """
        Check whether a service could have a port now: it is opened and closed again, unless it is the service's own.

        @raise Denied: another service or another program has it.
        """
        if self.port(name) == port:
            return
        try:
            listening = self._listen(port, name, "")
        except CannotListenError:
            raise Denied("port-taken", f"port {port} is taken", port=port) from None
        self._stop(listening).addErrback(lambda _: None)      # whoever opens it next meets the error

    def _candidates(self, owner: tuple[str, str], allowed: Iterable[range]) -> Iterator[int]:
        """
        The ports to try, in order: the last one of this service, then any.
        """
        ranges = list(allowed)
        last = self._last.get(owner)
        if last is not None and any(last in ports for ports in ranges):
            yield last
        if EVERY_PORT in ranges:
            yield 0
            return
        for ports in ranges:
            first = randrange(len(ports))
            for step in range(min(len(ports), MAX_TRIED_PORTS)):
                yield ports[(first + step) % len(ports)]

    def close(self, name: str) -> Deferred[None]:
        """
        Close a service's port.  Connections that are open stay open.

        @return: fires when the port is closed.
        """
        present = self._open.pop(name, None)
        if present is None:
            return succeed(None)
        return self._stop(present.listening)

    def _stop(self, listening: IListeningPort) -> Deferred[None]:
        self._closing += 1
        self._announceClosing(listening)
        closed: Deferred[None] = listening.stopListening() or succeed(None)
        return closed.addBoth(self._closed)

    def _closed(self, result: Failure | None) -> Failure | None:
        self._closing -= 1
        if not self._closing:
            self._waiting.fire(None)
        return result

    def port(self, name: str) -> int:
        """
        @return: a service's port; C{0} if it has none.
        """
        present = self._open.get(name)
        return 0 if present is None else present.number

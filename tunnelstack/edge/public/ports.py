"""
TCP ports of the edge that belong to services: what connects there is joined to a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from random import randrange
from secrets import token_hex
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.control.auth.permissions import EVERY_PORT
from tunnelstack.edge.listeners import BACKLOG
from tunnelstack.edge.public.admission import Admission, nextDescriptor
from tunnelstack.edge.public.bandwidth import MeteredEnd
from tunnelstack.edge.public.rate import Bucket
from tunnelstack.errors import Denied, Unavailable
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.records import TCPPurpose, Visitor
from tunnelstack.stream.splice import Splice
from tunnelstack.transport.peers import canonical
from tunnelstack.waiters import Waiters

MAX_TRIED_PORTS = 256
"""Ports of a range that are tried, at most, until a free one is found."""

REMEMBERED = 1024
"""Services whose last port is remembered, so that an agent which comes back finds it again."""


@define
class _OpenPort:
    """
    A port that is open.
    """

    number: int
    listening: Any


class Ports:
    """
    The ports of an edge's services.

    @ivar connections: how many visitors are joined.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, registry: Any, admission: Admission, *, interface: str = "", rateLimit: Callable[[Any], Any],
    ) -> None:
        """
        @param registry: a L{Registry<tunnelstack.control.registry.Registry>}, asked for each visitor.
        @param admission: counts them, with the visitors of web sites.
        @param interface: the address on which ports are opened; C{""} for all.
        @param rateLimit: of an agent's principal, the L{AgentRateLimit<tunnelstack.edge.public.access_policy.AgentRateLimit>},
            or C{None}.
        """
        self.connections = 0
        self._reactor = reactor
        self._registry = registry
        self._interface = interface
        self._admission = admission
        self._rateLimitOf = rateLimit
        self._open: dict[str, _OpenPort] = {}
        self._closing = 0
        self._waiting: Waiters[None] = Waiters()      # for the ports that are being closed
        self._last: dict[tuple[str, str], int] = {}
        self._traces = count(1)
        self._process = token_hex(5)

    @inlineCallbacks
    def open(self, agent: str, name: str, asked: int, allowed: tuple[range, ...]) -> Any:
        """
        Open a port for a service, or find it open.

        @param asked: the port that is wanted; C{0} for any.
        @param allowed: the ports that may be taken.
        @return: a C{Deferred} of the port; fails with L{Denied}.
        """
        if asked and not any(asked in ports for ports in allowed):
            raise Denied("not-allowed", f"the token does not allow tcp:{asked}", port=asked)
        if not allowed:
            raise Denied("not-allowed", "the token allows no TCP port")
        while self._closing:                  # one that is about to be closed may be the one that is wanted
            yield self._waiting.wait()
        there = self._open.get(name)
        if there is None:
            return self._openPort(agent, name, asked, allowed)
        if asked not in (0, there.number):
            raise Denied("port-taken", f"{name} has port {there.number} already", name=name)
        if not any(there.number in ports for ports in allowed):
            raise Denied("not-allowed", f"the token does not allow tcp:{there.number}, where {name} is", port=there.number)
        return there.number

    def _openPort(self, agent: str, name: str, asked: int, allowed: tuple[range, ...]) -> int:
        for port in [asked] if asked else self._candidates((agent, name), allowed):
            try:
                listening = self._reactor.listenTCP(port, _PortFactory(self, name), BACKLOG, self._interface)
            except CannotListenError:
                continue
            self._admission.addPort(listening)
            number = int(listening.getHost().port)
            self._open[name] = _OpenPort(number, listening)
            self._last[agent, name] = number
            if len(self._last) > REMEMBERED:
                del self._last[next(iter(self._last))]
            return number
        what = f"port {asked} is" if asked else "all ports that the token allows are"
        raise Denied("port-taken", f"{what} taken", port=asked)

    def _candidates(self, owner: tuple[str, str], allowed: Iterable[range]) -> Iterator[int]:
        """
        The last one, then any.
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
        Close a service's port; connections that are there go on.
        """
        there = self._open.pop(name, None)
        if there is None:
            return succeed(None)
        self._closing += 1
        self._admission.removePort(there.listening)
        closed: Deferred[None] = maybeDeferred(there.listening.stopListening)
        return closed.addBoth(self._closed)

    def _closed(self, result: Any) -> Any:
        self._closing -= 1
        if not self._closing:
            self._waiting.fire(None)
        return result

    def port(self, name: str) -> int:
        """
        @return: a service's port, C{0} if it has none.
        """
        there = self._open.get(name)
        return 0 if there is None else there.number

    def connectVisitor(self, name: str, address: Any) -> Any:
        """
        Somebody connects.

        @return: the protocol of the connection, or C{None} to close it at once.
        """
        if not self._admission.admit(getattr(address, "host", "")):
            return None
        tunnel = self._registry.pick(name, "tcp")
        if tunnel is None:
            self.log.warn("a visitor of {service} turned away: its agent is not there", service=name, visitor=str(address))
            return None
        rateLimit = self._rateLimitOf(tunnel.principal)
        if rateLimit is not None and rateLimit.rate is not None and rateLimit.rate.take(self._reactor.seconds()):
            self._admission.warnOnce("rate", "too many visitors a second of {service}, who are closed at once", service=name)
            return None
        trace = f"{self._process}-{next(self._traces):x}"
        splice = self._splice(name, trace, rateLimit.buckets if rateLimit is not None else ())
        try:
            endpoint = tunnel.endpointFor(TCPPurpose(service=name), Visitor(address=address, scheme="tcp", trace=trace))
        except Unavailable:
            return None
        self.connections += 1
        self._admission.connectionOpened(nextDescriptor())
        connecting: Any = endpoint.connect(SpliceFactory(splice.far))
        connecting.addErrback(self._failed, name, trace, splice)
        if connecting.called and splice.far.transport is None:
            self._connectionClosed()
            return None
        return splice.near

    def _splice(self, name: str, trace: str, buckets: tuple[Bucket, ...]) -> Splice:
        began = self._reactor.seconds()

        def ended(reason: Failure) -> None:
            self._ended(name, trace, splice, began, reason)

        def metered(splice: Splice) -> MeteredEnd:
            return MeteredEnd(splice, buckets, self._reactor)

        splice = Splice(self._reactor, ended, metered) if buckets else Splice(self._reactor, ended)
        return splice

    def _failed(self, failure: Failure, name: str, trace: str, splice: Splice) -> None:
        self.log.warn(
            "a visitor of {service} could not be passed on (connection {trace}): {reason}", service=name, trace=trace,
            reason=failure.getErrorMessage(),
        )
        splice.close()

    def _connectionClosed(self) -> None:
        self.connections -= 1
        self._admission.connectionClosed()

    def _ended(self, name: str, trace: str, splice: Splice, began: float, reason: Failure) -> None:
        self._connectionClosed()
        self.log.info(
            "a visit to {service} is over (connection {trace}): {octetsIn} octets in, {octetsOut} out",
            service=name, trace=trace, octetsIn=splice.near.octets, octetsOut=splice.far.octets,
            seconds=self._reactor.seconds() - began, reason=reason.getErrorMessage(),
        )


class _PortFactory(ServerFactory):
    """
    Builds the protocols of one port.
    """

    noisy = False

    def __init__(self, ports: Ports, name: str) -> None:
        self._ports = ports
        self._name = name

    def buildProtocol(self, address: Any) -> Any:
        return self._ports.connectVisitor(self._name, canonical(address))

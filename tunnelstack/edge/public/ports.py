"""
TCP ports of the edge that belong to services: a connection to one is joined to a stream to the service's agent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from random import randrange

from attrs import define
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.control.auth.permissions import EVERY_PORT
from tunnelstack.edge.listeners import BACKLOG
from tunnelstack.edge.public.access_policy import AgentRateLimit
from tunnelstack.edge.public.admission import Admission, nextDescriptor
from tunnelstack.edge.public.bandwidth import MeteredEnd
from tunnelstack.edge.public.rate import Bucket
from tunnelstack.edge.public.site import TunnelTable
from tunnelstack.edge.public.traces import TraceIdentifiers
from tunnelstack.errors import Denied, Unavailable
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.interfaces import IReactor
from tunnelstack.records import Principal, TCPPurpose, Visitor
from tunnelstack.stream.splice import Splice, SpliceEnd
from tunnelstack.transport.peers import addressText, canonical, portOf
from tunnelstack.waiters import Waiters

MAX_TRIED_PORTS = 256
"""Ports of one range that are tried until a free one is found."""

REMEMBERED = 1024
"""Services whose last port is remembered, so that an agent that reconnects gets the same port."""


@define
class _OpenPort:
    """
    One service's port.
    """

    number: int
    listening: IListeningPort


class Ports:
    """
    The ports of an edge's services.

    @ivar connections: how many visitors' connections are joined to streams.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        registry: TunnelTable,
        admission: Admission,
        *,
        interface: str = "",
        rateLimit: Callable[[Principal], AgentRateLimit | None],
    ) -> None:
        """
        @param admission: counts the connections, together with those of the public port.
        @param interface: the address on which ports are opened; C{""} for all.
        @param rateLimit: gives the limits of an agent.
        """
        self.connections = 0
        self._reactor = reactor
        self._registry = registry
        self._interface = interface
        self._admission = admission
        self._rateLimitOf = rateLimit
        self._open: dict[str, _OpenPort] = {}
        self._closing = 0
        self._waiting: Waiters[None] = Waiters()      # callers of C{open}, while ports are being closed
        self._last: dict[tuple[str, str], int] = {}
        self._nextTrace = TraceIdentifiers()

    @inlineCallbacks
    def open(
        self, agent: str, name: str, asked: int, allowed: tuple[range, ...], address: str = ""
    ) -> Generator[Deferred[None], None, int]:
        """
        Open a port for a service.  If the service has one, that is used.

        @param asked: the wanted port; C{0} for any.
        @param allowed: the ports that the agent may have.
        @param address: on which the port is opened; C{""} for the interface of all ports.
        @return: a C{Deferred} of the port; it fails with L{Denied}.
        """
        if asked and not any(asked in ports for ports in allowed):
            raise Denied("not-allowed", f"the token does not allow tcp:{asked}", port=asked)
        if not allowed:
            raise Denied("not-allowed", "the token allows no TCP port")
        while self._closing:                  # the wanted port may be among those that are being closed
            yield self._waiting.wait()
        present = self._open.get(name)
        if present is None:
            return self._openPort(agent, name, asked, allowed, address)
        if asked not in (0, present.number):
            raise Denied("port-taken", f"{name} has port {present.number} already", name=name)
        if not any(present.number in ports for ports in allowed):
            sentence = f"the token does not allow tcp:{present.number}, the present port of {name}"
            raise Denied("not-allowed", sentence, port=present.number)
        return present.number

    def _openPort(self, agent: str, name: str, asked: int, allowed: tuple[range, ...], address: str) -> int:
        for port in [asked] if asked else self._candidates((agent, name), allowed):
            try:
                listening = self._reactor.listenTCP(port, _PortFactory(self, name), BACKLOG, address or self._interface)
            except CannotListenError:
                continue
            self._admission.addPort(listening)
            number = portOf(listening.getHost())
            self._open[name] = _OpenPort(number, listening)
            self._last[agent, name] = number
            if len(self._last) > REMEMBERED:
                del self._last[next(iter(self._last))]
            return number
        what = f"port {asked} is" if asked else "all ports that the token allows are"
        raise Denied("port-taken", f"{what} taken", port=asked)

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
        self._closing += 1
        self._admission.removePort(present.listening)
        closed = present.listening.stopListening() or succeed(None)
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

    def connectVisitor(self, name: str, address: IAddress | None) -> SpliceEnd | None:
        """
        Open a stream for a connection that was accepted.

        @param name: the service of the port.
        @param address: the visitor's.
        @return: the protocol of the connection; C{None} to close it at once.
        """
        if not self._admission.admit(getattr(address, "host", "")):
            return None
        tunnel = self._registry.pick(name, "tcp")
        if tunnel is None:
            self.log.warn(
                "a connection from {visitor} to {service} was closed: the agent is not connected", service=name,
                visitor=addressText(address),
            )
            return None
        rateLimit = self._rateLimitOf(tunnel.principal)
        if rateLimit is not None and rateLimit.rate is not None and rateLimit.rate.take(self._reactor.seconds()):
            self._admission.warnOnce(
                "rate", "too many connections a second to {service}: further ones are closed at once", service=name
            )
            return None
        trace = self._nextTrace()
        splice = self._splice(name, trace, rateLimit.buckets if rateLimit is not None else ())
        try:
            endpoint = tunnel.endpointFor(TCPPurpose(service=name), Visitor(address=address, scheme="tcp", trace=trace))
        except Unavailable:
            return None
        self.connections += 1
        self._admission.connectionOpened(nextDescriptor())
        connecting = endpoint.connect(SpliceFactory(splice.far))
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
            "no stream for a connection to {service} (connection {trace}): {reason}", service=name, trace=trace,
            reason=failure.getErrorMessage(),
        )
        splice.close()

    def _connectionClosed(self) -> None:
        self.connections -= 1
        self._admission.connectionClosed()

    def _ended(self, name: str, trace: str, splice: Splice, began: float, reason: Failure) -> None:
        self._connectionClosed()
        self.log.info(
            "a connection to {service} has ended (connection {trace}): {octetsIn} octets in, {octetsOut} out",
            service=name, trace=trace, octetsIn=splice.near.octets, octetsOut=splice.far.octets,
            seconds=self._reactor.seconds() - began, reason=reason.getErrorMessage(),
        )


class _PortFactory(ServerFactory):
    """
    Builds the protocols of one port's connections.
    """

    noisy = False

    def __init__(self, ports: Ports, name: str) -> None:
        self._ports = ports
        self._name = name

    def buildProtocol(self, address: IAddress | None) -> SpliceEnd | None:
        return self._ports.connectVisitor(self._name, address if address is None else canonical(address))

"""
TCP ports of the edge that belong to services: a connection to one is joined to a stream to the service's agent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.edge.listeners import BACKLOG
from tunnelstack.edge.public.admission import Admission, nextDescriptor
from tunnelstack.edge.public.agent_limits import AgentRateLimit
from tunnelstack.edge.public.bandwidth import MeteredEnd
from tunnelstack.edge.public.port_leases import PortLeases
from tunnelstack.edge.public.rate import Bucket
from tunnelstack.edge.public.site import TunnelTable
from tunnelstack.edge.public.traces import traceIdentifiers
from tunnelstack.errors import Unavailable
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.interfaces import IReactor
from tunnelstack.records import Principal, TCPPurpose, Visitor
from tunnelstack.stream.splice import Splice, SpliceEnd
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText, canonical


class Ports:
    """
    The ports of an edge's services.

    @ivar connections: how many visitors' connections are joined to streams.
    @ivar leases: the port of each service.
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
        self.leases = PortLeases("tcp", self._listen, admission.removePort)
        self._nextTrace = traceIdentifiers()

    def _listen(self, port: int, name: str, address: str) -> IListeningPort:
        listening: IListeningPort = self._reactor.listenTCP(port, _PortFactory(self, name), BACKLOG, address or self._interface)
        self._admission.addPort(listening)
        return listening

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
        failures: list[Failure] = []          # one that is known at once
        connecting = endpoint.connect(SpliceFactory(splice.far)).addErrback(failures.append)
        connecting.addCallback(lambda _: self._failed(failures, name, trace, splice))
        if failures:
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

    def _failed(self, failures: Sequence[Failure], name: str, trace: str, splice: Splice) -> None:
        """
        @param failures: why there is no stream; empty if there is one.
        """
        for failure in failures:
            self.log.warn(
                "no stream for a connection to {service} (connection {trace}): {reason}", service=name, trace=trace,
                reason=errorText(failure),
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
            seconds=self._reactor.seconds() - began, reason=errorText(reason),
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

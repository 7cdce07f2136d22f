"""
UDP ports of the edge that belong to services.

The datagrams of one visitor's address and port are a flow: the first one opens a way to the service's agent, and a flow that is
not used for a while is closed.  An address can be forged, so flows are bounded, those without an answer are kept for a shorter
time, and nothing waits: what cannot be sent is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.error import ConnectionDone, MessageLengthError
from twisted.internet.error import TimeoutError as IdleTimeoutError
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.edge.public.access_policy import AgentRateLimit
from tunnelstack.edge.public.admission import Admission
from tunnelstack.edge.public.port_leases import PortLeases
from tunnelstack.edge.public.rate import Bucket
from tunnelstack.edge.public.site import TunnelTable
from tunnelstack.edge.public.traces import traceIdentifiers
from tunnelstack.errors import Unavailable
from tunnelstack.interfaces import IDatagramTransport, IReactor
from tunnelstack.records import Principal, UDPPurpose, Visitor
from tunnelstack.transport.datagram_splice import DatagramSplice, DatagramSpliceFactory
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText, canonical
from tunnelstack.transport.udp import LARGEST_DATAGRAM, LONGEST_PAYLOAD, udpAddress

UNANSWERED_SECONDS = 10.0
"""Seconds that a flow is kept to which nothing has been sent, if the idle time is not shorter."""

SWEEPS = 4
"""How often in its idle time a flow is examined."""

HELD_DATAGRAMS = 16
"""Datagrams of a flow that wait while the way to the agent is being opened."""


class UDPPorts:
    """
    The UDP ports of an edge's services.

    @ivar leases: the port of each service.
    @ivar flows: how many flows there are.
    @ivar dropped: datagrams that were dropped: of flows that were not allowed, beyond the rate of an agent, or not sent.
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
        maxFlows: int,
        idleSeconds: float,
    ) -> None:
        """
        @param admission: limits the new flows of an address, together with its connections.
        @param interface: the address on which ports are opened; C{""} for all.
        @param rateLimit: gives the limits of an agent.
        @param maxFlows: flows at a time.
        @param idleSeconds: after as long without a datagram a flow is closed.
        """
        self.leases = PortLeases("udp", self._listen)
        self.flows = 0
        self.dropped = 0
        self.maxFlows = maxFlows
        self.idleSeconds = idleSeconds
        self._reactor = reactor
        self._registry = registry
        self._admission = admission
        self._interface = interface
        self._rateLimitOf = rateLimit
        self._nextTrace = traceIdentifiers()

    def _listen(self, port: int, name: str, address: str) -> IListeningPort:
        where = address or self._interface
        listening: IListeningPort = self._reactor.listenUDP(port, UDPPort(self, name), where, maxPacketSize=LARGEST_DATAGRAM)
        return listening

    def now(self) -> float:
        """
        @return: the time of the reactor's clock.
        """
        return self._reactor.seconds()

    def callLater(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        """
        As of the reactor's clock.
        """
        return self._reactor.callLater(seconds, call)

    def openFlow(self, port: UDPPort, name: str, addr: tuple[str, int]) -> Flow | None:
        """
        Open a flow for the first datagram of a visitor.

        @param addr: the visitor's.
        @return: C{None} if it is not allowed, or the agent is not connected.
        """
        if self.flows >= self.maxFlows:
            self._admission.warnOnce("flows", "{flows} UDP flows are open, as many as allowed", flows=self.flows)
            return None
        address = canonical(udpAddress(addr))
        if not self._admission.admit(getattr(address, "host", "")):
            return None
        tunnel = self._registry.pick(name, "udp")
        if tunnel is None:
            self._admission.warnOnce(
                "absent " + name, "datagrams for {service} are dropped: the agent is not connected", service=name
            )
            return None
        limit = self._rateLimitOf(tunnel.principal)
        if limit is not None and limit.rate is not None and limit.rate.take(self.now()):
            self._admission.warnOnce("rate", "too many UDP flows a second to {service}: further ones are dropped", service=name)
            return None
        trace = self._nextTrace()
        flow = Flow(self, port, name, addr, trace, limit.buckets if limit is not None else ())
        try:
            endpoint = tunnel.datagramEndpointFor(
                UDPPurpose(service=name), Visitor(address=address, scheme="udp", trace=trace)
            )
        except Unavailable:
            return None
        self.flows += 1
        connecting = endpoint.connect(DatagramSpliceFactory(flow.splice.far))
        connecting.addErrback(flow.failed)
        return flow

    def flowClosed(self, flow: Flow, reason: Failure) -> None:
        """
        A flow is over.
        """
        self.flows -= 1
        near, far = flow.splice.near, flow.splice.far
        self.log.info(
            "a flow to {service} has ended (flow {trace}): {octetsIn} octets in {datagramsIn} datagrams in, {octetsOut} in "
            "{datagramsOut} out", service=flow.service, trace=flow.trace, octetsIn=near.octets, octetsOut=far.octets,
            datagramsIn=near.datagrams, datagramsOut=far.datagrams, visitor=addressText(flow.getPeer()),
            seconds=self.now() - flow.began, reason=errorText(reason),
        )


class UDPPort(DatagramProtocol):
    """
    One port, with the flows of its visitors.
    """

    noisy = False
    transport: IUDPTransport

    def __init__(self, ports: UDPPorts, name: str) -> None:
        self._ports = ports
        self._name = name
        self._flows: dict[tuple[str, int], Flow] = {}
        self._sweep: IDelayedCall | None = None

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        flow = self._flows.get(addr)
        if flow is None:
            flow = self._ports.openFlow(self, self._name, addr)
            if flow is None:
                self._ports.dropped += 1
                return
            if flow.over:                     # the way could not be opened, which is known at once
                return
            self._flows[addr] = flow
            self._sweepLater()
        flow.received(datagram)

    def send(self, datagram: bytes, addr: tuple[str, int]) -> bool:
        """
        @return: whether the system took it.
        """
        try:
            self.transport.write(datagram, addr)
        except (OSError, MessageLengthError):
            return False
        return True

    def forget(self, addr: tuple[str, int]) -> None:
        """
        A flow is over.
        """
        self._flows.pop(addr, None)

    def _sweepLater(self) -> None:
        if self._sweep is None:
            idle = self._ports.idleSeconds
            self._sweep = self._ports.callLater(min(idle, UNANSWERED_SECONDS) / SWEEPS, self._closeIdle)

    def _closeIdle(self) -> None:
        self._sweep = None
        now, idle = self._ports.now(), self._ports.idleSeconds
        for flow in list(self._flows.values()):
            if now - flow.used >= (idle if flow.answered else min(idle, UNANSWERED_SECONDS)):
                flow.close(IdleTimeoutError(f"no datagram within {now - flow.used:.0f} s"))
        if self._flows:
            self._sweepLater()

    def stopProtocol(self) -> None:
        """
        The port is closed: its flows have no way back to their visitors.
        """
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for flow in list(self._flows.values()):
            flow.close(ConnectionDone())


@implementer(IDatagramTransport)
class Flow:
    """
    The datagrams of one visitor, as a transport toward it.

    @ivar service: the service of the port.
    @ivar trace: the identifier in the logs of both sides.
    @ivar splice: joins it to the way to the agent.
    @ivar began: when it began; C{used}, when the last datagram passed.
    @ivar answered: whether a datagram was sent to the visitor.
    @ivar over: it is closed.
    """

    longest = LONGEST_PAYLOAD

    def __init__(
        self, ports: UDPPorts, port: UDPPort, service: str, addr: tuple[str, int], trace: str, buckets: Sequence[Bucket]
    ) -> None:
        self.service = service
        self.trace = trace
        self.began = self.used = ports.now()
        self.answered = False
        self.over = False
        self.dropped = 0
        self._ports = ports
        self._port = port
        self._addr = addr
        self._buckets = buckets
        self.splice = DatagramSplice(self._ended, HELD_DATAGRAMS)
        self.splice.near.makeConnection(self)

    def received(self, datagram: bytes) -> None:
        """
        A datagram of the visitor.
        """
        if self._mayPass(len(datagram)):
            self.splice.near.datagramReceived(datagram)

    def write(self, datagram: bytes) -> None:
        if self.over or not self._mayPass(len(datagram)):
            return
        self.answered = True
        if len(datagram) > self.longest or not self._port.send(datagram, self._addr):
            self._drop()

    def _mayPass(self, octets: int) -> bool:
        """
        Datagrams beyond the agent's limit of octets are dropped, not delayed.
        """
        now = self.used = self._ports.now()
        if any(bucket.take(0, now) > 0 for bucket in self._buckets):
            self._drop()
            return False
        for bucket in self._buckets:
            bucket.take(octets, now)
        return True

    def _drop(self) -> None:
        self.dropped += 1
        self._ports.dropped += 1

    def failed(self, failure: Failure) -> None:
        """
        There is no way to the agent.
        """
        self.splice.close(failure)

    def close(self, reason: Exception) -> None:
        """
        Close the flow.
        """
        self.splice.close(Failure(reason))

    def loseConnection(self) -> None:
        self.close(ConnectionDone())

    abortConnection = loseConnection

    def getHost(self) -> IAddress:
        return self._port.transport.getHost()

    def getPeer(self) -> IAddress:
        return canonical(udpAddress(self._addr))

    def _ended(self, reason: Failure) -> None:
        self.over = True
        self._port.forget(self._addr)
        self._ports.flowClosed(self, reason)

"""
UDP ports of the edge that belong to services.

The datagrams of one visitor's address and port are a flow: the first one opens a way to the service's agent, and a flow that is
not used for a while is closed.  An address can be forged, so flows are bounded, those without an answer are kept for a shorter
time, and nothing waits: what cannot be sent is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.edge.public.admission import Admission
from tunnelstack.edge.public.agent_limits import AgentRateLimit
from tunnelstack.edge.public.port_leases import PortLeases
from tunnelstack.edge.public.site import TunnelTable
from tunnelstack.edge.public.traces import traceIdentifiers
from tunnelstack.errors import Unavailable
from tunnelstack.interfaces import IReactor
from tunnelstack.records import Principal, UDPPurpose, Visitor
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText

if TYPE_CHECKING:
    from tunnelstack.edge.public.udp_flows import Flow, UDPPort


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
        from tunnelstack.edge.public.udp_flows import UDPPort  # see L{tunnelstack.edge.deferred}
        from tunnelstack.transport.udp import LARGEST_DATAGRAM

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

    def openFlow(self, port: UDPPort, name: str, addr: tuple[str, int], address: IAddress) -> Flow | None:
        """
        Open a flow for the first datagram of a visitor.

        @param addr: the visitor's, as its port has it; C{address}, as logs and agents have it.
        @return: C{None} if it is not allowed, or the agent is not connected.
        """
        if self.flows >= self.maxFlows:
            self._admission.warnOnce("flows", "{flows} UDP flows are open, as many as allowed", flows=self.flows)
            return None
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
        flow = port.makeFlow(addr, trace, limit.buckets if limit is not None else ())
        try:
            endpoint = tunnel.datagramEndpointFor(
                UDPPurpose(service=name), Visitor(address=address, scheme="udp", trace=trace)
            )
        except Unavailable:
            return None
        self.flows += 1
        flow.connect(endpoint)
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

"""
The datagrams of visitors at the L{UDPPorts<tunnelstack.edge.public.udp_ports.UDPPorts>} of an edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.error import ConnectionDone, MessageLengthError
from twisted.internet.error import TimeoutError as IdleTimeoutError
from twisted.internet.interfaces import IAddress, IDelayedCall, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.edge.public.rate import Bucket
from tunnelstack.interfaces import IDatagramClientEndpoint, IDatagramTransport
from tunnelstack.transport.datagram_splice import DatagramSplice, DatagramSpliceFactory
from tunnelstack.transport.peers import canonical
from tunnelstack.transport.udp import LONGEST_PAYLOAD, udpAddress

UNANSWERED_SECONDS = 10.0
"""Seconds that a flow is kept to which nothing has been sent, if the idle time is not shorter."""

SWEEPS = 4
"""How often in its idle time a flow is examined."""

HELD_DATAGRAMS = 16
"""Datagrams of a flow that wait while the way to the agent is being opened."""


class FlowTable(Protocol):
    """
    The flows of all ports, such as L{UDPPorts<tunnelstack.edge.public.udp_ports.UDPPorts>}, whose parts these are.
    """

    dropped: int
    idleSeconds: float

    def now(self) -> float: ...

    def callLater(self, seconds: float, call: Callable[[], object]) -> IDelayedCall: ...

    def openFlow(self, port: UDPPort, name: str, addr: tuple[str, int], address: IAddress) -> Flow | None: ...

    def flowClosed(self, flow: Flow, reason: Failure) -> None: ...


class UDPPort(DatagramProtocol):
    """
    One port, with the flows of its visitors.
    """

    noisy = False
    transport: IUDPTransport

    def __init__(self, ports: FlowTable, name: str) -> None:
        self._ports = ports
        self._name = name
        self._flows: dict[tuple[str, int], Flow] = {}
        self._sweep: IDelayedCall | None = None

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        flow = self._flows.get(addr)
        if flow is None:
            flow = self._ports.openFlow(self, self._name, addr, canonical(udpAddress(addr)))
            if flow is None:
                self._ports.dropped += 1
                return
            if flow.over:                     # the way could not be opened, which is known at once
                return
            self._flows[addr] = flow
            self._sweepLater()
        flow.received(datagram)

    def makeFlow(self, addr: tuple[str, int], trace: str, buckets: Sequence[Bucket]) -> Flow:
        """
        @return: a flow of a visitor, which has no way to the agent yet.
        """
        return Flow(self._ports, self, self._name, addr, trace, buckets)

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
        self, ports: FlowTable, port: UDPPort, service: str, addr: tuple[str, int], trace: str, buckets: Sequence[Bucket]
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

    def connect(self, endpoint: IDatagramClientEndpoint) -> None:
        """
        Open the way to the agent.
        """
        endpoint.connect(DatagramSpliceFactory(self.splice.far)).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
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

"""
A reactor without sockets: a client is connected to a listening factory over a wire in memory.
"""

from __future__ import annotations

from errno import EADDRINUSE
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionRefusedError, UserError
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTCP,
)
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.testing._transport import MemoryTransport
from tunnelstack.testing._wire import ROUNDS, Wire


@implementer(IListeningPort)
class _Port:
    """
    The listening port that L{Network.listenTCP} returns.

    @ivar paused: as with a TCP port that accepts no connections for a while; connections in memory are accepted all the same.
    """

    def __init__(self, network: Network, address: IPv4Address, factory: IProtocolFactory) -> None:
        self._network = network
        self._address = address
        self.factory = factory
        self.paused = False

    def startListening(self) -> None:
        self._network.ports[self._address.port] = self
        self.factory.doStart()

    def stopListening(self) -> Deferred[None]:
        if self._network.ports.pop(self._address.port, None) is not None:
            self.factory.doStop()
        return succeed(None)

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def getHost(self) -> IPv4Address:
        return self._address


@implementer(IConnector)
class _Connector:
    """
    The connector that L{Network.connectTCP} returns.
    """

    def __init__(self, network: Network, address: IPv4Address, factory: ClientFactory) -> None:
        self._network = network
        self._address = address
        self._factory = factory
        self._transport: MemoryTransport | None = None
        self._call: IDelayedCall | None = None

    def connect(self) -> None:
        self._factory.doStart()
        self._factory.startedConnecting(self)
        self._call = self._network.callLater(0, self._connected)

    def _connected(self) -> None:
        self._call = None
        port = self._network.ports.get(self._address.port)
        if port is None:
            self._factory.clientConnectionFailed(self, Failure(ConnectionRefusedError()))
            return
        protocol = self._factory.buildProtocol(self._address)
        if protocol is not None:
            self._transport = self._network.join(protocol, port.factory, self._address)

    def stopConnecting(self) -> None:
        if self._call is None:
            raise UserError("this connector is not connecting")
        self._call.cancel()
        self._factory.clientConnectionFailed(self, Failure(UserError()))

    def disconnect(self) -> None:
        if self._transport is not None:
            self._transport.loseConnection()
        else:
            self.stopConnecting()

    def getDestination(self) -> IPv4Address:
        return self._address


class _TurnedAway(Protocol):
    """
    Closes a connection for which the server's factory built no protocol.
    """

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


@implementer(IReactorTCP)
class Network(Clock):
    """
    A reactor of one machine without sockets.  A TCP connection is a L{Wire}, and time is virtual.  Every host name is this
    machine; a connection to a port that is not open is refused.

    @ivar cut: the most octets of one delivery (see L{Wire}).
    @ivar ports: the listening ports, by number.
    @ivar wires: the open connections, the oldest first.
    """

    def __init__(self, cut: int | None = None) -> None:
        super().__init__()
        self.cut = cut
        self.ports: dict[int, _Port] = {}
        self.wires: list[Wire] = []
        self._free = 40000

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> _Port:
        if port in self.ports:
            raise CannotListenError(interface, port, OSError(EADDRINUSE, "the port is taken"))
        listening = _Port(self, IPv4Address("TCP", "127.0.0.1", port or self._another()), factory)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: tuple[str, int] | None = None
    ) -> _Connector:
        connector = _Connector(self, IPv4Address("TCP", "127.0.0.1", port), factory)
        connector.connect()
        return connector

    def _another(self) -> int:
        self._free += 1
        return self._free

    def join(self, client: IProtocol, server: IProtocolFactory, address: IPv4Address) -> MemoryTransport:
        """
        Connect a protocol to one that a server's factory builds.

        @param address: the server's.
        @return: the client's transport.
        """
        near = IPv4Address("TCP", "127.0.0.1", self._another())
        wire = Wire(clock=self, cut=self.cut, addresses=(near, address))
        self.wires.append(wire)
        wire.connect(client, server.buildProtocol(near) or _TurnedAway())
        return wire.near

    def turn(self) -> bool:
        """
        One round of every connection.

        @return: whether anything happened.
        """
        happened = [wire.turn() for wire in list(self.wires)]
        self.wires = [wire for wire in self.wires if not wire.over]
        if not happened:
            due = any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())
            self.advance(0)
            return due
        return any(happened)

    def settle(self, rounds: int = ROUNDS) -> None:
        """
        Run rounds until nothing is left to deliver.  No time passes.

        @raise AssertionError: there is still something to deliver after so many rounds.
        """
        for _ in range(rounds):
            if not self.turn():
                return
        raise AssertionError(f"the network is still busy after {rounds} rounds")

    def passTime(self, seconds: float, step: float = 1.0) -> None:
        """
        Advance the clock in steps, and settle after each.

        @param seconds: how far.
        @param step: seconds of one step.
        """
        end = self.seconds() + seconds
        self.settle()
        while self.seconds() < end:
            self.advance(min(step, end - self.seconds()))
            self.settle()

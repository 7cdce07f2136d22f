"""
Applications of datagrams, and networks that lose, repeat and reorder them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IDatagramFactory, IDatagramProtocol


@implementer(IDatagramProtocol)
class Collector:
    """
    Keeps what it receives; echoes it if it is told to.
    """

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.transport: Any = None
        self.received: list[bytes] = []
        self.reason: Failure | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def datagramReceived(self, datagram: bytes) -> None:
        self.received.append(datagram)
        if self.echo:
            self.transport.write(datagram)
        self._look()

    def connectionLost(self, reason: Failure) -> None:
        self.reason = reason
        self._look()

    def whenReceived(self, number: int) -> Deferred[None]:
        """
        Fires once as many datagrams have been received.
        """
        return self._when(lambda: len(self.received) >= number)

    def whenLost(self) -> Deferred[None]:
        """
        Fires once the transport is lost.
        """
        return self._when(lambda: self.reason is not None)

    def _when(self, condition: Callable[[], bool]) -> Deferred[None]:
        fires: Deferred[None] = Deferred()
        self._waiting.append((condition, fires))
        self._look()
        return fires

    def _look(self) -> None:
        for pair in [pair for pair in self._waiting if pair[0]()]:
            self._waiting.remove(pair)
            pair[1].callback(None)


@implementer(IDatagramFactory)
class CollectorFactory:
    """
    Builds L{Collector}s and keeps them.
    """

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.built: list[Collector] = []
        self._waiting: list[tuple[int, Deferred[Collector]]] = []

    def buildProtocol(self, address: IAddress) -> Collector:
        self.built.append(Collector(self.echo))
        for pair in [pair for pair in self._waiting if len(self.built) >= pair[0]]:
            self._waiting.remove(pair)
            pair[1].callback(self.built[-1])
        return self.built[-1]

    def whenBuilt(self, number: int = 1) -> Deferred[Collector]:
        """
        Fires with the last one once there are as many.
        """
        fires: Deferred[Collector] = Deferred()
        if len(self.built) >= number:
            fires.callback(self.built[-1])
        else:
            self._waiting.append((number, fires))
        return fires


Fate = Callable[[bytes], list[tuple[float, bytes]]]
"""What becomes of a datagram: what is delivered, and after how many seconds."""


def faithful(datagram: bytes) -> list[tuple[float, bytes]]:
    """
    Deliver each at once.
    """
    return [(0.0, datagram)]


def unreliable(seed: int, loss: float, repeated: float = 0.0, late: float = 0.0) -> Fate:
    """
    Deliver at random.

    @param loss: the share that is lost; so for the others: delivered twice, delivered 20 ms late.
    """
    random = Random(seed)

    def fate(datagram: bytes) -> list[tuple[float, bytes]]:
        if random.random() < loss:
            return []
        copies = 2 if random.random() < repeated else 1
        return [(0.02 if random.random() < late else 0.0, datagram) for _ in range(copies)]

    return fate


class Relay(DatagramProtocol):
    """
    A network between clients and one server: each client has a port of its own toward the server.

    @ivar sent: datagrams that went toward the server, and toward clients.
    @ivar up: what becomes of those toward the server; C{down}, of those toward clients.
    """

    noisy = False

    def __init__(self, server: int, up: Fate = faithful, down: Fate = faithful) -> None:
        self.sent: tuple[list[bytes], list[bytes]] = ([], [])
        self.calls: list[Any] = []
        self._server = server
        self.up, self.down = up, down
        self._ports: dict[tuple[str, int], Any] = {}
        self._joined: Any = None
        self._own = reactor.listenUDP(0, self, "127.0.0.1", maxPacketSize=65536)    # type: ignore[attr-defined]
        self.port = self._own.getHost().port

    def join(self, client: int) -> None:
        """
        From now on all clients have the port that this one has toward the server.
        """
        self._joined = self._ports["127.0.0.1", client]

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if self._joined is not None:
            self._ports[addr] = self._joined
            self._joined.protocol.client = addr
        self.sent[0].append(datagram)
        if addr not in self._ports:
            self._ports[addr] = reactor.listenUDP(    # type: ignore[attr-defined]
                0, _Back(self, addr), "127.0.0.1", maxPacketSize=65536
            )
        self._pass(self.up, datagram, lambda octets: self._ports[addr].write(octets, ("127.0.0.1", self._server)))

    def back(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        A datagram of the server, for a client.
        """
        self.sent[1].append(datagram)
        self._pass(self.down, datagram, lambda octets: self._own.write(octets, addr))

    def _pass(self, fate: Fate, datagram: bytes, send: Callable[[bytes], None]) -> None:
        for delay, octets in fate(datagram):
            if delay:
                self.calls.append(reactor.callLater(delay, send, octets))    # type: ignore[attr-defined]
            else:
                send(octets)

    async def stop(self) -> None:
        """
        Close its ports.
        """
        for call in self.calls:
            if call.active():
                call.cancel()
        for port in {self._own, *self._ports.values()}:
            await port.stopListening()


class _Back(DatagramProtocol):
    noisy = False

    def __init__(self, relay: Relay, client: tuple[str, int]) -> None:
        self._relay = relay
        self.client = client

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self._relay.back(datagram, self.client)

"""
What a test of anything above a transport needs: a wire whose octets are moved by hand, in virtual time.

L{EdgeAndAgent} is a whole edge and a whole agent on a L{Network} that has no sockets.  L{Wire} holds two L{MemoryTransport}s
back to back.  Nothing arrives until the test says so, and nothing is
ever called from inside a call that a protocol is making, as on a real network.  An exception that a protocol
raises reaches the test.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from errno import EADDRINUSE
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    UserError,
)
from twisted.internet.interfaces import (
    IConnector,
    IConsumer,
    IHalfCloseableProtocol,
    IListeningPort,
    IPushProducer,
    IReactorTCP,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.agent.service import AgentService
from tunnelstack.control.auth.tokens import newToken
from tunnelstack.control.config import AgentConfig, EdgeAddress, EdgeConfig, ServiceConfig, TokenRecord
from tunnelstack.edge.service import EdgeService
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.wire.yamux.limits import SessionLimits

CAPACITY = 64 * 1024   # octets a transport takes before it pauses its producer; what Twisted's TCP takes
ROUNDS = 100_000       # of L{Wire.settle}; two sides that still talk then will never stop


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTransport:
    """
    One end of a L{Wire}; behaves as Twisted's TCP transport does, and takes nothing but C{bytes}.

    @ivar protocol: who is told what arrives; may be replaced at any time.
    @ivar connected: false once C{connectionLost} was, or is about to be, called.
    @ivar disconnecting: C{loseConnection} was called; nothing is read any more, later writes vanish.
    @ivar stalled: this side does not read (C{pauseProducing}), so that octets pile up at the other side.
    @ivar producer: what is registered here, or C{None}.
    @ivar capacity: octets that may wait for delivery before the producer is paused.
    """

    def __init__(self, host: IPv4Address, peer: IPv4Address, capacity: int) -> None:
        self._host = host
        self._peer = peer
        self.capacity = capacity
        self.protocol: Any = None
        self.connected = True
        self.disconnecting = False
        self.stalled = False
        self.producer: Any = None
        self.other: MemoryTransport = self      # L{Wire} joins two of them
        self._streaming = False
        self._producerPaused = False
        self._queue: deque[bytes] = deque()     # written here, not yet delivered there
        self._queued = 0
        self._lost: Failure | None = None       # what connectionLost will say, on the next round
        self._endingWrites = False              # loseWriteConnection was called
        self._wroteEnd = False                  # our FIN is out, behind all octets
        self._readEnd = False                   # the other's FIN was delivered here
        self._noDelay = False
        self._keepAlive = False

    @property
    def undelivered(self) -> int:
        """
        Octets written here which the other side has not been given.
        """
        return self._queued

    # ITransport

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if not data or not self._takesWrites():
            return
        self._queue.append(data)
        self._queued += len(data)
        if self._streaming and not self._producerPaused and self._queued > self.capacity:
            self._producerPaused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        pieces = list(data)
        for piece in pieces:
            if not isinstance(piece, bytes):
                raise TypeError(f"a transport takes bytes, not {type(piece).__name__}")
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        if self.connected:
            self.disconnecting = True

    def loseWriteConnection(self) -> None:
        if self.connected:
            self._endingWrites = True

    def abortConnection(self) -> None:
        if self.connected:
            self._fail(Failure(ConnectionAborted()))
            self.other._fail(Failure(ConnectionLost()))

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return self._host

    # ITCPTransport

    def getTcpNoDelay(self) -> bool:
        return self._noDelay

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._noDelay = bool(enabled)

    def getTcpKeepAlive(self) -> bool:
        return self._keepAlive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._keepAlive = bool(enabled)

    # IPushProducer: the reading half

    def pauseProducing(self) -> None:
        self.stalled = True

    def resumeProducing(self) -> None:
        self.stalled = False

    def stopProducing(self) -> None:
        self.loseConnection()

    # IConsumer: the writing half

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self.producer!r} was never unregistered")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer = producer
        self._streaming = bool(streaming)
        self._producerPaused = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        self._streaming = self._producerPaused = False

    # What the wire does with it

    def _takesWrites(self) -> bool:
        producing = self.producer is not None     # after loseConnection, until the queue is empty
        return self.connected and not self._endingWrites and (producing or not self.disconnecting)

    def _fail(self, reason: Failure) -> None:
        """
        Both directions end now; the protocol hears of it on the next round.
        """
        if self.connected:
            self.connected = False
            self._lost = reason
            self._queue.clear()
            self._queued = 0

    def _take(self, octets: int) -> bytes:
        """
        Remove at most so many octets from the queue.
        """
        taken: list[bytes] = []
        while octets and self._queue:
            piece = self._queue.popleft()
            if len(piece) > octets:
                self._queue.appendleft(piece[octets:])
                piece = piece[:octets]
            taken.append(piece)
            octets -= len(piece)
        joined = b"".join(taken)
        self._queued -= len(joined)
        return joined

    def _receive(self, octets: int) -> int:
        """
        Deliver to the protocol here, in one call, at most so many octets that the other side wrote.

        @return: how many were delivered; none when this side does not read.
        """
        if self.stalled or not self.connected or self.disconnecting or not self.other._queued:
            return 0
        data = self.other._take(octets)
        self.protocol.dataReceived(data)
        return len(data)

    def _turn(self) -> bool:
        """
        One round of everything that is not the delivery of octets.

        @return: whether anything happened.
        """
        return self._tellLost() or self._askProducer() or self._endWrites() or self._readFin()

    def _tellLost(self) -> bool:
        if self._lost is None:
            return False
        reason, self._lost = self._lost, None
        producer, self.producer, self._streaming = self.producer, None, False
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(reason)
        return True

    def _askProducer(self) -> bool:
        if not self.connected or self.producer is None or self._queued:
            return False
        if self._streaming and not self._producerPaused:
            return False
        self._producerPaused = False
        self.producer.resumeProducing()
        return True

    def _endWrites(self) -> bool:
        """
        The queue is empty: say FIN, and go when C{loseConnection} asked for that.  As with TCP, a pull producer
        has to finish first, a streaming one does not.
        """
        if not self.connected or self._queued or (self.producer is not None and not self._streaming):
            return False
        if self.disconnecting:
            self._wroteEnd = True
            self._fail(Failure(ConnectionDone()))
            return True
        if not self._endingWrites or self._wroteEnd:
            return False
        self._wroteEnd = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()
        return True

    def _readFin(self) -> bool:
        """
        Hear the other side's end, and the reset that answers octets written to somebody who has gone.
        """
        if self.connected and self._queued and not self.other.connected:
            self._fail(Failure(ConnectionLost()))
            return True
        reads = self.connected and not (self.disconnecting or self.stalled or self._readEnd)
        if not reads or not self.other._wroteEnd or self.other._queued:
            return False
        self._readEnd = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._wroteEnd = True
            self._fail(Failure(ConnectionDone()))
        return True


class Wire:
    """
    Two transports back to back.

    @ivar near: one L{MemoryTransport}.
    @ivar far: the other.
    @ivar clock: the virtual time of both sides.
    @ivar cut: the most octets that one C{dataReceived} is given by L{settle}; C{None} for all there is.
    """

    def __init__(self, clock: Clock | None = None, cut: int | None = None, capacity: int = CAPACITY) -> None:
        if cut is not None and cut < 1:
            raise ValueError(f"a delivery has at least one octet, not {cut}")
        self.clock = Clock() if clock is None else clock
        self.cut = cut
        nearAddress = IPv4Address("TCP", "127.0.0.1", 40001)
        farAddress = IPv4Address("TCP", "127.0.0.1", 80)
        self.near = MemoryTransport(nearAddress, farAddress, capacity)
        self.far = MemoryTransport(farAddress, nearAddress, capacity)
        self.near.other, self.far.other = self.far, self.near

    def connect(self, nearProtocol: Any, farProtocol: Any) -> None:
        """
        Connect a protocol to each end, the far one (the server) first.
        """
        self.near.protocol, self.far.protocol = nearProtocol, farProtocol
        farProtocol.makeConnection(self.far)
        nearProtocol.makeConnection(self.near)

    def deliver(self, transport: MemoryTransport, octets: int | None = None) -> int:
        """
        Make one delivery by hand: one C{dataReceived} to the protocol of a transport.

        @param transport: who receives; L{near} or L{far}.
        @param octets: the most octets to deliver; C{None} for all there is.
        @return: how many were delivered; C{0} when there is nothing, or the receiver does not read.
        """
        return transport._receive(transport.other._queued if octets is None else octets)

    def turn(self) -> bool:
        """
        One round: what is due on the clock, the octets that waited when it began, and the ends of
        connections.

        @return: whether anything happened.
        """
        now = self.clock.seconds()
        due = any(call.getTime() <= now for call in self.clock.getDelayedCalls())
        self.clock.advance(0)
        moved = [self._carry(transport) for transport in (self.far, self.near)]
        ended = [transport._turn() for transport in (self.far, self.near)]
        return due or any(moved) or any(ended)

    @property
    def over(self) -> bool:
        """
        Whether nothing can happen here any more.
        """
        return not (self.near.connected or self.far.connected or self.near._lost or self.far._lost)

    def settle(self, rounds: int = ROUNDS) -> None:
        """
        Carry octets both ways until neither side has anything left to say.  Time does not pass, but what was
        put off to the next turn (C{callLater(0)}) happens.

        @raise AssertionError: they still talk after so many rounds.
        """
        for _ in range(rounds):
            if not self.turn():
                return
        raise AssertionError(f"the two sides did not come to rest in {rounds} rounds")

    def drop(self, reason: Failure | None = None) -> None:
        """
        The network dies: what is under way is lost, and both sides are told at once.

        @param reason: what C{connectionLost} says; L{ConnectionLost} unless given.
        """
        for transport in (self.near, self.far):
            transport._fail(Failure(ConnectionLost()) if reason is None else reason)
        for transport in (self.near, self.far):
            transport._tellLost()

    def _carry(self, receiver: MemoryTransport) -> bool:
        waiting = receiver.other._queued
        carried = 0
        while carried < waiting:
            delivered = receiver._receive(min(waiting - carried, self.cut or waiting))
            if not delivered:
                break
            carried += delivered
        return carried > 0


def sessionPair(
    listening: Any = None,
    *,
    clock: Clock | None = None,
    cut: int | None = None,
    limits: SessionLimits | None = None,
) -> tuple[Wire, YamuxSession, YamuxSession]:
    """
    Two yamux sessions over a wire; nothing has been delivered yet.

    @param listening: the factory that the far session's streams are given to, if any.
    @param clock: virtual time; a new one unless given.
    @param cut: the most octets of one delivery (see L{Wire}).
    @param limits: of both sessions.
    @return: the wire, the near session (yamux client) and the far one.
    """
    wire = Wire(clock=clock, cut=cut)
    near = YamuxSession(True, clock=wire.clock, limits=limits)
    far = YamuxSession(False, clock=wire.clock, limits=limits)
    if listening is not None:
        far.listener.listen(listening)
    wire.connect(near, far)
    return wire, near, far


@implementer(IListeningPort)
class _Port:
    """
    What L{Network.listenTCP} gives.
    """

    def __init__(self, network: Network, address: IPv4Address, factory: Any) -> None:
        self._network = network
        self._address = address
        self.factory = factory
        self.paused = False                   # nobody is accepted at the moment, where there is a queue of them

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
    What L{Network.connectTCP} gives.
    """

    def __init__(self, network: Network, address: IPv4Address, factory: Any) -> None:
        self._network = network
        self._address = address
        self._factory = factory
        self._transport: MemoryTransport | None = None
        self._call: Any = None

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
    A server side for which a factory built nothing.
    """

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


@implementer(IReactorTCP)
class Network(Clock):
    """
    A reactor of one machine without sockets: whoever connects to a TCP port meets, over a L{Wire}, who listens there.  Time is
    virtual.  Every host name is this machine; a port that nobody listens on refuses.

    @ivar cut: the most octets of one delivery (see L{Wire}).
    @ivar ports: who listens, by port.
    @ivar wires: the connections there are, the oldest first.
    """

    def __init__(self, cut: int | None = None) -> None:
        super().__init__()
        self.cut = cut
        self.ports: dict[int, _Port] = {}
        self.wires: list[Wire] = []
        self._free = 40000

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> _Port:
        """
        As in C{IReactorTCP}.
        """
        if port in self.ports:
            raise CannotListenError(interface, port, OSError(EADDRINUSE, "the port is taken"))
        listening = _Port(self, IPv4Address("TCP", "127.0.0.1", port or self._another()), factory)
        listening.startListening()
        return listening

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> _Connector:
        """
        As in C{IReactorTCP}.
        """
        connector = _Connector(self, IPv4Address("TCP", "127.0.0.1", port), factory)
        connector.connect()
        return connector

    def _another(self) -> int:
        self._free += 1
        return self._free

    def join(self, client: Any, server: Any, address: IPv4Address) -> MemoryTransport:
        """
        Connect a protocol to what a server's factory builds.

        @return: the client's transport.
        """
        wire = Wire(clock=self, cut=self.cut)
        near = IPv4Address("TCP", "127.0.0.1", self._another())
        wire.near._host = wire.far._peer = near
        wire.far._host = wire.near._peer = address
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
        Go on until nobody has anything left to say.  No time passes.

        @raise AssertionError: they still talk after so many rounds.
        """
        for _ in range(rounds):
            if not self.turn():
                return
        raise AssertionError(f"the network did not come to rest in {rounds} rounds")

    def passTime(self, seconds: float, step: float = 1.0) -> None:
        """
        Let time pass, and everything happen that is due in it.
        """
        end = self.seconds() + seconds
        self.settle()
        while self.seconds() < end:
            self.advance(min(step, end - self.seconds()))
            self.settle()


class Caller(Protocol):
    """
    A client that collects what it hears.

    @ivar got: all octets so far.
    @ivar lost: why the connection ended, C{None} while it has not.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class EdgeAndAgent:
    """
    A whole edge and a whole agent in one process, without sockets, in virtual time.

    Their settings are those of the real services; the network is the only thing that is not::

        both = EdgeAndAgent()
        both.agent.publish(Service(name="echo", kind="http", perVisitor=True), Factory.forProtocol(Echo))
        both.start()
        visitor = both.visit(b"hello")                # octets to the edge's port
        visitor.got                                   # what came back

    @ivar network: the L{Network}, a reactor to everything here.
    @ivar edge: the L{EdgeService<tunnelstack.edge.service.EdgeService>}.
    @ivar agent: the L{AgentService<tunnelstack.agent.service.AgentService>}.
    @ivar token: what the agent shows.
    """

    PORT = 8080

    def __init__(
        self,
        *services: ServiceConfig,
        allow: Iterable[str] = ("http:*", "stream:*", "tcp:*", "dial:*"),
        share: bool = False,
        cut: int | None = None,
        edge: dict[str, Any] | None = None,
        agent: dict[str, Any] | None = None,
    ) -> None:
        """
        @param services: of the agent.
        @param allow: rights of the agent's token.
        @param share: whether its processes may hold a name together.
        @param cut: the most octets of one delivery (see L{Wire}).
        @param edge: further settings of L{EdgeConfig}.
        @param agent: further settings of L{AgentConfig}.
        """
        self.network = Network(cut)
        new = newToken()
        self.token = new.token
        record = TokenRecord(name="laptop", tokenSha256=new.tokenSha256, allow=tuple(allow), share=share, id=new.id)
        settings = {"listen": (f"tcp:{self.PORT}",), "tokens": (record,), **(edge or {})}
        self.edge = EdgeService(self.network, EdgeConfig(**settings))
        self.agent = self.another(*services, **(agent or {}))

    def another(self, *services: ServiceConfig, token: str = "", **settings: Any) -> AgentService:
        """
        One more agent of this edge, not started yet.

        @param token: what it shows; the first agent's unless given.
        @param settings: of L{AgentConfig}.
        """
        edges = (EdgeAddress(url=f"http://localhost:{self.PORT}", token=token or self.token),)
        config = AgentConfig(**{"edges": edges, "services": services, **settings})
        return AgentService(self.network, config, plugins=False, random=lambda: 0.5)

    def start(self) -> None:
        """
        Start both, and go on until nobody has anything left to say.
        """
        self.edge.startService()
        self.agent.startService()
        self.network.settle()

    def settle(self) -> None:
        """
        Go on until nobody has anything left to say.
        """
        self.network.settle()

    def visit(self, octets: bytes = b"", port: int = PORT) -> Caller:
        """
        Connect to a port of the edge and say something.

        @return: the visitor, when there is nothing left to say.
        """
        caller = Caller()
        self.network.join(caller, self.network.ports[port].factory, IPv4Address("TCP", "127.0.0.1", port))
        caller.transport.write(octets)
        self.settle()
        return caller

    def get(self, host: str, path: str = "/") -> bytes:
        """
        Ask for a page in the name of a visitor.

        @return: the response, head and body.
        """
        return self.visit(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()).got

    def stop(self) -> None:
        """
        Stop both, at once.
        """
        stopping = [service.stopService() for service in (self.agent, self.edge) if service.running]
        for _ in range(120):
            if all(stopped is None or stopped.called for stopped in stopping):
                return
            self.network.passTime(1)
        raise AssertionError("edge and agent did not stop in two minutes")

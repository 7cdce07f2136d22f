"""
A link between two ends, on a virtual clock: what a kernel, a router and a cable do to octets.

An end is a transport as Twisted's TCP connection is, with the send buffer of a kernel.  The kernel takes a write as long as
less than its bound (C{TCP_NOTSENT_LOWAT}) is unsent, and reports room again below half of it.  From there octets go to a router
whose queue has a size, leave it at the rate of the link, and arrive after its delay.  Lost packets are what TCP makes of them:
times in which nothing moves.  Instead of the router there may be a relay, which acknowledges what it has taken.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPushProducer, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.session.yamux import YamuxSession
from tunnelstack.transport.direct_write import Write
from tunnelstack.transport.send_buffer import SendBuffer
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.wire.yamux.limits import DEFAULT_LIMITS, SessionLimits

SEGMENT = 1448
LARGEST_PIECE = 64 * 1024
PIECE_SECONDS = 0.002          # a piece is what the link carries in this time, between the two above
UNBOUNDED = 4 * 1024 * 1024    # what a kernel keeps if nobody bounds it


@frozen(kw_only=True)
class Line:
    """
    A kind of link.

    @ivar rate: octets a second.
    @ivar delay: seconds in each direction.
    @ivar queue: octets that the router holds, or the relay.
    @ivar relay: it is a relay.
    @ivar stalls: how often in a minute nothing moves, on average;
    @ivar stall: and for how many seconds.
    """

    rate: float
    delay: float = 0.0
    queue: int = 64 * 1024
    relay: bool = False
    stalls: float = 0.0
    stall: float = 1.0


class _Path:
    """
    One direction of a link.
    """

    def __init__(self, clock: Clock, line: Line, source: LinkEnd, target: LinkEnd, seed: int) -> None:
        self._clock = clock
        self._line = line
        self._source = source
        self._target = target
        self._random = Random(seed)
        self._piece = int(min(LARGEST_PIECE, max(SEGMENT, line.rate * PIECE_SECONDS)))
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._busy = False
        self._nextStall = self._anotherStall(0.0)

    def _anotherStall(self, now: float) -> float:
        return now + self._random.expovariate(self._line.stalls / 60) if self._line.stalls else float("inf")

    @property
    def piece(self) -> int:
        """
        Octets that may be put now.
        """
        return self._piece if self._queued < self._line.queue else 0

    def put(self, octets: bytes) -> None:
        self._queue.append(octets)
        self._queued += len(octets)
        if self._line.relay:
            self._source.acknowledged(len(octets))
        if not self._busy:
            self._serve()

    def _serve(self) -> None:
        self._busy = bool(self._queue)
        if self._busy:
            now, seconds = self._clock.seconds(), len(self._queue[0]) / self._line.rate
            if now >= self._nextStall:
                self._nextStall = self._anotherStall(now + self._line.stall)
                seconds += self._line.stall
            self._clock.callLater(seconds, self._served)

    def _served(self) -> None:
        octets = self._queue.popleft()
        self._queued -= len(octets)
        self._clock.callLater(self._line.delay, self._target.arrived, octets)
        if not self._line.relay:
            self._clock.callLater(2 * self._line.delay, self._source.acknowledged, len(octets))
        self._serve()
        self._source.sendMore()


class _KernelBuffer(SendBuffer):
    """
    The send buffer of one end.
    """

    def __init__(self, end: LinkEnd) -> None:
        self._end = end

    def unacknowledged(self) -> int:
        return self._end.unacknowledged

    def unsent(self) -> int | None:
        return self._end.unsent

    def bound(self, batch: int, unsent: int) -> None:
        self._end.most = unsent


@implementer(ITransport)
class LinkEnd:
    """
    One end.

    @ivar most: octets that the kernel keeps unsent.
    @ivar unacknowledged: octets in the kernel or on their way.
    @ivar cut: nothing arrives here any more.
    """

    protocol: Any
    path: _Path

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[bytes] = deque()      # in Twisted's buffer
        self._kernel: deque[bytes] = deque()
        self.unsent = self.unacknowledged = 0
        self.most = UNBOUNDED
        self.cut = self.lost = False
        self._full = False
        self._producer: IPushProducer | None = None
        self._paused = False

    # The writing half

    def immediateWrite(self) -> Write:
        return self.write

    def sendBuffer(self) -> SendBuffer:
        return _KernelBuffer(self)

    def write(self, data: bytes) -> None:
        if self.lost:
            return
        self._waiting.append(data)
        self._fill()
        if self._waiting and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def _fill(self) -> None:
        while self._waiting and not self._full:
            octets = self._waiting.popleft()
            self._kernel.append(octets)
            self.unsent += len(octets)
            self.unacknowledged += len(octets)
            self.sendMore()
            self._full = self.unsent >= self.most

    def sendMore(self) -> None:
        """
        The kernel's work: send as much as the way takes.
        """
        while self._kernel and (most := self.path.piece):
            octets = self._kernel.popleft()
            if len(octets) > most:
                self._kernel.appendleft(octets[most:])
                octets = octets[:most]
            self.unsent -= len(octets)
            self.path.put(octets)
        if self._full and 2 * self.unsent < self.most:
            self._full = False
            self._clock.callLater(0, self._writable)

    def _writable(self) -> None:
        self._fill()
        if self._paused and not self._waiting and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()

    def acknowledged(self, octets: int) -> None:
        self.unacknowledged -= octets

    # The reading half

    def arrived(self, octets: bytes) -> None:
        if not (self.cut or self.lost):
            self.protocol.dataReceived(octets)

    def pauseProducing(self) -> None:
        """
        Nothing here pauses reading.
        """

    resumeProducing = pauseProducing

    # Ends

    def loseConnection(self) -> None:
        if not self.lost:
            self.lost = True
            self._clock.callLater(0, self.protocol.connectionLost, Failure(ConnectionDone()))

    abortConnection = loseConnection

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 1)

    getHost = getPeer


@implementer(IStreamClientEndpoint)
class Link:
    """
    The endpoint of a client whose connection goes over a link to a server.

    @ivar ends: the client's and the server's.
    """

    def __init__(self, clock: Clock, line: Line, server: Factory) -> None:
        self._server = server
        self.ends = near, far = LinkEnd(clock), LinkEnd(clock)
        near.path, far.path = _Path(clock, line, near, far, 1), _Path(clock, line, far, near, 2)

    def connect(self, factory: Any) -> Deferred[IProtocol]:
        near, far = self.ends
        near.protocol, far.protocol = factory.buildProtocol(near.getPeer()), self._server.buildProtocol(near.getPeer())
        far.protocol.makeConnection(far)
        near.protocol.makeConnection(near)
        return succeed(near.protocol)


class Sessions:
    """
    Two sessions over a link, by plain TCP or by a WebSocket.

    @ivar near: the client's.
    @ivar far: the server's.
    """

    def __init__(self, line: Line, webSocket: bool, limits: SessionLimits = DEFAULT_LIMITS) -> None:
        self.clock = Clock()
        self.near, self.far = (YamuxSession(client, clock=self.clock, limits=limits) for client in (True, False))
        near, server = Factory(), Factory()
        near.buildProtocol = lambda address: self.near  # type: ignore[method-assign,assignment]
        server.buildProtocol = lambda address: self.far  # type: ignore[method-assign,assignment]
        if webSocket:
            server = WebSocketServerFactory(server, clock=self.clock)
        self.link = Link(self.clock, line, server)
        endpoint: Any = self.link
        if webSocket:
            endpoint = WebSocketClientEndpoint(self.clock, "ws://localhost/", endpoint=self.link)
        endpoint.connect(near)
        while not (self.near.whenUp().called and self.far.whenUp().called):
            self.step()

    def step(self) -> None:
        """
        Go on to the next call.
        """
        self.clock.advance(max(0.0, min(call.getTime() for call in self.clock.calls) - self.clock.seconds()))

    def passTime(self, seconds: float) -> None:
        """
        Let so many seconds pass.
        """
        end = self.clock.seconds() + seconds
        while self.clock.calls and self.clock.calls[0].getTime() <= end:
            self.step()
        self.clock.advance(max(0.0, end - self.clock.seconds()))

"""
Our end of what a genuine peer is tested with: small protocols that say what became of them, and the two carriers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.peers._go import GoPeer
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.wire.yamux.limits import SessionLimits

KIB, MIB = 1 << 10, 1 << 20
SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"
LATE_CREDIT = "[WARN] yamux: frame for missing stream: Vsn:0 Type:1 Flags:0 "
BULK = 1024 * MIB if SOAK else 64 * MIB


def factoryOf(*protocols: Any) -> Factory:
    """
    A factory that gives these protocols, one a connection, in this order.
    """
    waiting = list(protocols)
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda address: waiting.pop(0)
    return factory


def pause(seconds: float) -> Deferred[None]:
    """
    Real time, which a genuine peer's timers need.
    """
    return deferLater(reactor, seconds, lambda: None)


@implementer(IHalfCloseableProtocol)
class Watched(Protocol):
    """
    A half-closeable protocol that keeps what happened, and lets a test wait for it.

    @ivar count: octets received.
    @ivar sum: their SHA-256.
    @ivar readEnded: the peer has ended its direction.
    @ivar reason: why the connection was lost, once it was.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sum = sha256()
        self.readEnded = self.writeEnded = False
        self.reason: Failure | None = None
        self._waiting: list[tuple[Callable[[], object], Deferred[Any]]] = []

    def until(self, condition: Callable[[], object]) -> Deferred[Any]:
        """
        @return: fires with this protocol once C{condition()} is true.
        """
        met: Deferred[Any] = Deferred()
        self._waiting.append((condition, met))
        self._check()
        return met

    def whenCount(self, count: int) -> Deferred[Any]:
        """
        @return: fires once so many octets have come.
        """
        return self.until(lambda: self.count >= count)

    def whenReadEnded(self) -> Deferred[Any]:
        """
        @return: fires at the peer's end.
        """
        return self.until(lambda: self.readEnded)

    def whenLost(self) -> Deferred[Failure]:
        """
        @return: fires with the reason as a result.
        """
        return self.until(lambda: self.reason is not None).addCallback(lambda _: [self.reason]).addCallback(_only)

    def _check(self) -> None:
        for waiting in list(self._waiting):
            condition, met = waiting
            if condition():
                self._waiting.remove(waiting)
                met.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)
        self.sum.update(data)
        self._check()

    def readConnectionLost(self) -> None:
        self.readEnded = True
        self._check()

    def writeConnectionLost(self) -> None:
        self.writeEnded = True
        self._check()

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.reason = reason
        self._check()


def _only(reasons: list[Failure]) -> Any:
    """
    A failure as a result: C{callback} would take it for an error.
    """
    kept: Deferred[Any] = Deferred()
    kept.callback(None)
    return kept.addCallback(lambda _: Reason(reasons[0]))


class Reason:
    """
    Why a connection was lost, in a form that no Deferred takes for an error.

    @ivar error: the exception.
    """

    def __init__(self, failure: Failure) -> None:
        self.error = failure.value

    def __repr__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"


class Collect(Watched):
    """
    Keeps all octets.
    """

    def __init__(self, first: bytes = b"") -> None:
        super().__init__()
        self.octets = bytearray()
        self.first = first

    def connectionMade(self) -> None:
        if self.first:
            self.transport.write(self.first)

    def dataReceived(self, data: bytes) -> None:
        self.octets += data
        super().dataReceived(data)


class Paused(Watched):
    """
    Reads nothing until the test lets it.
    """

    def connectionMade(self) -> None:
        self.transport.pauseProducing()


class Echo(Watched):
    """
    Sends back what comes, no faster than it leaves, and ends when the peer has ended.
    """

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        super().readConnectionLost()


class Upper(Watched):
    """
    Answers, in capitals, only after the end of the question.
    """

    def __init__(self) -> None:
        super().__init__()
        self.question = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self.question += data

    def readConnectionLost(self) -> None:
        self.transport.write(bytes(self.question).upper())
        self.transport.loseConnection()
        super().readConnectionLost()


@implementer(IPushProducer)
class Pump(Watched):
    """
    Sends random octets as fast as they are taken, then ends its direction, unless it is C{endless}.

    @ivar sent: octets written; C{sentSum} is their SHA-256.
    """

    BLOCK = 64 * KIB

    def __init__(self, octets: int, endless: bool = False) -> None:
        super().__init__()
        self.octets = octets
        self.endless = endless
        self.sent = 0
        self.sentSum = sha256()
        self.paused = False
        self._block = os.urandom(self.BLOCK - 8)

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self.paused = True
        self._check()

    def resumeProducing(self) -> None:
        self.paused = False
        while not self.paused and self.sent < self.octets:
            block = (self.sent.to_bytes(8, "big") + self._block)[: self.octets - self.sent]
            self.sent += len(block)
            self.sentSum.update(block)
            self.transport.write(block)
        if self.sent == self.octets and not self.paused:
            self.paused = True
            self.transport.unregisterProducer()
            if not self.endless:
                self.transport.loseWriteConnection()

    def stopProducing(self) -> None:
        self.paused = True


def ours(case: TestCase, client: bool, limits: SessionLimits | None = None) -> YamuxSession:
    """
    A session that is gone when the test ends.
    """
    session = YamuxSession(client, clock=reactor, limits=limits)

    def end() -> Deferred[Failure] | None:
        if not session.connected:
            return None
        session.abort()
        return session.whenLost()

    case.addCleanup(end)
    return session


def reach(carrier: str, port: int, protocol: IProtocol, **options: Any) -> Deferred[Any]:
    """
    Dial a peer on this machine.

    @param options: of L{WebSocketClientEndpoint}.
    """
    endpoint: Any
    if carrier == "ws":
        endpoint = WebSocketClientEndpoint(reactor, f"ws://127.0.0.1:{port}/", **options)
    else:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    return endpoint.connect(factoryOf(protocol))


@inlineCallbacks
def awaitOne(case: TestCase, carrier: str, protocol: IProtocol, **options: Any) -> Any:
    """
    Listen on a free port, for one connection, until the test ends.

    @param options: of L{WebSocketServerFactory}.
    @return: the port's number.
    """
    factory: Any = factoryOf(protocol)
    if carrier == "ws":
        factory = WebSocketServerFactory(factory, **options)
    port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    case.addCleanup(port.stopListening)
    return port.getHost().port


class MeetsGo:
    """
    One session of ours with a Go peer, over a carrier, in a role; a subclass says which.

    @cvar carrier: C{"tcp"} or C{"ws"}.
    @cvar client: our side is the yamux client.
    @cvar weDial: our side dials the carrier; the role does not depend on it.
    @ivar peer: the Go program.
    @ivar there: the number of its session.
    @ivar session: ours.
    """

    carrier: str
    client: bool
    weDial: bool
    timeout = 1500 if SOAK else 120

    @inlineCallbacks
    def meet(self: Any, limits: SessionLimits | None = None, **config: Any) -> Any:
        """
        @param limits: of our session.
        @param config: of the Go session: backlog, window, keepalive, write_timeout, open_timeout, close_timeout, fragment.
        """
        self.peer = GoPeer.start(self)
        self.session = ours(self, self.client, limits)
        config.update(carrier=self.carrier, role="server" if self.client else "client")
        if self.weDial:
            port = (yield self.peer.call("listen", **config))["port"]
            yield reach(self.carrier, port, self.session)
            self.there = (yield self.peer.call("arrived"))["session"]
        else:
            port = yield awaitOne(self, self.carrier, self.session)
            self.there = (yield self.peer.call("dial", port=port, **config))["session"]
            yield self.session.whenUp()

    def ask(self: Any, do: str, **parameters: Any) -> Deferred[dict[str, Any]]:
        """
        A command about the Go peer's session.
        """
        return self.peer.call(do, session=self.there, **parameters)

    def connect(self: Any, protocol: Any) -> Deferred[Any]:
        """
        Open a stream of ours.
        """
        return self.session.connector.connect(factoryOf(protocol))

    def listen(self: Any, *protocols: Any) -> Deferred[Any]:
        """
        Take the peer's streams with these protocols, in this order.
        """
        return self.session.listener.listen(factoryOf(*protocols))

    @inlineCallbacks
    def isContent(self: Any) -> Any:
        """
        The Go side has nothing to complain of and nothing left, nor have we.

        Credit that crosses the end of its stream is noted by every yamux, of Go's own peers too; it is no complaint.
        """
        for _ in range(2):  # a ping may overtake the end of a stream, not the ping before it
            yield self.session.ping()
        stats = yield self.ask("stats")
        complaints = [line for line in stats["log"] if not line.startswith(LATE_CREDIT)]
        self.assertEqual((complaints, stats["streams"], stats["closed"]), ([], 0, False))
        self.assertEqual(self.session.streams, 0)

"""
Every carrier of floor 1a, and those it is made of, keeps the same promises.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.promises.carriers import (
    ABORT_IS_TOLD,
    CLOSE_IS_FINAL,
    CLOSE_WAITS,
    EVERY_END,
    HALF_CLOSE,
    PULLS,
    CarrierPromises,
    InMemory,
    OnSockets,
)
from tests.transport.certificates import authority, edge
from tunnelstack.testing import Wire
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import clientContext, serverContext, tlsFactory
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.server import WebSocketServerFactory


@implementer(IStreamClientEndpoint)
class OverWire:
    """
    A client endpoint whose server listens at the far end of a wire.
    """

    def __init__(self, wire: Wire, server: Any) -> None:
        self.wire = wire
        self.server = server

    def connect(self, factory: Any) -> Deferred[Any]:
        near = factory.buildProtocol(self.wire.near.getPeer())
        self.wire.connect(near, self.server.buildProtocol(self.wire.far.getPeer()))
        return succeed(near)


def tlsClient(endpoint: Any) -> Any:
    return wrapClientTLS(clientContext("edge.example", ca=[authority().certificate]), endpoint)


class MemoryPromises(InMemory, CarrierPromises, TestCase):
    traits = EVERY_END - {CLOSE_WAITS} | {HALF_CLOSE}

    def join(self, near: Factory, far: Factory) -> Deferred[Any]:
        return OverWire(self.newWire(), far).connect(near)


class MemoryInPiecesPromises(MemoryPromises):
    cut = 4999


class TLSPromises(InMemory, CarrierPromises, TestCase):

    def join(self, near: Factory, far: Factory) -> Deferred[Any]:
        wire = self.newWire()
        server = TLSMemoryBIOFactory(serverContext(edge()), False, far, wire.clock)
        client = TLSMemoryBIOFactory(
            clientContext("edge.example", ca=[authority().certificate]), True, near, wire.clock
        )
        return OverWire(wire, server).connect(client)


class HalfCloseTLSPromises(InMemory, CarrierPromises, TestCase):
    traits = frozenset((HALF_CLOSE, CLOSE_IS_FINAL, CLOSE_WAITS, ABORT_IS_TOLD))

    def join(self, near: Factory, far: Factory) -> Deferred[Any]:
        wire = self.newWire()
        server = tlsFactory(serverContext(edge()), False, far, wire.clock, halfClose=True)
        context = clientContext("edge.example", ca=[authority().certificate])
        joined = OverWire(wire, server).connect(tlsFactory(context, True, near, wire.clock, halfClose=True))
        wire.settle()
        return joined


class HalfCloseTLSInPiecesPromises(HalfCloseTLSPromises):
    cut = 997


class WebSocketPromises(InMemory, CarrierPromises, TestCase):
    traits = EVERY_END

    def join(self, near: Factory, far: Factory) -> Deferred[Any]:
        wire = self.newWire()
        below = OverWire(wire, WebSocketServerFactory(far, clock=wire.clock))
        connected = WebSocketClientEndpoint(wire.clock, "ws://edge.example/", endpoint=below).connect(near)
        wire.settle()
        return connected


class WebSocketInPiecesPromises(WebSocketPromises):
    cut = 997


class WebSocketOverTLSPromises(InMemory, CarrierPromises, TestCase):
    traits = EVERY_END

    def join(self, near: Factory, far: Factory) -> Deferred[Any]:
        wire = self.newWire()
        answering = WebSocketServerFactory(far, clock=wire.clock)
        server = TLSMemoryBIOFactory(serverContext(edge()), False, answering, wire.clock)
        asking: Any = WebSocketClientEndpoint(
            wire.clock, "wss://edge.example/", endpoint=_TLSOverWire(wire, server)
        )
        connected: Deferred[Any] = asking.connect(near)
        wire.settle()
        return connected


@implementer(IStreamClientEndpoint)
class _TLSOverWire(OverWire):
    def connect(self, factory: Any) -> Deferred[Any]:
        context = clientContext("edge.example", ca=[authority().certificate])
        wrapped = super().connect(TLSMemoryBIOFactory(context, True, factory, self.wire.clock))
        return wrapped.addCallback(lambda tls: tls.wrappedProtocol)


class SocketPromises(OnSockets, CarrierPromises):
    """
    A port of 127.0.0.1 and one connection to it.
    """

    def serve(self, far: Factory) -> Any:
        return far

    def dial(self, port: int) -> Any:
        return TCP4ClientEndpoint(reactor, "127.0.0.1", port)

    @inlineCallbacks
    def join(self, near: Factory, far: Factory) -> Generator[Any, Any, None]:
        connected: Deferred[None] = Deferred()
        build = far.buildProtocol

        def buildProtocol(address: Any) -> Any:
            protocol: Any = build(address)
            made = protocol.connectionMade
            protocol.connectionMade = lambda: (made(), connected.callback(None))
            return protocol

        far.buildProtocol = buildProtocol      # type: ignore[method-assign]
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.serve(far))
        self.addCleanup(port.stopListening)
        yield self.dial(port.getHost().port).connect(near)
        yield connected
        self.addCleanup(self.leave)

    @inlineCallbacks
    def leave(self) -> Generator[Any, Any, None]:
        for peer in (self.near, self.far):
            if peer.reason is None:
                peer.transport.abortConnection()
        yield self.until(self.bothLost)


class TCPPromises(SocketPromises, TestCase):
    traits = frozenset((HALF_CLOSE, ABORT_IS_TOLD, PULLS))


class TLSSocketPromises(SocketPromises, TestCase):
    traits = frozenset((PULLS,))

    def serve(self, far: Factory) -> Any:
        return TLSMemoryBIOFactory(serverContext(edge()), False, far)

    def dial(self, port: int) -> Any:
        return tlsClient(super().dial(port))


class HalfCloseTLSSocketPromises(SocketPromises, TestCase):
    traits = frozenset((HALF_CLOSE, CLOSE_IS_FINAL, CLOSE_WAITS, ABORT_IS_TOLD, PULLS))

    def serve(self, far: Factory) -> Any:
        return tlsFactory(serverContext(edge()), False, far, reactor, halfClose=True)

    def dial(self, port: int) -> Any:
        context = clientContext("edge.example", ca=[authority().certificate])
        return SecureEndpoint(reactor, "edge.example", super().dial(port), context, halfClose=True)


class WebSocketSocketPromises(SocketPromises, TestCase):
    traits = EVERY_END

    def serve(self, far: Factory) -> Any:
        return WebSocketServerFactory(far)

    def dial(self, port: int) -> Any:
        return WebSocketClientEndpoint(reactor, f"ws://localhost:{port}/")


class WebSocketOverTLSSocketPromises(SocketPromises, TestCase):
    traits = EVERY_END

    def serve(self, far: Factory) -> Any:
        return TLSMemoryBIOFactory(serverContext(edge()), False, WebSocketServerFactory(far))

    def dial(self, port: int) -> Any:
        context = clientContext("edge.example", ca=[authority().certificate])
        return WebSocketClientEndpoint(reactor, f"wss://127.0.0.1:{port}/", contextFactory=context)

"""
The devices that are there: the newest connection of each, in whichever version, and the ways to them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.http_entry import HTTPEntry, OneProtocol, upgradeToWebSocket
from tunnelstack.dialect.shellhub.bootstrap import Bootstrap, RequestRefused
from tunnelstack.dialect.shellhub.http_server import messageResponse
from tunnelstack.dialect.shellhub.tunnel import DeviceTunnel
from tunnelstack.errors import Denied, Unavailable, UsageError
from tunnelstack.exchange.whole_message import WholeResponse
from tunnelstack.interfaces import IEdge, IServerExchange
from tunnelstack.session.revdial.dialler import PickUpTable
from tunnelstack.stream.errors import SessionLost
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.records.shellhub import Target
from tunnelstack.wire.records.shellhub_bootstrap import ACCEPTED

MAX_CONNECTS, CONNECT_WINDOW_SECONDS = 4, 20.0
"""Connections that one device may make in so many seconds: two agents of one identity displace each other for ever."""

SUBPROTOCOLS = ("binary",)
"""What a server says it speaks if it is asked."""


class DeviceNotConnected(Unavailable):
    """
    The device is not connected to this edge.
    """


class DeviceConnections:
    """
    What both versions of the dialect share at one edge.

    @ivar bootstrap: who is who.
    @ivar pickUps: the diallers of version 1.
    @ivar edge: the L{IEdge<tunnelstack.interfaces.IEdge>}; set by L{attach}.
    """

    log = Logger()
    edge: IEdge

    def __init__(
        self,
        bootstrap: Bootstrap,
        *,
        onSeen: Callable[[Any], object] | None = None,
        onLost: Callable[[Any], object] | None = None,
    ) -> None:
        """
        @param onSeen: called with a device when it is connected, and with each sign of its life.
        @param onLost: called with a device when its last connection is gone.
        """
        self.bootstrap = bootstrap
        self.pickUps = PickUpTable()
        self._onSeen = onSeen
        self._onLost = onLost
        self._tunnels: dict[tuple[str, str], DeviceTunnel] = {}
        self._connectTimes: dict[tuple[str, str], deque[float]] = {}
        bootstrap.devices.watch(self._deviceChanged)

    def __len__(self) -> int:
        return len(self._tunnels)

    def attach(self, edge: IEdge) -> None:
        """
        Stand at an edge.
        """
        self.edge = edge

    # Dialling

    def find(self, tenant: str, uid: str) -> DeviceTunnel | None:
        """
        @return: the way to a device, if it is there.
        """
        return self._tunnels.get((tenant, uid))

    def endpointTo(self, tenant: str, uid: str, target: Target) -> IStreamClientEndpoint:
        """
        The way to something on a device.

        @return: an endpoint that looks for the device each time; C{connect()} fails with L{DeviceNotConnected} if it is not
            there, and is over within 30 seconds.
        @raise UsageError: no tenant, or no device.
        """
        if not tenant or not uid:
            raise UsageError("invalid argument: a device has a tenant and a digest")
        return _DeviceEndpoint(self, tenant, uid, target)

    # Arriving

    def entry(self, limits: WebSocketLimits, build: Callable[[Any, Any], DeviceTunnel]) -> HTTPEntry:
        """
        The server of a door through which the agents of devices come in.

        @param limits: of their WebSockets.
        @param build: from the peer's address and the device to its tunnel, whose session is the WebSocket's protocol.
        """

        def acceptAgent(device: Any, exchange: IServerExchange) -> None:
            tunnel = build(exchange.peer, device)
            tunnel.session.whenUp().addCallback(lambda _: self._register(tunnel))
            self.upgrade(exchange, OneProtocol(tunnel.session), limits)

        return HTTPEntry(self.edge.clock, self._authenticate, acceptAgent, self._refuse)

    def upgrade(self, exchange: IServerExchange, factory: IProtocolFactory, limits: WebSocketLimits) -> None:
        """
        Make a WebSocket of a connection.
        """
        upgradeToWebSocket(exchange, factory, clock=self.edge.clock, subprotocols=SUBPROTOCOLS, limits=limits)

    def _refuse(self, failure: Failure, exchange: IServerExchange) -> WholeResponse:
        failure.trap(RequestRefused)
        refusal: Any = failure.value
        self.log.warn("an agent at {peer} is refused: {reason}", peer=str(exchange.peer), reason=str(refusal))
        response: WholeResponse = refusal.response
        return response

    def _authenticate(self, head: RequestHead, exchange: IServerExchange) -> Any:
        """
        @raise RequestRefused: not now, or not this one.
        """
        if self.edge.stopping:
            raise RequestRefused(
                messageResponse(503, "this edge is about to stop", (b"Retry-After", b"5")),
                "this edge is about to stop",
            )
        device = self.bootstrap.authenticateDevice(exchange)
        now = self.edge.clock.seconds()
        connectTimes = self._connectTimes.setdefault((device.tenant, device.uid), deque())
        while connectTimes and connectTimes[0] <= now - CONNECT_WINDOW_SECONDS:
            connectTimes.popleft()
        if len(connectTimes) >= MAX_CONNECTS:
            raise RequestRefused(
                messageResponse(429, "this device connects too often", (b"Retry-After", b"10")),
                f"device {device.agent} connects too often: are there two of it?",
            )
        connectTimes.append(now)
        return device

    def _register(self, tunnel: DeviceTunnel) -> None:
        device = tunnel.device
        key = device.tenant, device.uid
        try:
            self.edge.arrived(tunnel)                  # which aborts the one that was there
        except Denied as denied:
            self.log.warn("device {device} is not taken: {reason}", device=device.agent, reason=str(denied))
            tunnel.abort(denied)
            return
        self._tunnels[key] = tunnel
        tunnel.whenLost().addCallback(self._lost, tunnel)
        self.deviceSeen(tunnel)

    def deviceSeen(self, tunnel: DeviceTunnel) -> None:
        """
        A device has given a sign of life.
        """
        self.bootstrap.devices.markSeen(tunnel.device)
        if self._onSeen is not None:
            self._onSeen(tunnel.device)

    def _lost(self, reason: SessionLost, tunnel: DeviceTunnel) -> SessionLost:
        device = tunnel.device
        key = device.tenant, device.uid
        if self._tunnels.get(key) is tunnel:
            del self._tunnels[key]
            self._discardConnectTimes()
            if self._onLost is not None:
                self._onLost(device)
        return reason

    def _discardConnectTimes(self) -> None:
        """
        Those of devices that are gone are kept only as long as they count.
        """
        if len(self._connectTimes) > 2 * len(self._tunnels) + 64:
            since = self.edge.clock.seconds() - CONNECT_WINDOW_SECONDS
            self._connectTimes = {
                key: connectTimes
                for key, connectTimes in self._connectTimes.items()
                if connectTimes and connectTimes[-1] > since
            }

    def _deviceChanged(self, device: Any) -> None:
        """
        From the book: somebody has decided about a device.
        """
        tunnel = self.find(device.tenant, device.uid)
        if tunnel is not None and device.status != ACCEPTED:
            tunnel.abort(Denied("revoked", f"device {device.agent} is {device.status}"))


@implementer(IStreamClientEndpoint)
class _DeviceEndpoint:
    """
    Looks for a device, and dials.
    """

    def __init__(self, connections: DeviceConnections, tenant: str, uid: str, target: Target) -> None:
        self._connections = connections
        self._key = tenant, uid
        self._target = target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        As in L{IStreamClientEndpoint}.
        """
        tunnel = self._connections.find(*self._key)
        if tunnel is None:
            return fail(DeviceNotConnected("no connection: the device is not there"))
        try:
            return tunnel.targetEndpoint(self._target).connect(protocolFactory)
        except UsageError:                    # a name that this version cannot say
            return fail()

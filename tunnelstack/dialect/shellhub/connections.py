"""
The devices that are connected to an edge: the newest connection of each, in either version, and their tunnels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.http_entry import HTTPEntry, OneProtocol, upgradeToWebSocket
from tunnelstack.dialect.shellhub.bootstrap import Bootstrap
from tunnelstack.dialect.shellhub.device_book import Device
from tunnelstack.dialect.shellhub.http_server import RequestRefused, messageResponse
from tunnelstack.dialect.shellhub.tunnel import DeviceTunnel
from tunnelstack.errors import Denied, Unavailable, UsageError
from tunnelstack.exchange.whole_message import WholeResponse
from tunnelstack.interfaces import IEdge, IServerExchange
from tunnelstack.session.revdial.dialler import PickUpTable
from tunnelstack.stream.errors import SessionLost
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.records.shellhub import Target
from tunnelstack.wire.records.shellhub_bootstrap import ACCEPTED

MAX_CONNECTS, CONNECT_WINDOW_SECONDS = 4, 20.0
"""Connections that one device may make in so many seconds.  Two agents with one identity replace each other without end."""

SUBPROTOCOLS = ("binary",)
"""The subprotocols that a server accepts if a client offers any."""


class DeviceNotConnected(Unavailable):
    """
    The device is not connected to this edge.
    """


class DeviceConnections:
    """
    What both versions of the transport share at one edge.

    @ivar bootstrap: authenticates devices.
    @ivar pickUps: the diallers of version 1.
    @ivar edge: the edge; set by L{attach}.
    """

    log = Logger()
    edge: IEdge

    def __init__(
        self,
        bootstrap: Bootstrap,
        *,
        onSeen: Callable[[Device], object] | None = None,
        onLost: Callable[[Device], object] | None = None,
    ) -> None:
        """
        @param onSeen: called with a device when it connects, and with each sign of its life.
        @param onLost: called with a device when its last connection is lost.
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
        Set the edge.
        """
        self.edge = edge

    # Tunnels

    def tunnels(self) -> list[DeviceTunnel]:
        """
        @return: the tunnels of all connected devices.
        """
        return list(self._tunnels.values())

    def find(self, tenant: str, uid: str) -> DeviceTunnel | None:
        """
        @return: the tunnel of a device; C{None} if the device is not connected.
        """
        return self._tunnels.get((tenant, uid))

    def endpointTo(self, tenant: str, uid: str, target: Target) -> IStreamClientEndpoint:
        """
        @return: an endpoint that connects to a target on a device.  The device is looked up for each C{connect()}, which fails
            with L{DeviceNotConnected} if there is none, and takes at most 30 seconds.
        @raise UsageError: the tenant or the device is empty.
        """
        if not tenant or not uid:
            raise UsageError("invalid argument: a device has a tenant and a digest")
        return _DeviceEndpoint(self, tenant, uid, target)

    # Doors

    def entry(self, limits: WebSocketLimits, build: Callable[[IAddress, Device], DeviceTunnel]) -> HTTPEntry[Device]:
        """
        @param limits: of the agents' WebSockets.
        @param build: makes a tunnel from the address of the peer and the device; its session is the protocol of the WebSocket.
        @return: the server of a door to which the agents of devices connect.
        """

        def acceptAgent(device: Device, exchange: IServerExchange) -> None:
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
        assert isinstance(failure.value, RequestRefused)
        self.log.warn(
            "agent at {peer} refused: {reason}", peer=addressText(exchange.peer), reason=errorText(failure)
        )
        return failure.value.response

    def _authenticate(self, head: RequestHead, exchange: IServerExchange) -> Device:
        """
        @raise RequestRefused: the device is not accepted, or not at the moment.
        """
        if self.edge.stopping:
            raise RequestRefused(
                messageResponse(503, "this edge is about to stop", (b"Retry-After", b"5")), "this edge is about to stop"
            )
        device = self.bootstrap.authenticateDevice(exchange)
        now = self.edge.clock.seconds()
        connectTimes = self._connectTimes.setdefault((device.tenant, device.uid), deque())
        while connectTimes and connectTimes[0] <= now - CONNECT_WINDOW_SECONDS:
            connectTimes.popleft()
        if len(connectTimes) >= MAX_CONNECTS:
            raise RequestRefused(
                messageResponse(429, "this device connects too often", (b"Retry-After", b"10")),
                f"device {device.agent} connects too often; perhaps two agents have its identity",
            )
        connectTimes.append(now)
        return device

    def _register(self, tunnel: DeviceTunnel) -> None:
        device = tunnel.device
        key = device.tenant, device.uid
        try:
            self.edge.arrived(tunnel)         # aborts an older tunnel of the device
        except Denied as denied:
            self.log.warn("device {device} denied: {reason}", device=device.agent, reason=str(denied))
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
        Discard the times of devices that are not connected, if they no longer count.
        """
        if len(self._connectTimes) > 2 * len(self._tunnels) + 64:
            since = self.edge.clock.seconds() - CONNECT_WINDOW_SECONDS
            self._connectTimes = {
                key: connectTimes
                for key, connectTimes in self._connectTimes.items()
                if connectTimes and connectTimes[-1] > since
            }

    def _deviceChanged(self, device: Device) -> None:
        """
        Called by the store: an operator has changed the status of a device.
        """
        tunnel = self.find(device.tenant, device.uid)
        if tunnel is not None and device.status != ACCEPTED:
            tunnel.abort(Denied("revoked", f"device {device.agent} is {device.status}"))


@implementer(IStreamClientEndpoint)
class _DeviceEndpoint:
    """
    Looks up a device, and connects to a target on it.
    """

    def __init__(self, connections: DeviceConnections, tenant: str, uid: str, target: Target) -> None:
        self._connections = connections
        self._key = tenant, uid
        self._target = target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        tunnel = self._connections.find(*self._key)
        if tunnel is None:
            return fail(DeviceNotConnected("no connection: the device is not connected"))
        try:
            connected: Deferred[IProtocol] = tunnel.targetEndpoint(self._target).connect(protocolFactory)
        except UsageError:                    # the target cannot be expressed in this version
            return fail()
        return connected

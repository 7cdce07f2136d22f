"""
Channels of an SSH client joined to channels of a device: data, ends and requests in both directions, each side being the
producer of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from secrets import token_hex

from twisted.conch.error import ConchError
from twisted.conch.ssh import connection, transport
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.edge.ssh.upstream import UpstreamConnection
from tunnelstack.errors import Unavailable
from tunnelstack.handler.ssh.channel import ORDINARY_DATA, FlowControlledChannel
from tunnelstack.handler.ssh.connection import FlowControlledConnection, OpenedChannel
from tunnelstack.handler.ssh.server import connectedChannel, destination
from tunnelstack.wire.printable_text import printable

CHANNEL_TYPES = (b"session", b"direct-tcpip")
"""Channels that a client may open on a device."""

FORWARDED_REQUESTS = {b"pty-req", b"env", b"shell", b"exec", b"subsystem", b"break"}
"""Requests of a client that are forwarded, with the device's answer."""

ONE_WAY_REQUESTS = {b"window-change", b"signal"}
"""Requests of a client that are forwarded and have no answer (RFC 4254, section 6)."""

DEVICE_REQUESTS = {b"exit-status", b"exit-signal", b"xon-xoff", b"eow@openssh.com"}
"""Requests of a device that are forwarded."""

SSH_PORT = 22
"""The only port of a device to which a client may jump."""

DEVICE_LOST = "the connection to the device was lost"
"""The reason that clients are given."""

FLUSH_SECONDS = 10.0
"""Seconds in which a client may still receive data after the connection to the device was lost."""


class BridgedChannel(FlowControlledChannel):
    """
    One side of a pair.

    @ivar other: the other side.
    """

    other: BridgedChannel

    def received(self, kind: int, data: bytes) -> None:
        if kind == ORDINARY_DATA:
            self.other.write(data)
        else:
            self.other.writeExtended(kind, data)

    def receivedEnd(self) -> None:
        self.other.loseWriteConnection()

    def receivedClose(self, reason: Failure) -> None:
        # The other side is closed after its queued data was sent.
        self.unregisterProducer()
        self.other.unregisterProducer()
        self.other.loseConnection()


class VisitorChannel(BridgedChannel):
    """
    The client's side.
    """

    name = b"visitor"

    def channelOpen(self, specificData: bytes) -> None:
        self.registerProducer(self.other, True)
        self.other.registerProducer(self, True)
        self.other.resumeProducing()

    def requestReceived(self, requestType: bytes, data: bytes) -> bool | Deferred[bool]:
        """
        @return: whether the request is granted, or a C{Deferred} of the device's answer.
        """
        if requestType in FORWARDED_REQUESTS:
            return self.other.conn.requestOnChannel(self.other, requestType, data)
        if requestType in ONE_WAY_REQUESTS:
            self.other.conn.sendRequest(self.other, requestType, data)
            return True
        return False


class DeviceChannel(BridgedChannel):
    """
    The device's side.

    @ivar opened: fires when the device has opened the channel; fails with C{ConchError}, with the device's reason.
    """

    def __init__(self, kind: bytes) -> None:
        super().__init__()
        self.name = kind
        self.opened: Deferred[None] = Deferred()
        self.pauseProducing()                 # until the client's side is open

    def channelOpen(self, specificData: bytes) -> None:
        self.opened.callback(None)

    def openFailed(self, reason: object) -> None:
        sentence, code = DEVICE_LOST, connection.OPEN_CONNECT_FAILED
        if isinstance(reason, ConchError) and isinstance(reason.data, int):
            sentence, code = printable(reason.value[:200].decode("utf-8", "replace"), 200), reason.data
        self.opened.errback(ConchError(sentence, code))

    def requestReceived(self, requestType: bytes, data: bytes) -> bool:
        # Sent after the data that precedes it: an exit status closes the channel at the client.
        if requestType in DEVICE_REQUESTS:
            near = self.other
            self._afterHeld(lambda: near.sendAfterQueued(partial(near.conn.sendRequest, near, requestType, data)))
            return True
        return requestType.startswith(b"keepalive")


class BridgeConnection(FlowControlledConnection):
    """
    The channels of a client that is logged in to a device.
    """

    def __init__(self, device: UpstreamConnection, limit: int) -> None:
        super().__init__(limit)
        self._device = device
        self._timer: IDelayedCall | None = None

    def serviceStarted(self) -> None:
        self._device.whenLost().addCallback(self._deviceLost)

    def channelRequested(self, kind: bytes, window: int, largest: int, extra: bytes) -> OpenedChannel:
        """
        @return: the channel, when the device has opened its own.
        """
        if kind not in CHANNEL_TYPES:
            return super().channelRequested(kind, window, largest, extra)
        if self._device.closed:
            raise ConchError(DEVICE_LOST, connection.OPEN_CONNECT_FAILED)
        far = DeviceChannel(kind)
        near = VisitorChannel(remoteWindow=window, remoteMaxPacket=largest)
        far.other, near.other = near, far
        near.conn = self                      # the device may send data before the channel is confirmed to the client
        far.conn = self._device.connection
        self._device.connection.openChannel(far, extra)
        return far.opened.addCallback(lambda opened: near)

    def _deviceLost(self, ignored: None) -> None:
        if self.lost is not None:
            return
        if self.channels:
            self._timer = self.clock.callLater(FLUSH_SECONDS, self._disconnect)
        else:
            self._disconnect()

    def channelClosed(self, channel: FlowControlledChannel) -> None:
        """
        Close the connection with its last channel, if the device is lost.
        """
        super().channelClosed(channel)
        if self._device.closed and not self.channels and self.lost is None:
            self._disconnect()

    def _disconnect(self) -> None:
        self.transport.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, DEVICE_LOST.encode())

    def serviceStopped(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        super().serviceStopped()


class JumpConnection(FlowControlledConnection):
    """
    The channels of a client that jumps: each is connected to a device's SSH server, which has a login of its own.
    """

    def __init__(self, dial: Callable[[str, str], IStreamClientEndpoint], limit: int) -> None:
        super().__init__(limit)
        self._dial = dial

    def channelRequested(self, kind: bytes, window: int, largest: int, extra: bytes) -> OpenedChannel:
        """
        @return: the channel, when the connection to the device is made.
        """
        if kind == b"session":
            raise ConchError(
                "the gateway has no shell: log in to a device (ssh user@device@edge) or jump to it (ssh -J edge device)",
                connection.OPEN_ADMINISTRATIVELY_PROHIBITED)
        if kind != b"direct-tcpip":
            return super().channelRequested(kind, window, largest, extra)
        device, port = destination(extra)
        if port != SSH_PORT:
            raise ConchError(
                f"only port {SSH_PORT} of a device can be reached", connection.OPEN_ADMINISTRATIVELY_PROHIBITED)
        try:
            endpoint = self._dial(device, token_hex(32))
        except Unavailable as absent:
            raise ConchError(str(absent.args[0]), connection.OPEN_CONNECT_FAILED) from None
        return connectedChannel(endpoint, self.clock, window, largest)



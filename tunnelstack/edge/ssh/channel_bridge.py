"""
Channels of a visitor joined to channels of a device: octets, ends and requests both ways, each side the other's producer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.conch.error import ConchError
from twisted.conch.ssh import connection, transport
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.edge.ssh.upstream import UpstreamConnection
from tunnelstack.errors import Unavailable
from tunnelstack.handler.ssh.channel import ORDINARY_DATA, FlowControlledChannel
from tunnelstack.handler.ssh.connection import FlowControlledConnection
from tunnelstack.handler.ssh.server import connectedChannel, destination
from tunnelstack.wire.printable_text import printable

CHANNEL_TYPES = (b"session", b"direct-tcpip")
"""Channels that a visitor may open on a device."""

FORWARDED_REQUESTS = {b"pty-req", b"env", b"shell", b"exec", b"subsystem", b"break"}
"""Requests of a visitor whose answer is the device's."""

ONE_WAY_REQUESTS = {b"window-change", b"signal"}
"""Requests of a visitor that nobody answers."""

DEVICE_REQUESTS = {b"exit-status", b"exit-signal", b"xon-xoff", b"eow@openssh.com"}
"""Requests of a device."""

SSH_PORT = 22
"""The only one behind a device's name."""

FLUSH_SECONDS = 10.0
"""Seconds for a visitor to take what a device said before it was gone."""


class BridgedChannel(FlowControlledChannel):
    """
    One side of a pair.

    @ivar other: the other side.
    """

    other: BridgedChannel

    def received(self, kind: int, data: bytes) -> None:
        """
        Say it on the other side.
        """
        if kind == ORDINARY_DATA:
            self.other.write(data)
        else:
            self.other.writeExtended(kind, data)

    def receivedEnd(self) -> None:
        """
        So has the other.
        """
        self.other.loseWriteConnection()

    def receivedClose(self, reason: Failure) -> None:
        """
        The other goes as well, behind what it has to say.
        """
        self.unregisterProducer()
        self.other.unregisterProducer()
        self.other.loseConnection()


class VisitorChannel(BridgedChannel):
    """
    The visitor's side.
    """

    name = b"visitor"

    def channelOpen(self, specificData: bytes) -> None:
        """
        Both sides stand.
        """
        self.registerProducer(self.other, True)
        self.other.registerProducer(self, True)
        self.other.resumeProducing()

    def requestReceived(self, requestType: bytes, data: bytes) -> Any:
        """
        The device's to grant.
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

    @ivar opened: fires when the device has opened it, or fails with C{ConchError} and the device's reason.
    """

    def __init__(self, kind: bytes) -> None:
        super().__init__()
        self.name = kind
        self.opened: Deferred[None] = Deferred()
        self.pauseProducing()                 # until the visitor's side stands

    def channelOpen(self, specificData: bytes) -> None:
        """
        The device has agreed.
        """
        self.opened.callback(None)

    def openFailed(self, reason: Any) -> None:
        """
        It has not.
        """
        sentence, code = "the device is gone", connection.OPEN_CONNECT_FAILED
        if isinstance(reason, ConchError) and isinstance(reason.data, int):
            sentence, code = printable(reason.value[:200].decode("utf-8", "replace"), 200), reason.data
        self.opened.errback(ConchError(sentence, code))

    def requestReceived(self, requestType: bytes, data: bytes) -> bool:
        """
        How a program ended, behind what it said.
        """
        if requestType in DEVICE_REQUESTS:
            near = self.other
            self._afterHeld(lambda: near.sendAfterQueued(partial(near.conn.sendRequest, near, requestType, data)))
            return True
        return requestType.startswith(b"keepalive")


class BridgeConnection(FlowControlledConnection):
    """
    The channels of a visitor who is logged in to a device.
    """

    def __init__(self, device: UpstreamConnection, limit: int) -> None:
        super().__init__(limit)
        self._device = device
        self._timer: Any = None

    def serviceStarted(self) -> None:
        """
        The visitor and the device go together.
        """
        self._device.whenLost(self._deviceLost)

    def channelRequested(self, kind: bytes, window: int, largest: int, extra: bytes) -> Any:
        """
        Ask the device first.
        """
        if kind not in CHANNEL_TYPES:
            return super().channelRequested(kind, window, largest, extra)
        if self._device.closed:
            raise ConchError("the device is gone", connection.OPEN_CONNECT_FAILED)
        far = DeviceChannel(kind)
        near = VisitorChannel(remoteWindow=window, remoteMaxPacket=largest)
        far.other, near.other = near, far
        near.conn = self                      # the device may be faster than the confirmation
        far.conn = self._device.connection
        self._device.connection.openChannel(far, extra)
        return far.opened.addCallback(lambda opened: near)

    def _deviceLost(self) -> None:
        if self.lost is not None:
            return
        if self.channels:
            self._timer = self.clock.callLater(FLUSH_SECONDS, self._disconnect)
        else:
            self._disconnect()

    def channelClosed(self, channel: Any) -> None:
        """
        The last one ends the connection too once the device is gone.
        """
        super().channelClosed(channel)
        if self._device.closed and not self.channels and self.lost is None:
            self._disconnect()

    def _disconnect(self) -> None:
        self.transport.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, b"the device is gone")

    def serviceStopped(self) -> None:
        """
        The visitor is gone; whoever reached the device for him lets it go.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        super().serviceStopped()


class JumpConnection(FlowControlledConnection):
    """
    The channels of a visitor who is only passing: each leads to a device's SSH server, which asks for a login of its own.
    """

    def __init__(self, dial: Callable[[str], IStreamClientEndpoint], limit: int) -> None:
        super().__init__(limit)
        self._dial = dial

    def channelRequested(self, kind: bytes, window: int, largest: int, extra: bytes) -> Any:
        """
        To a device, by its name.
        """
        if kind == b"session":
            raise ConchError(
                "there is no shell here; name a device (user@device@edge) or jump to one (ssh -J)",
                connection.OPEN_ADMINISTRATIVELY_PROHIBITED)
        if kind != b"direct-tcpip":
            return super().channelRequested(kind, window, largest, extra)
        device, port = destination(extra)
        if port != SSH_PORT:
            raise ConchError(
                f"behind a device's name is port {SSH_PORT} only", connection.OPEN_ADMINISTRATIVELY_PROHIBITED)
        try:
            endpoint = self._dial(device)
        except Unavailable as absent:
            raise ConchError(str(absent.args[0]), connection.OPEN_CONNECT_FAILED) from None
        return connectedChannel(endpoint, self.clock, window, largest)



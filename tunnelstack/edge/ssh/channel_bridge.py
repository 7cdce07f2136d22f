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

from tunnelstack.edge.ssh.upstream import Device
from tunnelstack.errors import Unavailable
from tunnelstack.handler.ssh.channel import PLAIN, PressedChannel
from tunnelstack.handler.ssh.connection import Connection
from tunnelstack.handler.ssh.server import destination, joined

KINDS = (b"session", b"direct-tcpip")
"""Channels that a visitor may open on a device."""

ANSWERED = {b"pty-req", b"env", b"shell", b"exec", b"subsystem", b"break"}
"""Requests of a visitor whose answer is the device's."""

UNANSWERED = {b"window-change", b"signal"}
"""Requests of a visitor that nobody answers."""

OUTCOMES = {b"exit-status", b"exit-signal", b"xon-xoff", b"eow@openssh.com"}
"""Requests of a device."""

SSH_PORT = 22
"""The only one behind a device's name."""

FLUSH = 10.0
"""Seconds for a visitor to take what a device said before it was gone."""


class Bridged(PressedChannel):
    """
    One side of a pair.

    @ivar other: the other side.
    """

    other: Bridged

    def received(self, kind: int, data: bytes) -> None:
        """
        Say it on the other side.
        """
        if kind == PLAIN:
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


class NearChannel(Bridged):
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
        if requestType in ANSWERED:
            return self.other.conn.ask(self.other, requestType, data)
        if requestType in UNANSWERED:
            self.other.conn.sendRequest(self.other, requestType, data)
            return True
        return False


class FarChannel(Bridged):
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
            sentence, code = reason.value[:200].decode("utf-8", "replace"), reason.data
        self.opened.errback(ConchError(sentence, code))

    def requestReceived(self, requestType: bytes, data: bytes) -> bool:
        """
        How a program ended, behind what it said.
        """
        if requestType in OUTCOMES:
            near = self.other
            self._then(lambda: near.sendBehind(partial(near.conn.sendRequest, near, requestType, data)))
            return True
        return requestType.startswith(b"keepalive")


class BridgeConnection(Connection):
    """
    The channels of a visitor who is logged in to a device.
    """

    def __init__(self, device: Device, limit: int) -> None:
        super().__init__(limit)
        self._device = device
        self._timer: Any = None

    def serviceStarted(self) -> None:
        """
        The visitor and the device go together.
        """
        self._device.whenLost(self._deviceLost)

    def channelAsked(self, kind: bytes, window: int, largest: int, extra: bytes) -> Any:
        """
        Ask the device first.
        """
        if kind not in KINDS:
            return super().channelAsked(kind, window, largest, extra)
        if self._device.gone:
            raise ConchError("the device is gone", connection.OPEN_CONNECT_FAILED)
        far = FarChannel(kind)
        near = NearChannel(remoteWindow=window, remoteMaxPacket=largest)
        far.other, near.other = near, far
        near.conn = self                      # the device may be faster than the confirmation
        far.conn = self._device.connection
        self._device.connection.openChannel(far, extra)
        return far.opened.addCallback(lambda opened: near)

    def _deviceLost(self) -> None:
        if self.lost is not None:
            return
        if self.channels:
            self._timer = self.clock.callLater(FLUSH, self._leave)
        else:
            self._leave()

    def channelClosed(self, channel: Any) -> None:
        """
        The last one ends the connection too once the device is gone.
        """
        super().channelClosed(channel)
        if self._device.gone and not self.channels and self.lost is None:
            self._leave()

    def _leave(self) -> None:
        self.transport.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, b"the device is gone")

    def serviceStopped(self) -> None:
        """
        The visitor is gone; whoever reached the device for him lets it go.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        super().serviceStopped()


class JumpConnection(Connection):
    """
    The channels of a visitor who is only passing: each leads to a device's SSH server, which asks for a login of its own.
    """

    def __init__(self, dial: Callable[[str], IStreamClientEndpoint], limit: int) -> None:
        super().__init__(limit)
        self._dial = dial

    def channelAsked(self, kind: bytes, window: int, largest: int, extra: bytes) -> Any:
        """
        To a device, by its name.
        """
        if kind == b"session":
            raise ConchError(
                "there is no shell here; name a device (user@device@edge) or jump to one (ssh -J)",
                connection.OPEN_ADMINISTRATIVELY_PROHIBITED)
        if kind != b"direct-tcpip":
            return super().channelAsked(kind, window, largest, extra)
        device, port = destination(extra)
        if port != SSH_PORT:
            raise ConchError(
                f"behind a device's name is port {SSH_PORT} only", connection.OPEN_ADMINISTRATIVELY_PROHIBITED)
        try:
            endpoint = self._dial(device)
        except Unavailable as absent:
            raise ConchError(str(absent.args[0]), connection.OPEN_CONNECT_FAILED) from None
        return joined(endpoint, self.clock, window, largest)



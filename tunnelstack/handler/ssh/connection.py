"""
Conch's connection service with flow control and limits.  A channel is confirmed when its destination is connected, and credit
is returned when the application has consumed the data.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack, unpack
from typing import Any, TypeVar

from twisted.conch.error import ConchError
from twisted.conch.ssh import connection
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS, getNS
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from tunnelstack.handler.ssh.channel import FlowControlledChannel
from tunnelstack.handler.ssh.transport import NULL_LOGGER

T = TypeVar("T")

CHANNELS = 64
"""Open channels of one connection."""

OpenedChannel = FlowControlledChannel | Deferred[Any]
"""A channel, or a C{Deferred} of one (of any subclass: C{Deferred} is invariant)."""


class FlowControlledConnection(connection.SSHConnection):
    """
    The connection service (RFC 4254) of either side.

    @ivar lost: the reason when the connection is lost, C{None} before.
    """

    transport: Any
    _log = NULL_LOGGER

    def __init__(self, limit: int = CHANNELS) -> None:
        super().__init__()
        self._limit = limit
        self._opening = 0
        self.lost: Failure | None = None

    # For channels

    @property
    def full(self) -> bool:
        """
        Whether the transport's buffer is full.
        """
        return bool(self.transport.full)

    @property
    def clock(self) -> IReactorTime:
        """
        The clock of the transport.
        """
        clock: IReactorTime = self.transport.clock
        return clock

    def callNextTurn(self, call: Callable[[], object]) -> None:
        """
        Call C{call} on the next turn of the reactor.
        """
        self.clock.callLater(0, call)

    def sendQueued(self) -> None:
        """
        Called by the transport when it has room again: let each channel send.
        """
        for channel in list(self.channels.values()):
            if isinstance(channel, FlowControlledChannel) and not self.full:
                channel.sendQueued()
        # The first channel goes to the end, so that another one is first next time.
        self.channels.update({number: self.channels.pop(number) for number in list(self.channels)[:1]})

    def adjustWindow(self, channel: object, bytesToAdd: int) -> None:
        """
        Do nothing.  Conch calls this for data that arrived; L{credit} is called for data that was consumed.
        """

    def credit(self, channel: FlowControlledChannel) -> None:
        """
        Return credit for the data that the application has consumed, in steps of at least half a window.
        """
        consumed = channel.localWindowSize - channel.localWindowLeft - channel.held
        if consumed >= channel.localWindowSize // 2 and channel in self.channelsToRemoteChannel:
            super().adjustWindow(channel, consumed)

    # Opening

    def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
        """
        The peer requests a channel.
        """
        kind, rest = getNS(packet)
        sender, window, largest = unpack(">3L", rest[:12])
        if len(self.channels) + self._opening >= self._limit:
            self._refuse(sender, connection.OPEN_RESOURCE_SHORTAGE, "too many channels")
            return
        self._opening += 1
        opened = maybeDeferred(self.channelRequested, kind, window, min(largest, 1 << 18), rest[12:])
        opened.addBoth(self._openingDone).addCallbacks(self._confirm, self._failed, (sender,), {}, (sender,), {})

    def _openingDone(self, result: T) -> T:
        self._opening -= 1
        return result

    def channelRequested(self, kind: bytes, window: int, largest: int, extra: bytes) -> OpenedChannel:
        """
        Open a channel that the peer requests; subclasses override.

        @param kind: the channel type.
        @param window: the peer's window, in octets.
        @param largest: the octets of the largest packet that the peer accepts.
        @param extra: the data that is specific to the channel type.
        @return: the channel, which is confirmed when the C{Deferred} fires.
        @raise ConchError: the channel is refused; with a sentence and an C{OPEN_} code.
        """
        raise ConchError("the channel type is not supported", connection.OPEN_UNKNOWN_CHANNEL_TYPE)

    def _confirm(self, channel: FlowControlledChannel, sender: int) -> None:
        if self.lost is not None:
            channel.conn = self
            channel.closed()
            return
        channel.conn = self
        channel.id = self.localChannelID  # type: ignore[assignment]
        self.localChannelID += 1
        self.channels[channel.id] = channel
        self.channelsToRemoteChannel[channel] = sender
        self.localToRemoteChannel[channel.id] = sender
        self.transport.sendPacket(
            connection.MSG_CHANNEL_OPEN_CONFIRMATION,
            pack(">4L", sender, channel.id, channel.localWindowSize, channel.localMaxPacket),
        )
        channel.channelOpen(b"")

    def _failed(self, failure: Failure, sender: int) -> None:
        code, sentence = connection.OPEN_CONNECT_FAILED, "the destination cannot be reached"
        refused = failure.value
        if isinstance(refused, ConchError) and isinstance(refused.data, int):
            code, sentence = refused.data, str(refused.value)
        if self.lost is None:
            self._refuse(sender, code, sentence)

    def _refuse(self, sender: int, code: int, sentence: str) -> None:
        self.transport.sendPacket(
            connection.MSG_CHANNEL_OPEN_FAILURE, pack(">2L", sender, code) + NS(sentence.encode()) + NS(b""))

    # Requests

    def gotGlobalRequest(self, requestType: bytes, data: bytes) -> int:
        """
        Accept keepalive requests only: this side does not listen for its peer (C{tcpip-forward}).
        """
        return int(requestType.startswith(b"keepalive"))

    def ssh_CHANNEL_REQUEST(self, packet: bytes) -> None:
        """
        The peer sends a request for a channel.  A request that raises an exception is refused, not reported.
        """
        (number,) = unpack(">L", packet[:4])
        kind, rest = getNS(packet[4:])
        wants = rest[0]
        channel = self.channels[number]
        answer = maybeDeferred(channel.requestReceived, kind, rest[1:])
        answer.addErrback(lambda failure: False)
        if wants:
            answer.addCallback(self._answer, channel)

    def _answer(self, granted: object, channel: SSHChannel) -> None:
        remote = self.channelsToRemoteChannel.get(channel)
        if remote is not None and not channel.localClosed:
            message = connection.MSG_CHANNEL_SUCCESS if granted else connection.MSG_CHANNEL_FAILURE
            self.transport.sendPacket(message, pack(">L", remote))

    def requestOnChannel(self, channel: SSHChannel, kind: bytes, data: bytes) -> Deferred[bool]:
        """
        Send a request for a channel, and wait for the answer.

        @return: whether it was granted.
        """
        asked = None if self.lost is not None else self.sendRequest(channel, kind, data, wantReply=1)
        if asked is None:
            return succeed(False)
        return asked.addCallbacks(lambda granted: True, lambda failure: False)

    def serviceStopped(self) -> None:
        reason = self.transport.lost or connectionDone
        self.lost = reason if reason.check(ConnectionDone) else Failure(ConnectionLost())
        super().serviceStopped()

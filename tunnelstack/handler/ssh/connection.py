"""
Conch's multiplexer of channels with credit, bounds and patience: a channel is confirmed when what it leads to stands, and its
peer may send as much as was taken.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack, unpack
from typing import Any

from twisted.conch.error import ConchError
from twisted.conch.ssh import connection
from twisted.conch.ssh.common import NS, getNS
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from tunnelstack.handler.ssh.channel import FlowControlledChannel
from tunnelstack.handler.ssh.transport import NULL_LOGGER

CHANNELS = 64
"""Channels of one connection."""


class FlowControlledConnection(connection.SSHConnection):
    """
    Channels over one connection, opened when what they lead to stands.

    @ivar lost: the reason once the connection is lost.
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
        The carrier takes no more.
        """
        return bool(self.transport.full)

    @property
    def clock(self) -> Any:
        """
        Of everything that waits.
        """
        return self.transport.clock

    def callNextTurn(self, call: Callable[[], object]) -> None:
        """
        Call it on a later turn.
        """
        self.clock.callLater(0, call)

    def sendQueued(self) -> None:
        """
        The carrier takes more: each channel in turn.
        """
        for channel in list(self.channels.values()):
            if isinstance(channel, FlowControlledChannel) and not self.full:
                channel.sendQueued()
        self.channels.update({number: self.channels.pop(number) for number in list(self.channels)[:1]})   # next time, another

    def adjustWindow(self, channel: Any, bytesToAdd: int) -> None:
        """
        Conch gives credit for what arrived; L{credit} does for what was taken.
        """

    def credit(self, channel: FlowControlledChannel) -> None:
        """
        Let the peer send as much as the application has taken, in steps of half a window.
        """
        taken = channel.localWindowSize - channel.localWindowLeft - channel.held
        if taken >= channel.localWindowSize // 2 and channel in self.channelsToRemoteChannel:
            super().adjustWindow(channel, taken)

    # Opening

    def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
        """
        The peer wants a channel: it is confirmed when what it leads to stands.
        """
        kind, rest = getNS(packet)
        sender, window, largest = unpack(">3L", rest[:12])
        if len(self.channels) + self._opening >= self._limit:
            self._refuse(sender, connection.OPEN_RESOURCE_SHORTAGE, "too many channels")
            return
        self._opening += 1
        opened = maybeDeferred(self.channelRequested, kind, window, min(largest, 1 << 18), rest[12:])
        opened.addBoth(self._openingDone).addCallbacks(self._confirm, self._failed, (sender,), {}, (sender,), {})

    def _openingDone(self, result: Any) -> Any:
        self._opening -= 1
        return result

    def channelRequested(self, kind: bytes, window: int, largest: int, extra: bytes) -> Any:
        """
        @return: a L{FlowControlledChannel}, or a C{Deferred} of one.
        @raise ConchError: with a sentence and an C{OPEN_} code: it is refused.
        """
        raise ConchError("there is no such kind of channel", connection.OPEN_UNKNOWN_CHANNEL_TYPE)

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
        code, sentence = connection.OPEN_CONNECT_FAILED, "it cannot be reached"
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
        Only the question whether we are alive has an answer; nothing is forwarded from here.
        """
        return int(requestType.startswith(b"keepalive"))

    def ssh_CHANNEL_REQUEST(self, packet: bytes) -> None:
        """
        The peer asks a channel for something; a request that fails says no and nothing more.
        """
        (number,) = unpack(">L", packet[:4])
        kind, rest = getNS(packet[4:])
        wants = rest[0]
        channel = self.channels[number]
        answer = maybeDeferred(channel.requestReceived, kind, rest[1:])
        answer.addErrback(lambda failure: False)
        if wants:
            answer.addCallback(self._answer, channel)

    def _answer(self, granted: object, channel: Any) -> None:
        remote = self.channelsToRemoteChannel.get(channel)
        if remote is not None and not channel.localClosed:
            message = connection.MSG_CHANNEL_SUCCESS if granted else connection.MSG_CHANNEL_FAILURE
            self.transport.sendPacket(message, pack(">L", remote))

    def requestOnChannel(self, channel: Any, kind: bytes, data: bytes) -> Deferred[bool]:
        """
        Ask the peer for something on a channel.

        @return: whether it was granted.
        """
        asked = None if self.lost is not None else self.sendRequest(channel, kind, data, wantReply=1)
        if asked is None:
            return succeed(False)
        return asked.addCallbacks(lambda granted: True, lambda failure: False)

    def serviceStopped(self) -> None:
        """
        Every channel ends with the connection.
        """
        reason = self.transport.lost or connectionDone
        self.lost = reason if reason.check(ConnectionDone) else Failure(ConnectionLost())
        super().serviceStopped()

"""
The control stream as both sides see it: one JSON object in each line, on one stream that lasts as long as the session.

The agent sends requests, and each answer has the C{id} of its request; the edge also sends events.
"""

from __future__ import annotations

from typing import Protocol as TypingProtocol

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import PeerError
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.jsonline import JSONObject, LineReader, decode_object, encode

MAX_LINE_OCTETS = 16 * 1024
"""Octets of the longest line."""


class MessageReceiver(TypingProtocol):
    """
    What one side does with the messages of the other.
    """

    def streamOpened(self) -> None:
        """
        Called once, before all other methods: messages can be sent.
        """

    def messageReceived(self, message: JSONObject) -> None:
        """
        @raise PeerError: the message breaks the protocol; the stream is reset.
        """

    def messagesEnded(self, reason: Failure) -> None:
        """
        Called once, when the stream is lost.
        """


@implementer(IHalfCloseableProtocol)
class ControlStream(Protocol):
    """
    Sends and receives JSON objects.

    @ivar ended: the stream is lost or was reset; nothing more is sent or received.
    """

    transport: StreamTransport

    def __init__(self, receiver: MessageReceiver) -> None:
        self._receiver = receiver
        self._lines = LineReader(MAX_LINE_OCTETS)
        self._paused = False
        self._reason: Failure | None = None

    @property
    def ended(self) -> bool:
        return self._reason is not None

    @property
    def linesWait(self) -> bool:
        """
        Whether there are lines, or a part of one, that were not passed on.
        """
        return self._lines.waiting

    def connectionMade(self) -> None:
        self._receiver.streamOpened()

    def dataReceived(self, data: bytes) -> None:
        self._lines.feed(data)
        self.processLines()

    def pause(self) -> None:
        """
        Receive no messages, and give the peer no more credit.
        """
        self._paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        """
        Receive messages again.  Call L{processLines} on a later turn, for the lines that were received before the pause.
        """
        self._paused = False
        self.transport.resumeProducing()

    def processLines(self) -> None:
        """
        Pass on the messages of all lines that were received, until the receiver pauses.
        """
        try:
            while not self._paused and self._reason is None and (line := self._lines.next_line()) is not None:
                self._receiver.messageReceived(decode_object(line))
        except PeerError:
            self.abort(Failure())

    def sendMessage(self, message: JSONObject) -> None:
        """
        Nothing is sent once the stream has ended.
        """
        if self._reason is None:
            self.transport.write(encode(message))

    def readConnectionLost(self) -> None:
        self.close()

    def writeConnectionLost(self) -> None:
        """
        Nothing to do: the stream is closed in both directions.
        """

    def close(self) -> None:
        """
        Close the stream after what was sent.
        """
        if self._reason is None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self, reason: Failure) -> None:
        """
        Reset the stream.

        @param reason: what L{MessageReceiver.messagesEnded} is called with.
        """
        if self._reason is None:
            self._reason = reason
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._reason = self._reason or reason
        self._receiver.messagesEnded(self._reason)

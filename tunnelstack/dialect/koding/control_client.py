"""
The client's end: the C{CONNECT} request, and the control stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tunnelstack.errors import PeerError, Refused, Unavailable
from tunnelstack.stream.errors import SessionLost
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.records.koding import (
    HANDSHAKE_REQUEST,
    HANDSHAKE_RESPONSE,
    Accepted,
    AnswerReader,
    ControlMessage,
    ControlReader,
    HandshakeReader,
    Rejected,
    encode_connect,
)


class IdentifierRefused(Refused):
    """
    No host of the server has our identifier.
    """


class ServerBusy(Unavailable):
    """
    The server does not take the client now: it has one with this identifier, which it disconnects, or is about to stop.
    """


class NotAKodingServer(PeerError):
    """
    The server uses another protocol.
    """


def rejection(answer: Rejected) -> Exception:
    """
    @return: what a refusal means.  Its text repeats the identifier, so that is no part of it.
    """
    if answer.unknown:
        return IdentifierRefused("no host of the server has this identifier")
    if answer.status == 429 or answer.status >= 500:
        return ServerBusy("the server does not accept the client at the moment", status=answer.status)
    return NotAKodingServer("the server does not accept clients of koding/tunnel", status=answer.status)


class ConnectRequest(Protocol):
    """
    Sends the request on a connection, and gives the connection to a session when the server has accepted.
    """

    transport: Any

    def __init__(self, identifier: str, accepted: Callable[[], Protocol]) -> None:
        """
        @param accepted: builds the protocol of the session.
        """
        self._identifier = identifier
        self._build = accepted
        self._reader = AnswerReader()
        self.answered: Deferred[Protocol] = Deferred(lambda _: self._cancel())
        """Fires with the protocol of the session when it has the connection."""

    def connectionMade(self) -> None:
        # The address as this side sees it, which is never a name, is what genuine clients send.
        self.transport.write(encode_connect(addressText(self.transport.getPeer()), self._identifier))

    def _cancel(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.answered.called:
            return
        try:
            answer = self._reader.receive_data(data)
        except PeerError as wrong:
            self._fail(NotAKodingServer(str(wrong)))
            return
        if isinstance(answer, Accepted):
            self._switch(self.transport, answer.leftover)
        elif answer is not None:
            self._fail(rejection(answer))

    def _switch(self, transport: ITransport, leftover: bytes) -> None:
        session = self._build()
        replaced = "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol"     # the former is that of TLS
        setattr(transport, replaced, session)
        session.makeConnection(transport)
        self.answered.callback(session)
        if leftover:
            session.dataReceived(leftover)

    def _fail(self, reason: Exception) -> None:
        self.transport.loseConnection()
        self.answered.errback(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.answered.called:
            return
        try:
            self.answered.errback(rejection(self._reader.receive_eof()))
        except PeerError as wrong:
            self.answered.errback(ServerBusy(str(wrong)))


class ClientControlStream(Protocol):
    """
    The control stream of a session, on which each object requests one stream.
    """

    transport: StreamTransport

    def __init__(self, asked: Callable[[ControlMessage], object], ended: Callable[[BaseException | None], object]) -> None:
        """
        @param asked: called with each message.
        @param ended: called once, when the server has ended the stream or broken its rules; with the reason if that was not
            orderly.
        """
        self._asked = asked
        self._ended: Callable[[BaseException | None], object] | None = ended
        self._handshake: HandshakeReader | None = HandshakeReader(HANDSHAKE_RESPONSE)
        self._messages = ControlReader()
        self.handshakeDone: Deferred[ClientControlStream] = Deferred(lambda _: None)
        """Fires after the handshake."""

    def connectionMade(self) -> None:
        self.transport.writeRecord(HANDSHAKE_REQUEST)

    def dataReceived(self, data: bytes) -> None:
        try:
            self._read(data)
        except PeerError as wrong:
            self._end(wrong)

    def _read(self, data: bytes) -> None:
        """
        @raise PeerError: the server breaks the rules.
        """
        if self._handshake is not None:
            rest = self._handshake.receive_data(data)
            if rest is None:
                return
            self._handshake, data = None, rest
            if not self.handshakeDone.called:
                self.handshakeDone.callback(self)
        for message in self._messages.receive_data(data):
            self._asked(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(reason.value if reason.check(SessionLost) else None)

    def _end(self, reason: BaseException | None) -> None:
        if not self.handshakeDone.called:
            self.handshakeDone.errback(reason or ServerBusy("the server ended the control stream before the handshake"))
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(reason)

    def close(self) -> None:
        """
        End the stream.
        """
        self._ended = None
        self.transport.loseConnection()

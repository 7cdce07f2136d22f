"""
The server's end of a control stream: it answers the handshake, and requests streams of the client.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.errors import PeerError, TunnelError
from tunnelstack.stream.errors import SessionClosed
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.json_stream import ObjectStreamReader
from tunnelstack.wire.records.koding import (
    HANDSHAKE_REQUEST,
    HANDSHAKE_RESPONSE,
    BadHandshake,
    ControlMessage,
    HandshakeReader,
    encode_control,
)


class ServerControlStream(Protocol):
    """
    One control stream.  What a client sends after the handshake means nothing, but must be JSON objects.
    """

    transport: StreamTransport

    def __init__(self, connected: Callable[[], object], ended: Callable[[BaseException | None], object]) -> None:
        """
        @param connected: called after the handshake.
        @param ended: called once, when the client has ended the stream or broken its rules; with the reason if that was not
            orderly.
        """
        self._connected = connected
        self._ended: Callable[[BaseException | None], object] | None = ended
        self._handshake: HandshakeReader | None = HandshakeReader(HANDSHAKE_REQUEST)
        self._objects = ObjectStreamReader()

    @property
    def up(self) -> bool:
        """
        The handshake is done, and the stream is open.
        """
        return self._handshake is None and self._ended is not None

    def announce(self, message: ControlMessage) -> None:
        """
        Ask for a stream.

        @raise SessionClosed: the control stream has ended.
        """
        if not self.up:
            raise SessionClosed("the control stream of the client has ended")
        self.transport.writeRecord(encode_control(message))

    def dataReceived(self, data: bytes) -> None:
        try:
            self._read(data)
        except PeerError as wrong:
            self._end(wrong)

    def _read(self, data: bytes) -> None:
        """
        @raise PeerError: the client breaks the rules.
        """
        if self._handshake is not None:
            rest = self._handshake.receive_data(data)
            if rest is None:
                return
            self._handshake, data = None, rest
            self.transport.writeRecord(HANDSHAKE_RESPONSE)
            self._connected()
        self._objects.feed(data)
        while self._objects.next_object() is not None:
            pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        early = BadHandshake("the control stream ended before the handshake") if self._handshake is not None else None
        self._end(early)

    def _end(self, reason: BaseException | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(reason)

    def close(self) -> None:
        """
        End the stream: the client finishes what is under way, and disconnects.
        """
        self._ended = None
        if self.transport is not None:
            self.transport.loseConnection()


class ControlListener(Factory):
    """
    Takes the first stream of a client as its control stream, within a time, and no other that was not announced.
    """

    noisy = False
    log = Logger()

    def __init__(
        self, control: ServerControlStream, clock: IReactorTime, seconds: float, late: Callable[[TunnelError], object]
    ) -> None:
        """
        @param seconds: within which the handshake must be done.
        @param late: called with the reason if it is not.
        """
        self._control: ServerControlStream | None = control
        self._late = late
        self._timer: IDelayedCall | None = clock.callLater(seconds, self._expire, control)

    def buildProtocol(self, address: object) -> ServerControlStream | None:
        control, self._control = self._control, None
        return control

    def _expire(self, control: ServerControlStream) -> None:
        self._timer = None
        if not control.up:
            self._late(BadHandshake("the client did not shake hands in time"))

    def stop(self) -> None:
        """
        The handshake is done, or not expected any more.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

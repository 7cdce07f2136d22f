"""
A WebSocket between an edge and an agent, as both see it: records of frames in both directions, pressure, pings, and an end with
a code.

What the network does not take at once waits here, in order.  Pings are not part of that, so they overtake it.
"""

from __future__ import annotations

import typing
from collections import deque

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import Unavailable
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.transport.websocket.transport import WebSocketTransport
from tunnelstack.waiters import Waiters
from tunnelstack.wire.jsonline import InvalidJSON
from tunnelstack.wire.records.jetty import MESSAGE_LIMIT, STOCK, Frame
from tunnelstack.wire.records.jetty_frames import (
    BadFrame,
    MessageTooLong,
    decode_frame_untrusted,
    encode_frame,
)

NORMAL, GOING_AWAY, NOT_JSON, POLICY, TOO_BIG, INTERNAL = 1000, 1001, 1003, 1008, 1009, 1011
"""The codes of our Close frames."""

MOST_INVALID = 3
"""Messages that are no JSON, after which an edge closes."""

MOST_QUEUED_OCTETS = 64 * 1024 * 1024
"""Octets that wait for a peer that does not read, beyond which it is given up: it makes us answer without taking answers."""

FIRST_MESSAGE = 64 * 1024
"""Octets of the longest message that is accepted before the agent is verified."""

FLUSH_SECONDS = 10.0
"""Seconds that the peer has to take what was sent before a close."""

LIMITS = WebSocketLimits(maxMessage=MESSAGE_LIMIT, closeTimeout=3.0)
"""The limits of the WebSocket.  There is no keepalive in them: see L{Liveness}."""

LOOK_SECONDS = 4.0
"""Seconds between two looks at whether anything has arrived, and the unit of L{Liveness}."""

T = typing.TypeVar("T")


class ChannelListener(typing.Protocol):
    """
    What a channel reports to.
    """

    def channelOpened(self) -> None:
        """
        Frames can be sent.
        """

    def frameReceived(self, frame: Frame) -> None:
        """
        The peer has sent a frame that is known and agreed.
        """

    def badFrameReceived(self, bad: BadFrame) -> None:
        """
        The peer has sent a frame that has a member that is missing or wrong.
        """

    def writesPaused(self) -> None:
        """
        What is sent from now on waits.
        """

    def writesResumed(self) -> None:
        """
        The network takes more again.
        """

    def channelLost(self, reason: Failure) -> None:
        """
        The last call.
        """


@implementer(IPushProducer)
class FrameChannel(Protocol):
    """
    The protocol of the WebSocket, which has whole messages (C{records}).

    @ivar listener: may be replaced at any time.
    @ivar capabilities: those that were agreed with the peer.
    @ivar queued: octets that wait.
    @ivar ignored: messages that had no meaning for this side.
    @ivar octetsIn: octets of all messages that were received; C{octetsOut}, that were sent.
    """

    log = Logger()
    transport: WebSocketTransport

    def __init__(self, clock: IReactorTime, listener: ChannelListener, *, holding: bool, mostInvalid: int | None) -> None:
        """
        @param holding: what is sent waits until L{release}.
        @param mostInvalid: messages that are no JSON, after which this side closes; C{None} ignores them all.
        """
        self.listener = listener
        self.capabilities: frozenset[str] = STOCK
        self.queued = self.ignored = self.octetsIn = self.octetsOut = 0
        self._clock = clock
        self._holding = holding
        self._mostInvalid = mostInvalid
        self._invalid = 0
        self._queue: deque[bytes] = deque()
        self._full = False
        self._closing: tuple[int, str] | None = None
        self._closeTimer: IDelayedCall | None = None

    @property
    def full(self) -> bool:
        """
        What is sent now waits.
        """
        return self._full or self._holding or bool(self._queue)

    @property
    def closing(self) -> bool:
        """
        It was closed by this side; what arrives is ignored.
        """
        return self._closing is not None

    # The WebSocket's side

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self.listener.channelOpened()

    def recordReceived(self, octets: bytes, text: bool) -> None:
        """
        A message.
        """
        self.octetsIn += len(octets)
        if self._closing is not None:
            return
        try:
            frame = self._decode(octets, text)
        except MessageTooLong as wrong:
            self.close(TOO_BIG, str(wrong.args[0]))
        except InvalidJSON:
            self._countInvalid()
        except BadFrame as bad:
            self._report(self.listener.badFrameReceived, bad)
        else:
            if frame is None:
                self.ignored += 1
            else:
                self._report(self.listener.frameReceived, frame)

    def _decode(self, octets: bytes, text: bool) -> Frame | None:
        """
        @raise InvalidJSON: a binary message is none either.
        """
        if not text:
            raise InvalidJSON("a binary message")
        return decode_frame_untrusted(octets, self.capabilities)

    def _countInvalid(self) -> None:
        self._invalid += 1
        self.ignored += 1
        if self._mostInvalid is not None and self._invalid >= self._mostInvalid:
            self.close(NOT_JSON, f"{self._invalid} messages are no JSON")

    def _report(self, call: typing.Callable[[T], object], value: T) -> None:
        try:
            call(value)
        except Exception:
            self.log.failure("a frame could not be processed")
            self.close(INTERNAL, "internal error")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._closeTimer is not None and self._closeTimer.active():
            self._closeTimer.cancel()
        self._queue.clear()
        self.queued = 0
        self._closing = self._closing or (NORMAL, "")
        self.listener.channelLost(reason)

    def pauseProducing(self) -> None:
        self._full = True
        self.listener.writesPaused()

    def resumeProducing(self) -> None:
        self._full = False
        self._flush()

    def stopProducing(self) -> None:
        """
        The WebSocket is gone; C{connectionLost} follows.
        """

    # Sending

    def send(self, frame: Frame) -> None:
        """
        Send a frame, after those that wait.  Nothing happens once the channel is closed.
        """
        if self._closing is not None:
            return
        octets = encode_frame(frame, self.capabilities)
        if self.full:
            self._queue.append(octets)
            self.queued += len(octets)
            if self.queued > MOST_QUEUED_OCTETS:
                self.close(POLICY)
                self.transport.abortConnection()
        else:
            self._write(octets)

    def _write(self, octets: bytes) -> None:
        self.octetsOut += len(octets)
        self.transport.writeRecord(octets, True)

    def release(self, first: Frame) -> None:
        """
        Send a frame, then those that wait, and wait no more.
        """
        if self._closing is None:
            self._write(encode_frame(first, self.capabilities))
            self._holding = False
            self._flush()

    def _flush(self) -> None:
        while self._queue and not (self._full or self._holding):
            octets = self._queue.popleft()
            self.queued -= len(octets)
            self._write(octets)
        if not self.full:
            if self._closing is not None:
                self._closeWebSocket(*self._closing)
            else:
                self.listener.writesResumed()

    # Ends

    def refuse(self, frame: Frame, reason: str) -> None:
        """
        Send a frame before all that waits, which is dropped, and close with L{POLICY}.
        """
        if self._closing is None:
            self._queue.clear()
            self.queued = 0
            self._holding = False
            self._write(encode_frame(frame, self.capabilities))
            self.close(POLICY, reason)

    def close(self, code: int, reason: str = "") -> None:
        """
        Close after what waits.  Nothing that arrives later is reported, but the loss.

        @param code: of the Close frame.
        @param reason: the text in it.
        """
        if self._closing is not None:
            return
        self._closing = code, reason
        if self._holding or not self._queue:
            self._closeWebSocket(code, reason)
        else:
            self._closeTimer = self._clock.callLater(FLUSH_SECONDS, self.transport.abortConnection)

    def _closeWebSocket(self, code: int, reason: str) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection(code, reason)

    def abort(self) -> None:
        """
        Close at once, without a Close frame.
        """
        self.transport.abortConnection()


class Liveness:
    """
    Pings at intervals, measures round trips, and finds that the peer is gone.
    """

    def __init__(
        self, clock: IReactorTime, transport: WebSocketTransport, *, interval: float, silent: float,
        lost: typing.Callable[[], object], expire: typing.Callable[[float], object] = lambda now: None,
    ) -> None:
        """
        @param interval: seconds between pings, a multiple of L{LOOK_SECONDS}.
        @param silent: seconds without an octet of the peer after which it is gone, as far as it was read.
        @param lost: called then.
        @param expire: called with the time every L{LOOK_SECONDS}.
        """
        self._clock = clock
        self._transport = transport
        self._interval = round(interval / LOOK_SECONDS)
        self._silentSeconds = silent
        self._lost = lost
        self._expire = expire
        self._looks = 0
        self._last = clock.seconds()          # when something had arrived
        self._pings = 0
        self._measured = 0, 0.0               # the number of the ping that is waited for, and when it was sent
        self._waiting: Waiters[float] = Waiters()
        transport.onPong = self._pongReceived
        self._timer: IDelayedCall | None = clock.callLater(LOOK_SECONDS, self._look)

    @property
    def measuring(self) -> bool:
        """
        Whether a pong is waited for.
        """
        return bool(self._waiting)

    def ping(self) -> None:
        """
        Send a ping now.
        """
        self._pings += 1
        self._transport.ping(b"%d" % self._pings)

    def measure(self) -> Deferred[float]:
        """
        @return: a C{Deferred} of the round trip in seconds; it fails with L{Unavailable} if the peer is lost.
        """
        if self._timer is None:
            return fail(Unavailable("the session is lost"))
        if not self._waiting:
            self.ping()
            self._measured = self._pings, self._clock.seconds()
        return self._waiting.wait()

    def _pongReceived(self, payload: bytes) -> None:
        """
        A peer may answer the last of several pings only.
        """
        number, began = self._measured
        if self._waiting and len(payload) <= 9 and payload.isdigit() and int(payload) >= number:
            self._waiting.fire(self._clock.seconds() - began)

    def stop(self) -> None:
        """
        The WebSocket is gone.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._waiting.fail(Unavailable("the session is lost"))

    def _look(self) -> None:
        now = self._clock.seconds()
        if self._transport.takeDataSeen() or self._transport.readPaused:
            self._last = now
        elif now - self._last > self._silentSeconds:
            self._timer = None
            self._lost()
            return
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look)
        self._looks += 1
        if self._looks % self._interval == 0:
            self.ping()
        self._expire(now)

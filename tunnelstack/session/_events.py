"""
What the core of a yamux session says, by the peer's octets or by the clock, told to the streams, by turns where it is much.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tunnelstack.session._connector import SessionConnector
from tunnelstack.session._holding import Holding
from tunnelstack.session._listener import SessionListener
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, SessionLost, StreamResetError
from tunnelstack.wire.yamux import events
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.limits import SessionLimits

TURN = 64
"""Events that are told in one turn of the reactor."""


class EventDispatcher(Holding):
    """
    The half of a yamux session that hears its core.
    """

    def __init__(self, clock: Any, wire: YamuxConnection, limits: SessionLimits, address: StreamAddress) -> None:
        super().__init__(clock)
        self._limits = limits
        self._wire = self._core = wire
        self.acknowledge = wire.acknowledge  # type: ignore[method-assign,assignment]
        self.address = address
        self.connector = SessionConnector(self)
        self.listener = SessionListener(self)
        self._events: list[events.YamuxEvent] = []   # from the core, yet to be told
        self._pings: dict[int, tuple[Deferred[float], float]] = {}
        self._whenIdle: list[Deferred[None]] = []
        self._failing: SessionLost | None = None
        self._timer: Any = None
        self._deliver: dict[type[events.YamuxEvent], Callable[[Any], None]] = {
            events.DataArrived: self._data,
            events.StreamOpened: self.listener.opened,
            events.StreamEnded: self._streamEnded,
            events.StreamReset: self._streamReset,
            events.CreditArrived: self._credit,
            events.SlotsFreed: lambda event: self.connector.slotsFreed(),
            events.PongArrived: self._pong,
            events.PeerWentAway: self._peerWentAway,
            events.KeepaliveLost: self._keepaliveLost,
        }

    # By turns

    def _dispatchSome(self, turns: int = 1) -> None:
        """
        Tell what a turn should tell, and leave the rest to a later one: what the first of very many events led to is then
        on its way while the last are told.

        @param turns: after how many turns to go on; a reactor that has just read makes its calls before it writes.
        """
        self._dispatch(TURN)
        self.flush()
        if self._events:
            self._clock.callLater(0, self._dispatchRest, turns - 1)

    def _dispatchRest(self, turns: int) -> None:
        if turns:
            self._clock.callLater(0, self._dispatchRest, turns - 1)
        elif self._events:
            self._dispatchSome()

    def _dispatch(self, most: int) -> None:
        """
        Tell the streams of what has happened.
        """
        events = self._events
        if len(events) > most:
            events, self._events = events[:most], events[most:]
        else:
            self._events = []
        deliver = self._deliver
        self._inFlush = True
        try:
            for event in events:
                deliver[event.__class__](event)
        finally:
            self._inFlush = False

    # Events of the core

    def _data(self, event: events.DataArrived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None and not stream.disconnecting:
            stream.deliverData(event.data)
        else:
            self._absorbData(event.stream_id, len(event.data))

    def _streamEnded(self, event: events.StreamEnded) -> None:
        streamId = event.stream_id
        closing = self._closing.get(streamId)
        if closing is not None and closing.ended:
            del self._closing[streamId]
        stream = self._streams.get(streamId)
        if stream is not None:
            stream.deliverEnd()
        if self._whenIdle:
            self._checkIdle()

    def _streamReset(self, event: events.StreamReset) -> None:
        self._closing.pop(event.stream_id, None)
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self.listener.streamGone(event.stream_id)
            stream.lost(Failure(StreamResetError("the stream was reset", stream=event.stream_id, reason=event.reason)))
        if self._whenIdle:
            self._checkIdle()

    def _credit(self, event: events.CreditArrived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None and stream.queued and not stream.scheduled:
            self.streamReady(stream)

    def _pong(self, event: events.PongArrived) -> None:
        answer, sent = self._pings.pop(event.opaque, (None, 0.0))
        if answer is not None:
            answer.callback(self._clock.seconds() - sent)

    def _peerWentAway(self, event: events.PeerWentAway) -> None:
        self.connector.fail(SessionClosed("the peer takes no more streams"))

    def _keepaliveLost(self, event: events.KeepaliveLost) -> None:
        self._failing = SessionLost("the peer did not answer a ping in time")
        self.transport.abortConnection()

    # The clock

    def _expireCore(self) -> None:
        """
        Ask the core for its next deadline.
        """
        now = self._clock.seconds()
        for event in self._core.expire(now):
            self._deliver[event.__class__](event)
        if self._core is not None:
            deadline = self._core.next_deadline()
            if deadline is not None:
                self._scheduleTimer(deadline)

    def _scheduleTimer(self, at: float) -> None:
        if at >= self._timerAt or self._core is None:
            return
        self._timerAt = at
        delay = max(0.0, at - self._clock.seconds())
        if self._timer is not None and self._timer.active():
            self._timer.reset(delay)
        else:
            self._timer = self._clock.callLater(delay, self._onTimer)

    def _onTimer(self) -> None:
        self._timer = None
        self._timerAt = inf
        if self._core is None:
            return
        now = self._clock.seconds()
        self.connector.expire(now)
        self._expireClosing(now)
        self._expireCore()
        self.flush()

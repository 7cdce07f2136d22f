"""
Opening streams: the endpoint that does it, and the calls that wait for a slot.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IImmediateConnector
from tunnelstack.stream.errors import OpenTimeout, SessionLost, TooManyStreams
from tunnelstack.transport.deadline_timer import DeadlineTimer

WAITING_CONNECTS = 1024
"""Calls of C{connect} that may wait for a slot; more fail at once."""

SLOT_SECONDS = 30.0
"""Seconds that one of them waits."""


class NoFreeSlot(Exception):
    """
    From a session to its L{SessionConnector}: no stream can be opened at this moment, but one may be later.
    """


class StreamOpener(Protocol):
    """
    What a connector needs of its session.
    """

    def openStream(self, factory: IProtocolFactory) -> IProtocol:
        """
        @raise NoFreeSlot: no stream can be opened now.
        """

    def lostReason(self) -> SessionLost | None:
        """
        @return: why no stream can be opened any more, or C{None}.
        """


@implementer(IStreamClientEndpoint, IImmediateConnector)
class SessionConnector:
    """
    The connector of a session.

    @ivar waiting: the calls that wait for a slot, each with its factory and its deadline.
    """

    __slots__ = ("_clock", "_session", "_timer", "waiting")

    def __init__(self, clock: IReactorTime, timer: DeadlineTimer, session: StreamOpener) -> None:
        """
        @param timer: is to call L{expire} in time.
        """
        self._clock = clock
        self._timer = timer
        self._session = session
        self.waiting: list[tuple[Deferred[IProtocol], IProtocolFactory, float]] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream.

        @return: fires with the protocol once the opening is queued; cancelling a call that waits takes it out.
        """
        gone = self._session.lostReason()
        if gone is not None:                  # and is not raised: its traceback would keep the factory
            return fail(gone)
        try:
            protocol = self.connectNow(protocolFactory)
        except Exception:
            return fail()
        return self._wait(protocolFactory) if protocol is None else succeed(protocol)

    def connectNow(self, protocolFactory: IProtocolFactory) -> IProtocol | None:
        """
        As in L{IImmediateConnector}.
        """
        session = self._session
        if self.waiting or session.lostReason() is not None:
            return None
        try:
            return session.openStream(protocolFactory)
        except NoFreeSlot:
            return None

    def _wait(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        if len(self.waiting) >= WAITING_CONNECTS:
            return fail(TooManyStreams("no stream can be opened now", waiting=len(self.waiting)))
        connected: Deferred[IProtocol] = Deferred(self._cancelled)
        deadline = self._clock.seconds() + SLOT_SECONDS
        self.waiting.append((connected, factory, deadline))
        self._timer.schedule(deadline)
        return connected

    def _cancelled(self, connected: Deferred[IProtocol]) -> None:
        self.waiting = [call for call in self.waiting if call[0] is not connected]

    def slotsFreed(self) -> None:
        """
        Open what waits, as far as there are slots.
        """
        while self.waiting and self._session.lostReason() is None:
            connected, factory, deadline = self.waiting.pop(0)
            try:
                protocol = self._session.openStream(factory)
            except NoFreeSlot:
                self.waiting.insert(0, (connected, factory, deadline))
                return
            except Exception:
                if not connected.called:
                    connected.errback(Failure())
            else:
                fireConnected(connected, protocol)

    def expire(self, now: float) -> None:
        """
        Fail the calls that have waited long enough.
        """
        while self.waiting and self.waiting[0][2] <= now:
            connected, *_ = self.waiting.pop(0)
            connected.errback(OpenTimeout("no stream could be opened in time"))
        if self.waiting:
            self._timer.schedule(self.waiting[0][2])

    def fail(self, reason: Exception) -> None:
        """
        Fail every call: there will be no slots.
        """
        calls, self.waiting = self.waiting, []
        for connected, *_ in calls:
            connected.errback(reason)


def fireConnected(connected: Deferred[IProtocol], protocol: Any) -> None:
    """
    Fire the result of a call that has waited, unless its caller, connected just now, has cancelled it: then the stream goes.
    """
    if connected.called:
        protocol.transport.abortConnection()
    else:
        connected.callback(protocol)

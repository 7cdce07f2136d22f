"""
Twisted's epoll reactor, which polls for a short time before it sleeps.

To wake a process is expensive, especially on a virtual machine: it takes tens of microseconds until the process runs again, and
its caches are cold.  A peer that has just received an answer often sends its next message earlier than that.  Therefore an idle
reactor polls without sleeping for up to L{SPIN_SECONDS} seconds before it waits.  If polling finds nothing it is soon done
rarely, so that an idle program uses no more processor time than with the epoll reactor.

It differs from Twisted's reactor in four more things that cost time with each event.  What happens at a descriptor is not
wrapped in a context of C{twisted.python.log}, so messages of the old logging system do not contain the name of the
connection.  Delayed calls and calls of threads are looked at only when there is one.  It can call something at the end of a
turn (L{BusyPollReactor.callAtTurnEnd}) without a delayed call.  And its TCP ports and their connections are
L{AcceptingPort<tunnelstack.reactor.tcp_port.AcceptingPort>} and
L{AcceptedConnection<tunnelstack.reactor.tcp_connection.AcceptedConnection>}.

Source: Linux polls in the same way for an idle virtual processor (C{drivers/cpuidle/governors/haltpoll.c}, which shortens the
polling where this reactor polls more rarely) and for a socket (C{net.core.busy_poll}).
"""

from __future__ import annotations

from collections.abc import Callable
from os import sched_yield
from select import EPOLLIN, EPOLLOUT
from socket import AF_INET, AF_INET6
from time import monotonic

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionFdescWentAway
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReadDescriptor, IWriteDescriptor
from twisted.internet.main import installReactor
from twisted.internet.tcp import Port
from twisted.logger import Logger

from tunnelstack.reactor.tcp_port import AcceptingPort

SPIN_SECONDS = 120e-6
"""Seconds of polling before a wait.  Longer polling takes more processor time than the sleep that it saves."""

MAX_SKIP_EXPONENT = 10
"""After each vain polling, twice as many waits go without one, up to 2 to the power of this."""

LONGEST_WAIT = 2147483
"""Seconds that the reactor waits at most: C{epoll_wait} takes milliseconds in 32 bits."""

NO_DESCRIPTOR = ConnectionFdescWentAway("the file descriptor was closed")


MANY_CANCELLED = 50
"""Cancelled delayed calls from which on C{runUntilCurrent} of Twisted's reactor discards them."""


class BusyPollReactor(EPollReactor):
    """
    The epoll reactor with polling.  The more often polling was vain, the more waits go without it.

    @ivar callAtTurnEnd: calls its argument once, without arguments, after the events and the delayed calls of this turn, before
        the reactor waits.  If it is requested by such a call, it is called at the end of the next turn.  It cannot be
        cancelled.
    """

    _log = Logger()
    _missed = 0                               # plus 1 for each vain polling, halved by each that found something
    _skip = 0                                 # waits that go without polling

    def __init__(self) -> None:
        self._turnEnds: list[Callable[[], object]] = []
        self.callAtTurnEnd = self._turnEnds.append
        super().__init__()

    def mainLoop(self) -> None:
        """
        As in Twisted's reactor.
        """
        while self._started:
            try:
                while self._started:
                    pending = self._pendingTimedCalls
                    if (
                        self._newTimedCalls or self.threadCallQueue or self._justStopped
                        or (pending and pending[0].time <= self.seconds()) or self._cancellations > MANY_CANCELLED
                    ):
                        self.runUntilCurrent()
                    timeout = self.timeout()
                    self.doPoll(timeout if self.running else 0)
            except BaseException:
                self._log.failure("an error in the main loop")
        self._log.info("Main loop terminated.")

    def timeout(self) -> float | None:
        """
        As in Twisted's reactor, which calls it once in a turn, after the delayed calls.
        """
        if self._turnEnds:
            calls = self._turnEnds.copy()
            self._turnEnds.clear()
            for call in calls:
                try:
                    call()
                except Exception:
                    self._log.failure("a call at the end of a turn failed")
            if self._turnEnds or self._justStopped:
                return 0
        pending = self._pendingTimedCalls
        if self._newTimedCalls or not pending:
            return super().timeout()
        seconds: float = pending[0].time - self.seconds()
        return 0 if seconds < 0 else seconds if seconds < LONGEST_WAIT else LONGEST_WAIT

    def doPoll(self, timeout: float | None) -> None:
        """
        Poll, then wait, then serve the descriptors that are ready.

        @param timeout: seconds; C{None} for no limit.
        """
        most = len(self._selectables)
        ready: list[tuple[int, int]] = []
        if timeout is None or timeout > 0:
            if self._skip:
                self._skip -= 1
            else:
                spin = SPIN_SECONDS if timeout is None or timeout > SPIN_SECONDS else timeout
                ready = self._spin(spin, most)
                if timeout is not None:
                    timeout -= spin
        if not ready:
            ready = self._poller.poll(-1 if timeout is None else timeout, most)
        selectables = self._selectables
        for descriptor, event in ready:
            selectable = selectables.get(descriptor)
            if selectable is None:            # an event before this one has closed it
                continue
            try:
                if event != EPOLLIN:
                    self._doReadOrWrite(selectable, descriptor, event)
                    continue
                try:                          # what C{_doReadOrWrite} does with the event that nearly all are
                    why = selectable.doRead() if selectable.fileno() != -1 else NO_DESCRIPTOR
                except BaseException as problem:
                    self._log.failure("a descriptor failed to read, and is closed")
                    why = problem
                if why:
                    self._disconnectSelectable(selectable, why, True)
            except BaseException:
                self._log.failure("a descriptor failed to close")

    doIteration = doPoll

    # descriptors: each method does what Twisted's does in three calls, where nothing is special

    def addReader(self, reader: IReadDescriptor) -> None:
        descriptor = reader.fileno()
        if descriptor in self._reads:
            return
        if descriptor in self._writes or descriptor == -1:
            super().addReader(reader)
            return
        try:
            self._poller.register(descriptor, EPOLLIN)
        except OSError:                       # such as a file, for which epoll does not work
            super().addReader(reader)
        else:
            self._reads.add(descriptor)
            self._selectables[descriptor] = reader

    def removeReader(self, reader: IReadDescriptor) -> None:
        descriptor = reader.fileno()
        if descriptor in self._reads and descriptor not in self._writes:
            del self._selectables[descriptor]
            self._poller.unregister(descriptor)
            self._reads.remove(descriptor)
        else:
            super().removeReader(reader)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        descriptor = writer.fileno()
        if descriptor in self._writes:
            return
        if descriptor in self._reads:
            self._poller.modify(descriptor, EPOLLIN | EPOLLOUT)
            self._writes.add(descriptor)
            self._selectables[descriptor] = writer
        else:
            super().addWriter(writer)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        descriptor = writer.fileno()
        if descriptor in self._writes and descriptor in self._reads:
            self._poller.modify(descriptor, EPOLLIN)
            self._writes.remove(descriptor)
        else:
            super().removeWriter(writer)

    # ports, whose connections cost less than Twisted's

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        listening = AcceptingPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort:
        if addressFamily not in (AF_INET, AF_INET6):
            adopted: IListeningPort = super().adoptStreamPort(fileDescriptor, addressFamily, factory)
            return adopted
        listening: Port = AcceptingPort._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        listening.startListening()
        return listening

    def _spin(self, seconds: float, most: int) -> list[tuple[int, int]]:
        """
        Poll until a descriptor is ready.  Between two looks the processor is offered to other programs, since what the reactor
        waits for often depends on one that has to wait for a processor.

        @param seconds: how long at most, unless others keep the processor for longer.
        @param most: how many events to return at most.
        @return: the events; none if time is up.
        """
        poll = self._poller.poll
        if ready := poll(0, most):
            return ready                      # it was ready before the polling, which therefore proves nothing
        end = monotonic() + seconds
        while True:
            sched_yield()
            if ready := poll(0, most):
                self._missed //= 2
                return ready
            if monotonic() >= end:
                self._missed = min(self._missed + 1, MAX_SKIP_EXPONENT)
                self._skip = 1 << self._missed
                return []


def install() -> None:
    """
    Install it as the process's reactor.
    """
    installReactor(BusyPollReactor())

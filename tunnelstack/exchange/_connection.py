"""
The connection under exchanges, for both roles: its state, its pressure, its ends, its deadline.

The states of a connection, and what each role waits for in them::

    state       a server's connection                   a client's connection
    ----------  --------------------------------------  ---------------------------------------
    IDLE        no request                              no exchange
    HEAD        the rest of a request's head            the head of the response
    BODY        the body of the request                 the body of the response
    RESPONDING  the server's response                   -
    RAW         raw octets, after a 101                 raw octets, after a 101
    DISCARDING  the rest of an answered request         -
    CLOSED      nothing                                 nothing

    server:  IDLE --> HEAD --> BODY --> RESPONDING --> IDLE, or RAW
               any of them --> DISCARDING --> CLOSED      (answered before the request was whole)
    client:  IDLE --> HEAD --> BODY --> IDLE, or RAW
               any of them --> CLOSED

Any state can become CLOSED.  A message that arrives in one piece passes through HEAD and BODY without stopping there.

Deadlines (L{Timeouts<tunnelstack.exchange.traits.Timeouts>})::

    state       a server's connection                   a client's connection
    ----------  --------------------------------------  ---------------------------------------
    IDLE        idle, at first head                     the pool's idleSeconds
    HEAD        head                                    first, once the request is sent
    BODY        idle, if its length is known; if not,   idle, if its length is known
                head, until its first octet, unless
                the peer takes trailers
    RESPONDING  ending, once the peer has ended;        -
                idle, while it reads nothing of a
                response whose length is known
    RAW         -                                       ending, if our end cannot be sent
    DISCARDING  five seconds without an octet           -
    CLOSED      idle, for what was written to be sent   idle, for what was written to be sent
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime, ITCPTransport
from zope.interface import implementer

from tunnelstack.exchange.moving_timeout import FirstTimeouts, MovingTimeout
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.stream.splice import supportsHalfClose
from tunnelstack.transport.direct_write import Write, disableNagle, immediateWrite


class State(Enum):
    """
    What a connection waits for.
    """

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    RESPONDING = "responding"
    RAW = "raw"
    DISCARDING = "discarding"
    CLOSED = "closed"


IDLE, HEAD, BODY, RESPONDING, RAW, DISCARDING, CLOSED = State


class IExchangeTransport(ITCPTransport, IConsumer, IPushProducer):
    """
    What exchanges need of a transport, as Twisted's TCP and TLS connections and our streams provide it.
    """


class Role(Protocol):
    """
    What a connection calls: the protocol of a server or of a client.
    """

    def timedOut(self) -> None:
        """
        The deadline has passed.
        """

    def writingPaused(self) -> None:
        """
        The transport accepts no more for now.
        """

    def writingResumed(self) -> None:
        """
        The transport accepts more again.
        """


class NoRole:
    """
    In place of the protocol of a connection that is closed.
    """

    def timedOut(self) -> None:
        """
        Do nothing.
        """

    def writingPaused(self) -> None:
        """
        Do nothing.
        """

    def writingResumed(self) -> None:
        """
        Do nothing.
        """


NO_ROLE = NoRole()


@implementer(IPushProducer)
class ExchangeConnection:
    """
    The transport's one producer for as long as the connection carries exchanges, so that a small exchange registers nothing.

    @ivar state: what it waits for.
    @ivar full: the transport accepts no more for now.
    @ivar readPaused: the transport is paused.
    @ivar readEnded: the peer has ended its direction.
    @ivar writeEnded: we have ended ours.
    @ivar timer: the one deadline.
    @ivar transport: once it is open.
    @ivar send: writes at once what nothing else is going to follow in this turn.
    """

    __slots__ = (
        "_role", "full", "readEnded", "readPaused", "send", "state", "timeouts", "timer", "transport", "writeEnded",
    )  # fmt: skip

    transport: IExchangeTransport
    send: Write

    def __init__(self, role: Role, clock: IReactorTime, timeouts: Timeouts, first: FirstTimeouts | None = None) -> None:
        """
        @param first: of the connections of the same factory.
        """
        self._role = role
        self.timeouts = timeouts
        self.timer = MovingTimeout(clock, role.timedOut, first)
        self.state = IDLE
        self.full = False
        self.readPaused = False
        self.readEnded = False
        self.writeEnded = False

    def open(self, transport: IExchangeTransport) -> None:
        """
        The connection is made.
        """
        self.transport = transport
        transport.registerProducer(self, True)
        disableNagle(transport)
        self.send = immediateWrite(transport)

    # pressure

    def setReadPaused(self, paused: bool) -> None:
        """
        Pause the transport, or resume it.
        """
        if paused != self.readPaused and self.state is not CLOSED:
            self.readPaused = paused
            if paused:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def lendTransport(self, producer: IProducer) -> None:
        """
        Register a pull producer with the transport, until L{reclaimTransport}.
        """
        self.transport.unregisterProducer()
        self.transport.registerProducer(producer, False)

    def reclaimTransport(self) -> None:
        """
        Be the producer of the transport again.
        """
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """
        From the transport: it accepts no more for now.
        """
        self.full = True
        self._role.writingPaused()

    def resumeProducing(self) -> None:
        """
        From the transport: it accepts more again.
        """
        self.full = False
        self._role.writingResumed()

    def stopProducing(self) -> None:
        """
        From the transport: C{connectionLost} follows.
        """

    # ends

    def endWriting(self) -> bool:
        """
        End our direction.

        @return: whether the peer's direction continues.  If not, either the peer has ended it or the transport has no
            half-close, and nothing was done.
        """
        self.writeEnded = True
        if self.readEnded or not supportsHalfClose(self.transport):
            return False
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()
        return True

    def close(self) -> None:
        """
        Close the connection after what was written.  A peer that reads nothing of that is waited for C{idle} seconds.
        """
        self.state = CLOSED
        timer, transport = self.timer, self.transport
        deadline = timer.now() + self.timeouts.idle
        if timer.due <= deadline:
            timer.deadline = deadline         # as set() does; it would be a call for each connection
        else:
            timer.set(self.timeouts.idle)
        transport.unregisterProducer()
        transport.loseConnection()

    def abort(self) -> None:
        """
        Reset the connection.
        """
        self.lost()
        self.transport.unregisterProducer()
        self.transport.abortConnection()

    def lost(self) -> None:
        """
        The transport is closed.
        """
        self.state = CLOSED
        self.timer.stop()

    def release(self) -> None:
        """
        The transport is closed or belongs to another protocol, and nothing follows.  Ours is not referred to any more, so that
        it need not wait for the garbage collector.
        """
        self.state = CLOSED
        self.timer.release()
        self._role = NO_ROLE

    def handOff(self) -> IExchangeTransport:
        """
        @return: the transport, for another protocol: without a producer, and read.
        """
        self.release()
        transport = self.transport
        transport.unregisterProducer()
        if self.readPaused:
            transport.resumeProducing()
        return transport

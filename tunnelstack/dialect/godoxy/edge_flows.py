"""
Datagrams to a destination that an agent reaches: each flow is a DTLS session of its own, whose first record is the header.

Nothing acknowledges the header, and nothing repeats it.  If it is lost, the agent takes datagrams for a part of it and closes
the session.  So a session that the agent closes before any answer is replaced once, with the datagrams that were sent until
then.
"""

from __future__ import annotations

from typing import NoReturn, cast

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, NoProtocol
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import Unavailable
from tunnelstack.interfaces import (
    IDatagramClientEndpoint,
    IDatagramFactory,
    IDatagramProtocol,
    IDatagramTransport,
)
from tunnelstack.transport.error_text import errorText
from tunnelstack.wire.records.godoxy import LONGEST_DATAGRAM, StreamHeader, encode_header

KEPT_DATAGRAMS = 8
"""Datagrams that are kept until there is an answer, in case the session has to be replaced."""

KEPT_OCTETS = 16 * 1024
"""Octets of them."""


@define
class FlowCounts:
    """
    The flows to one agent.

    @ivar flows: how many are open.
    @ivar handshakes: how many sessions are in their handshake.
    @ivar dropped: datagrams that were not sent, of flows that are over.
    """

    flows: int = 0
    handshakes: int = 0
    dropped: int = 0


class ClosedByAgent(Unavailable):
    """
    The agent has closed a session before any answer.
    """


class SessionFailed(Unavailable):
    """
    There is no session with the agent.  The cause is in C{__cause__}.
    """


def _sessionFailed(failure: Failure) -> NoReturn:
    """
    @raise SessionFailed: for a failure that is no L{CancelledError} and no C{NoProtocol}.
    """
    error = failure.value
    if error is None or failure.check(CancelledError, NoProtocol):
        failure.raiseException()
    raise SessionFailed(f"no DTLS session with the agent: {errorText(failure.value)}") from error


@implementer(IDatagramClientEndpoint)
class DestinationEndpoint:
    """
    Connects protocols of datagrams to one destination.
    """

    def __init__(self, sessions: IDatagramClientEndpoint, host: str, port: int, counts: FlowCounts) -> None:
        """
        @param sessions: connects to the agent by DTLS.
        @param host: the destination, as the agent resolves it.
        @param counts: of the agent.
        """
        self._sessions = sessions
        self._header = encode_header(StreamHeader(host, str(port)))
        self._where = f"{host}:{port}"
        self._counts = counts

    def connect(self, factory: IDatagramFactory) -> Deferred[IDatagramProtocol]:
        """
        @return: as in L{IDatagramClientEndpoint}; it fails with L{SessionFailed}, or with C{NoProtocol}.
        """
        flow = _Flow(self._sessions, self._header, self._where, factory, self._counts)
        return flow.connect().addCallback(lambda _: cast(IDatagramProtocol, flow.application))


@implementer(IDatagramTransport, IDatagramProtocol, IDatagramFactory)
class _Flow:
    """
    One flow: the protocol of its session, and the transport of its application, which notices nothing of a replacement.
    """

    longest = LONGEST_DATAGRAM

    def __init__(
        self, sessions: IDatagramClientEndpoint, header: bytes, where: str, factory: IDatagramFactory, counts: FlowCounts
    ) -> None:
        self.application: IDatagramProtocol | None = None
        self.dropped = 0
        self._sessions = sessions
        self._header = header
        self._where = where
        self._factory = factory
        self._counts = counts
        self._session: IDatagramTransport | None = None
        self._addresses: tuple[IAddress, IAddress]
        self._kept: list[bytes] | None = []           # what was sent so far; None once there was an answer
        self._replaced = False
        self._replacing: Deferred[IDatagramProtocol] | None = None
        self._over = False

    def connect(self) -> Deferred[IDatagramProtocol]:
        """
        Connect a session.

        @return: as from the endpoint of the sessions; it fails as L{DestinationEndpoint.connect} does.
        """
        counts = self._counts
        counts.handshakes += 1

        def ended(result: IDatagramProtocol | Failure) -> IDatagramProtocol | Failure:
            counts.handshakes -= 1
            return result

        return self._sessions.connect(self).addBoth(ended).addErrback(_sessionFailed)

    # What the endpoint of the sessions calls

    def buildProtocol(self, address: IAddress | None) -> IDatagramProtocol | None:
        if self.application is None:
            self.application = self._factory.buildProtocol(address)
        return None if self.application is None else self

    def makeConnection(self, transport: IDatagramTransport) -> None:
        if self._over:
            transport.loseConnection()
            return
        first = self._session is None and not self._replaced
        self._session = transport
        self._addresses = transport.getHost(), transport.getPeer()
        transport.write(self._header)                 # alone: an agent takes nothing else in its record
        for datagram in self._kept or ():
            transport.write(datagram)
        if first and self.application is not None:
            self._counts.flows += 1
            self.application.makeConnection(self)

    def datagramReceived(self, datagram: bytes) -> None:
        self._kept = None
        if not self._over and self.application is not None:
            self.application.datagramReceived(datagram)

    def connectionLost(self, reason: Failure) -> None:
        self._session = None
        if self._over:
            return
        if self._kept is None or not reason.check(ConnectionDone):
            self._end(reason)
        elif self._replaced or not self._kept:
            self._end(Failure(ClosedByAgent(
                f"the agent has closed the stream before any answer: it does not reach {self._where}, or the header was lost"
            )))  # fmt: skip
        else:
            self._replaced = True
            self._replacing = self.connect()
            self._replacing.addErrback(self._end)

    # What the application calls

    def write(self, datagram: bytes) -> None:
        if self._over:
            return
        if not 0 < len(datagram) <= self.longest:
            self.dropped += 1
            return
        self._keep(datagram)
        if self._session is not None:
            self._session.write(datagram)

    def _keep(self, datagram: bytes) -> None:
        kept = self._kept
        if kept is not None and len(kept) < KEPT_DATAGRAMS and sum(map(len, kept)) + len(datagram) <= KEPT_OCTETS:
            kept.append(datagram)
        elif self._session is None:
            self.dropped += 1

    def loseConnection(self) -> None:
        self._close(ConnectionDone())

    def abortConnection(self) -> None:
        self._close(ConnectionAborted())

    def getHost(self) -> IAddress:
        return self._addresses[0]

    def getPeer(self) -> IAddress:
        return self._addresses[1]

    def _close(self, reason: Exception) -> None:
        if self._over:
            return
        session, replacing = self._session, self._replacing
        self._end(Failure(reason))
        if session is not None:
            session.loseConnection()
        elif replacing is not None:
            replacing.cancel()

    def _end(self, reason: Failure) -> None:
        if self._over:
            return
        self._over = True
        self._kept = None
        self._counts.flows -= 1
        self._counts.dropped += self.dropped
        if self.application is not None:
            self.application.connectionLost(reason)


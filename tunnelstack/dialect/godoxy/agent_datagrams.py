"""
The flows of edges over DTLS at an agent: each begins with a header, and goes on as datagrams to and from one UDP socket.

The header arrives in records of its own; a record with octets beyond its end is a mistake.  Nothing answers it, and it is not
sent again if it is lost: the records that follow are taken for it then, and the flow ends.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, TimeoutError
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.godoxy.agent_destinations import Destinations, destinationText
from tunnelstack.dialect.godoxy.agent_streams import PROBE, decodeHead
from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.interfaces import IDatagramFactory, IDatagramProtocol, IDatagramTransport
from tunnelstack.transport.datagram_splice import DatagramSplice, DatagramSpliceFactory
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.records.godoxy import HEADER_OCTETS, HEADER_SECONDS


@implementer(IDatagramFactory)
class EdgeDatagrams:
    """
    Builds the flow of each association.

    @ivar dropped: datagrams of flows that are over, which were not delivered: too long for a genuine edge, empty, or refused
        by the network.
    @ivar flows: how many have a destination.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, destinations: Destinations) -> None:
        self.dropped = 0
        self.flows = 0
        self._draining = False
        self._clock = clock
        self._destinations = destinations

    def buildProtocol(self, address: IAddress | None) -> IDatagramProtocol | None:
        return None if self._draining else DatagramFlow(self, self._clock, self._destinations)

    def drain(self) -> None:
        """
        Accept no more flows.  Those that there are end with the service, since no datagram is known to be the last of its flow.
        """
        self._draining = True


@implementer(IDatagramProtocol)
class DatagramFlow:
    """
    One flow.
    """

    def __init__(self, owner: EdgeDatagrams, clock: IReactorTime, destinations: Destinations) -> None:
        self._owner = owner
        self._clock = clock
        self._destinations = destinations
        self._header = b""
        self._transport: IDatagramTransport
        self._timer: IDelayedCall | None = None
        self._splice: DatagramSplice | None = None
        self._dialling: Deferred[IDatagramProtocol] | None = None
        self._over = False

    def makeConnection(self, transport: IDatagramTransport) -> None:
        self._transport = transport
        self._timer = self._clock.callLater(HEADER_SECONDS, self._timedOut)

    def datagramReceived(self, datagram: bytes) -> None:
        """
        A part of the header.  Once there is a destination, its splice receives the datagrams in place of this.
        """
        if self._over:
            return
        self._header += datagram
        if len(self._header) > HEADER_OCTETS:
            self._refuse("a record continues after the end of the header")
        elif len(self._header) == HEADER_OCTETS:
            self._headerReceived(self._header)

    def _headerReceived(self, header: bytes) -> None:
        self._stopTimer()
        try:
            purpose, parameters = decodeHead(header)
            if purpose == PROBE:
                self._close()
            else:
                self._dial(parameters["host"], parameters["port"])
        except (PeerError, Unavailable) as wrong:
            self._refuse(str(wrong))

    def _dial(self, host: str, port: int) -> None:
        """
        @raise Denied: the destination was not granted.
        """
        self._destinations.check(host, port)
        where = destinationText(host, port)
        self._splice = splice = DatagramSplice(lambda reason: self._ended(where, reason))
        receive: Callable[[bytes], None] = splice.near.datagramReceived
        self.datagramReceived = receive       # type: ignore[method-assign, assignment]
        self._dialling = dialling = self._destinations.connectDatagrams(host, port, DatagramSpliceFactory(splice.far))
        self._owner.flows += 1
        splice.near.makeConnection(self._transport)
        dialling.addCallbacks(self._dialled, self._notDialled)

    def _dialled(self, application: IDatagramProtocol) -> None:
        self._dialling = None

    def _notDialled(self, failure: Failure) -> None:
        self._dialling = None
        if not self._over:
            self._refuse(errorText(failure))

    def _ended(self, where: str, reason: Failure) -> None:
        """
        The edge has closed the flow, or the destination cannot be reached any more.
        """
        self._owner.flows -= 1
        if not reason.check(ConnectionDone, TimeoutError):
            self._owner.log.warn(
                "a flow of datagrams from {peer} to {where} is closed: {reason}", where=where, kind="udp",
                peer=addressText(self._transport.getPeer()), reason=errorText(reason),
            )

    def _timedOut(self) -> None:
        self._timer = None
        self._refuse(f"the header did not arrive within {HEADER_SECONDS:g} seconds")

    def _refuse(self, reason: str) -> None:
        self._owner.log.warn(
            "a flow of datagrams from {peer} is closed: {reason}", peer=addressText(self._transport.getPeer()),
            reason=reason, kind="udp",
        )
        self._close()

    def _close(self) -> None:
        self._over = True
        self._transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        self._stopTimer()
        self._owner.dropped += self._transport.dropped
        if self._splice is not None:
            self._splice.near.connectionLost(reason)
        self._over = True
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

"""
Flows of datagrams, whichever carrier has them: their bounds, and the flow of one visitor at the edge.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IDatagramProtocol, IDatagramTransport
from tunnelstack.transport.udp import LONGEST_PAYLOAD

MOST_FLOWS = 1024
"""Flows of one agent, each of which has a socket there."""

FLOW_SECONDS = 60.0
"""Seconds without a datagram after which an agent closes a flow."""

QUEUED_OCTETS = 256 * 1024
"""Octets that wait to be sent to the peer, beyond which datagrams are dropped."""


class FlowCarrier(Protocol):
    """
    What carries the flows to one agent.
    """

    def send(self, identifier: str, visitor: IAddress | None, datagram: bytes) -> bool:
        """
        @return: whether it was sent.
        """

    def forget(self, identifier: str) -> None:
        """
        A flow is over.
        """


@implementer(IDatagramTransport)
class EdgeFlow:
    """
    The flow of one visitor: the transport of its application.
    """

    longest = LONGEST_PAYLOAD

    def __init__(
        self, carrier: FlowCarrier, identifier: str, visitor: IAddress | None, host: IAddress, application: IDatagramProtocol
    ) -> None:
        """
        @param host: the address of this end, and of the other if the visitor is not known.
        """
        self.dropped = 0
        self._carrier = carrier
        self._identifier = identifier
        self._visitor = visitor
        self._host = host
        self._application: IDatagramProtocol | None = application

    def write(self, datagram: bytes) -> None:
        if self._application is None:
            return
        if len(datagram) > self.longest or not self._carrier.send(self._identifier, self._visitor, datagram):
            self.dropped += 1

    def datagramReceived(self, datagram: bytes) -> None:
        """
        From the agent.
        """
        if self._application is not None:
            self._application.datagramReceived(datagram)

    def loseConnection(self) -> None:
        self.end(ConnectionDone())

    def abortConnection(self) -> None:
        self.end(ConnectionAborted())

    def end(self, reason: Exception) -> None:
        """
        The flow is over.
        """
        application, self._application = self._application, None
        if application is not None:
            self._carrier.forget(self._identifier)
            application.connectionLost(Failure(reason))

    def getHost(self) -> IAddress:
        return self._host

    def getPeer(self) -> IAddress:
        return self._visitor or self._host

"""
One peer of DTLS as a transport of datagrams: its association, its timer and its application.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from OpenSSL.crypto import X509
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IDatagramProtocol, IDatagramTransport
from tunnelstack.transport.dtls.association import Association
from tunnelstack.transport.dtls.limits import DTLSLimits
from tunnelstack.transport.udp import UDPAddress


class ChannelOwner(Protocol):
    """
    The UDP port that a channel belongs to.
    """

    def established(self, channel: DTLSChannel) -> IDatagramProtocol | None:
        """
        The handshake is complete.

        @return: the application; C{None} closes the channel.
        """

    def started(self, protocol: IDatagramProtocol) -> None:
        """
        The application has its transport.
        """

    def channelLost(self, channel: DTLSChannel, reason: Exception) -> None:
        """
        The channel is closed; its application, if it has one, is called next.
        """


@implementer(IDatagramTransport)
class DTLSChannel:
    """
    An association with one peer.

    @ivar association: the state of DTLS.
    @ivar longest: octets of the longest datagram that is sent.
    @ivar dropped: datagrams of the application that were not sent: empty, too long, or refused by the network.
    """

    _log = Logger()

    def __init__(
        self,
        association: Association,
        owner: ChannelOwner,
        send: Callable[[bytes], bool],
        addresses: tuple[UDPAddress, UDPAddress],
        clock: IReactorTime,
        limits: DTLSLimits,
    ) -> None:
        """
        @param send: sends one datagram to the peer; gives whether it was sent.
        @param addresses: on this side, and on the peer's.
        """
        self.association = association
        self.longest = limits.payloadOctets
        self.dropped = 0
        self._owner = owner
        self._send = send
        self._host, self._peer = addresses
        self._clock = clock
        self._limits = limits
        self._protocol: IDatagramProtocol | None = None
        self._timer: IDelayedCall | None = None
        self._deadline = clock.seconds() + limits.handshakeSeconds      # of the handshake, later of the idle time
        self._over = False

    # The owner's side

    def start(self) -> None:
        """
        Begin or continue the handshake.
        """
        self._received(self.association.advance())

    def datagramReceivedUntrusted(self, datagram: bytes) -> None:
        """
        A datagram has arrived from the peer's address.
        """
        if not self._over:
            self._received(self.association.receiveUntrusted(datagram))

    def fail(self, reason: Exception) -> None:
        """
        The network reports that the peer cannot be reached, or the port is closed.
        """
        self._finish(reason)

    # The application's side

    def write(self, datagram: bytes) -> None:
        if self._over:
            return
        if not 0 < len(datagram) <= self.longest or not self.association.send(datagram):
            self.dropped += 1
            return
        self._used()
        self._flush()

    def loseConnection(self) -> None:
        self._close(ConnectionDone())

    def abortConnection(self) -> None:
        self._finish(ConnectionAborted())

    def getHost(self) -> UDPAddress:
        return self._host

    def getPeer(self) -> UDPAddress:
        return self._peer

    def getPeerCertificate(self) -> X509 | None:
        """
        The verified certificate of the peer, if it sent one.
        """
        return self.association.connection.get_peer_certificate()

    # What arrives

    def _received(self, datagrams: list[bytes]) -> None:
        self._flush()
        association = self.association
        if association.established and self._protocol is None and not self._over:
            self._begin()
        for datagram in datagrams:
            self._deliver(datagram)
        if self._over:
            return
        if association.failure is not None:
            self._finish(association.failure)
        elif association.ended:
            self._close(ConnectionDone())
        else:
            self._arm()

    def _begin(self) -> None:
        self._disarm()
        self._used()
        protocol = self._protocol = self._owner.established(self)
        if protocol is None:
            self.loseConnection()
        else:
            protocol.makeConnection(self)
            self._owner.started(protocol)

    def _deliver(self, datagram: bytes) -> None:
        if self._over or self._protocol is None:
            return
        self._used()
        try:
            self._protocol.datagramReceived(datagram)
        except Exception as error:
            self._log.failure("an application of DTLS failed")
            self._close(ConnectionLost(str(error)))

    def _flush(self) -> None:
        for datagram in self.association.outgoing():
            if not self._send(datagram) and self.association.established:
                self.dropped += 1

    # Time

    def _used(self) -> None:
        self._deadline = self._clock.seconds() + (self._limits.idleSeconds or inf)

    def _arm(self) -> None:
        """
        Have one timer for whichever comes first.  An idle time that has moved on is noticed when the timer fires, so that no
        datagram costs a timer.
        """
        wait = self.association.timeout()
        if self.association.established:
            if self._timer is not None or self._deadline == inf:
                return
            wait = None
        left = max(0.0, self._deadline - self._clock.seconds())
        self._disarm()
        self._timer = self._clock.callLater(left if wait is None else min(wait, left), self._timedOut)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timedOut(self) -> None:
        self._timer = None
        if self._clock.seconds() >= self._deadline:
            what = "no datagram" if self.association.established else "the handshake was not complete"
            self._close(TimeoutError(f"{what} within {self._seconds():g} s"))
            return
        if not self.association.established:
            self.association.handleTimeout()
        self._received([])

    def _seconds(self) -> float:
        return self._limits.idleSeconds if self.association.established else self._limits.handshakeSeconds

    # The end

    def _close(self, reason: Exception) -> None:
        if not self._over:
            self.association.close()
            self._flush()
            self._finish(reason)

    def _finish(self, reason: Exception) -> None:
        if self._over:
            return
        self._over = True
        self._disarm()
        self._owner.channelLost(self, reason)
        if self._protocol is not None:
            try:
                self._protocol.connectionLost(Failure(reason))
            except Exception:
                self._log.failure("an application of DTLS failed")

"""
A client of DTLS: one association, on a UDP port of its own.

A server may remember an association longer than its client, so each one has a port that the system chooses anew.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv6Address
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectionRefusedError, MessageLengthError, NoProtocol
from twisted.internet.interfaces import IReactorTime, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IDatagramClientEndpoint, IDatagramFactory, IDatagramProtocol, IReactor
from tunnelstack.transport.dtls.association import Association
from tunnelstack.transport.dtls.channel import DTLSChannel
from tunnelstack.transport.dtls.limits import DTLSLimits
from tunnelstack.transport.dtls.options import Connections
from tunnelstack.transport.udp import LARGEST_DATAGRAM, UDPAddress, resolve


@implementer(IDatagramClientEndpoint)
class DTLSClientEndpoint:
    """
    Connects to a server of DTLS.  It is to protocols of datagrams what a Twisted client endpoint is to those of streams.
    """

    def __init__(
        self,
        reactor: IReactor,
        host: str,
        port: int,
        options: Connections,
        *,
        limits: DTLSLimits | None = None,
    ) -> None:
        """
        @param host: a name, or an address without brackets.
        @param options: a L{DTLSClientOptions<tunnelstack.transport.dtls.options.DTLSClientOptions>}.
        """
        self._reactor = reactor
        self._host = host
        self._port = port
        self._options = options
        self._limits = limits or DTLSLimits()

    def connect(self, factory: IDatagramFactory) -> Deferred[IDatagramProtocol]:
        """
        @param factory: builds the application once the handshake is complete.
        @return: a C{Deferred} of the application.  It fails with C{DNSLookupError}, C{ConnectionRefusedError}, C{TimeoutError},
            L{CertificateRejected<tunnelstack.transport.verification.CertificateRejected>} or another error of OpenSSL, and with
            C{NoProtocol} if there is no application.  It can be cancelled.
        """
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: IDatagramFactory) -> IDatagramProtocol:
        address = await resolve(self._reactor.nameResolver, self._host, self._port)
        port = ClientPort(self._options, factory, self._reactor, self._limits, address)
        interface = "::" if isinstance(address, IPv6Address) else ""
        self._reactor.listenUDP(0, port, interface, maxPacketSize=LARGEST_DATAGRAM)
        return await port.connected


class ClientPort(DatagramProtocol):
    """
    The UDP port of one client.

    @ivar connected: a C{Deferred} of the application.
    """

    noisy = False
    transport: IUDPTransport

    def __init__(
        self,
        options: Connections,
        factory: IDatagramFactory,
        clock: IReactorTime,
        limits: DTLSLimits,
        address: UDPAddress,
    ) -> None:
        self.connected: Deferred[IDatagramProtocol] = Deferred(self._cancelled)
        self._connecting: Deferred[IDatagramProtocol] | None = self.connected
        self._options = options
        self._factory = factory
        self._clock = clock
        self._limits = limits
        self._address = address
        self._channel: DTLSChannel
        self._port: IUDPTransport             # our transport, which Twisted forgets before it calls stopProtocol

    def startProtocol(self) -> None:
        self._port = self.transport
        self._port.connect(self._address.host, self._address.port)
        self._channel = DTLSChannel(
            Association(self._options.connection(), self._limits.flightOctets),
            self,
            self._send,
            (self._port.getHost(), self._address),
            self._clock,
            self._limits,
        )
        self._channel.start()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._channel.datagramReceivedUntrusted(datagram)

    def connectionRefused(self) -> None:
        """
        The peer's machine reports that no program listens on the port.
        """
        self._channel.fail(ConnectionRefusedError())

    def stopProtocol(self) -> None:
        """
        The port is closed.  Twisted's epoll reactor closes it, and calls nothing else, where others call L{connectionRefused}.
        """
        self._channel.fail(ConnectionRefusedError())

    def _send(self, datagram: bytes) -> bool:
        try:
            self._port.write(datagram, None)
        except (OSError, MessageLengthError):
            return False
        return True

    def established(self, channel: DTLSChannel) -> IDatagramProtocol | None:
        return self._factory.buildProtocol(self._address)

    def started(self, protocol: IDatagramProtocol) -> None:
        connected, self._connecting = self._connecting, None
        if connected is not None:
            connected.callback(protocol)

    def channelLost(self, channel: DTLSChannel, reason: Exception) -> None:
        maybeDeferred(self._port.stopListening)
        connected, self._connecting = self._connecting, None
        if connected is not None:
            connected.errback(Failure(NoProtocol() if channel.association.established else reason))

    def _cancelled(self, connected: Deferred[IDatagramProtocol]) -> None:
        self._channel.fail(CancelledError())

"""
UDP with one peer: a client endpoint for protocols of datagrams.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionRefusedError,
    DNSLookupError,
    MessageLengthError,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import (
    IDatagramClientEndpoint,
    IDatagramFactory,
    IDatagramProtocol,
    IDatagramTransport,
    IReactor,
)
from tunnelstack.transport.host_endpoint import isLocalhost

UDPAddress = IPv4Address | IPv6Address

LARGEST_DATAGRAM = 65_536
"""Octets that a socket is read for; Twisted reads 8 192 by default, and the rest of a datagram would be lost."""

LONGEST_PAYLOAD = 65_507
"""Octets of payload in the longest UDP datagram over IPv4."""


RECEIVE_BUFFER = 4 * 1024 * 1024
"""Octets that the kernel is asked to keep for a port that serves many peers.  It is the most that many systems allow."""


def enlargeReceiveBuffer(port: object) -> None:
    """
    Ask the kernel to keep more of what arrives while the reactor does something else.  Without it, a burst of some hundred
    handshakes loses datagrams.  The kernel gives as much as it allows.

    @param port: of a reactor; nothing happens if it has no socket.
    """
    descriptor = getattr(port, "socket", None)
    if descriptor is not None:
        with suppress(OSError):
            descriptor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def udpAddress(address: tuple[str, int]) -> UDPAddress:
    """
    @param address: host and port, as a UDP port of Twisted gives them.
    """
    host, port = address
    return (IPv6Address if ":" in host else IPv4Address)("UDP", host, port)


@implementer(IResolutionReceiver)
class _FirstAddress:
    """
    Takes the first address of a name.
    """

    def __init__(self, host: str) -> None:
        self.found: Deferred[UDPAddress] = Deferred()
        self._host = host
        self._addresses: list[UDPAddress] = []

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, (IPv4Address, IPv6Address)):
            self._addresses.append(address)

    def resolutionComplete(self) -> None:
        if self._addresses:
            self.found.callback(self._addresses[0])
        else:
            self.found.errback(DNSLookupError(f"no address found for {self._host}"))


def resolve(resolver: IHostnameResolver, host: str, port: int) -> Deferred[UDPAddress]:
    """
    @param host: a name, or an address without brackets.
    @return: a C{Deferred} of the first address; it fails with C{DNSLookupError}.
    """
    if isLocalhost(host):
        host = "127.0.0.1"
    if isIPAddress(host) or isIPv6Address(host):
        return succeed(udpAddress((host, port)))
    receiver = _FirstAddress(host)
    resolver.resolveHostName(receiver, host, port, transportSemantics="UDP")
    return receiver.found


@implementer(IDatagramClientEndpoint)
class UDPClientEndpoint:
    """
    Opens a UDP port of its own, which sends to one peer and receives from it alone.
    """

    def __init__(self, reactor: IReactor, host: str, port: int) -> None:
        """
        @param host: a name, or an address without brackets.
        """
        self._reactor = reactor
        self._host = host
        self._port = port

    def connect(self, factory: IDatagramFactory) -> Deferred[IDatagramProtocol]:
        """
        @return: as in L{IDatagramClientEndpoint}; it fails with C{DNSLookupError}.  Whether the peer listens is not known.
        """
        resolved = resolve(self._reactor.nameResolver, self._host, self._port)
        return resolved.addCallback(self._open, factory)

    def _open(self, address: UDPAddress, factory: IDatagramFactory) -> IDatagramProtocol:
        protocol = factory.buildProtocol(address)
        if protocol is None:
            raise NoProtocol()
        port = UDPClient(address, protocol)
        interface = "::" if isinstance(address, IPv6Address) else ""
        self._reactor.listenUDP(0, port, interface, maxPacketSize=LARGEST_DATAGRAM)
        return protocol


@implementer(IDatagramTransport)
class UDPClient(DatagramProtocol):
    """
    A UDP port that sends to one peer, as the transport of its application.
    """

    noisy = False
    longest = LONGEST_PAYLOAD
    transport: IUDPTransport
    _log = Logger()

    def __init__(self, address: UDPAddress, application: IDatagramProtocol) -> None:
        self.dropped = 0
        self._address = address
        self._application = application
        self._over = False
        self._port: IUDPTransport             # our transport, which Twisted forgets before it calls stopProtocol

    def startProtocol(self) -> None:
        self._port = self.transport
        self._port.connect(self._address.host, self._address.port)
        self._application.makeConnection(self)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if not self._over:
            self._application.datagramReceived(datagram)

    def connectionRefused(self) -> None:
        """
        The peer's machine reports that no program listens on the port.
        """
        self._finish(ConnectionRefusedError())

    def stopProtocol(self) -> None:
        """
        The port is closed.  Twisted's epoll reactor closes it, and calls nothing else, where others call L{connectionRefused}.
        """
        self._finish(ConnectionRefusedError())

    def write(self, datagram: bytes) -> None:
        if self._over:
            return
        try:
            self._port.write(datagram, None)
        except (OSError, MessageLengthError):
            self.dropped += 1

    def loseConnection(self) -> None:
        self._finish(ConnectionDone())

    def abortConnection(self) -> None:
        self._finish(ConnectionAborted())

    def getHost(self) -> IAddress:
        return self._port.getHost()

    def getPeer(self) -> IAddress:
        return self._address

    def _finish(self, reason: Exception) -> None:
        if self._over:
            return
        self._over = True
        maybeDeferred(self._port.stopListening)
        try:
            self._application.connectionLost(Failure(reason))
        except Exception:
            self._log.failure("an application of datagrams failed")

"""
A server of DTLS 1.2 on one UDP port, with any number of peers.  OpenSSL is the state machine.

Nothing is kept for a peer until it has proved by a cookie that it receives what is sent to its address.  Up to then one spare
connection of OpenSSL serves all peers.
"""

from __future__ import annotations

from attrs import define
from OpenSSL.SSL import Connection, Error, WantReadError
from twisted.internet.defer import Deferred, execute, maybeDeferred
from twisted.internet.error import ConnectionLost, MessageLengthError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.interfaces import IDatagramFactory, IDatagramProtocol, IReactor
from tunnelstack.transport.dtls.association import READ_OCTETS, Association
from tunnelstack.transport.dtls.channel import DTLSChannel
from tunnelstack.transport.dtls.cookies import CookieAddress, CookieSecrets, PeerCookies
from tunnelstack.transport.dtls.limits import DTLSLimits
from tunnelstack.transport.dtls.options import Connections
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.transport.udp import LARGEST_DATAGRAM, enlargeReceiveBuffer, udpAddress
from tunnelstack.wire.dtls import (
    client_random,
    is_client_hello_untrusted,
    is_plaintext_untrusted,
    with_record_number_0,
)


@define
class ServerCounts:
    """
    @ivar cookies: requests that were answered with a cookie; nothing was kept for them.
    @ivar rejected: C{ClientHello}s that OpenSSL rejected.
    @ivar strays: datagrams that belong to no association and begin none.
    @ivar refused: peers that proved their address while there were too many.
    @ivar accepted: handshakes that began.
    @ivar failed: handshakes that failed.
    """

    cookies: int = 0
    rejected: int = 0
    strays: int = 0
    refused: int = 0
    accepted: int = 0
    failed: int = 0


class DTLSPort(DatagramProtocol):
    """
    The protocol of a UDP port that serves DTLS.

    @ivar counts: what has arrived.
    """

    noisy = False
    transport: IUDPTransport
    _log = Logger()

    def __init__(
        self,
        options: Connections,
        factory: IDatagramFactory,
        clock: IReactorTime,
        limits: DTLSLimits,
    ) -> None:
        """
        @param options: makes the connections of a server.
        """
        self.counts = ServerCounts()
        self._options = options
        self._factory = factory
        self._clock = clock
        self._limits = limits
        self._secrets = CookieSecrets(clock.seconds())
        self._spare: Connection | None = None
        self._channels: dict[CookieAddress, DTLSChannel] = {}
        self._successors: dict[CookieAddress, DTLSChannel] = {}
        self._hellos: dict[DTLSChannel, bytes] = {}
        self._handshakes: set[DTLSChannel] = set()

    def __len__(self) -> int:
        """
        How many associations there are, those in their handshake included.
        """
        return len(self._hellos)

    @property
    def handshakes(self) -> int:
        """
        How many of them are in their handshake.
        """
        return len(self._handshakes)

    # Datagrams

    def datagramReceived(self, datagram: bytes, addr: CookieAddress) -> None:
        """
        Any datagram of anybody.

        A C{ClientHello} of a peer that has an association is a client that has begun anew on the same port, unless it repeats
        the one that began the association (RFC 6347, section 4.2.8).
        """
        channel = self._successors.get(addr) or self._channels.get(addr)
        if not is_client_hello_untrusted(datagram):
            if channel is None:
                self.counts.strays += 1
            else:
                self._deliver(datagram, addr)
        elif channel is None or self._begunAnew(channel, datagram):
            self._challenge(datagram, addr)
        else:
            channel.datagramReceivedUntrusted(datagram)

    def _begunAnew(self, channel: DTLSChannel, hello: bytes) -> bool:
        return channel.association.established and self._hellos.get(channel) != client_random(hello)

    def _deliver(self, datagram: bytes, addr: CookieAddress) -> None:
        """
        While a client's new association is in its handshake, what is encrypted may be of the old one; OpenSSL drops what is of
        the other.
        """
        old, new = self._channels.get(addr), self._successors.get(addr)
        if new is not None:
            new.datagramReceivedUntrusted(datagram)
        if old is not None and (new is None or not is_plaintext_untrusted(datagram)):
            old.datagramReceivedUntrusted(datagram)

    def _challenge(self, hello: bytes, addr: CookieAddress) -> None:
        """
        Send a cookie for a C{ClientHello}, or begin the handshake if it contains the right one.
        """
        self._secrets.rotate(self._clock.seconds())
        connection = self._spare or self._options.connection()
        self._spare = None
        connection.set_app_data(PeerCookies(self._secrets, addr))
        connection.bio_write(hello)
        try:
            connection.DTLSv1_listen()
        except WantReadError:
            self._sendCookie(connection, addr)
            self._spare = connection
        except Error:
            self.counts.rejected += 1
        else:
            self._accept(connection, hello, addr)

    def _sendCookie(self, connection: Connection, addr: CookieAddress) -> None:
        """
        The request's record number would be taken again by the C{ServerHello}, which peers that reject replays would drop.
        """
        try:
            request = connection.bio_read(READ_OCTETS)
        except WantReadError:
            self.counts.rejected += 1         # OpenSSL ignored it
            return
        self.counts.cookies += 1
        self._send(with_record_number_0(request), addr)

    def _accept(self, connection: Connection, hello: bytes, addr: CookieAddress) -> None:
        if len(self._hellos) >= self._limits.associations or len(self._handshakes) >= self._limits.handshakes:
            self.counts.refused += 1
            return
        self.counts.accepted += 1
        host = self.transport.getHost()
        channel = DTLSChannel(
            Association(connection, self._limits.flightOctets),
            self,
            lambda datagram: self._send(datagram, addr),
            (host, udpAddress(addr)),
            self._clock,
            self._limits,
        )
        self._hellos[channel] = client_random(hello)
        self._handshakes.add(channel)
        (self._successors if addr in self._channels else self._channels)[addr] = channel
        channel.start()

    def _send(self, datagram: bytes, addr: CookieAddress) -> bool:
        """
        @return: whether the kernel took it.
        """
        try:
            self.transport.write(datagram, addr)
        except (OSError, MessageLengthError):
            return False
        return True

    # Channels

    def established(self, channel: DTLSChannel) -> IDatagramProtocol | None:
        self._handshakes.discard(channel)
        addr = self._addressOf(channel)
        if self._successors.get(addr) is channel:
            old = self._channels[addr]
            self._channels[addr] = self._successors.pop(addr)
            old.fail(ConnectionLost("the peer has begun a new association"))
        return self._factory.buildProtocol(channel.getPeer())

    def started(self, protocol: IDatagramProtocol) -> None:
        pass

    def channelLost(self, channel: DTLSChannel, reason: Exception) -> None:
        addr = self._addressOf(channel)
        for channels in (self._successors, self._channels):
            if channels.get(addr) is channel:
                del channels[addr]
        if addr in self._successors and addr not in self._channels:
            self._channels[addr] = self._successors.pop(addr)
        del self._hellos[channel]
        if channel in self._handshakes:
            self._handshakes.discard(channel)
            self.counts.failed += 1
            self._log.info(
                "DTLS handshake with {peer} failed: {reason}",
                peer=addressText(channel.getPeer()),
                reason=errorText(reason),
            )

    @staticmethod
    def _addressOf(channel: DTLSChannel) -> CookieAddress:
        peer = channel.getPeer()
        return peer.host, peer.port

    def close(self) -> None:
        """
        Close all associations, and notify their peers.
        """
        for channel in list(self._hellos):
            channel.loseConnection()

    def stopProtocol(self) -> None:
        for channel in list(self._hellos):
            channel.fail(ConnectionLost("the UDP port is closed"))


@implementer(IListeningPort)
class DTLSListeningPort:
    """
    A UDP port that serves DTLS.

    @ivar protocol: the L{DTLSPort}, with its counts.
    """

    def __init__(self, reactor: IReactor, port: int, interface: str, protocol: DTLSPort) -> None:
        self.protocol = protocol
        self._port = reactor.listenUDP(port, protocol, interface, maxPacketSize=LARGEST_DATAGRAM)
        enlargeReceiveBuffer(self._port)

    def startListening(self) -> None:
        self._port.startListening()

    def stopListening(self) -> Deferred[None]:
        """
        @return: a C{Deferred} that fires once the port is closed; the associations are closed before it.
        """
        self.protocol.close()
        return maybeDeferred(self._port.stopListening).addCallback(lambda ignored: None)

    def getHost(self) -> IAddress:
        return self._port.getHost()


class DTLSServerEndpoint:
    """
    Listens for DTLS on a UDP port.  It is to protocols of datagrams what a Twisted server endpoint is to those of streams.
    """

    def __init__(
        self,
        reactor: IReactor,
        port: int,
        options: Connections,
        *,
        interface: str = "",
        limits: DTLSLimits | None = None,
    ) -> None:
        """
        @param port: 0 for one that the system chooses.
        @param options: a L{DTLSServerOptions<tunnelstack.transport.dtls.options.DTLSServerOptions>}.
        @param interface: the address to listen at; all IPv4 addresses if it is empty, all addresses if it is C{"::"}.
        """
        self._reactor = reactor
        self._port = port
        self._options = options
        self._interface = interface
        self._limits = limits or DTLSLimits()

    def listen(self, factory: IDatagramFactory) -> Deferred[DTLSListeningPort]:
        """
        @param factory: builds the application of each peer once its handshake is complete.
        @return: a C{Deferred} of the port; it fails with C{CannotListenError}.
        """
        protocol = DTLSPort(self._options, factory, self._reactor, self._limits)
        return execute(DTLSListeningPort, self._reactor, self._port, self._interface, protocol)

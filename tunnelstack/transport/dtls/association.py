"""
One association: a connection of OpenSSL that is fed with datagrams, and what comes out of it.

No sockets and no reactor.  OpenSSL measures the time until a flight is repeated itself, by the machine's clock.
"""

from __future__ import annotations

from contextlib import suppress

from OpenSSL.SSL import Connection, Error, WantReadError, ZeroReturnError

from tunnelstack.wire.dtls import pack_datagrams

READ_OCTETS = 65536
"""More than a record can have, so that each read gives a whole one."""


class Association:
    """
    @ivar established: whether the handshake is complete.
    @ivar ended: whether the peer has closed.
    @ivar failure: why OpenSSL gave up, or C{None}.  No other method may be called then, apart from L{outgoing}.
    @ivar repeated: how many flights were sent again.
    """

    def __init__(self, connection: Connection, flightOctets: int) -> None:
        """
        @param connection: as L{tunnelstack.transport.dtls.options} makes it.
        @param flightOctets: octets of a datagram of several records.
        """
        self.connection = connection
        self.established = False
        self.ended = False
        self.failure: Error | None = None
        self.repeated = 0
        self._flightOctets = flightOctets

    def receiveUntrusted(self, datagram: bytes) -> list[bytes]:
        """
        @param datagram: of the peer, or of any sender that uses its address: OpenSSL drops what is not authentic.
        @return: the datagrams of the peer's application in it.
        """
        self.connection.bio_write(datagram)
        return self.advance()

    def advance(self) -> list[bytes]:
        """
        Do what can be done without the peer; begins a client's handshake.

        @return: as from L{receiveUntrusted}.
        """
        received: list[bytes] = []
        try:
            if not self.established:
                self.connection.do_handshake()
                self.established = True
            while True:
                received.append(self.connection.recv(READ_OCTETS))
        except WantReadError:
            pass
        except ZeroReturnError:
            self.ended = True
        except Error as failure:
            self.failure = failure
        return received

    def send(self, datagram: bytes) -> bool:
        """
        Encrypt a datagram of the application.

        @param datagram: of 1 to 16384 octets.
        @return: whether OpenSSL took it.
        """
        try:
            self.connection.send(datagram)
        except Error:
            return False
        return True

    def close(self) -> None:
        """
        Send an alert that this side has closed.
        """
        with suppress(Error):                 # of a handshake that is not complete: there is no receiver
            self.connection.shutdown()

    def outgoing(self) -> list[bytes]:
        """
        @return: datagrams for the network.
        """
        octets = bytearray()
        while True:
            try:
                octets += self.connection.bio_read(READ_OCTETS)
            except Error:
                return pack_datagrams(bytes(octets), self._flightOctets)

    def timeout(self) -> float | None:
        """
        @return: seconds until L{handleTimeout} is to be called; C{None} if nothing waits to be repeated.
        """
        return None if self.failure is not None else self.connection.DTLSv1_get_timeout()

    def handleTimeout(self) -> None:
        """
        Repeat the last flight if its time has come.
        """
        try:
            if self.connection.DTLSv1_handle_timeout():
                self.repeated += 1
        except Error as failure:
            self.failure = failure

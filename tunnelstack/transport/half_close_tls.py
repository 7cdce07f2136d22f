"""
TLS one of whose directions can end before the other.

Twisted's own transport answers the peer's C{close_notify} with its own, closes the connection, and loses what it has not sent.
Here C{close_notify} is to TLS what FIN is to TCP, as TLS 1.3 has it.  OpenSSL and Go behave so with TLS 1.2 as well.

Source: RFC 8446, section 6.1.
"""

from __future__ import annotations

from contextlib import suppress

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import IHalfCloseableProtocol, ITransport
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.transport.direct_write import immediateWrite

READ_OCTETS = 32 * 1024


@implementer(IHalfCloseableProtocol)
class HalfCloseTLS(TLSMemoryBIOProtocol):
    """
    As Twisted's, with C{loseWriteConnection} and C{IHalfCloseableProtocol}, which TCP's transports have too.  To use it, assign
    it to C{protocol} of a C{TLSMemoryBIOFactory}.

    A connection whose peer ends TCP without a C{close_notify} is lost, since the octets may be incomplete.  One that is aborted
    sends no C{close_notify}.
    """

    _readEnded = False                        # by the peer's close_notify
    _writeEnded = False                       # by loseWriteConnection
    _noticeDue = False                        # our close_notify waits for the handshake, or for octets that do

    def makeConnection(self, transport: ITransport) -> None:
        self._writeBelow = immediateWrite(transport)
        super().makeConnection(transport)

    # Our direction

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if not self._writeEnded:
            super().write(data)

    def loseWriteConnection(self) -> None:
        """
        Send C{close_notify} after what was written; reading continues.
        """
        if self._writeEnded or self.disconnecting or not self.connected:
            return
        self._writeEnded = True
        if self._handshakeDone and not self._appSendBuffer:
            self._sendNotice()
        else:
            self._noticeDue = True

    def _sendNotice(self) -> None:
        self._noticeDue = False
        with suppress(Error):                 # the connection has failed, which is reported when it is read
            self._tlsConnection.shutdown()
        self._flushSendBIO()
        self.factory._clock.callLater(0, self._reportWriteEnded)

    def _reportWriteEnded(self) -> None:
        if self.connected and IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.writeConnectionLost()

    def _flushSendBIO(self) -> None:
        try:
            octets = self._tlsConnection.bio_read(READ_OCTETS)
        except WantReadError:                 # nothing is due
            return
        self._writeBelow(octets)

    def abortConnection(self) -> None:
        if self.connected:
            self._aborted = self.disconnecting = True
            self.transport.abortConnection()  # type: ignore[union-attr]

    # The peer's direction

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._noticeDue and self._handshakeDone and not self._appSendBuffer:
            self._sendNotice()

    def _flushReceiveBIO(self) -> None:
        while not (self._lostTLSConnection or self._readEnded):
            try:
                octets = self._tlsConnection.recv(READ_OCTETS)
            except WantReadError:
                break
            except ZeroReturnError:
                self._endReading()
            except Error:
                self._tlsShutdownFinished(Failure())
            else:
                if not self._aborted:
                    ProtocolWrapper.dataReceived(self, octets)
        if self._tlsConnection is not None:
            self._flushSendBIO()

    def _endReading(self) -> None:
        self._readEnded = True
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol) and not self.disconnecting:
            self.wrappedProtocol.readConnectionLost()
        else:
            self._shutdownTLS()
            self._tlsShutdownFinished(None)

    # The connection below

    def readConnectionLost(self) -> None:
        """
        The peer has ended TCP: fine after its C{close_notify}.
        """
        if not (self._readEnded or self._lostTLSConnection):
            self._tlsConnection.bio_shutdown()
            self._flushReceiveBIO()

    def writeConnectionLost(self) -> None:
        """
        Does not happen: TCP is not half-closed from here.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._aborted:                     # the reason is TCP's
            self._lostTLSConnection = True
        super().connectionLost(reason)

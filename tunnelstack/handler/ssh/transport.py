"""
Conch's transports, hardened against untrusted peers and slow readers: memory per peer is bounded, a protocol error closes the
connection and has no other effect, and the producer of data is paused when the underlying transport is full.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from traceback import extract_tb
from typing import Any

from twisted.conch.error import ConchError
from twisted.conch.ssh import connection, transport
from twisted.conch.ssh.common import NS, getNS
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python.failure import Failure
from zope.interface import implementer, provider

from tunnelstack.transport.error_text import errorText
from tunnelstack.waiters import Waiters
from tunnelstack.wire.printable_text import printable

CONTROL_LIMIT = 1024 * 1024
"""Octets of control messages that wait for a peer that does not read; with more, the connection is aborted."""

SIGNATURES = (
    b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521", b"rsa-sha2-512", b"rsa-sha2-256",
)
"""Signature algorithms of host keys and user keys; none uses SHA-1."""

PLAINTEXT_FAREWELL = b"DELETE /"
"""The plaintext HTTP request with which some clients end an encrypted connection."""


@provider(ILogObserver)
def _discardEvent(event: LogEvent) -> None:
    """
    Discard an event.  Conch logs each packet, with text of the peer; the modules here log logins and closed connections.
    """


NULL_LOGGER = Logger(observer=_discardEvent)


@implementer(IHalfCloseableProtocol)
class _BoundedTransport(transport.SSHTransportBase):
    """
    The common part of both sides of a connection.

    @ivar clock: provides C{IReactorTime}.
    @ivar full: the buffer of the underlying transport is full.
    @ivar lost: the reason when the underlying transport is lost, C{None} before.
    @ivar sentence: why the connection was closed, as the peer or this side reported it.
    """

    transport: Any
    log = Logger()
    _log = NULL_LOGGER
    version = b"tunnelstack"
    ourVersionString = b"SSH-2.0-tunnelstack"
    supportedCompressions = [b"none"]         # a few octets of zlib decompress to gigabytes
    supportedMACs = [b"hmac-sha2-512", b"hmac-sha2-384", b"hmac-sha2-256", b"hmac-sha1"]

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.full = False
        self.lost: Failure | None = None
        self.sentence = ""
        self._closedWaiters: Waiters[str] = Waiters()
        self._unreadControl = 0
        self._closing = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """
        Process received data.  Conch raises various exceptions for malformed packets: each is treated as a protocol error.
        """
        try:
            super().dataReceived(data)
        except Exception as broken:
            where = extract_tb(broken.__traceback__)[-1].name
            self.log.debug("SSH packet could not be processed: {kind} in {where}", kind=type(broken).__name__, where=where)
            self.sentence = self.sentence or f"protocol error of the peer: {type(broken).__name__}"
            self.sendDisconnect(transport.DISCONNECT_PROTOCOL_ERROR, b"protocol error")

    def getPacket(self) -> bytes | None:
        """
        @return: the next packet; C{None} if it is incomplete, the connection is closing, or the peer has sent a
            L{PLAINTEXT_FAREWELL}.
        """
        if self._closing:
            return None
        if len(self.buf) >= len(PLAINTEXT_FAREWELL) and not hasattr(self, "first") and self.buf.startswith(PLAINTEXT_FAREWELL):
            self.sentence = "the peer closed the connection"
            self.buf = b""
            self.close()
            return None
        packet: bytes | None = super().getPacket()
        return packet

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        """
        Reject other messages during a key exchange (RFC 4253, section 7.1): Conch would queue the answers without a bound.

        @raise ConchError: the peer has sent such a message.
        """
        if messageNum >= 50 and self._keyExchangeState != self._KEY_EXCHANGE_NONE:
            raise ConchError("a message during a key exchange")
        super().dispatchMessage(messageNum, payload)

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        """
        Send a packet.  If a peer does not read and causes more than L{CONTROL_LIMIT} octets of answers, the connection is
        aborted.
        """
        if self._closing:
            return
        if self.full and messageType not in (connection.MSG_CHANNEL_DATA, connection.MSG_CHANNEL_EXTENDED_DATA):
            self._unreadControl += len(payload)
            if self._unreadControl > CONTROL_LIMIT:
                self.sentence = "the peer does not read"
                self._closing = True
                self.transport.abortConnection()
                return
        super().sendPacket(messageType, payload)

    def sendDisconnect(self, reason: int, desc: bytes) -> None:
        """
        Send a disconnect message, then close the connection.
        """
        if not self._closing:
            self.sentence = self.sentence or desc.decode("utf-8", "replace")
            self.sendPacket(
                transport.MSG_DISCONNECT, pack(">L", reason) + NS(desc) + NS(b""))
            self.close()

    def ssh_DISCONNECT(self, packet: bytes) -> None:
        description, _ = getNS(packet[4:])
        self.sentence = printable(description[:200].decode("utf-8", "replace"), 200)
        self.close()

    def close(self) -> None:
        """
        Close the underlying transport after its buffered data was sent.
        """
        if not self._closing:
            self._closing = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        """
        Close the connection: SSH has no half-close.  Otherwise the transport would wait for its producer.
        """
        self.close()

    def writeConnectionLost(self) -> None:
        """
        Do nothing: C{connectionLost} follows.
        """

    def pauseProducing(self) -> None:
        self.full = True

    def resumeProducing(self) -> None:
        self.full = False
        self._unreadControl = 0
        sendQueued = getattr(self.service, "sendQueued", None)
        if sendQueued is not None:
            sendQueued()

    def stopProducing(self) -> None:
        """
        Do nothing: C{connectionLost} follows.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # type: ignore[override]
        """
        Stop the service first, then fire what L{whenClosed} has returned.
        """
        self._closing = True
        self.lost = reason
        service, self.service = self.service, None
        if service is not None:
            service.serviceStopped()
        self.sentence = self.sentence or errorText(reason)
        self._closedWaiters.fire(self.sentence)

    def whenClosed(self) -> Deferred[str]:
        """
        @return: fires with L{sentence} when the connection is lost.
        """
        return self._closedWaiters.wait()


class ServerTransport(_BoundedTransport, transport.SSHServerTransport):
    """
    The server side.  The connection is closed if no login succeeds within C{grace} seconds.
    """

    def __init__(self, clock: IReactorTime, grace: float) -> None:
        super().__init__(clock)
        self._grace = grace
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._timer = self.clock.callLater(self._grace, self._loginTimedOut)
        super().connectionMade()

    def _loginTimedOut(self) -> None:
        self.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, b"the login took too long")
        self._timer = self.clock.callLater(self._grace, self.transport.abortConnection)

    def sendExtInfo(self, extensions: object) -> None:
        """
        Send the accepted algorithms for user keys; Conch would send those of the host keys.
        """
        super().sendExtInfo([(b"server-sig-algs", b",".join(SIGNATURES))])

    def loggedIn(self) -> None:
        """
        A login has succeeded: cancel the time-out.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # type: ignore[override]
        self.loggedIn()
        super().connectionLost(reason)


class ClientTransport(_BoundedTransport, transport.SSHClientTransport):
    """
    The client side, for transports that authenticate the server: any host key is accepted.
    """

    def __init__(self, clock: IReactorTime, secured: Callable[[], object]) -> None:
        """
        @param secured: called once, after the first key exchange.
        """
        super().__init__(clock)
        self._secured: Callable[[], object] | None = secured

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[int]:
        return succeed(1)

    def connectionSecure(self) -> None:
        # Conch calls this after every key exchange.
        secured, self._secured = self._secured, None
        if secured is not None:
            secured()

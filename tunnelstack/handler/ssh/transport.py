"""
Conch's transports made fit for strangers and slow readers: what a peer can make us hold is bounded, a broken rule ends the
connection and nothing else, and the carrier's pressure reaches whoever makes what is sent.
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
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python.failure import Failure
from zope.interface import implementer, provider

from tunnelstack.wire.printable_text import printable

CONTROL_LIMIT = 1024 * 1024
"""Octets of answers for a peer that does not read; beyond, it is gone for us."""

SIGNATURES = (
    b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521", b"rsa-sha2-512", b"rsa-sha2-256",
)
"""How keys may sign, hosts' and users': not with SHA-1."""

PLAINTEXT_FAREWELL = b"DELETE /"
"""A plaintext request written into an encrypted stream: the way some clients say that the session is over."""


@provider(ILogObserver)
def _discardEvent(event: LogEvent) -> None:
    """
    Conch tells a line for each packet, with what peers said in it; our own lines say what matters.
    """


NULL_LOGGER = Logger(observer=_discardEvent)


@implementer(IHalfCloseableProtocol)
class _BoundedTransport(transport.SSHTransportBase):
    """
    What both sides of a connection have in common.

    @ivar clock: provides C{IReactorTime}.
    @ivar full: the carrier takes no more for now.
    @ivar lost: why, once the carrier is gone.
    @ivar sentence: what the peer, or we, said about the end.
    """

    transport: Any
    log = Logger()
    _log = NULL_LOGGER
    version = b"tunnelstack"
    ourVersionString = b"SSH-2.0-tunnelstack"
    supportedCompressions = [b"none"]         # a few octets of zlib unfold to gigabytes
    supportedMACs = [b"hmac-sha2-512", b"hmac-sha2-384", b"hmac-sha2-256", b"hmac-sha1"]

    def __init__(self, clock: Any, ended: Callable[[Failure, str], object] | None = None) -> None:
        """
        @param ended: called once, with the reason and the sentence.
        """
        self.clock = clock
        self.full = False
        self.lost: Failure | None = None
        self.sentence = ""
        self._ended = [] if ended is None else [ended]
        self._unreadControl = 0
        self._closing = False

    def connectionMade(self) -> None:
        """
        As in C{IProtocol}: we produce for the carrier.
        """
        self.transport.registerProducer(self, True)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """
        Whatever Conch stumbles over is the peer's fault.
        """
        try:
            super().dataReceived(data)
        except Exception as broken:
            where = extract_tb(broken.__traceback__)[-1].name
            self.log.debug("SSH packet could not be handled: {kind} in {where}", kind=type(broken).__name__, where=where)
            self.sentence = self.sentence or f"the peer broke the protocol: {type(broken).__name__}"
            self.sendDisconnect(transport.DISCONNECT_PROTOCOL_ERROR, b"protocol error")

    def getPacket(self) -> Any:
        """
        A packet, unless the stream has ended with a L{PLAINTEXT_FAREWELL} or by us.
        """
        if self._closing:
            return None
        if len(self.buf) >= len(PLAINTEXT_FAREWELL) and not hasattr(self, "first") and self.buf.startswith(PLAINTEXT_FAREWELL):
            self.sentence = "the peer said goodbye"
            self.buf = b""
            self.close()
            return None
        return super().getPacket()

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        """
        While keys are exchanged nothing else may be said: answers to it would pile up here.

        @raise ConchError: the peer said something else.
        """
        if messageNum >= 50 and self._keyExchangeState != self._KEY_EXCHANGE_NONE:
            raise ConchError("a message within a key exchange")
        super().dispatchMessage(messageNum, payload)

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        """
        Send; answers to a peer that does not read are counted.
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
        Say why, then close.
        """
        if not self._closing:
            self.sentence = self.sentence or desc.decode("utf-8", "replace")
            self.sendPacket(
                transport.MSG_DISCONNECT, pack(">L", reason) + NS(desc) + NS(b""))
            self.close()

    def ssh_DISCONNECT(self, packet: bytes) -> None:
        """
        The peer says why it goes.
        """
        description, _ = getNS(packet[4:])
        self.sentence = printable(description[:200].decode("utf-8", "replace"), 200)
        self.close()

    def close(self) -> None:
        """
        Close the carrier behind what it has.
        """
        if not self._closing:
            self._closing = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        """
        The peer's end is everybody's: SSH knows no half of one.  A carrier would wait for us, its producer, otherwise.
        """
        self.close()

    def writeConnectionLost(self) -> None:
        """
        C{connectionLost} follows.
        """

    def pauseProducing(self) -> None:
        """
        From the carrier: it is full.
        """
        self.full = True

    def resumeProducing(self) -> None:
        """
        From the carrier: there is room again.
        """
        self.full = False
        self._unreadControl = 0
        sendQueued = getattr(self.service, "sendQueued", None)
        if sendQueued is not None:
            sendQueued()

    def stopProducing(self) -> None:
        """
        From the carrier: C{connectionLost} says the same.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # type: ignore[override]
        """
        Over: the service first, then whoever waits for it.
        """
        self._closing = True
        self.lost = reason
        service, self.service = self.service, None
        if service is not None:
            service.serviceStopped()
        self.sentence = self.sentence or str(reason.value)
        told, self._ended = self._ended, []
        for ended in told:
            ended(reason, self.sentence)

    def whenClosed(self, told: Callable[[str], object]) -> None:
        """
        Call C{told} with a sentence once the connection is over.
        """
        self._ended.append(lambda reason, sentence: told(sentence))


class ServerTransport(_BoundedTransport, transport.SSHServerTransport):
    """
    The server's side; it must have logged somebody in within C{grace} seconds.
    """

    def __init__(self, clock: Any, grace: float, ended: Callable[[Failure, str], object] | None = None) -> None:
        super().__init__(clock, ended)
        self._grace = grace
        self._timer: Any = None

    def connectionMade(self) -> None:
        """
        The time for the login runs.
        """
        self._timer = self.clock.callLater(self._grace, self._loginTimedOut)
        super().connectionMade()

    def _loginTimedOut(self) -> None:
        self.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, b"the login took too long")
        self._timer = self.clock.callLater(self._grace, self.transport.abortConnection)

    def sendExtInfo(self, extensions: object) -> None:
        """
        Conch names the algorithms of our host keys; users' keys may be of other kinds.
        """
        super().sendExtInfo([(b"server-sig-algs", b",".join(SIGNATURES))])

    def loggedIn(self) -> None:
        """
        There is no hurry any more.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # type: ignore[override]
        """
        As in C{IProtocol}.
        """
        self.loggedIn()
        super().connectionLost(reason)


class ClientTransport(_BoundedTransport, transport.SSHClientTransport):
    """
    The client's side, for carriers that lead to the right server by themselves: its host key is not compared with anything.

    @ivar secured: called when keys were first exchanged.
    """

    def __init__(
        self, clock: Any, secured: Callable[[], object], ended: Callable[[Failure, str], object] | None = None,
    ) -> None:
        super().__init__(clock, ended)
        self._secured: Callable[[], object] | None = secured

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[int]:
        """
        The carrier's far end is who it is.
        """
        return succeed(1)

    def connectionSecure(self) -> None:
        """
        Conch says so after every key exchange; the first counts.
        """
        secured, self._secured = self._secured, None
        if secured is not None:
            secured()

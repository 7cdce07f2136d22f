"""
The edge's end of control streams, on which an agent describes its machine.

Each stream has one document, and ends.  A document that cannot be read costs nothing but its stream.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.records.agentserver import (
    DOCUMENT_LIMIT,
    BadDocument,
    MachineDocument,
    decode_document_untrusted,
)

AT_ONCE = 8
"""Documents that one agent may send at the same time; genuine agents send one."""

DOCUMENT_SECONDS = 60.0
"""Seconds within which a document must be complete."""


class DocumentStreams(Factory):
    """
    Accepts the control streams of one agent.
    """

    noisy = False
    log = Logger()

    def __init__(self, agent: str, received: Callable[[MachineDocument], object]) -> None:
        """
        @param agent: its name, for the log.
        @param received: called with each document.
        """
        self._agent = agent
        self._received = received
        self._open = 0
        self._warned = False

    def buildProtocol(self, address: object) -> Protocol | None:
        if self._open >= AT_ONCE:
            self.warn(f"it opened more than {AT_ONCE} control streams")
            return None
        self._open += 1
        return _DocumentProtocol(self)

    def streamEnded(self) -> None:
        """
        From the protocol of a stream: it is over.
        """
        self._open -= 1

    def documentReceived(self, octets: bytes) -> None:
        """
        From the protocol of a stream: the agent has ended it.
        """
        try:
            document = decode_document_untrusted(octets)
        except BadDocument as bad:
            self.warn(str(bad))
        else:
            self._received(document)

    def warn(self, reason: str) -> None:
        """
        Log what is wrong, once for each connection: agents send a document every 20 seconds.
        """
        if not self._warned:
            self._warned = True
            self.log.warn("agent {agent}: a control stream is ignored: {reason}", agent=self._agent, reason=reason)


@implementer(IHalfCloseableProtocol)
class _DocumentProtocol(Protocol):
    """
    The protocol of one control stream.
    """

    transport: StreamTransport

    def __init__(self, streams: DocumentStreams) -> None:
        self._streams = streams
        self._pieces: list[bytes] = []
        self._octets = 0

    def connectionMade(self) -> None:
        timer = self.transport.sharedTimer
        timer.add(self, timer.seconds() + DOCUMENT_SECONDS)

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._octets += len(data)
        if self._octets > DOCUMENT_LIMIT:
            self._abort(f"the document has more than {DOCUMENT_LIMIT} octets")

    def readConnectionLost(self) -> None:
        """
        The document is complete.
        """
        self.transport.loseConnection()
        self._streams.documentReceived(b"".join(self._pieces))

    def writeConnectionLost(self) -> None:
        """
        Our direction has ended; nothing was written.
        """

    def timedOut(self, now: float) -> None:
        self._abort(f"the document was not complete after {DOCUMENT_SECONDS:g} seconds")

    def _abort(self, reason: str) -> None:
        self._pieces.clear()
        self._streams.warn(reason)
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport.sharedTimer.discard(self)
        self._streams.streamEnded()

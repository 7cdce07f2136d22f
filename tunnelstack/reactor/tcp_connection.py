"""
TCP connections that were accepted, whose birth and death cost little.

Twisted's connections format two texts for logs when they are made, and close in three steps: they wait until the descriptor is
writable, find that nothing is to be written, and are removed from the reactor.  If nothing waits to be written, these close at
the end of the reactor's turn.
"""

from __future__ import annotations

from socket import SocketType
from typing import Any

from twisted.internet.address import IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IProducer, IProtocol, IReactorFDSet
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Port, Server

from tunnelstack.transport.direct_write import sendAtOnce

SocketAddress = tuple[Any, ...]
"""An address as the system gives it."""

SocketOption = tuple[int, int, int]
"""The level, the name and the value of an option of a socket."""


class AcceptedConnection(Server):
    """
    A connection of an L{AcceptingPort<tunnelstack.reactor.tcp_port.AcceptingPort>}.

    @ivar peer: the address of the peer; C{None} until it is asked for, unless the port has set it.
    @ivar inherited: the options that its socket has from that of the port, which sets this.
    """

    reactor: Any
    server: Port
    sendAtOnce = sendAtOnce
    inherited: tuple[SocketOption, ...] = ()

    def __init__(
        self, sock: SocketType, protocol: IProtocol, client: SocketAddress, server: Port, sessionno: int, reactor: IReactorFDSet
    ) -> None:
        self.reactor = reactor                # as the two constructors of Twisted's do, which are calls
        self._tempDataBuffer = []
        self._tempDataLen = 0
        sock.setblocking(False)
        self.socket = sock                    # type: ignore[assignment]
        self.fileno = sock.fileno
        self.protocol = protocol
        if len(client) != 2:
            self._addressType = IPv6Address
        self.client = client
        self.server = server
        self.sessionno = sessionno
        self.hostname = client[0]
        self.peer: IAddress | None = None
        reactor.addReader(self)
        self.connected = 1

    @property
    def logstr(self) -> str:  # type: ignore[override]
        """
        The prefix of the old logging system.
        """
        return f"{self._getLogPrefix(self.protocol)},{self.sessionno},{self.hostname}"

    @property
    def repstr(self) -> str:  # type: ignore[override]
        """
        The text of C{repr}.
        """
        name = getattr(self, "protocol", None).__class__.__name__
        return f"<{name} #{self.sessionno} on {self.server._realPortNumber}>"

    def getPeer(self) -> IAddress:
        peer = self.peer
        if peer is None:
            self.peer = peer = super().getPeer()
        return peer

    def doRead(self) -> ConnectionDone | ConnectionLost | None:  # type: ignore[override]
        """
        Read once.
        """
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if not streaming or self.TLS or self.disconnected or self.producer is not None:
            super().registerProducer(producer, streaming)
            return
        self.producer = producer
        self.streamingProducer = True

    def unregisterProducer(self) -> None:
        if self.TLS or self.disconnecting:
            super().unregisterProducer()
            return
        self.producer = None

    def loseConnection(self) -> None:
        """
        Close the connection after what was written.
        """
        if (
            self.dataBuffer or self._tempDataLen or self.producer is not None or self.TLS or self.disconnecting
            or self._writeDisconnecting or self._writeDisconnected or not self.connected
        ):
            super().loseConnection()
            return
        self.disconnecting = 1
        self.reactor.removeReader(self)
        self.reactor.callAtTurnEnd(self._close)

    def _close(self) -> None:
        """
        The turn has ended.
        """
        if not self.connected or self._aborting:              # it was lost in the same turn
            return
        if self.dataBuffer or self._tempDataLen or self.producer is not None:
            self.startWriting()                               # something was written since
            return
        descriptor, reactor = self.fileno(), self.reactor
        if descriptor in reactor._selectables:
            if descriptor in reactor._writes:                 # it was told to write, as by unregisterProducer(): that closes it
                return
            reactor.removeReader(self)                        # it was told to read again
        self.connected, self.disconnected = 0, 1
        protocol, handle = self.protocol, self.socket
        del self.protocol, self.socket, self.fileno
        try:  # noqa: SIM105 - three calls
            handle.close()
        except OSError:
            pass
        protocol.connectionLost(connectionDone)


def _nameAttributes() -> None:
    """
    Set on a first instance what others set late.  CPython (3.11 and later) keeps the attributes of an instance in an array as
    long as their names are among those that the first instances had; otherwise each gets a dict of 800 octets.
    """
    first: Any = AcceptedConnection.__new__(AcceptedConnection)
    for name in (
        "reactor", "_tempDataBuffer", "_tempDataLen", "socket", "fileno", "protocol", "client", "server", "sessionno",
        "hostname", "peer", "inherited", "connected", "producer", "streamingProducer", "_isSendBufferFull", "dataBuffer",
        "offset", "disconnecting", "disconnected", "_writeDisconnecting", "_addressType",
    ):  # fmt: skip
        setattr(first, name, None)


_nameAttributes()

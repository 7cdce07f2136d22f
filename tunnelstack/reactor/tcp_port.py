"""
A listening TCP port that accepts connections at little cost.

Twisted's port makes a Python socket for each connection, a logger for each turn, and the texts that name the connection in a
log.  This one makes what all connections need.  What is rare, such as a process without free descriptors, is left to Twisted.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.tcp import Port
from twisted.logger import Logger

from tunnelstack.reactor.tcp_connection import AcceptedConnection, SocketAddress

MORE_ACCEPTS = 20
"""Connections that are accepted more in the next turn when all that were expected came, as in Twisted's port."""


class AcceptingPort(Port):
    """
    A port whose connections are L{AcceptedConnection}s.
    """

    _log = Logger()
    transport = AcceptedConnection

    def startListening(self) -> None:
        super().startListening()
        listener: Any = self.socket
        self._accept = listener._accept                       # gives a descriptor, where accept() makes a socket of Python
        self._kind = int(listener.family), int(listener.type), listener.proto

    def doRead(self) -> None:
        """
        Accept the connections that wait, at most C{numberAccepts}.
        """
        accept, kind, expected, accepted = self._accept, self._kind, self.numberAccepts, 0
        try:
            while accepted < expected:
                try:
                    descriptor, client = accept()
                except BlockingIOError:
                    self.numberAccepts = accepted or 1
                    return
                except OSError:
                    super().doRead()                          # meets the error again, and knows what follows from it
                    return
                accepted += 1
                self._connect(socket.SocketType(*kind, descriptor), client)
            self.numberAccepts = expected + MORE_ACCEPTS
        except Exception:
            self._log.failure("a connection could not be accepted")

    def _connect(self, accepted: socket.SocketType, client: SocketAddress) -> None:
        """
        Build the protocol of a connection.

        @param accepted: the socket.
        @param client: the address, as the system gives it.
        """
        if len(client) == 4:                                  # the name of an IPv6 address has its zone
            host, _ = socket.getnameinfo(client, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
            client = (host, *client[1:])
        address = self._addressType("TCP", *client)
        protocol = self.factory.buildProtocol(address)        # type: ignore[union-attr]
        if protocol is None:
            accepted.close()
            return
        number = self.sessionno
        self.sessionno = number + 1
        connection = self.transport(accepted, protocol, client, self, number, self.reactor)
        connection.peer = address
        protocol.makeConnection(connection)

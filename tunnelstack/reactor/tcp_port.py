"""
A listening TCP port that accepts connections at little cost.

Twisted's port makes a Python socket for each connection, a logger for each turn, and the texts that name the connection in a
log.  This one makes what all connections need.  What is rare, such as a process without free descriptors, is left to Twisted.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress
from twisted.internet.tcp import Port
from twisted.logger import Logger

from tunnelstack.reactor.tcp_connection import AcceptedConnection, SocketAddress, SocketOption

MORE_ACCEPTS = 20
"""Connections that are accepted more in the next turn when all that were expected came, as in Twisted's port."""


class AcceptingPort(Port):
    """
    A port whose connections are L{AcceptedConnection}s.

    @ivar mostAccepts: connections that it accepts in a turn at most; C{0} is no bound.
    @ivar passedOn: options that the sockets of new connections surely have from its own.
    """

    _log = Logger()
    transport = AcceptedConnection
    mostAccepts = 0
    passedOn: tuple[SocketOption, ...] = ()
    _set: tuple[SocketOption, ...] = ()

    def startListening(self) -> None:
        super().startListening()
        listener: Any = self.socket
        self._accept = listener._accept                       # gives a descriptor, where accept() makes a socket of Python
        self._kind = int(listener.family), int(listener.type), listener.proto

    def passOn(self, options: tuple[SocketOption, ...]) -> None:
        """
        Set options of the socket.  Linux gives them to the connections that it accepts from now on, which spares four calls of
        the system for each.  Those that wait already do not have them, so C{passedOn} names them when all of these are gone.
        """
        for option in options:
            self.socket.setsockopt(*option)
        self.passedOn = ()
        self._set = options

    def doRead(self) -> None:
        """
        Accept the connections that wait, at most C{numberAccepts}.
        """
        expected = self.numberAccepts
        if expected > self.mostAccepts > 0:
            expected = self.mostAccepts
        accept, kind, accepted = self._accept, self._kind, 0
        try:
            while accepted < expected:
                try:
                    descriptor, client = accept()
                except BlockingIOError:
                    self.numberAccepts = accepted or 1
                    self.passedOn = self._set
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
        address: IAddress
        if len(client) == 2:
            address = IPv4Address.__new__(IPv4Address)        # its constructor is two calls, to see that TCP is a protocol
            address.type, (address.host, address.port) = "TCP", client
        else:                                                 # the name of an IPv6 address has its zone
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
        connection.peer, connection.inherited = address, self.passedOn
        protocol.makeConnection(connection)

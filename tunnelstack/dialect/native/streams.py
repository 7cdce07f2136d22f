"""
The agent's end of streams that are for a service: who serves it is found, and told who the visitor is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.native.protocol import decodeVisitor
from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.stream.address import StreamAddress, TunnelAddress
from tunnelstack.wire.printable_text import printable


class ServiceStreams:
    """
    Gives streams for services to whoever serves them.
    """

    def __init__(
        self, kinds: tuple[str, ...], find: Callable[[str, str], Any], host: Callable[[str, str], TunnelAddress],
    ) -> None:
        """
        @param kinds: of the services that are meant, in the order in which they are tried.
        @param find: of a kind and a name, the factory or L{IDiallingHandler} that serves it, or C{None}.
        @param host: of a kind and a name, the public side as far as it is known.
        """
        self._kinds = kinds
        self._find = find
        self._host = host

    def _lookUp(self, address: StreamAddress) -> tuple[Any, StreamAddress, TunnelAddress] | None:
        name = address.parameters.get("service")
        if not isinstance(name, str):
            return None
        for kind in self._kinds:
            served = self._find(kind, name)
            if served is not None:
                known = evolve(address, key=name, visitor=decodeVisitor(address.parameters))
                return served, known, self._host(kind, name)
        return None

    def buildProtocol(self, address: StreamAddress) -> IProtocol | None:
        """
        As in L{IProtocolFactory<twisted.internet.interfaces.IProtocolFactory>}.
        """
        found = self._lookUp(address)
        if found is None:
            return None
        served, known, host = found
        protocol = served.buildProtocol(known)
        return None if protocol is None else _AddressingProtocol(protocol, known, host)


@implementer(IDiallingHandler)
class DiallingServiceStreams(ServiceStreams):
    """
    The same where some of those who serve must dial first.
    """

    def connect(self, address: StreamAddress) -> Any:
        """
        As in L{IDiallingHandler}.
        """
        found = self._lookUp(address)
        if found is None:
            return None
        served, known, host = found
        if not IDiallingHandler.providedBy(served):
            return self.buildProtocol(address)
        dialled: Deferred[IProtocol] = served.connect(known)
        return dialled.addCallback(_AddressingProtocol, known, host)


@implementer(IDiallingHandler)
class TargetStreams:
    """
    Connects streams that say a host and a port, where that is allowed; all others are for services.
    """

    log = Logger()

    def __init__(self, services: Any, allowed: Any, handler: Callable[[str, int], Any]) -> None:
        """
        @param services: the L{IDiallingHandler} of streams for services.
        @param allowed: has C{has(host, port)}, as L{TargetAllowlist<tunnelstack.handler.target_allowlist.TargetAllowlist>}.
        @param handler: of a host and a port, the L{IDiallingHandler} that connects there.
        """
        self._services = services
        self._allowed = allowed
        self._makeHandler = handler

    def connect(self, address: StreamAddress) -> Any:
        """
        As in L{IDiallingHandler}.
        """
        host, port = address.parameters.get("host"), address.parameters.get("port")
        if "service" in address.parameters or not (isinstance(host, str) and type(port) is int):
            return self._services.connect(address)
        if not (len(host) < 256 and self._allowed.has(host, port)):
            self.log.warn("{host}:{port} was asked for, which is not allowed here", host=printable(host, 255), port=port)
            return None
        return self._makeHandler(host, port).connect(address)


class _AddressingProtocol(Protocol):
    """
    Tells a stream who its visitor is, and what its public side is called, before its application sees it.
    """

    transport: Any

    def __init__(self, application: IProtocol, address: StreamAddress, host: TunnelAddress) -> None:
        self._application = application
        self._address = address
        self._host = host

    def connectionMade(self) -> None:
        """
        The application has the stream.
        """
        stream = self.transport
        stream.address = self._address
        stream.host = self._host
        stream.protocol = self._application
        self._application.makeConnection(stream)

    def dataReceived(self, data: bytes) -> None:
        """
        What was read too far came to whom the stream was handed.
        """
        self._application.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        It had gone before it was handed over.
        """
        self._application.connectionLost(reason)

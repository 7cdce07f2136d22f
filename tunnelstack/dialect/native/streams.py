"""
The agent's end of streams for a service: they are given to its handler, with the address of the visitor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as TypingProtocol

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.native.protocol import decodeVisitor
from tunnelstack.interfaces import Handler, IDiallingHandler
from tunnelstack.stream.address import StreamAddress, TunnelAddress
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.printable_text import printable


class Allowlist(TypingProtocol):
    """
    The targets that streams may connect to, such as a
    L{TargetAllowlist<tunnelstack.handler.target_allowlist.TargetAllowlist>}.
    """

    def has(self, host: str, port: int) -> bool:
        """
        @return: whether streams may connect there.
        """


class ServiceStreams(Factory):
    """
    Gives streams for services to their handlers.
    """

    noisy = False

    def __init__(
        self, kinds: tuple[str, ...], find: Callable[[str, str], Handler | None], host: Callable[[str, str], TunnelAddress],
    ) -> None:
        """
        @param kinds: of the services, in the order in which they are tried.
        @param find: returns the handler of a service by its kind and name, or C{None}.
        @param host: returns the public side of a service by its kind and name, as far as it is known.
        """
        self._kinds = kinds
        self._find = find
        self._host = host

    def _lookUp(self, address: StreamAddress) -> _Found | None:
        name = address.parameters.get("service")
        if not isinstance(name, str):
            return None
        for kind in self._kinds:
            handler = self._find(kind, name)
            if handler is not None:
                known = evolve(address, key=name, visitor=decodeVisitor(address.parameters))
                return _Found(handler, known, self._host(kind, name))
        return None

    def buildProtocol(self, addr: object) -> Protocol | None:
        assert isinstance(addr, StreamAddress)
        found = self._lookUp(addr)
        if found is None or IDiallingHandler.providedBy(found.handler):
            return None
        protocol = found.handler.buildProtocol(found.address)
        return _addressing(protocol, found)


@implementer(IDiallingHandler)
class DiallingServiceStreams(ServiceStreams):
    """
    The same for services of which some handlers must connect first.
    """

    def connect(self, address: StreamAddress) -> Deferred[Any]:
        found = self._lookUp(address)
        if found is None:
            return succeed(None)
        if not IDiallingHandler.providedBy(found.handler):
            return succeed(self.buildProtocol(address))
        return found.handler.connect(found.address).addCallback(_addressing, found)


@frozen(eq=False, repr=False)
class _Found:
    """
    The handler of a stream.

    @ivar address: of the stream, with the name of the service and the address of the visitor.
    @ivar host: the public side of the service.
    """

    handler: Handler
    address: StreamAddress
    host: TunnelAddress


@implementer(IDiallingHandler)
class TargetStreams:
    """
    Connects streams that name a host and a port to it, if that is allowed.  All others are for services.
    """

    log = Logger()

    def __init__(
        self, services: IDiallingHandler, allowed: Allowlist, handler: Callable[[str, int], IDiallingHandler],
    ) -> None:
        """
        @param services: the handler of streams for services.
        @param handler: returns the handler that connects to a host and a port.
        """
        self._services = services
        self._allowed = allowed
        self._makeHandler = handler

    def connect(self, address: StreamAddress) -> Deferred[Any]:
        host, port = address.parameters.get("host"), address.parameters.get("port")
        if "service" in address.parameters or not (isinstance(host, str) and type(port) is int):
            return self._services.connect(address)
        if not (len(host) < 256 and self._allowed.has(host, port)):
            self.log.warn("stream to {host}:{port} refused: the target is not allowed", host=printable(host, 255), port=port)
            return succeed(None)
        return self._makeHandler(host, port).connect(address)


def _addressing(application: IProtocol | None, found: _Found) -> Protocol | None:
    """
    @return: the protocol of the stream; C{None} if the handler refuses it.
    """
    return None if application is None else _AddressingProtocol(application, found.address, found.host)


class _AddressingProtocol(Protocol):
    """
    Sets the addresses of a stream before its application sees it.
    """

    transport: StreamTransport

    def __init__(self, application: IProtocol, address: StreamAddress, host: TunnelAddress) -> None:
        self._application = application
        self._address = address
        self._host = host

    def connectionMade(self) -> None:
        stream = self.transport
        stream.address = self._address
        stream.host = self._host
        stream.protocol = self._application
        self._application.makeConnection(stream)

    def dataReceived(self, data: bytes) -> None:
        # Data that was received with the parameters of the stream.
        self._application.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # The stream was lost before the application had it.
        self._application.connectionLost(reason)

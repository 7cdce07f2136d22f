"""
What an agent may connect to for its edges, and how.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import Denied, Unavailable
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.interfaces import IDatagramFactory, IDatagramProtocol, IReactor
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.host_endpoint import connectTimedOut, hostEndpoint
from tunnelstack.transport.udp import UDPAddress, UDPClientEndpoint, resolve
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.godoxy import DIAL_SECONDS

MACHINE = "127.0.0.1"
"""What an empty host means."""


class DestinationFailed(Unavailable):
    """
    A destination cannot be connected to.
    """


class Destinations:
    """
    The hosts and ports that were granted.
    """

    def __init__(self, reactor: IReactor, targets: Iterable[str]) -> None:
        """
        @raise ConfigurationError: a target is malformed.
        """
        self._reactor = reactor
        self._allowed = TargetAllowlist(targets)

    def check(self, host: str, port: int) -> None:
        """
        @raise Denied: it was not granted.
        """
        if not self._allowed.has(host or MACHINE, port):
            raise Denied("not-allowed", f"{destinationText(host, port)} is not among the targets of this agent")

    def endpoint(self, host: str, port: int, seconds: float = DIAL_SECONDS) -> IStreamClientEndpoint:
        """
        @param seconds: within which the connection must be made.
        @return: an endpoint; C{connect} fails with L{DestinationFailed}.
        @raise Denied: it was not granted.
        """
        self.check(host, port)
        return _DestinationEndpoint(self._reactor, host or MACHINE, port, seconds)

    def connectDatagrams(self, host: str, port: int, factory: IDatagramFactory) -> Deferred[IDatagramProtocol]:
        """
        Open a UDP socket toward a destination.

        @return: a C{Deferred} of the application; it fails with L{DestinationFailed}.
        @raise Denied: it was not granted.
        """
        self.check(host, port)
        opened = UDPClientEndpoint(self._reactor, host or MACHINE, port).connect(factory)
        opened.addTimeout(DIAL_SECONDS, self._reactor, connectTimedOut)
        return opened.addErrback(_failed, host, port)

    def resolve(self, host: str, port: int) -> Deferred[UDPAddress]:
        """
        Look a name up.

        @return: a C{Deferred} of its first address; it fails with L{DestinationFailed}.
        @raise Denied: it was not granted.
        """
        self.check(host, port)
        return resolve(self._reactor.nameResolver, host or MACHINE, port).addErrback(_failed, host, port)


@implementer(IStreamClientEndpoint)
class _DestinationEndpoint:
    """
    One destination.
    """

    def __init__(self, reactor: IReactor, host: str, port: int, seconds: float) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._seconds = seconds

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connected = hostEndpoint(self._reactor, self._host, self._port, self._seconds).connect(protocolFactory)
        connected.addTimeout(self._seconds, self._reactor, connectTimedOut)     # of all attempts, and of the resolver
        return connected.addErrback(_failed, self._host, self._port)


def destinationText(host: str, port: int) -> str:
    """
    @param host: as a peer has sent it.
    """
    host = printable(host or MACHINE, 255)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _failed(failure: Failure, host: str, port: int) -> Failure:
    """
    @return: the failure as a L{DestinationFailed}.
    """
    if failure.check(CancelledError):         # by the caller, who does not wait any more
        return failure
    failed = DestinationFailed(f"{destinationText(host, port)} cannot be reached: {errorText(failure)}")
    failed.__cause__ = failure.value
    return Failure(failed)

"""
Endpoints for a host and a port: addresses are not resolved, and C{localhost} always means this machine.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, TimeoutError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

Result = TypeVar("Result")


def isLocalhost(host: str) -> bool:
    """
    Whether a name means this machine by itself (RFC 6761, section 6.3).
    """
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def hostEndpoint(reactor: IReactorTime, host: str, port: int, timeout: float = 30.0) -> IStreamClientEndpoint:
    """
    An endpoint for a TCP port.

    @param host: a name, or an IPv4 or IPv6 address without brackets.
    @param timeout: seconds for one attempt.
    """
    if isLocalhost(host):
        return LocalhostEndpoint(reactor, port, timeout)
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, timeout)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout)
    return HostnameEndpoint(reactor, host, port, timeout)


@implementer(IStreamClientEndpoint)
class LocalhostEndpoint:
    """
    A port of this machine: at 127.0.0.1, and at ::1 where nothing listens on the former.  C{getaddrinfo} does not resolve names
    below C{localhost} on every system.
    """

    def __init__(self, reactor: IReactorTime, port: int, timeout: float = 30.0) -> None:
        """
        @param timeout: seconds for each of the two attempts.
        """
        self._first = TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout)
        self._second = TCP6ClientEndpoint(reactor, "::1", port, timeout)

    @inlineCallbacks
    def connect(self, protocolFactory: IProtocolFactory) -> Generator[Deferred[IProtocol], IProtocol, IProtocol]:
        """
        @raise ConnectError: the error of the first attempt, if both fail.
        """
        try:
            return (yield self._first.connect(protocolFactory))
        except ConnectError as first:
            try:
                return (yield self._second.connect(protocolFactory))
            except ConnectError:
                raise first from None


def connectTimedOut(result: Result | Failure, seconds: float) -> Result:
    """
    For C{addTimeout} of an attempt to connect: it fails with the same error whatever the endpoint raises when cancelled.

    @raise TimeoutError: Twisted's; the attempt did not succeed in time.
    """
    if not isinstance(result, Failure):
        return result
    raise TimeoutError(string=f"no connection after {seconds:g} seconds")

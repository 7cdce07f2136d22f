"""
From a host and a port to an endpoint: addresses are not resolved, and C{localhost} means this machine everywhere.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, TimeoutError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer


def isLocalhost(host: str) -> bool:
    """
    Whether a name means this machine by itself (RFC 6761, section 6.3).
    """
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def hostEndpoint(reactor: Any, host: str, port: int, timeout: float = 30.0) -> IStreamClientEndpoint:
    """
    How to reach a TCP port.

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
    This machine's own port: 127.0.0.1, and ::1 where nothing listens on the former.  Names below C{localhost} do not
    pass C{getaddrinfo} on every system.
    """

    def __init__(self, reactor: Any, port: int, timeout: float = 30.0) -> None:
        """
        @param timeout: seconds for each of the two attempts.
        """
        self._first = TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout)
        self._second = TCP6ClientEndpoint(reactor, "::1", port, timeout)

    @inlineCallbacks
    def connect(self, protocolFactory: IProtocolFactory) -> Any:
        """
        @raise ConnectError: what the first attempt met, when both fail.
        """
        try:
            return (yield self._first.connect(protocolFactory))
        except ConnectError as first:
            try:
                return (yield self._second.connect(protocolFactory))
            except ConnectError:
                raise first from None


def connectTimedOut(result: Any, seconds: float) -> Any:
    """
    For C{addTimeout} of an attempt to connect: what it fails with, whatever the endpoint calls its being cancelled.

    @raise TimeoutError: Twisted's; the attempt came to nothing in time.
    """
    if not isinstance(result, Failure):
        return result
    raise TimeoutError(string=f"no connection after {seconds:g} seconds")

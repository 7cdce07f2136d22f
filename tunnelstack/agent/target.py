"""
Local servers as targets of services: how a target is written, how it is connected to, and whether it accepts connections.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.clientstring import clientEndpoint
from tunnelstack.transport.host_endpoint import connectTimedOut, hostEndpoint
from tunnelstack.transport.verification import CertificateRejected

PORT = re.compile(r"[0-9]{1,5}")
HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[0-9A-Za-z._-]+)):(?P<port>[0-9]{1,5})")
HIGHEST_PORT = 65_535

PROBE_SECONDS = 3.0
"""Seconds after which a probe fails."""


class Target:
    """
    A local server.

    @ivar text: as it was written.
    @ivar shown: the target as status lines show it, such as C{tcp:localhost:3000}.
    @ivar authority: host and port in the form of the C{Host} field; C{""} where the endpoint has neither.
    """

    def __init__(self, text: str) -> None:
        """
        @param text: a port, C{host:port}, or a Twisted endpoint string.
        @raise ConfigurationError: it is none of these.
        """
        self.text = text
        self._host, self._port = _hostAndPort(text)
        if self._host:
            shown = f"[{self._host}]" if ":" in self._host else self._host
            self.authority = f"{shown}:{self._port}"
            self.shown = f"tcp:{self.authority}"
        else:
            self.authority = ""
            self.shown = text

    def endpoint(self, reactor: Any) -> IStreamClientEndpoint:
        """
        @return: an endpoint that connects to the server.
        @raise ConfigurationError: the text is not an endpoint string.
        """
        if self._host:
            return hostEndpoint(reactor, self._host, self._port)
        try:
            return clientEndpoint(reactor, self.text)
        except ValueError as error:
            raise ConfigurationError(
                f"{self.text!r} is not a target: give a port, host:port, or an endpoint string, such as unix:/run/app.sock "
                f"({error})"
            ) from None


def _hostAndPort(text: str) -> tuple[str, int]:
    """
    @return: C{("", 0)} for an endpoint string.
    @raise ConfigurationError: the port is out of range.
    """
    found = HOST_AND_PORT.fullmatch(text)
    if PORT.fullmatch(text):
        host, port = "localhost", int(text)
    elif found is not None and found["host"] == "tcp":       # the endpoint string that people write for a port
        host, port = "localhost", int(found["port"])
    elif found is not None:
        host, port = found["v6"] or found["host"], int(found["port"])
    else:
        return "", 0
    if not 0 < port <= HIGHEST_PORT:
        raise ConfigurationError(f"{text!r} is not a target: the port must be from 1 to {HIGHEST_PORT}")
    return host, port


def failureReason(failure: Failure) -> str:
    """
    Describe a failure to connect in a few words, such as C{"nothing listens"}.
    """
    if failure.check(ConnectionRefusedError):
        return "nothing listens"
    if failure.check(TimeoutError):
        return "no answer"
    if failure.check(DNSLookupError):
        return "the host name cannot be resolved"
    if isinstance(failure.value, CertificateRejected):
        return str(failure.value)
    if isinstance(failure.value, ConnectError) and failure.value.osError is not None:
        return f"it cannot be reached: {failure.value}"
    return f"it cannot be reached ({failure.type.__name__ if failure.type is not None else 'unknown'})"


def probe(endpoint: IStreamClientEndpoint, clock: IReactorTime) -> Deferred[str]:
    """
    Find out whether a server listens: connect, and close at once.

    @return: fires with C{""} if it does, and otherwise with the reason in a few words; it does not fail.
    """
    tried = endpoint.connect(_ProbeFactory())
    tried.addTimeout(PROBE_SECONDS, clock, connectTimedOut)
    return tried.addCallbacks(lambda _: "", failureReason)


class _ProbeFactory(Factory):
    noisy = False

    def buildProtocol(self, address: object) -> Protocol:
        return _ProbeProtocol()


class _ProbeProtocol(Protocol):
    transport: ITCPTransport

    def connectionMade(self) -> None:
        self.transport.abortConnection()

"""
The dialects that an agent's configuration names, and the agent as dialects see it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from tunnelstack.agent.edge_endpoint import TABLE_TRUST, makeEdgeEndpoint
from tunnelstack.agent.requests import recordFromExchange
from tunnelstack.agent.target import Target
from tunnelstack.control.access_record import Descriptions, RequestObserver
from tunnelstack.control.config.proxy_env import proxyFor
from tunnelstack.control.config.records import AgentConfig, EdgeAddress
from tunnelstack.control.config.sources import Sources, Unencrypted, isConfidential, readToken
from tunnelstack.control.process.exit_status import FatalError, TemporaryFailure
from tunnelstack.control.secret_files import TokenFile
from tunnelstack.interfaces import (
    Handler,
    IAgentDialect,
    IAgentHost,
    IDiallingHandler,
    IListeningService,
    IReactor,
    IServerExchange,
    IServiceLink,
)
from tunnelstack.settings.dialects import dialectPackages
from tunnelstack.wire.yamux.limits import SessionLimits

if TYPE_CHECKING:
    from twisted.conch.ssh.keys import Key

PLAIN = (
    "the credentials for {url} would cross the network unencrypted: use an https: URL, or --insecure (insecure = true)"
)

HOST_KEYS = "ssh_server_keys"
"""The file in the state folder that holds the host keys of the embedded SSH server."""


class EdgeURL(Protocol):
    """
    A record of a dialect that names an edge.
    """

    @property
    def url(self) -> str: ...

    @property
    def caFile(self) -> str: ...

    @property
    def proxy(self) -> str: ...

    @property
    def insecure(self) -> bool: ...


class RunningAgent(Protocol):
    """
    An agent, as dialects use it.
    """

    clock: IReactor
    config: AgentConfig
    handlers: dict[bytes, Handler]
    requestObserver: RequestObserver | None

    @property
    def end(self) -> Callable[[FatalError], object]: ...

    @property
    def revoked(self) -> Callable[[IServiceLink, str, str, str], None]: ...

    def linked(self, link: IServiceLink) -> None: ...

    def unlinked(self, link: IServiceLink) -> None: ...

    def boundsChanged(self) -> None: ...


@implementer(IAgentHost)
class AgentHost:
    """
    What dialects may use of an agent.
    """

    def __init__(self, agent: RunningAgent, random: Callable[[], float], environ: Mapping[str, str] | None = None) -> None:
        config = agent.config
        self._agent = agent
        self.clock = agent.clock
        self.random = random
        self.edges = config.edges
        self.instance = config.instance
        self.sessionLimits = SessionLimits(
            keepalive=config.pingSeconds, keepalive_timeout=config.pingTimeoutSeconds,
            session_octets=config.limits.sessionOctets, max_streams=config.limits.sessionStreams,
        )
        self.handlers: Mapping[bytes, Handler] = agent.handlers
        self.linked = agent.linked
        self.unlinked = agent.unlinked
        self.boundsChanged = agent.boundsChanged
        self.revoked = agent.revoked
        self._end = agent.end
        self._descriptions = Descriptions("agent")
        self._environ = os.environ if environ is None else environ

    def edgeEndpoint(self, address: EdgeURL, alpn: Sequence[bytes] = ()) -> IStreamClientEndpoint:
        if isinstance(address, EdgeAddress):
            return makeEdgeEndpoint(self.clock, address, alpn=alpn).endpoint
        proxy = address.proxy or proxyFor(address.url, self._environ)
        if not (address.insecure or isConfidential(address.url, proxy)):
            raise Unencrypted(PLAIN.format(url=address.url))
        edge = EdgeAddress(url=address.url, caFile=address.caFile, proxy=proxy)
        return makeEdgeEndpoint(self.clock, edge, TABLE_TRUST, alpn).endpoint

    def token(self, edge: EdgeAddress) -> Callable[[], str]:
        return TokenFile(edge.tokenFile, edge.token)

    def target(self, text: str) -> IStreamClientEndpoint:
        return Target(text).endpoint(self.clock)

    def embeddedSSH(
        self, hostKeysFile: str, authorizedKeysFile: str, passwordsFile: str, users: Sequence[str],
        externalCheck: Callable[[str, Key], Deferred[bool]] | None,
    ) -> IDiallingHandler:
        from tunnelstack.agent.ssh_server import (
            makeEmbeddedServer,  # imported here because it loads Conch, which is slow
        )

        return makeEmbeddedServer(
            self.clock, hostKeysFile or str(self.statePath(HOST_KEYS)), authorizedKeysFile=authorizedKeysFile,
            passwordsFile=passwordsFile, users=users, externalCheck=externalCheck,
        )

    def statePath(self, name: str) -> Path:
        return Sources(self._environ).state.path(name)

    def readSecret(self, path: str) -> str:
        return readToken(path)

    def exchangeEnded(self, service: str, exchange: IServerExchange, seconds: float) -> None:
        observer = self._agent.requestObserver
        if observer is not None:
            observer(recordFromExchange(self._descriptions, service, exchange, seconds, self.clock.seconds()))

    def displaced(self, reason: str) -> None:
        self._end(TemporaryFailure(reason))


def configuredDialects(host: IAgentHost, config: AgentConfig) -> list[IAgentDialect]:
    """
    Make the dialects that have tables in the configuration, and those that need none.

    @return: an L{IAgentDialect} for each edge.
    @raise ConfigurationError: a file that a table names cannot be used.
    """
    found: list[IAgentDialect] = []
    for package in dialectPackages():
        if package.defaults.always or package.name in config.dialects:
            makeDialects = getattr(package.module("agent"), "makeDialects", None)
            if makeDialects is not None:
                found += makeDialects(host, config.dialects.get(package.name, {}))
    return found


def listeningServices(host: IAgentHost, config: AgentConfig) -> list[IListeningService]:
    """
    Make the services of dialects whose edges dial the agents.

    @return: the services, which do not listen yet.
    @raise ConfigurationError: a file that a table names cannot be used.
    """
    found: list[IListeningService] = []
    for package in dialectPackages():
        if package.name in config.dialects:
            makeServices = getattr(package.module("agent"), "makeServices", None)
            if makeServices is not None:
                found += makeServices(host, config.dialects[package.name])
    return found

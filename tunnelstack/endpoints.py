"""
Twisted endpoints for C{tunnel:NAME}: listening publishes a name at an edge, and connecting dials a name that is published.

The endpoints of a process share one agent for each set of edges and tokens.  It is started for the first endpoint that is used,
and stopped after the last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar, cast

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.agent.publication import Publication
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig, EdgeAddress, checkLabel
from tunnelstack.control.config.sources import Sources
from tunnelstack.errors import ConfigurationError, UsageError
from tunnelstack.interfaces import IReactor
from tunnelstack.records import Grant, Service
from tunnelstack.settings.suggestion import nearest
from tunnelstack.stream.address import StreamAddress, TunnelAddress
from tunnelstack.wire.printable_text import printable, quoted

R = TypeVar("R")

KINDS = ("http", "stream", "tcp")

LINGER = 10.0
"""Seconds that an agent is kept after its last user was a dialler, so that the next one need not wait for a new session."""

DRAIN = 5.0
"""Seconds that streams may continue when the process ends.  It is short, since a server on a TCP port would close its
connections at once."""


@define(eq=False)
class SharedAgent:
    """
    An agent that all endpoints of a process with the same edges share.

    @ivar edges: the edges, with their tokens.
    @ivar users: how many ports listen and how many connections are being made.
    @cvar shared: the agents of this process, by reactor and edges.
    """

    reactor: IReactor
    edges: tuple[EdgeAddress, ...]
    agent: AgentService = field(init=False)
    users: int = field(default=0, init=False)
    _linger: IDelayedCall | None = field(default=None, init=False)
    _trigger: object = field(default=None, init=False)

    shared: ClassVar[dict[tuple[IReactor, tuple[EdgeAddress, ...]], SharedAgent]] = {}
    log: ClassVar[Logger] = Logger()

    @classmethod
    def acquire(cls, reactor: IReactor, edges: tuple[EdgeAddress, ...]) -> SharedAgent:
        """
        Count one more user.

        @return: the shared agent, started.  Each call must be followed by one of L{release}.
        """
        key = reactor, edges
        sharedAgent = cls.shared.get(key)
        if sharedAgent is None:
            sharedAgent = cls.shared[key] = cls(reactor, edges)
            sharedAgent._start()
        sharedAgent.users += 1
        sharedAgent._cancelLinger()
        return sharedAgent

    def _start(self) -> None:
        config = AgentConfig(edges=self.edges, drainSeconds=DRAIN)
        self.agent = AgentService(self.reactor, config, plugins=False)
        self.agent.whenFailed().addCallback(self._ended)
        self.reactor.callWhenRunning(self.agent.startService)
        self._trigger = self.reactor.addSystemEventTrigger("before", "shutdown", self._shutdown)

    def _cancelLinger(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def release(self, seconds: float = 0.0) -> Deferred[None]:
        """
        Count one user less, and stop the agent after the last.

        @param seconds: how long to keep the agent for another user.
        @return: fires when the agent has stopped, if it is stopped now; otherwise at once.
        """
        self.users -= 1
        if not self.users and self._isShared():
            if not seconds:
                return self.stop()
            self._linger = self.reactor.callLater(seconds, self._lingerTimeout)
        return maybeDeferred(lambda: None)

    def _isShared(self) -> bool:
        return self.shared.get((self.reactor, self.edges)) is self

    def _lingerTimeout(self) -> None:
        """
        Stop the agent, unless streams are open.
        """
        self._linger = None
        if self.agent.streams:
            self._linger = self.reactor.callLater(LINGER, self._lingerTimeout)
        else:
            self.stop()

    def stop(self) -> Deferred[None]:
        """
        Stop the agent at once.

        @return: fires when it has stopped.
        """
        self._forget()
        self.reactor.removeSystemEventTrigger(self._trigger)
        return maybeDeferred(self.agent.stopService)

    def _shutdown(self) -> Deferred[None]:
        self._forget()
        return maybeDeferred(self.agent.stopService)

    def _ended(self, why: Exception) -> None:
        """
        The agent has failed; the next user gets a new one.
        """
        if self._isShared():
            self.log.critical("{reason}", reason=str(why))
            self.stop()

    def _forget(self) -> None:
        self._cancelLinger()
        if self._isShared():
            del self.shared[self.reactor, self.edges]


@implementer(IStreamServerEndpoint)
class TunnelServerEndpoint:
    """
    Publishes a name at an edge.

    @ivar edges: the edges, with their tokens.
    @ivar services: the services that are announced.
    """

    def __init__(self, reactor: IReactor, edges: tuple[EdgeAddress, ...], name: str, kind: str = "", port: int = 0) -> None:
        """
        @param name: a label of letters, digits and hyphens.
        @param kind: C{"http"} for a web host, C{"stream"} for a name that can be dialled, C{"tcp"} for a port of the edge;
            C{""} for a web host and a name that can be dialled, as far as the token allows.
        @param port: kind C{"tcp"}: the edge's port; C{0} lets the edge choose.
        @raise ConfigurationError: the name, kind or port is invalid.
        """
        _checkName(name)
        if kind and kind not in KINDS:
            raise ConfigurationError(f"kind must be one of {', '.join(KINDS)}, not {quoted(kind)}")
        if port and kind != "tcp":
            raise ConfigurationError("port is only for kind=tcp")
        self._reactor = reactor
        self.edges = edges
        kinds = (kind,) if kind else ("http", "stream")
        self.services = tuple(
            Service(name=name, kind=each, port=port, perVisitor=each == "http") for each in kinds
        )

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Publish the name, and build a protocol for each visitor.

        @return: fires when the edge has confirmed the name for the first time.  It does not fail while the edge cannot be
            reached.  It fails with L{Denied<tunnelstack.errors.Denied>} if the edge refuses the name finally, with
            L{FatalError<tunnelstack.control.process.exit_status.FatalError>} if it refuses the agent, and with
            C{CannotListenError} if this process already publishes the name.  Cancelling it withdraws the name.
        """
        port = TunnelPort(self._reactor, self.edges, self.services, protocolFactory)
        try:
            return port.open()
        except UsageError as taken:
            return fail(CannotListenError("tunnel", self.services[0].name, taken))


@implementer(IListeningPort)
class TunnelPort:
    """
    A published name.
    """

    def __init__(
        self, reactor: IReactor, edges: tuple[EdgeAddress, ...], services: tuple[Service, ...], factory: IProtocolFactory
    ) -> None:
        self._reactor = reactor
        self._edges = edges
        self._services = services
        self._factory = factory
        self._sharedAgent: SharedAgent | None = None
        self._publications: list[Publication] = []

    def open(self) -> Deferred[IListeningPort]:
        """
        Publish the name.

        @return: fires with this port once an edge has granted one of the services.
        @raise UsageError: the name is already published.
        """
        sharedAgent = self._sharedAgent = SharedAgent.acquire(self._reactor, self._edges)
        handler = _VisitorFactory(self._factory)
        try:
            for service in self._services:
                optional = len(self._services) > 1
                self._publications.append(sharedAgent.agent.publish(service, handler, optional=optional))
        except UsageError:
            self._close()
            raise
        self._factory.doStart()
        opened: Deferred[IListeningPort] = Deferred(self._cancelled)
        granted = [publication.whenGranted() for publication in self._publications]
        first = DeferredList(granted, fireOnOneCallback=True, consumeErrors=True)
        first.addCallback(self._granted, opened)
        sharedAgent.agent.whenFailed().addCallback(self._failed, opened)
        return opened

    def _cancelled(self, opened: Deferred[IListeningPort]) -> None:
        self.stopListening()

    def _granted(
        self, result: tuple[Grant, int] | list[tuple[bool, Failure]], opened: Deferred[IListeningPort],
    ) -> None:
        """
        Fire with the first grant, or fail if all services were denied.
        """
        if opened.called:
            return
        if isinstance(result, list):
            self.stopListening()
            opened.errback(result[0][1])
        else:
            opened.callback(self)

    def _failed(self, why: Exception, opened: Deferred[IListeningPort]) -> None:
        if not opened.called:
            self.stopListening()
            opened.errback(why)

    def startListening(self) -> None:
        """
        Do nothing: the port already listens.
        """

    def stopListening(self) -> Deferred[None]:
        """
        Withdraw the name.  Open connections stay open.

        @return: fires when the edge has confirmed it.
        """
        if self._sharedAgent is None:
            return succeed(None)
        self._factory.doStop()
        return self._close()

    def _close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._withdraw())

    async def _withdraw(self) -> None:
        sharedAgent, self._sharedAgent = self._sharedAgent, None
        publications, self._publications = self._publications, []
        await DeferredList([publication.withdraw() for publication in publications], consumeErrors=True)
        if sharedAgent is not None:
            await sharedAgent.release()

    def getHost(self) -> TunnelAddress:
        """
        The public address, as far as it is known.
        """
        known = [publication.address for publication in self._publications if publication.grant is not None]
        return known[0] if known else TunnelAddress(name=self._services[0].name)


class _VisitorFactory(Factory):
    """
    Builds protocols with the visitor's address, which is what a server sees on any other port.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory

    def buildProtocol(self, address: IAddress | None) -> Protocol | None:
        assert address is not None
        visitor = address.visitor if isinstance(address, StreamAddress) else None
        return cast("Protocol | None", self._factory.buildProtocol(visitor or address))


@implementer(IStreamClientEndpoint)
class TunnelClientEndpoint:
    """
    Dials a published name through an edge.

    @ivar edges: the edges, with their tokens.
    @ivar name: what is dialled.
    @ivar purpose: what for.
    """

    def __init__(self, reactor: IReactor, edges: tuple[EdgeAddress, ...], name: str, purpose: str = "") -> None:
        """
        @param name: a service, C{agent/service}, or an agent's name.
        @param purpose: C{""} for the published service, or the name of a stream protocol that its agent serves.
        """
        self._reactor = reactor
        self.edges = edges
        self.name = name
        self.purpose = purpose

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fires with the protocol once the remote agent has accepted the stream; fails with
            L{Refused<tunnelstack.errors.Refused>} if the edge or the remote agent refuses.
        """
        sharedAgent = SharedAgent.acquire(self._reactor, self.edges)
        dialled = sharedAgent.agent.dial(self.name, self.purpose).connect(protocolFactory)
        return dialled.addBoth(self._dialDone, sharedAgent)

    def _dialDone(self, result: R, sharedAgent: SharedAgent) -> R:
        sharedAgent.release(LINGER)
        return result


SERVER_PARAMETERS = ("edge", "tokenFile", "insecure", "kind", "port")
CLIENT_PARAMETERS = ("edge", "tokenFile", "insecure", "purpose")


def tunnelServerFromString(reactor: IReactor, arguments: Sequence[str], parameters: Mapping[str, Any]) -> TunnelServerEndpoint:
    """
    Make a server endpoint from an endpoint string that has been split.

    @param arguments: the parts after the prefix that have no name.
    @param parameters: the parts that have one.
    @raise ConfigurationError: the string has a mistake.  The message names the string and the parameter.
    """
    name = _checkParts(arguments, parameters, SERVER_PARAMETERS)
    with _mistakesOf(name):
        return serverFromOptions(reactor, name, **parameters)


def tunnelClientFromString(reactor: IReactor, arguments: Sequence[str], parameters: Mapping[str, Any]) -> TunnelClientEndpoint:
    """
    Make a client endpoint from an endpoint string that has been split, as L{tunnelServerFromString} does for a server.
    """
    name = _checkParts(arguments, parameters, CLIENT_PARAMETERS)
    with _mistakesOf(name):
        return clientFromOptions(reactor, name, **parameters)


def _checkParts(arguments: Sequence[str], parameters: Mapping[str, str], known: Sequence[str]) -> str:
    """
    @return: the name of the tunnel.
    @raise ConfigurationError: there is no name, or a parameter is not known or has no name.
    """
    if not (arguments and arguments[0]):
        raise ConfigurationError("the endpoint string tunnel: needs the name of a service, as in tunnel:NAME")
    with _mistakesOf(arguments[0]):
        if len(arguments) > 1:
            raise ConfigurationError(
                f"the part {quoted(arguments[1])} has no parameter name; a colon in a value is written \\:, as in "
                "edge=https\\://tunnels.example.net"
            )
        for parameter in parameters:
            if parameter not in known:
                raise ConfigurationError(f"unknown parameter {parameter}; {nearest(parameter, known)}")
    return arguments[0]


@contextmanager
def _mistakesOf(name: str) -> Iterator[None]:
    """
    Name the endpoint string in errors.
    """
    try:
        yield
    except ConfigurationError as mistake:
        raise ConfigurationError(f"the endpoint string tunnel:{printable(name)}: {mistake}") from None


def serverFromOptions(
    reactor: IReactor,
    name: str,
    edge: str = "",
    tokenFile: str = "",
    kind: str = "",
    port: str = "0",
    insecure: str = "no",
    *,
    environ: Mapping[str, str] | None = None,
) -> TunnelServerEndpoint:
    """
    Make the endpoint of C{tunnel:NAME[:edge=URL][:tokenFile=PATH][:insecure=yes][:kind=http|stream|tcp][:port=N]} for a server.

    @param environ: the environment; the process's own unless given.
    @raise ConfigurationError: a parameter is invalid, or the edge or the token is not known.
    """
    if not (port.isascii() and port.isdecimal() and int(port) <= 65_535):
        raise ConfigurationError(f"port must be a number up to 65535, not {quoted(port)}")
    return TunnelServerEndpoint(reactor, _edges(environ, edge, tokenFile, insecure), name, kind, int(port))


def clientFromOptions(
    reactor: IReactor,
    name: str,
    edge: str = "",
    tokenFile: str = "",
    purpose: str = "",
    insecure: str = "no",
    *,
    environ: Mapping[str, str] | None = None,
) -> TunnelClientEndpoint:
    """
    Make the endpoint of C{tunnel:NAME[:edge=URL][:tokenFile=PATH][:insecure=yes][:purpose=/name/1.0.0]} for a client.

    @param environ: the environment; the process's own unless given.
    @raise ConfigurationError: a parameter is invalid, or the edge or the token is not known.
    """
    return TunnelClientEndpoint(reactor, _edges(environ, edge, tokenFile, insecure), name, purpose)


def _edges(environ: Mapping[str, str] | None, edge: str, tokenFile: str, insecure: str) -> tuple[EdgeAddress, ...]:
    if insecure not in ("yes", "no"):
        raise ConfigurationError(f"insecure must be yes or no, not {quoted(insecure)}")
    return Sources(os.environ if environ is None else environ).edges(edge, tokenFile, insecure=insecure == "yes")


def _checkName(name: str) -> None:
    try:
        checkLabel(name)
    except ConfigurationError as mistake:
        raise ConfigurationError(f"the name of a tunnel {mistake}") from None

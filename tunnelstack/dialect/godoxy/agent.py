"""
The agent role of GoDoxy: this machine listens, and edges dial it.

One port carries everything.  Over TLS, ALPN tells streams from the HTTPS API; over DTLS there are flows of datagrams.  Both
sides need a certificate of the deployment's authority.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.godoxy.agent_api import NAME, AgentAPI, APIConnections
from tunnelstack.dialect.godoxy.agent_certificates import HTTP, AgentCertificates, readContexts
from tunnelstack.dialect.godoxy.agent_datagrams import EdgeDatagrams
from tunnelstack.dialect.godoxy.agent_destinations import Destinations
from tunnelstack.dialect.godoxy.agent_settings import AgentSettings
from tunnelstack.dialect.godoxy.agent_streams import EdgeStreams
from tunnelstack.interfaces import IAgentHost, IListeningService
from tunnelstack.session.direct import DirectLimits, DirectSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.dtls.limits import DTLSLimits
from tunnelstack.transport.dtls.server import DTLSListeningPort, DTLSServerEndpoint
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.transport.tls import ALPNFactory
from tunnelstack.waiters import Waiters
from tunnelstack.wire.records.godoxy import ALPN, LONGEST_DATAGRAM

HANDSHAKE_SECONDS = 10.0
"""Seconds for a handshake; a genuine agent waits for ever."""

BACKLOG = 128

STREAM_CLOSE_SECONDS = 30.0
"""Seconds for the other side to end a stream that one side has closed; a genuine edge never does that by itself."""


@implementer(IListeningService)
class GoDoxyAgent(Service):
    """
    What listens on one port.

    @ivar description: where.
    @ivar session: the streams of all edges.
    """

    log = Logger()

    def __init__(self, host: IAgentHost, settings: AgentSettings) -> None:
        """
        @raise ConfigurationError: a file cannot be used, or a target is malformed.
        """
        self._host = host
        self._settings = settings
        where = f"[{settings.address}]" if ":" in settings.address else settings.address or "*"
        self.description = f"{where}:{settings.port}"
        self._certificates = AgentCertificates(readContexts(settings))
        destinations = Destinations(host.clock, settings.targets)
        address = StreamAddress(key=self.description, dialect=NAME)
        limits = DirectLimits(streams=settings.streams, closeTimeout=STREAM_CLOSE_SECONDS)
        self.session = DirectSession(host.clock, address=address, limits=limits)
        self.session.listener.listen(EdgeStreams(host.clock, destinations))
        self._api = AgentAPI(host, settings, settings.name or socket.gethostname() or "agent", destinations)
        self._connections = APIConnections(host, self._api, settings.requests)
        self._datagrams = EdgeDatagrams(host.clock, destinations)
        self._ports: list[IListeningPort] = []
        self._udp: DTLSListeningPort | None = None
        self._failure: Failure | None = None
        self._waiting: Waiters[None] = Waiters()

    # Starting

    def startService(self) -> None:
        super().startService()
        listening = maybeDeferred(self._listen)
        listening.addCallbacks(self._opened, self._failed)

    def _listen(self) -> Deferred[Any] | None:
        """
        Open the TCP port, then the UDP port with the same number.
        """
        settings, clock = self._settings, self._host.clock
        protocols = {None: self._connections, HTTP: self._connections, ALPN: self.session.acceptor}
        connections = ALPNFactory(protocols, clock, HANDSHAKE_SECONDS, onFailure=self._handshakeFailed)
        secure: Any = connections.wrap(self._certificates, halfClose=True)
        self._ports.append(clock.listenTCP(settings.port, secure, BACKLOG, settings.address))
        if not settings.datagrams:
            return None
        limits = DTLSLimits(
            handshakeSeconds=HANDSHAKE_SECONDS, idleSeconds=settings.flowIdleSeconds, payloadOctets=LONGEST_DATAGRAM,
            associations=settings.flows, handshakes=settings.flows,
        )
        endpoint = DTLSServerEndpoint(clock, settings.port, self._certificates, interface=settings.address, limits=limits)
        return endpoint.listen(self._datagrams).addCallback(self._udpListens)

    def _udpListens(self, port: DTLSListeningPort) -> None:
        self._udp = port

    def _opened(self, _: object) -> None:
        self._waiting.fire(None)

    def _failed(self, failure: Failure) -> None:
        self._failure = failure
        self._closePorts()
        self._waiting.fail(failure)

    def whenListening(self) -> Deferred[None]:
        if self._failure is not None:
            waited: Deferred[None] = Deferred()
            waited.errback(self._failure)
            return waited
        done = self.running and self._ports and (self._udp is not None or not self._settings.datagrams)
        return succeed(None) if done else self._waiting.wait()

    def _handshakeFailed(self, address: IAddress | None, reason: Failure) -> None:
        self.log.info("TLS handshake with {peer} failed: {reason}", peer=addressText(address), reason=errorText(reason))

    def prepareReload(self) -> Callable[[], object]:
        contexts = readContexts(self._settings)

        def use() -> None:
            self._certificates.contexts = contexts

        return use

    # Stopping

    def _closePorts(self) -> Deferred[Any]:
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)

    def drain(self) -> Deferred[Any]:
        self._datagrams.drain()
        return DeferredList(
            [self._closePorts(), self.session.drain(), self._connections.drain(), self._api.proxy.pools.drain()],
            consumeErrors=True,
        )

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        self.session.abort()
        self._connections.close()
        self._api.close()
        closed = [self._closePorts()]
        if self._udp is not None:
            closed.append(DeferredList([self._udp.stopListening()]))
        return DeferredList(closed, consumeErrors=True)

    # For people

    def report(self) -> Mapping[str, Any]:
        facts: dict[str, Any] = {
            "dialect": NAME, "streams": self.session.streams, "requests": len(self._connections),
            "flows": self._datagrams.flows, "datagrams_dropped": self._datagrams.dropped,
        }  # fmt: skip
        if self._udp is not None:
            counts = self._udp.protocol.counts
            facts |= {"flow_handshakes_failed": counts.failed, "flows_refused": counts.refused}
        return facts


def makeServices(host: IAgentHost, tables: Mapping[str, tuple[Any, ...]]) -> list[IListeningService]:
    """
    Make one for each C{[[godoxy]]}.

    @raise ConfigurationError: a file cannot be used, or a target is malformed.
    """
    return [GoDoxyAgent(host, settings) for settings in tables["godoxy"]]

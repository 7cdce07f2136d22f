"""
All ways to connect to one agent: to its API, for streams, and for datagrams.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IStreamClientEndpoint

from tunnelstack.dialect.godoxy.certificates import Credentials
from tunnelstack.dialect.godoxy.edge_settings import DialledAgentSettings, parseAddress
from tunnelstack.interfaces import IDatagramClientEndpoint, IReactor
from tunnelstack.transport.dtls.client import DTLSClientEndpoint
from tunnelstack.transport.dtls.limits import DTLSLimits
from tunnelstack.transport.dtls.options import DTLSClientOptions
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import clientContext
from tunnelstack.wire.records.godoxy import ALPN, CIPHERS, DIAL_SECONDS, LONGEST_DATAGRAM

TRUST = "archive or ca_file in [[godoxy.agent]]"
"""What an operator sets to trust another authority."""

HTTP = b"http/1.1"


class AgentDialler:
    """
    Connects to one agent.  The certificate of the agent is verified on each connection, and that of the edge is sent.

    @ivar address: where it is dialled.
    @ivar https: for its API.
    @ivar streams: for streams over TLS; an agent that does not select their protocol by ALPN is refused.
    @ivar datagrams: for datagrams over DTLS.
    """

    https: IStreamClientEndpoint
    streams: IStreamClientEndpoint
    datagrams: IDatagramClientEndpoint

    def __init__(self, reactor: IReactor, agent: DialledAgentSettings, credentials: Credentials) -> None:
        self._host, self._port = parseAddress(agent.address)
        self.address = (IPv6Address if ":" in self._host else IPv4Address)("TCP", self._host, self._port)
        self._reactor = reactor
        self._agent = agent
        self._credentials = credentials
        self.https = self._secure(HTTP)
        self.streams = self._secure(ALPN, ALPN)
        self.datagrams = self._datagrams()

    def _secure(self, offered: bytes, needed: bytes | None = None) -> SecureEndpoint:
        name = self._agent.serverName
        context = clientContext(
            name, ca=self._credentials.authorities, identity=self._credentials.identity, alpn=[offered], trust=TRUST
        )
        below = hostEndpoint(self._reactor, self._host, self._port, DIAL_SECONDS)
        halfClose = needed is not None
        return SecureEndpoint(self._reactor, name, below, context, DIAL_SECONDS, alpn=needed, halfClose=halfClose)

    def _datagrams(self) -> DTLSClientEndpoint:
        options = DTLSClientOptions(
            self._agent.serverName, ca=self._credentials.authorities, identity=self._credentials.identity, ciphers=CIPHERS,
            trust=TRUST,
        )
        # A flow is closed by the edge's port after its own idle time, so a session has none.
        limits = DTLSLimits(handshakeSeconds=DIAL_SECONDS, idleSeconds=0, payloadOctets=LONGEST_DATAGRAM)
        return DTLSClientEndpoint(self._reactor, self._host, self._port, options, limits=limits)

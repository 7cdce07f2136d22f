"""
The certificates of an agent that listens: its own, for TLS and for DTLS, and the authority of its edges.
"""

from __future__ import annotations

from attrs import frozen
from OpenSSL.SSL import Connection
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from tunnelstack.dialect.godoxy.agent_settings import AgentSettings
from tunnelstack.transport.dtls.options import DTLSServerOptions
from tunnelstack.transport.tls import loadCertificates, loadIdentity, serverContext
from tunnelstack.wire.records.godoxy import ALPN, CIPHERS

HTTP = b"http/1.1"

TRUST = "ca_file in [[godoxy]]"
"""What an operator sets to trust another authority."""


@frozen
class AgentContexts:
    """
    What OpenSSL is given.
    """

    tls: CertificateOptions
    dtls: DTLSServerOptions


def readContexts(settings: AgentSettings) -> AgentContexts:
    """
    @raise ConfigurationError: a file cannot be used.
    """
    identity = loadIdentity(settings.certificateFile, settings.keyFile or None)
    authorities = loadCertificates(settings.caFile)
    return AgentContexts(
        serverContext(identity, alpn=[HTTP, ALPN], clientCA=authorities, clientAuth="require", trust=TRUST),
        DTLSServerOptions(identity, clientCA=authorities, clientAuth="require", ciphers=CIPHERS, trust=TRUST),
    )


@implementer(IOpenSSLServerConnectionCreator)
class AgentCertificates:
    """
    Makes the connections of OpenSSL; L{Connections<tunnelstack.transport.dtls.options.Connections>} of DTLS as well.

    @ivar contexts: for the connections that begin from now on.
    """

    def __init__(self, contexts: AgentContexts) -> None:
        self.contexts = contexts

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        return Connection(self.contexts.tls.getContext(), None)

    def connection(self) -> Connection:
        return self.contexts.dtls.connection()

"""
TLS contexts: the certificate that is sent, the authorities that are trusted, and the protocol that ALPN selects.

At least TLS 1.2, no session tickets, no compression: Twisted's defaults are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.crypto import X509, PKey
from OpenSSL.SSL import (
    VERIFY_CLIENT_ONCE,
    VERIFY_FAIL_IF_NO_PEER_CERT,
    VERIFY_PEER,
    Connection,
    Context,
    Error,
)
from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.record import Record
from tunnelstack.transport.half_close_tls import HalfCloseTLS
from tunnelstack.transport.verification import (
    CLIENT_TRUST,
    SYSTEM_TRUST,
    ClientVerifier,
    ServerName,
    ServerVerifier,
)
from tunnelstack.wire.addresses import read_address
from tunnelstack.wire.printable_text import quoted

CLIENT_AUTH = ("request", "require")

HANDSHAKES = 1024
"""Handshakes that a server has under way at once, by default."""

HANDSHAKES_OF_ONE = 256
"""How many of them may be of one address, by default."""


class NoApplicationProtocol(Error):
    """
    The client offers protocols by ALPN, none of which is served: its handshake fails.
    """


@frozen(eq=False, repr=False)
class TLSIdentity(Record):
    """
    A certificate and its key.

    @ivar certificate: what is sent.
    @ivar key: its private key.
    @ivar chain: certificates between it and its root, nearest first.
    """

    certificate: X509
    key: PKey
    chain: tuple[X509, ...] = ()


def loadIdentity(certificate: str, key: str | None = None) -> TLSIdentity:
    """
    @param certificate: path of a PEM file: the certificate, then those between it and its root.
    @param key: path of a PEM file with the key, not encrypted; unless given, the key is in the first file.
    @raise ConfigurationError: a file cannot be read, or contains something else, or the key is not that of the certificate.
    """
    first, *chain = loadCertificates(certificate)
    path = certificate if key is None else key
    try:
        private: Any = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{quoted(path)} contains no usable private key: {error}") from None
    if private.public_key() != first.to_cryptography().public_key():
        raise ConfigurationError(f"the key in {quoted(path)} is not that of the certificate in {quoted(certificate)}")
    return TLSIdentity(first, PKey.from_cryptography_key(private), tuple(chain))


def loadCertificates(path: str) -> list[X509]:
    """
    @param path: of a PEM file with one certificate or more.
    @raise ConfigurationError: it cannot be read, or contains none.
    """
    try:
        return [X509.from_cryptography(one) for one in x509.load_pem_x509_certificates(_read(path))]
    except ValueError as error:
        raise ConfigurationError(f"{quoted(path)} contains no usable certificate: {error}") from None


def serverContext(
    identity: TLSIdentity,
    *,
    alpn: Sequence[bytes] = (),
    clientCA: Iterable[X509] = (),
    clientAuth: str | None = None,
    trust: str = CLIENT_TRUST,
) -> CertificateOptions:
    """
    A context for servers, for use where Twisted takes a context factory, such as C{SSL4ServerEndpoint}.

    @param alpn: the protocols that are served, the best first.  The handshake of a client that offers only others fails; a
        client that offers none at all is accepted.
    @param clientCA: the authorities that issue the certificates of clients.
    @param clientAuth: C{"require"} a certificate, or C{"request"} one and accept clients without; C{None} requests none.
    @param trust: what an operator sets to trust another authority here, for the remedy in an error.
    @raise ConfigurationError: C{clientCA} or C{clientAuth} is given without the other, or C{clientAuth} is another word.
    """
    roots = [Certificate(one) for one in clientCA]
    if clientAuth not in (None, *CLIENT_AUTH):
        raise ConfigurationError(f"client_auth is one of {', '.join(CLIENT_AUTH)}, not {quoted(clientAuth)}")
    if (clientAuth is None) != (not roots):
        raise ConfigurationError("client_auth and client_ca go together: give both or neither")
    options = CertificateOptions(
        privateKey=identity.key,
        certificate=identity.certificate,
        extraCertChain=list(identity.chain),
        trustRoot=trustRootFromCertificates(roots) if roots else None,
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )
    if clientAuth is not None:
        required = VERIFY_FAIL_IF_NO_PEER_CERT if clientAuth == "require" else 0
        options.getContext().set_verify(VERIFY_PEER | VERIFY_CLIENT_ONCE | required, ClientVerifier(trust).verify)
    if alpn:
        _selectALPN(options.getContext(), tuple(alpn))
    return options


def clientContext(
    name: str,
    *,
    ca: Iterable[X509] = (),
    identity: TLSIdentity | None = None,
    alpn: Sequence[bytes] = (),
    trust: str = SYSTEM_TRUST,
) -> IOpenSSLClientConnectionCreator:
    """
    A context for clients.  The handshake fails with L{CertificateRejected} unless the server's certificate is trusted and
    is for C{name}.

    @param name: what the server's certificate must be for, and what SNI sends; a DNS name or an IP address.  It may differ from
        the host that is dialled.
    @param ca: the only authorities that are trusted; the system's unless given.
    @param identity: the certificate for servers that request one.
    @param alpn: what is offered, the best first.
    @param trust: what an operator sets to trust another authority here, for the remedy in an error.
    """
    roots = [Certificate(one) for one in ca]
    own: dict[str, Any] = {}
    if identity is not None:
        own = {"privateKey": identity.key, "certificate": identity.certificate, "extraCertChain": list(identity.chain)}
    server = ServerName(name)
    options = CertificateOptions(
        trustRoot=trustRootFromCertificates(roots) if roots else platformTrust(),
        acceptableProtocols=list(alpn) or None,
        raiseMinimumTo=TLSVersion.TLSv1_2,
        **own,
    )
    # The context's callback and not the connection's: pyOpenSSL raises what the former raised from the handshake.
    options.getContext().set_verify(VERIFY_PEER, ServerVerifier(server, trust).verify)
    return ClientConnections(options, server)


def unverifiedContext(name: str, *, alpn: Sequence[bytes] = ()) -> IOpenSSLClientConnectionCreator:
    """
    A context for clients that accept any certificate of a server, for servers of the operator's own where that is configured.

    @param name: what SNI sends, if it is a DNS name.
    @param alpn: what is offered, the best first.
    """
    options = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2, acceptableProtocols=list(alpn) or None)
    return ClientConnections(options, ServerName(name))


@implementer(IOpenSSLClientConnectionCreator)
class ClientConnections:
    """
    TLS connections to one server.  Twisted's own creator is not used: it accepts a certificate whose names it cannot parse.
    """

    def __init__(self, options: CertificateOptions, server: ServerName) -> None:
        """
        @param options: its context verifies the certificate of C{server}.
        """
        self._options = options
        self._server = server

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        connection = self._options.clientConnectionForTLS(tlsProtocol)
        if self._server.indication is not None:
            connection.set_tlsext_host_name(self._server.indication)
        return connection


def tlsFactory(
    context: CertificateOptions | IOpenSSLClientConnectionCreator | IOpenSSLServerConnectionCreator, client: bool,
    factory: IProtocolFactory, clock: IReactorTime, halfClose: bool = False,
) -> TLSMemoryBIOFactory:
    """
    @param client: whether this side begins the handshake.
    @param halfClose: let one direction of a connection end before the other, see L{HalfCloseTLS}.
    @return: a factory that puts TLS under the protocols of C{factory}.
    """
    wrapping = _TLSFactory(context, client, factory, clock)
    if halfClose:
        wrapping.protocol = HalfCloseTLS
    return wrapping


class _TLSFactory(TLSMemoryBIOFactory):
    """
    As Twisted's, which cannot refuse a connection.
    """

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol | None:  # type: ignore[override]
        protocol = self.wrappedFactory.buildProtocol(cast(IAddress, addr))
        return None if protocol is None else self.protocol(self, protocol)


def kindOf(error: BaseException) -> object:
    """
    Equal for two failures of one kind, of which only the first need be logged: the class and, where there is one, the C{cause}.
    """
    return type(error), getattr(error, "cause", "")


def certificateFingerprint(transport: Any) -> str | None:
    """
    The SHA-256 of the peer's certificate (DER), 64 hexadecimal digits in lower case.

    @return: C{None} where the peer sent none, or there is no TLS.
    """
    certificate = getattr(transport, "getPeerCertificate", lambda: None)()
    return None if certificate is None else fingerprint(certificate)


def fingerprint(certificate: X509) -> str:
    """
    The SHA-256 of a certificate (DER), 64 hexadecimal digits in lower case.
    """
    digest: bytes = certificate.digest("sha256")
    return digest.decode("ascii").replace(":", "").lower()


def _ignore(outcome: IProtocol | Failure) -> None:
    """
    Do nothing.
    """


@implementer(IHandshakeListener)
class HandshakeProtocol(Protocol):
    """
    A TLS connection whose handshake is under way.  Another protocol replaces it when that is complete; until then nothing of
    an application is sent or received on it.
    """

    transport: TLSMemoryBIOProtocol

    def __init__(
        self, clock: IReactorTime, timeout: float, build: Callable[[TLSMemoryBIOProtocol], IProtocol | None],
        ended: Callable[[IProtocol | Failure], object] = _ignore,
    ) -> None:
        """
        @param timeout: seconds for the handshake.
        @param build: called with the connection when the handshake is complete; gives the protocol that replaces this one, or
            C{None} to abort the connection.
        @param ended: called with that protocol once it has the connection, or with the reason why the handshake failed.  After
            a time-out it is called again when the connection is lost.
        """
        self._clock = clock
        self._timeout = timeout
        self._build = build
        self._ended = ended
        self._timer: IDelayedCall

    def connectionMade(self) -> None:
        self._timer = self._clock.callLater(self._timeout, self._timedOut)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timer.active():
            self._timer.cancel()
        self._ended(reason)

    def handshakeCompleted(self) -> None:
        self._timer.cancel()
        protocol = self._build(self.transport)
        if protocol is None:
            self.transport.abortConnection()
            return
        self.transport.wrappedProtocol = cast(Protocol, protocol)
        protocol.makeConnection(self.transport)
        if IHandshakeListener.providedBy(protocol):
            protocol.handshakeCompleted()
        self._ended(protocol)

    def _timedOut(self) -> None:
        self._ended(Failure(TimeoutError(string=f"no TLS after {self._timeout:g} seconds")))
        self.transport.abortConnection()


class ALPNFactory(ServerFactory):
    """
    Selects the factory of a TLS connection by what ALPN negotiated, before its first octet.  Listen with what L{wrap}
    returns.

    @ivar protocols: a factory for each name; that for C{None} serves clients that offer nothing.
    @ivar handshakeTimeout: seconds that a client has for its handshake.
    @ivar handshakes: how many are under way.
    """

    noisy = False

    def __init__(
        self, protocols: Mapping[bytes | None, IProtocolFactory], clock: IReactorTime, handshakeTimeout: float = 10.0,
        *, mostHandshakes: int = HANDSHAKES, mostOfOne: int = HANDSHAKES_OF_ONE,
        onFailure: Callable[[IAddress | None, Failure], object] | None = None,
    ) -> None:
        """
        @param mostHandshakes: how many may be under way; further connections are closed.
        @param mostOfOne: how many of them may be of one address (IPv6: one /64).
        @param onFailure: called with the address of a client whose handshake has failed, and the reason.
        """
        self.protocols = dict(protocols)
        self.clock = clock
        self.handshakeTimeout = handshakeTimeout
        self.handshakes = 0
        self._mostHandshakes = mostHandshakes
        self._mostOfOne = mostOfOne
        self._byOrigin: Counter[str] = Counter()
        self._onFailure = onFailure

    def wrap(
        self, context: CertificateOptions | IOpenSSLServerConnectionCreator, halfClose: bool = False
    ) -> TLSMemoryBIOFactory:
        """
        The factory to listen with.

        @param context: from L{serverContext}, with the same names in C{alpn}.
        @param halfClose: let one direction of a connection end before the other, see L{HalfCloseTLS}.
        """
        return tlsFactory(context, False, self, self.clock, halfClose)

    def doStart(self) -> None:
        super().doStart()
        for factory in self.protocols.values():
            factory.doStart()

    def doStop(self) -> None:
        for factory in self.protocols.values():
            factory.doStop()
        super().doStop()

    def buildProtocol(self, address: IAddress | None) -> HandshakeProtocol | None:
        """
        @return: C{None} closes the connection: there are too many handshakes.
        """
        origin = _origin(address)
        if self.handshakes >= self._mostHandshakes or (origin and self._byOrigin[origin] >= self._mostOfOne):
            return None
        self._count(origin, 1)
        pending = True

        def over() -> bool:
            nonlocal pending
            was, pending = pending, False
            if was:
                self._count(origin, -1)
            return was

        def build(connection: TLSMemoryBIOProtocol) -> IProtocol | None:
            over()
            factory = self.protocols.get(connection.negotiatedProtocol)
            return None if factory is None else factory.buildProtocol(cast(IAddress, address))

        def ended(outcome: IProtocol | Failure) -> None:
            if over() and isinstance(outcome, Failure) and self._onFailure is not None:
                self._onFailure(address, outcome)

        return HandshakeProtocol(self.clock, self.handshakeTimeout, build, ended)

    def _count(self, origin: str, change: int) -> None:
        self.handshakes += change
        self._byOrigin[origin] += change
        if not self._byOrigin[origin]:
            del self._byOrigin[origin]


def _origin(address: IAddress | None) -> str:
    """
    @return: the host of an address, of an IPv6 address the first 64 bits; C{""} if it has none.
    """
    host = read_address(str(getattr(address, "host", "")))
    if host is None:
        return ""
    return str(host) if host.version == 4 else host.packed[:8].hex()


def _selectALPN(context: Context, ours: tuple[bytes, ...]) -> None:
    def select(connection: Connection, offered: list[bytes]) -> bytes:
        for name in ours:
            if name in offered:
                return name
        raise NoApplicationProtocol([("SSL", "ALPN", f"the client offers only {', '.join(map(quoted, offered))}")])

    context.set_alpn_select_callback(select)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"{quoted(path)} cannot be read: {error.strerror}") from None

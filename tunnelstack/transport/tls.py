"""
TLS with the choices this program needs: who we are, whom we trust, and which protocol ALPN picks.

At least TLS 1.2, no session tickets, no compression: Twisted's defaults are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.crypto import X509, PKey
from OpenSSL.SSL import VERIFY_PEER, Connection, Context, Error
from service_identity import VerificationError
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
)
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import ConfigurationError

CLIENT_AUTH = ("request", "require")

ERROR_TEXTS = {
    "certificate verify failed": "its certificate has expired, or is signed by nobody whom this machine trusts",
    "wrong version number": "what answers there speaks no TLS",
    "record layer failure": "what answers there speaks no TLS",
}
"""What people make of what OpenSSL says."""


class NoApplicationProtocol(Error):
    """
    The client offers protocols by ALPN, none of them ours: its handshake fails.
    """


@frozen
class TLSIdentity:
    """
    A certificate and its key.

    @ivar certificate: what is shown.
    @ivar key: what proves it.
    @ivar chain: certificates between it and its root, nearest first.
    """

    certificate: X509
    key: PKey
    chain: tuple[X509, ...] = ()


def loadIdentity(certificate: str, key: str | None = None) -> TLSIdentity:
    """
    @param certificate: path of a PEM file: the certificate, then those between it and its root.
    @param key: path of a PEM file with the key, not encrypted; it stands in the first file unless given.
    @raise ConfigurationError: a file cannot be read, or holds something else, or the two do not belong together.
    """
    first, *chain = loadCertificates(certificate)
    path = certificate if key is None else key
    try:
        private: Any = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path!r} holds no private key that can be used: {error}") from None
    if private.public_key() != first.to_cryptography().public_key():
        raise ConfigurationError(f"the key in {path!r} is not that of the certificate in {certificate!r}")
    return TLSIdentity(first, PKey.from_cryptography_key(private), tuple(chain))


def loadCertificates(path: str) -> list[X509]:
    """
    @param path: of a PEM file with one certificate or more.
    @raise ConfigurationError: it cannot be read, or holds none.
    """
    try:
        return [X509.from_cryptography(one) for one in x509.load_pem_x509_certificates(_read(path))]
    except ValueError as error:
        raise ConfigurationError(f"{path!r} holds no certificate that can be used: {error}") from None


def serverContext(
    identity: TLSIdentity,
    *,
    alpn: Sequence[bytes] = (),
    clientCA: Iterable[X509] = (),
    clientAuth: str | None = None,
) -> CertificateOptions:
    """
    TLS for the side that listens; goes where Twisted takes a context factory, such as C{SSL4ServerEndpoint}.

    @param alpn: the protocols we speak, the best first.  A client that offers only others fails its handshake; one
        that offers none at all is let in.
    @param clientCA: who signs the certificates of clients.
    @param clientAuth: C{"require"} a certificate, C{"request"} one and let in those without; C{None} asks for none.
    @raise ConfigurationError: clients are to be verified by nobody, or C{clientAuth} is another word.
    """
    roots = [Certificate(one) for one in clientCA]
    if clientAuth not in (None, *CLIENT_AUTH):
        raise ConfigurationError(f"client_auth is one of {', '.join(CLIENT_AUTH)}, not {clientAuth!r}")
    if (clientAuth is None) != (not roots):
        raise ConfigurationError("client_auth and client_ca go together: one says whether, the other by whom")
    options = CertificateOptions(
        privateKey=identity.key,
        certificate=identity.certificate,
        extraCertChain=list(identity.chain),
        trustRoot=trustRootFromCertificates(roots) if roots else None,
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )
    if clientAuth == "request":     # Twisted's trust roots require one
        options.getContext().set_verify(VERIFY_PEER, lambda connection, certificate, error, depth, good: bool(good))
    if alpn:
        _selectALPN(options.getContext(), tuple(alpn))
    return options


def clientContext(
    name: str,
    *,
    ca: Iterable[X509] = (),
    identity: TLSIdentity | None = None,
    alpn: Sequence[bytes] = (),
) -> IOpenSSLClientConnectionCreator:
    """
    TLS for the side that dials.

    @param name: what the server's certificate must be for, and what SNI says; a DNS name or an IP address.  It need
        not be the one that is dialled.
    @param ca: the only roots that are trusted; the system's unless given.
    @param identity: our certificate, for servers that ask for one.
    @param alpn: what we offer, the best first.
    """
    roots = [Certificate(one) for one in ca]
    certificate = None
    extra: dict[str, Any] = {}
    if identity is not None:
        certificate = PrivateCertificate.fromCertificateAndKeyPair(
            Certificate(identity.certificate), KeyPair(identity.key)
        )
        if identity.chain:
            extra["extraCertificateOptions"] = {"extraCertChain": list(identity.chain)}
    return optionsForClientTLS(
        name,
        trustRoot=trustRootFromCertificates(roots) if roots else None,
        clientCertificate=certificate,
        acceptableProtocols=list(alpn) or None,
        **extra,
    )


def errorText(error: BaseException) -> str:
    """
    Why something failed, in words; OpenSSL has other ones than people.
    """
    if isinstance(error, VerificationError):
        return "its certificate is for another name"
    if isinstance(error, Error) and error.args and error.args[0]:
        return "; ".join(ERROR_TEXTS.get(str(reason[-1]), str(reason[-1])) for reason in error.args[0])
    return str(error) or type(error).__name__


def certificateFingerprint(transport: Any) -> str | None:
    """
    The SHA-256 of the peer's certificate (DER), 64 hexadecimal digits in lower case.

    @return: C{None} where the peer showed none, or there is no TLS.
    """
    certificate = getattr(transport, "getPeerCertificate", lambda: None)()
    return None if certificate is None else fingerprint(certificate)


def fingerprint(certificate: X509) -> str:
    """
    The SHA-256 of a certificate (DER), 64 hexadecimal digits in lower case.
    """
    digest: bytes = certificate.digest("sha256")
    return digest.decode("ascii").replace(":", "").lower()


class ALPNFactory(ServerFactory):
    """
    Chooses who serves a TLS connection by what ALPN negotiated, before its first octet.  Listen with what L{wrap}
    gives.

    @ivar protocols: a factory for each name; that for C{None} serves clients that offer nothing.
    @ivar handshakeTimeout: seconds that a client has for its handshake.
    """

    noisy = False

    def __init__(
        self, protocols: Mapping[bytes | None, IProtocolFactory], clock: Any, handshakeTimeout: float = 10.0
    ) -> None:
        """
        @param clock: an C{IReactorTime}.
        """
        self.protocols = dict(protocols)
        self.clock = clock
        self.handshakeTimeout = handshakeTimeout

    def wrap(self, context: CertificateOptions) -> TLSMemoryBIOFactory:
        """
        TLS around it.

        @param context: from L{serverContext}, with the same names in C{alpn}.
        """
        return TLSMemoryBIOFactory(context, False, self, self.clock)

    def doStart(self) -> None:
        super().doStart()
        for factory in self.protocols.values():
            factory.doStart()

    def doStop(self) -> None:
        for factory in self.protocols.values():
            factory.doStop()
        super().doStop()

    def buildProtocol(self, address: Any) -> Protocol:
        return _ALPNProtocol(self, address)


@implementer(IHandshakeListener)
class _ALPNProtocol(Protocol):
    """
    A TLS connection whose handshake is under way.
    """

    def __init__(self, router: ALPNFactory, address: Any) -> None:
        self._router = router
        self._address = address

    def connectionMade(self) -> None:
        self._timer = self._router.clock.callLater(self._router.handshakeTimeout, self._handshakeTimedOut)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._timer.active():
            self._timer.cancel()

    def handshakeCompleted(self) -> None:
        self._timer.cancel()
        transport: Any = self.transport
        factory = self._router.protocols.get(transport.negotiatedProtocol)
        protocol = None if factory is None else factory.buildProtocol(self._address)
        if protocol is None:
            transport.abortConnection()
            return
        transport.wrappedProtocol = protocol
        protocol.makeConnection(transport)
        if IHandshakeListener.providedBy(protocol):
            protocol.handshakeCompleted()

    def _handshakeTimedOut(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


def _selectALPN(context: Context, ours: tuple[bytes, ...]) -> None:
    def select(connection: Connection, offered: list[bytes]) -> bytes:
        for name in ours:
            if name in offered:
                return name
        raise NoApplicationProtocol([("SSL", "ALPN", f"the client offers only {offered!r}")])

    context.set_alpn_select_callback(select)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"{path!r} cannot be read: {error.strerror}") from None

"""
Whether the certificate of a server is trusted and is for the host that was dialled, and whether that of a client is trusted; if
it is not, which cause holds and what remedies it.

Verification fails closed: any exception during it rejects the certificate.

Sources: RFC 9525 (which names of a certificate count, and how they match), RFC 5280, sections 4.2.1.6 (C{subjectAltName}) and
6.1 (the chain of certificates, which OpenSSL verifies).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from attrs import field, frozen
from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import X509
from OpenSSL.SSL import Connection, Error, X509VerificationCodes
from service_identity.hazmat import DNS_ID, DNSPattern

from tunnelstack.settings.record import Record

SYSTEM_TRUST = "SSL_CERT_FILE in the environment"
"""What adds a trusted authority where no setting does."""

CLIENT_TRUST = "client_ca"
"""What adds an authority for the certificates of clients, unless a setting has another name."""

NAMES_SHOWN, NAME_LENGTH = 3, 64
"""How many names of a certificate an error shows, and how many characters of each."""

UNKNOWN_ISSUER = (
    "its certificate is issued by {issuer}, an authority that is not trusted here",
    "to trust it, name the PEM file of its certificate with {trust}; or let the {role} send its intermediate certificates too",
)
UNACCEPTABLE = "{whose} is not acceptable: {openssl}", "replace it on the {role}"

DISTRUSTED = {
    X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT: UNKNOWN_ISSUER,
    X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_ISSUER,
    X509VerificationCodes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_ISSUER,
    X509VerificationCodes.ERR_SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_ISSUER,
    X509VerificationCodes.ERR_CERT_UNTRUSTED: UNKNOWN_ISSUER,
    X509VerificationCodes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: (
        "its certificate is self-signed", "to trust it, name its PEM file with {trust}",
    ),
    X509VerificationCodes.ERR_CERT_SIGNATURE_FAILURE: (
        "{whose} is not signed by the trusted authority {issuer}, but by another one of the same name",
        "to trust the other one, name the PEM file of its certificate with {trust}",
    ),
    X509VerificationCodes.ERR_CERT_HAS_EXPIRED: (
        "{whose} has expired, on {ends}",
        "renew it on the {role}; if it should still be valid, correct the clock of this machine",
    ),
    X509VerificationCodes.ERR_CERT_NOT_YET_VALID: (
        "{whose} is not valid before {begins}", "correct the clock of this machine",
    ),
    X509VerificationCodes.ERR_INVALID_PURPOSE: (
        "{whose} is not issued for this purpose", "issue it with the extended key usage {role}Auth",
    ),
}  # fmt: skip
"""For OpenSSL's codes, what is wrong and what to do about it."""

OPENSSL_WORDS = {
    code: name.removeprefix("ERR_").replace("_", " ").lower()
    for name, code in vars(X509VerificationCodes).items()
    if name.startswith("ERR_")
}
"""For each of OpenSSL's codes, the name of its constant as words."""


class CertificateRejected(Error):
    """
    The certificate of a peer was not accepted, and the connection ends.  Nothing of the application was sent on it.

    @ivar cause: what is wrong, as a clause about "its certificate".
    @ivar remedy: what to do about it.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__([("tunnelstack", "certificate verification", cause)])     # the form that Twisted's TLS reads
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}; {self.remedy}"


@frozen(eq=False, repr=False)
class ServerName(Record):
    """
    The host that a server's certificate has to be for.

    @ivar host: a DNS name or an IP address.
    @ivar address: the address, if it is one; without the zone of a link-local one.
    @ivar dns: the DNS name in its A-label form, if it is one.  A host that is neither is in no certificate.
    """

    host: str
    address: IPv4Address | IPv6Address | None = field(init=False)
    dns: DNS_ID | None = field(init=False)

    @address.default
    def _address(self) -> IPv4Address | IPv6Address | None:
        try:
            address = ip_address(self.host)
        except ValueError:
            return None
        return IPv6Address(int(address)) if address.version == 6 else address

    @dns.default
    def _dns(self) -> DNS_ID | None:
        if self.address is not None:
            return None
        try:
            return DNS_ID(self.host.removesuffix("."))
        except ValueError:
            return None

    @property
    def indication(self) -> bytes | None:
        """
        What Server Name Indication sends (RFC 6066, section 3): DNS names only.
        """
        return None if self.dns is None else self.dns.hostname

    def matches(self, name: x509.GeneralName) -> bool:
        """
        Whether one name of a certificate is for this host.  A malformed pattern is for none.
        """
        if isinstance(name, x509.IPAddress):
            return self.address is not None and name.value == self.address
        pattern = _pattern(name)
        if pattern is None or self.dns is None:
            return False
        try:
            return self.dns.verify(pattern)
        except ValueError:      # of service_identity before 26.1, for a wildcard and a host of one label
            return False


class ServerVerifier:
    """
    Verifies the certificates of one server, as a callback of OpenSSL.
    """

    def __init__(self, server: ServerName, trust: str = SYSTEM_TRUST) -> None:
        """
        @param trust: what an operator sets to trust another authority, for the remedy.
        """
        self._server = server
        self._trust = trust

    def verify(self, connection: Connection, certificate: X509, code: int, depth: int, accepted: int) -> bool:
        """
        Called by OpenSSL for each certificate of the chain, the root first.

        @param code: OpenSSL's reason if it rejects this certificate, one of C{X509VerificationCodes}.
        @param depth: 0 is the server's own certificate.
        @param accepted: whether OpenSSL accepts this certificate.
        @raise CertificateRejected: it is not accepted; pyOpenSSL ends the handshake with this error.
        """
        if accepted and depth:
            return True
        try:
            parsed = certificate.to_cryptography()
            if not accepted:
                raise _distrusted(parsed, code, depth, self._trust, "server")
            self._verifyNames(parsed)
        except CertificateRejected:
            raise
        except Exception as error:
            raise _unreadable(error, "server") from None
        return True

    def _verifyNames(self, certificate: x509.Certificate) -> None:
        """
        @raise CertificateRejected: no name of the certificate is for this server.
        """
        names = list(_names(certificate))
        if any(self._server.matches(name) for name in names):
            return
        host = self._server.host
        kind = "DNS" if self._server.address is None else "IP"
        raise CertificateRejected(
            self._misnamed(certificate, names), f"issue it with the subjectAltName {kind}:{host}, or dial a host that it names"
        )

    def _misnamed(self, certificate: x509.Certificate, names: list[x509.GeneralName]) -> str:
        """
        Why no name of a certificate fits.
        """
        host = self._server.host
        if not names:
            if any(host.lower() == name.lower() for name in _commonNames(certificate)):
                return f"its certificate has the name {host} only in its subject, where names are not used"
            return "its certificate contains no host names"
        if self._server.address is not None and any(name.value == host for name in names):
            return f"its certificate has {host} as a DNS name, not as an IP address"
        if all(isinstance(name, x509.DNSName) and _pattern(name) is None for name in names):
            return f"its certificate contains only malformed host names: {_list(names)}"
        return f"its certificate is for {_list(names)}, not for {host}"


class ClientVerifier:
    """
    Verifies the certificates of clients, as a callback of OpenSSL.
    """

    def __init__(self, trust: str = CLIENT_TRUST) -> None:
        """
        @param trust: what an operator sets to trust another authority, for the remedy.
        """
        self._trust = trust

    def verify(self, connection: Connection, certificate: X509, code: int, depth: int, accepted: int) -> bool:
        """
        As L{ServerVerifier.verify}; the names in the certificate do not matter here.
        """
        if accepted:
            return True
        try:
            raise _distrusted(certificate.to_cryptography(), code, depth, self._trust, "client")
        except CertificateRejected:
            raise
        except Exception as error:
            raise _unreadable(error, "client") from None


def _unreadable(error: Exception, role: str) -> CertificateRejected:
    return CertificateRejected(
        f"its certificate cannot be read: {_describe(str(error) or type(error).__name__)}", f"replace it on the {role}"
    )


def _distrusted(certificate: x509.Certificate, code: int, depth: int, trust: str, role: str) -> CertificateRejected:
    """
    Why OpenSSL rejects a certificate.

    @param role: of the peer, C{"server"} or C{"client"}.
    @raise ValueError: its extensions cannot be read, for which OpenSSL often gives another reason.
    """
    list(certificate.extensions)
    subject = _distinguished(certificate.subject)
    words = {
        "whose": f"the certificate of its authority {subject}" if depth else "its certificate",
        "issuer": _distinguished(certificate.issuer),
        "begins": _date(certificate.not_valid_before_utc),
        "ends": _date(certificate.not_valid_after_utc),
        "trust": trust,
        "openssl": OPENSSL_WORDS.get(code, f"error {code}"),
        "role": role,
    }
    cause, remedy = DISTRUSTED.get(code, UNACCEPTABLE)
    return CertificateRejected(cause.format_map(words), remedy.format_map(words))


def _names(certificate: x509.Certificate) -> Iterator[x509.GeneralName]:
    """
    The DNS names and IP addresses in a certificate.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return
    yield from (name for name in extension.value if isinstance(name, (x509.DNSName, x509.IPAddress)))


def _pattern(name: x509.GeneralName) -> DNSPattern | None:
    """
    @return: C{None} where a DNS name is malformed, such as a wildcard that is too broad.
    """
    try:
        return DNSPattern.from_bytes(str(name.value).encode())
    except Exception:      # whatever service_identity raises for it, this name is not for any host
        return None


def _commonNames(certificate: x509.Certificate) -> list[str]:
    return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _distinguished(name: x509.Name) -> str:
    """
    An issuer or a subject, for an error.
    """
    common: Any = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return f'"{_describe(str(common[0].value) if common else name.rfc4514_string())}"'


def _list(names: list[x509.GeneralName]) -> str:
    shown = ", ".join(_describe(str(name.value)) for name in names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _describe(text: str) -> str:
    """
    Text of a peer, short and printable.
    """
    return "".join(character if character.isprintable() else "?" for character in text[:NAME_LENGTH])


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"

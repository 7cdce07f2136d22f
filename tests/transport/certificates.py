"""
Certificates for tests: made anew, never written down.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from OpenSSL.crypto import X509, PKey

from tunnelstack.transport.tls import TLSIdentity

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


class Authority:
    """
    A root that signs what a test needs.
    """

    def __init__(self, name: str = "test root", days: tuple[int, int] = (-1, 1)) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = common(name)
        self.certificate = X509.from_cryptography(self._root(self._name, self._key, days).sign(self._key, hashes.SHA256()))
        self.chain: tuple[X509, ...] = ()

    def intermediate(self, name: str, days: tuple[int, int] = (-1, 1)) -> Authority:
        """
        An authority whose certificate is signed by this one.
        """
        other = Authority(name)
        signed = self._root(other._name, other._key, days).sign(self._key, hashes.SHA256())
        other.certificate = X509.from_cryptography(signed)
        other.chain = (other.certificate, *self.chain)
        return other

    def identity(self, *names: str) -> TLSIdentity:
        """
        A certificate for names or addresses, good for both sides.
        """
        return self.issue([general(name) for name in names], subject=names[0])

    def issue(
        self,
        names: Sequence[x509.GeneralName] | bytes | None,
        *,
        subject: str = "server",
        days: tuple[int, int] = (-1, 1),
        purposes: Sequence[x509.ObjectIdentifier] = (CLIENT, SERVER),
        ownRoot: bool = False,
    ) -> TLSIdentity:
        """
        Any certificate.

        @param names: of the C{subjectAltName}; C{None} leaves it out, and octets are its DER.
        @param days: from when to when it is valid, counted from now.
        @param ownRoot: whether it is signed by its own key.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(common(subject), key, days, common(subject) if ownRoot else None)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if isinstance(names, bytes):
            oid = ExtensionOID.SUBJECT_ALTERNATIVE_NAME
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, names), critical=False)
        elif names is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = builder.sign(key if ownRoot else self._key, hashes.SHA256())
        return TLSIdentity(X509.from_cryptography(signed), PKey.from_cryptography_key(key), self.chain)

    def _root(self, name: x509.Name, key: Any, days: tuple[int, int]) -> x509.CertificateBuilder:
        basic = x509.BasicConstraints(ca=True, path_length=None)
        return self._builder(name, key, days).add_extension(basic, critical=True)

    def _builder(
        self, subject: x509.Name, key: Any, days: tuple[int, int] = (-1, 1), issuer: x509.Name | None = None
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return x509.CertificateBuilder(
            issuer_name=issuer or self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now + datetime.timedelta(days=days[0]),
            not_valid_after=now + datetime.timedelta(days=days[1]),
        )


def common(name: str) -> x509.Name:
    """
    A distinguished name that is only a common name; C{""} is the empty one.
    """
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


def general(name: str) -> x509.GeneralName:
    """
    A name or an address, for a C{subjectAltName}.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@cache
def authority() -> Authority:
    """
    The root of all tests that need only one.
    """
    return Authority()


@cache
def edge() -> TLSIdentity:
    """
    A server called C{edge.example}, also at 127.0.0.1.
    """
    return authority().identity("edge.example", "127.0.0.1", "localhost")

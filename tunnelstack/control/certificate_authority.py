"""
A small authority of one's own: its certificate, and certificates that it issues to servers and to clients.

Keys are on the curve P-256.  A certificate is for servers or for clients, never for both.

Source: RFC 5280, sections 4.2.1.1 (authority key identifier) to 4.2.1.12 (extended key usage).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tunnelstack.errors import ConfigurationError
from tunnelstack.wire.printable_text import quoted

PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}

BACKDATED = timedelta(minutes=5)
"""How long before now a certificate is valid, for machines whose clocks are slow."""

_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
    "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@frozen
class IssuedCertificate:
    """
    A certificate and its private key, both in PEM.
    """

    certificate: bytes
    key: bytes


def makeAuthority(name: str, days: int) -> IssuedCertificate:
    """
    Make an authority.

    @param name: its common name.
    @param days: how long it is valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject("", name)
    builder = _builder(subject, subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_keyUsage("key_cert_sign", "crl_sign"), critical=True)
    return _signed(builder, key, key)


def issue(authority: IssuedCertificate, purpose: str, names: Sequence[str], days: int) -> IssuedCertificate:
    """
    Issue a certificate.

    @param purpose: C{"server"} or C{"client"}.
    @param names: DNS names and IP addresses; the first is also the common name.
    @raise ConfigurationError: the authority cannot be read, or a name can be in no certificate.
    """
    issuer, issuerKey = _read(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    # The name of the unit keeps the subject different from the issuer, whatever the common names are.
    builder = _builder(_subject(purpose, names[0]), issuer.subject, key.public_key(), days)
    builder = builder.add_extension(_keyUsage("digital_signature"), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([PURPOSES[purpose]]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_generalName(name) for name in names]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuerKey.public_key())
    return _signed(builder.add_extension(identifier, critical=False), key, issuerKey)


def _read(authority: IssuedCertificate) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(authority.certificate)
        key = load_pem_private_key(authority.key, None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"the authority cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError("the key of the authority is not on an elliptic curve")
    if key.public_key() != certificate.public_key():
        raise ConfigurationError("the key of the authority is not that of its certificate")
    return certificate, key


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        subject_name=subject, issuer_name=issuer, public_key=key, serial_number=x509.random_serial_number(),
        not_valid_before=now - BACKDATED, not_valid_after=now + timedelta(days=days),
    )  # fmt: skip
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuerKey: ec.EllipticCurvePrivateKey
) -> IssuedCertificate:
    certificate = builder.sign(issuerKey, hashes.SHA256())
    return IssuedCertificate(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    )


def _subject(unit: str, name: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)] if unit else []
    try:
        return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError:
        raise ConfigurationError(f"{quoted(name)} cannot be the name of a certificate: it has 1 to 64 characters") from None


def _generalName(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise ConfigurationError(f"{quoted(name)} is neither a DNS name in ASCII nor an address") from None


def _keyUsage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in usages for usage in _USAGES})

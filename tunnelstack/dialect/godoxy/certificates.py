"""
Certificates in the forms in which GoDoxy's programs keep them.

The main program has for each agent a zip archive with C{ca.pem}, C{cert.pem} and C{key.pem}: the authority, and a certificate
for clients.  An agent has two variables of its environment, each with a certificate and its key in PEM, in Base64, with a
semicolon between them.

Source: godoxy C{agent/pkg/certs/zip.go} and C{agent/pkg/agent/new_agent.go}, v0.31.0.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.crypto import X509, PKey

from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.tls import TLSIdentity, fingerprint, loadCertificates, loadIdentity
from tunnelstack.wire.printable_text import quoted

CA, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
"""The members of an archive."""

MEMBER_OCTETS = 64 * 1024
"""Octets of the longest member of an archive; genuine ones have less than 1 KiB."""

ARCHIVE_OCTETS = 256 * 1024
"""Octets of the longest archive."""

MOST_CERTIFICATES = 16
"""Certificates that one PEM text may have."""


@frozen
class Credentials:
    """
    What one end needs for mutual TLS.

    @ivar authorities: whose certificates the other end may have.
    @ivar identity: the own certificate and its key.
    """

    authorities: tuple[X509, ...]
    identity: TLSIdentity = field(repr=False)

    @property
    def digest(self) -> str:
        """
        Equal for equal certificates.
        """
        return " ".join(map(fingerprint, (*self.authorities, self.identity.certificate)))


def readArchive(path: str) -> Credentials:
    """
    @param path: of an archive that the main program, or C{tunnelstack certs client --archive}, has made.
    @raise ConfigurationError: it cannot be read, or a member is missing, too long, or is no certificate or key.
    """
    try:
        if Path(path).stat().st_size > ARCHIVE_OCTETS:
            raise ConfigurationError(f"{quoted(path)} is too long for an archive of certificates")
        with ZipFile(path) as archive:
            authority, certificate, key = (_member(archive, path, name) for name in (CA, CERTIFICATE, KEY))
    except ConfigurationError:
        raise
    except OSError as unreadable:
        raise ConfigurationError(f"{quoted(path)} cannot be read: {unreadable.strerror or unreadable}") from None
    except Exception as bad:                  # zipfile and the decompressors raise many kinds for what is no archive
        raise ConfigurationError(f"{quoted(path)} is no archive of certificates: {bad}") from None
    return Credentials(tuple(_certificates(authority, f"{CA} in {path}")), _identity(certificate, key, path))


def readFiles(ca: str, certificate: str, key: str = "") -> Credentials:
    """
    @param ca: path of a PEM file with the authority.
    @param certificate: path of a PEM file with the certificate.
    @param key: path of one with its key; C{""} if that is in the same file.
    @raise ConfigurationError: a file cannot be used.
    """
    return Credentials(tuple(loadCertificates(ca)), loadIdentity(certificate, key or None))


def readPair(text: str, name: str) -> TLSIdentity:
    """
    @param text: the value of a variable of an agent: a certificate and its key.
    @param name: of the variable, for errors.
    @raise ConfigurationError: the value is no such pair.
    """
    parts = text.strip().split(";")
    if len(text) > 3 * MEMBER_OCTETS or len(parts) != 2:
        raise ConfigurationError(f"{name} must be a certificate and its key in Base64, with a semicolon between them")
    try:
        certificate, key = (b64decode(part, validate=True) for part in parts)
    except (NotBase64, ValueError):
        raise ConfigurationError(f"{name} is not in Base64") from None
    return _identity(certificate, key, name)


def readAgentPairs(ca: str, certificate: str) -> Credentials:
    """
    @param ca: the value of C{AGENT_CA_CERT}.  The key in it, which no agent needs, must be that of the authority.
    @param certificate: the value of C{AGENT_SSL_CERT}.
    @raise ConfigurationError: one of them is no pair.
    """
    return Credentials((readPair(ca, "AGENT_CA_CERT").certificate,), readPair(certificate, "AGENT_SSL_CERT"))


def writePair(certificate: bytes, key: bytes) -> str:
    """
    @param certificate: in PEM.
    @param key: in PEM.
    @return: the value of a variable of an agent.
    """
    return f"{b64encode(certificate).decode()};{b64encode(key).decode()}"


def archiveName(address: str) -> str:
    """
    @param address: host and port of an agent, as configured.
    @return: the name of its archive in the folder of the main program.
    @raise ConfigurationError: the address cannot be a part of a file's name.
    """
    if "/" in address or "\\" in address or ".." in address or "\0" in address:
        raise ConfigurationError(f"no archive can be named after {quoted(address)}")
    return f"{address}.zip"


def _member(archive: ZipFile, path: str, name: str) -> bytes:
    try:
        member: ZipInfo = archive.getinfo(name)
    except KeyError:
        raise ConfigurationError(f"{quoted(path)} contains no {name}") from None
    if member.file_size > MEMBER_OCTETS:
        raise ConfigurationError(f"{name} in {quoted(path)} is too long")
    with archive.open(member) as file:
        octets = file.read(MEMBER_OCTETS + 1)          # what the archive states of its length may be wrong
    if len(octets) > MEMBER_OCTETS:
        raise ConfigurationError(f"{name} in {quoted(path)} is too long")
    return octets


def _certificates(pem: bytes, where: str) -> list[X509]:
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigurationError(f"{where} contains no usable certificate: {error}") from None
    if len(found) > MOST_CERTIFICATES:
        raise ConfigurationError(f"{where} contains more than {MOST_CERTIFICATES} certificates")
    return [X509.from_cryptography(each) for each in found]


def _identity(certificate: bytes, key: bytes, where: str) -> TLSIdentity:
    first, *chain = _certificates(certificate, where)
    try:
        private: Any = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{where} contains no usable private key: {error}") from None
    if private.public_key() != first.to_cryptography().public_key():
        raise ConfigurationError(f"the key in {where} is not that of the certificate")
    return TLSIdentity(first, PKey.from_cryptography_key(private), tuple(chain))

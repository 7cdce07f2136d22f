"""
Client certificates as credentials: an agent that presents one to a listener that verifies clients needs no token.

The listener verifies the certificate.  This module finds the agent that it belongs to, by its fingerprint or its subject.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from tunnelstack.control.auth.tokens import CredentialUnknown
from tunnelstack.control.config.records import CertificateRecord
from tunnelstack.interfaces import IAuthenticator
from tunnelstack.records import Claim, Principal

CREDENTIAL_PREFIX = "certificate:"
"""The beginning of the public identifier of such a credential, which logs show."""


def asCertificate(certificate: Any) -> Certificate:
    """
    @param certificate: C{cryptography}'s, pyOpenSSL's or Twisted's.
    """
    certificate = getattr(certificate, "original", certificate)
    convert = getattr(certificate, "to_cryptography", None)
    found: Certificate = convert() if convert is not None else certificate
    return found


def fingerprintOf(certificate: Any) -> str:
    """
    The SHA-256 of a certificate's DER, in hexadecimal digits.
    """
    return asCertificate(certificate).fingerprint(SHA256()).hex()


def subjectOf(certificate: Any) -> str:
    """
    A certificate's subject, the most specific part first: C{"CN=laptop,O=Example"}.
    """
    return asCertificate(certificate).subject.rfc4514_string()


@implementer(IAuthenticator)
class CertificateAuthenticator:
    """
    Accepts the agents of C{[[certificate]]}.
    """

    def __init__(self, records: Iterable[CertificateRecord]) -> None:
        self._byFingerprint: dict[str, Principal] = {}
        self._bySubject: dict[str, Principal] = {}
        for record in records:
            if record.sha256:
                self._byFingerprint[record.sha256.lower()] = _principal(record, record.sha256[:8].lower())
            else:
                self._bySubject[record.subject] = _principal(record, record.subject)
        self._principals = frozenset((*self._byFingerprint.values(), *self._bySubject.values()))

    def authenticate(self, claim: Claim) -> Deferred[Principal]:
        if claim.certificate is None:
            return fail(CredentialUnknown("the agent presented no certificate"))
        fingerprint, subject = fingerprintOf(claim.certificate), subjectOf(claim.certificate)
        found = self._byFingerprint.get(fingerprint) or self._bySubject.get(subject)
        if found is None:
            return fail(CredentialUnknown("the certificate belongs to no agent", subject=subject, sha256=fingerprint))
        return succeed(found)

    def isCurrent(self, principal: Principal) -> bool:
        """
        @return: whether the certificate that an agent was accepted with still belongs to it, with the same rights.
        """
        return principal in self._principals


def _principal(record: CertificateRecord, shown: str) -> Principal:
    return Principal(agent=record.name, allow=record.allow, share=record.share, token=CREDENTIAL_PREFIX + shown)

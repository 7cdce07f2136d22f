"""
Certificates, and several authenticators to be known.
"""

from __future__ import annotations

from twisted.internet.defer import fail
from twisted.internet.ssl import Certificate
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.transport.certificates import Authority
from tunnelstack.control.auth.checkers import parseChecker
from tunnelstack.control.auth.first_match import FirstMatchAuthenticator
from tunnelstack.control.auth.mtls import CertificateAuthenticator, fingerprintOf, subjectOf
from tunnelstack.control.auth.tokens import CredentialUnknown, TokenAuthenticator, TokenTable, newToken
from tunnelstack.control.config.reader import Mistakes, parseEdge
from tunnelstack.control.config.records import CertificateRecord, TokenRecord
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IAuthenticator
from tunnelstack.records import Claim, Principal


class CertificateTests(SynchronousTestCase):
    """
    Whose a certificate is.
    """

    def setUp(self) -> None:
        self.authority = Authority()
        self.shown = self.authority.identity("laptop.example").certificate
        self.claim = Claim(dialect="native", certificate=self.shown)

    def test_aCertificateIsFoundByItsFingerprint(self) -> None:
        record = CertificateRecord(name="laptop", sha256=fingerprintOf(self.shown).upper(), allow=("http:*",), share=True)
        authenticators = CertificateAuthenticator([record])
        found = self.successResultOf(authenticators.authenticate(self.claim))
        shown = f"certificate:{fingerprintOf(self.shown)[:8]}"
        self.assertEqual(found, Principal(agent="laptop", allow=("http:*",), share=True, token=shown))
        self.assertTrue(authenticators.isCurrent(found))
        self.assertFalse(CertificateAuthenticator([]).isCurrent(found))

    def test_aCertificateIsFoundByItsSubject(self) -> None:
        self.assertEqual(subjectOf(self.shown), "CN=laptop.example")
        authenticators = CertificateAuthenticator([CertificateRecord(name="laptop", subject="CN=laptop.example")])
        self.assertEqual(self.successResultOf(authenticators.authenticate(self.claim)).agent, "laptop")

    def test_anothersIsRefused(self) -> None:
        authenticators = CertificateAuthenticator([CertificateRecord(name="laptop", sha256=fingerprintOf(self.shown))])
        another = self.authority.identity("laptop.example").certificate
        for certificate in (another, None):
            self.failureResultOf(
                authenticators.authenticate(Claim(dialect="native", certificate=certificate)),
                CredentialUnknown,
            )

    def test_certificatesOfAllThreeLibrariesHaveOneFingerprint(self) -> None:
        for certificate in (self.shown, Certificate(self.shown), self.shown.to_cryptography()):
            self.assertEqual(fingerprintOf(certificate), fingerprintOf(self.shown))

    def test_aRecordNeedsOneOfBoth(self) -> None:
        for more in ("", f'sha256 = "{"0" * 64}"\nsubject = "CN=a"\n'):
            text = f'[[certificate]]\nname = "a"\n{more}'
            self.assertIn("needs either a sha256 or a subject", str(self.assertRaises(Mistakes, parseEdge, text, "edge.toml")))
        [record] = parseEdge('[[certificate]]\nname = "a"\nsubject = "CN=a"\n', "edge.toml").certificates
        self.assertEqual(record, CertificateRecord(name="a", subject="CN=a"))

    def test_itProvidesItsInterface(self) -> None:
        verifyObject(IAuthenticator, CertificateAuthenticator([]))


class EitherTests(SynchronousTestCase):
    """
    One way after the other.
    """

    def setUp(self) -> None:
        new = newToken()
        self.token = new.token
        tokens = TokenAuthenticator(TokenTable([TokenRecord(name="a", tokenSha256=new.tokenSha256)]))
        self.certificate = Authority().identity("b.example").certificate
        certificates = CertificateAuthenticator([CertificateRecord(name="b", subject="CN=b.example")])
        self.either = FirstMatchAuthenticator([tokens, certificates])

    def test_whoeverOneOfThemKnows(self) -> None:
        for agent, claim in (
            ("a", Claim(dialect="native", token=self.token)), ("b", Claim(dialect="native", certificate=self.certificate)),
            ("a", Claim(dialect="native", token=self.token, certificate=self.certificate)),
        ):  # fmt: skip
            found = self.successResultOf(self.either.authenticate(claim))
            self.assertEqual(found.agent, agent)
            self.assertTrue(self.either.isCurrent(found))

    def test_anUnknownCredentialIsRejected(self) -> None:
        failure = self.failureResultOf(self.either.authenticate(Claim(dialect="native", token="x")), CredentialUnknown)
        self.assertIn("the token is unknown", str(failure.value))
        self.assertFalse(self.either.isCurrent(Principal(agent="a")))
        self.failureResultOf(FirstMatchAuthenticator().authenticate(Claim(dialect="native", token="x")), CredentialUnknown)

    def test_aDefectIsNoRefusal(self) -> None:
        """
        An edge that cannot ask must not say that the token is wrong.
        """
        broken = TokenAuthenticator(TokenTable())
        broken.authenticate = lambda claim: fail(OSError("the database is gone"))  # type: ignore[method-assign]
        self.either.authenticators = [broken, *self.either.authenticators]
        self.failureResultOf(self.either.authenticate(Claim(dialect="native", token=self.token)), OSError)

    def test_itProvidesItsInterface(self) -> None:
        verifyObject(IAuthenticator, self.either)


class CheckerTests(SynchronousTestCase):
    """
    Checkers by their names.
    """

    def test_checkersThatCannotBe(self) -> None:
        self.assertRaises(ConfigurationError, parseChecker, "nosuch:thing")
        for auth in ("file", "sshkey"):
            self.assertRaises(ConfigurationError, parseChecker, auth)

    def test_aCheckerInMemoryIsAccepted(self) -> None:
        parseChecker("memory:anna:secret")

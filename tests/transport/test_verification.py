"""
Which certificates a client accepts, and what it reports of the others.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st
from OpenSSL.crypto import X509
from OpenSSL.SSL import X509VerificationCodes
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.certificates import authority, edge
from tests.transport.kinds import HOST, KINDS
from tests.transport.rawpeer import Raw
from tests.transport.test_websocket import factoryOf
from tunnelstack.testing import Wire
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.tls import clientContext, serverContext
from tunnelstack.transport.verification import CertificateRejected, ServerName, ServerVerifier


def handshake(identity: Any, context: Any) -> tuple[Raw, Raw]:
    """
    A client that writes at once, and a server.
    """
    wire, near, far = Wire(), Raw(), Raw()
    accepting = TLSMemoryBIOFactory(serverContext(identity), False, factoryOf(far), wire.clock)
    dialling = TLSMemoryBIOFactory(context, True, factoryOf(near), wire.clock)
    wire.connect(dialling.buildProtocol(None), accepting.buildProtocol(None))
    near.transport.write(b"credential")  # type: ignore[union-attr]
    wire.settle()
    return near, far


class CertificateTests(SynchronousTestCase):
    """
    Each kind of certificate, in a handshake.
    """

    def test_eachKindIsAcceptedOrRejectedWithItsCause(self) -> None:
        for name, kind in KINDS.items():
            near, far = handshake(kind.issue(), clientContext(kind.host, ca=[authority().certificate], trust="--roots"))
            if not kind.cause:
                self.assertEqual(far.got, b"credential", (name, near.reason))
                continue
            self.assertEqual(far.got, b"", name)
            rejected: Any = near.reason.value
            self.assertIsInstance(rejected, CertificateRejected, name)
            self.assertRegex(rejected.cause, rf"\A{kind.cause}\Z", name)
            self.assertRegex(rejected.remedy, kind.remedy, name)
            self.assertEqual(errorText(rejected), f"{rejected.cause}; {rejected.remedy}")
            if "to trust" in rejected.remedy:
                self.assertIn("--roots", rejected.remedy)

    def test_theServerReceivesAnAlert(self) -> None:
        """
        So that its log has a reason, too.
        """
        for name, alert in (("no names", "alert"), ("expired", "expired"), ("another authority", "unknown ca")):
            _, far = handshake(KINDS[name].issue(), clientContext(HOST, ca=[authority().certificate]))
            self.assertIn(alert, errorText(far.reason.value), name)

    def test_anyExceptionRejects(self) -> None:
        """
        Also one that no certificate is known to cause.
        """
        for where in ("to_cryptography", "_verifyNames", "matches"):
            owner: Any = {"to_cryptography": X509, "_verifyNames": ServerVerifier, "matches": ServerName}[where]
            for error in (ValueError("strange\n"), ZeroDivisionError(), MemoryError("all of it")):
                with mock.patch.object(owner, where, side_effect=error):
                    near, far = handshake(edge(), clientContext("edge.example", ca=[authority().certificate]))
                self.assertEqual(far.got, b"", (where, error))
                self.assertIsInstance(near.reason.value, CertificateRejected, (where, error))
                self.assertTrue(errorText(near.reason.value).isprintable())

    def test_everyReasonOfOpenSSLIsASentence(self) -> None:
        verifier = ServerVerifier(ServerName(HOST))
        certificate = KINDS["good"].issue().certificate
        codes = [code for name, code in vars(X509VerificationCodes).items() if name.startswith("ERR_")]
        for code in [*codes, 10_000]:
            for depth in (0, 1):
                wrong = self.assertRaises(CertificateRejected, verifier.verify, None, certificate, code, depth, 0)
                self.assertRegex(wrong.cause, r"\A(its certificate|the certificate of its authority) .+[^.]\Z")
                self.assertTrue(wrong.remedy)

    def test_anAuthorityNeedsNoName(self) -> None:
        verifier = ServerVerifier(ServerName(HOST))
        with mock.patch.object(X509, "to_cryptography", side_effect=ValueError):      # it need not even be readable to us
            self.assertTrue(verifier.verify(None, authority().certificate, 0, 1, 1))  # type: ignore[arg-type]


class ServerNameTests(SynchronousTestCase):
    """
    What a certificate has to be for.
    """

    def test_addressesAreNotIndicated(self) -> None:
        for host, indicated in (
            ("edge.example", b"edge.example"), ("Edge.Example.", b"edge.example"), ("localhost", b"localhost"),
            ("b\u00fccher.example", b"xn--bcher-kva.example"), ("127.0.0.1", None), ("::1", None),
            ("fe80::1%eth0", None), ("127.0.0.1%eth0", None),
        ):  # fmt: skip
            self.assertEqual(ServerName(host).indication, indicated, host)

    def test_theZoneOfAnAddressIsNotInACertificate(self) -> None:
        self.assertTrue(ServerName("fe80::1%eth0").matches(x509.IPAddress(ServerName("fe80::1").address)))  # type: ignore[arg-type]

    def test_aHostThatIsNeitherIsInNoCertificate(self) -> None:
        for host in ("", " ", "a b", "2130706433", "*.tunnels.localhost", "a\0b", "\u2028"):
            server = ServerName(host)
            self.assertIsNone(server.indication, host)
            self.assertFalse(any(server.matches(x509.DNSName(name)) for name in ("*.tunnels.localhost", "2130706433", "a.b.c")))

    @example(["*", "tunnels", "localhost"], ["localhost"])
    @given(
        st.lists(st.sampled_from(["*", "a", "b", "edge", "tunnels", "localhost", "e*", "*e", "xn--a", "", "1"]), max_size=5),
        st.lists(st.sampled_from(["a", "b", "edge", "tunnels", "localhost", "xn--a", "1"]), min_size=1, max_size=4),
    )
    def test_aNameMatchesItselfOrAWildcardInPlaceOfItsFirstLabel(self, pattern: list[str], host: list[str]) -> None:
        server = ServerName(".".join(host))
        if server.matches(x509.DNSName(".".join(pattern))):
            self.assertEqual(pattern[1:], host[1:])
            self.assertIn(pattern[0], ("*", host[0]))
            self.assertFalse(pattern[0] == "*" and (len(host) < 3 or host[0].startswith("xn--")))
        else:
            self.assertTrue(pattern != host or server.dns is None)

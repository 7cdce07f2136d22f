"""
Certificates in the forms of the genuine programs.
"""

from __future__ import annotations

import contextlib
from base64 import b64encode
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.certificates import Authority, authority
from tunnelstack.commands.certs import Options, main
from tunnelstack.dialect.godoxy.certificates import (
    ARCHIVE_OCTETS,
    MEMBER_OCTETS,
    MOST_CERTIFICATES,
    archiveName,
    readAgentPairs,
    readArchive,
    readFiles,
    readPair,
    writePair,
)
from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.tls import TLSIdentity


def certificatePEM(identity: TLSIdentity) -> bytes:
    return identity.certificate.to_cryptography().public_bytes(Encoding.PEM)


def keyPEM(identity: TLSIdentity) -> bytes:
    """
    As genuine programs write keys: SEC1.
    """
    return identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def authorityPEM(which: Authority | None = None) -> bytes:
    return (which or authority()).certificate.to_cryptography().public_bytes(Encoding.PEM)


class ArchiveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.identity = authority().identity("godoxy.agent")
        self.members = {
            "ca.pem": authorityPEM(), "cert.pem": certificatePEM(self.identity), "key.pem": keyPEM(self.identity)
        }

    def archive(self, how: int = ZIP_STORED, **changed: bytes | None) -> str:
        path = self.mktemp()
        with ZipFile(path, "w", how) as archive:
            for name, octets in {**self.members, **{f"{key}.pem": value for key, value in changed.items()}}.items():
                if octets is not None:
                    archive.writestr(name, octets)
        return path

    def test_aGenuineArchiveIsRead(self) -> None:
        found = readArchive(self.archive())
        self.assertEqual([each.digest("sha256") for each in found.authorities], [authority().certificate.digest("sha256")])
        self.assertEqual(found.identity.certificate.digest("sha256"), self.identity.certificate.digest("sha256"))
        self.assertEqual(found.digest, readArchive(self.archive(ZIP_DEFLATED)).digest)
        self.assertNotIn("identity", repr(found))

    def test_theArchiveThatOurCommandMakes(self) -> None:
        folder = Path(self.mktemp())
        for arguments in (("ca",), ("client", "edge", "--archive", str(folder / "edge.zip"))):
            options = Options()
            options.parseOptions([*arguments, "--dir", str(folder)])
            main(options)
        found = readArchive(str(folder / "edge.zip"))
        (own,) = x509.load_pem_x509_certificates((folder / "client-edge.pem").read_bytes())
        self.assertEqual(found.identity.certificate.to_cryptography(), own)

    def test_whatIsNoArchiveIsReported(self) -> None:
        other = authority().identity("other")
        path = self.mktemp()
        Path(path).write_bytes(b"not a zip archive")
        for wrong, told in (
            (self.mktemp(), "cannot be read"), (path, "is no archive"), (self.archive(key=None), "contains no key.pem"),
            (self.archive(ca=b"x"), "ca.pem in .* contains no usable certificate"),
            (self.archive(key=b"x"), "contains no usable private key"),
            (self.archive(key=keyPEM(other)), "is not that of the certificate"),
            (self.archive(cert=b"x" * (MEMBER_OCTETS + 1)), "cert.pem in .* is too long"),
            (self.archive(ZIP_DEFLATED, ca=bytes(100 * MEMBER_OCTETS)), "ca.pem in .* is too long"),
            (self.archive(ca=authorityPEM() * (MOST_CERTIFICATES + 1)), "more than 16 certificates"),
            (self.archive(more=bytes(ARCHIVE_OCTETS)), "is too long for an archive"),
        ):  # fmt: skip
            self.assertRegex(str(self.assertRaises(ConfigurationError, readArchive, wrong)), told)

    def test_anArchiveWhoseDirectoryLiesIsReported(self) -> None:
        """
        A length that the directory understates does not make us read more than the bound.
        """
        path = self.archive(ZIP_DEFLATED, ca=authorityPEM() + b"\n" * (2 * MEMBER_OCTETS))
        octets = Path(path).read_bytes()
        size = (len(authorityPEM()) + 2 * MEMBER_OCTETS).to_bytes(4, "little")
        Path(path).write_bytes(octets.replace(size, (100).to_bytes(4, "little")))
        self.assertRaises(ConfigurationError, readArchive, path)

    def test_everyFlippedOctetIsReadOrReported(self) -> None:
        path = self.archive()
        octets = Path(path).read_bytes()
        for at in range(0, len(octets), 7):
            Path(path).write_bytes(octets[:at] + bytes([octets[at] ^ 0x55]) + octets[at + 1 :])
            with contextlib.suppress(ConfigurationError):
                readArchive(path)

    def test_namesOfArchives(self) -> None:
        self.assertEqual(archiveName("10.0.0.7:8890"), "10.0.0.7:8890.zip")
        for address in ("../x:1", "a/b:1", "a\\b:1", "a..b:1", "a\0:1"):
            self.assertRaises(ConfigurationError, archiveName, address)

    def test_filesAreRead(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, octets in self.members.items():
            (folder / name).write_bytes(octets)
        (folder / "both.pem").write_bytes(self.members["cert.pem"] + self.members["key.pem"])
        apart = readFiles(*(str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem")))
        self.assertEqual(apart.digest, readFiles(str(folder / "ca.pem"), str(folder / "both.pem")).digest)
        self.assertEqual(apart.digest, readArchive(self.archive()).digest)


class PairTests(SynchronousTestCase):
    """
    The variables of an agent.
    """

    def test_aPairIsWrittenAndRead(self) -> None:
        identity = authority().identity("godoxy.agent")
        text = writePair(certificatePEM(identity), keyPEM(identity))
        self.assertEqual(text.count(";"), 1)
        found = readPair(f"{text}\n", "AGENT_SSL_CERT")
        self.assertEqual(found.certificate.digest("sha256"), identity.certificate.digest("sha256"))
        both = readAgentPairs(text, text)
        self.assertEqual(both.authorities[0].digest("sha256"), identity.certificate.digest("sha256"))

    def test_whatIsNoPairIsReported(self) -> None:
        identity, other = authority().identity("a"), authority().identity("b")
        certificate, key = (b64encode(each).decode() for each in (certificatePEM(identity), keyPEM(identity)))
        for text, told in (
            ("", "with a semicolon"), (certificate, "with a semicolon"), (f"{certificate};{key};", "with a semicolon"),
            (f"{certificate};{key}!", "not in Base64"), (f"{certificate};", "no usable private key"),
            (f"{key};{certificate}", "no usable certificate"),
            (writePair(certificatePEM(identity), keyPEM(other)), "is not that of the certificate"),
            ("A" * 4 * MEMBER_OCTETS + ";", "with a semicolon"),
        ):  # fmt: skip
            error = str(self.assertRaises(ConfigurationError, readPair, text, "AGENT_SSL_CERT"))
            self.assertIn(told, error)
            self.assertIn("AGENT_SSL_CERT", error)
            self.assertNotIn(key[:20], error)

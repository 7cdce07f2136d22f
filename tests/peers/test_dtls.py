"""
DTLS with genuine peers: pion/dtls, and OpenSSL's own programs.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any
from unittest import SkipTest

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL.crypto import FILETYPE_PEM, X509, dump_certificate
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.peers._go import GoError, GoPeer
from tests.transport.certificates import Authority, authority
from tests.transport.datagrams import unreliable
from tests.transport.test_dtls import Ends, asynchronous, clientOptions
from tunnelstack.transport.dtls.options import DTLSServerOptions
from tunnelstack.transport.tls import TLSIdentity

reactor: Any = installed

NAME = "dtls.example"
LONGEST_OF_PION = 8155
"""Octets that a peer on pion/dtls v3.1.5 can receive: its buffer has 8192."""

ECDSA_AES128 = 0xC02B
OPENSSL_ECDSA_AES128 = "ECDHE-ECDSA-AES128-GCM-SHA256"


def pem(identity: TLSIdentity) -> dict[str, str]:
    """
    A certificate and its key, as parameters of the Go program.
    """
    key = identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"certificate": dump_certificate(FILETYPE_PEM, identity.certificate).decode(), "key": key.decode()}


def authorityPEM(certificate: X509 | None = None) -> str:
    return dump_certificate(FILETYPE_PEM, certificate or authority().certificate).decode()


def mutual(identity: TLSIdentity | None = None, **options: Any) -> DTLSServerOptions:
    """
    A server that requires certificates, with the one cipher that strict peers have.
    """
    return DTLSServerOptions(
        identity or authority().identity(NAME),
        clientCA=[authority().certificate],
        clientAuth="require",
        ciphers=OPENSSL_ECDSA_AES128,
        **options,
    )


class PionClientTests(Ends):
    """
    pion's client and our server.
    """

    def dial(self, peer: GoPeer, port: int, **parameters: Any) -> Deferred[dict[str, Any]]:
        own = {} if "certificate" in parameters else pem(authority().identity("me"))
        settings = {"authority": authorityPEM(), "name": NAME, "cipher": ECDSA_AES128, "seconds": 20}
        return peer.call("dial", port=port, **{**settings, **own, **parameters})

    @asynchronous
    async def test_datagramsOfEverySizeAreEchoed(self) -> None:
        port = await self.listen(mutual())
        peer = GoPeer.start(self, "dtls")
        conn = (await self.dial(peer, port.getHost().port))["conn"]
        for size in (1, 64, 1163, 1200, LONGEST_OF_PION):
            await peer.call("send", conn=conn, data=bytes(size))
            self.assertEqual(len((await peer.call("receive", conn=conn, seconds=30))["data"]), size)
        server = self.applications.built[0]
        self.assertEqual(server.transport.association.connection.get_cipher_name(), OPENSSL_ECDSA_AES128)
        await peer.call("close", conn=conn)
        await server.whenLost()

    @asynchronous
    async def test_aHandshakeSurvivesLoss(self) -> None:
        """
        A tenth of the datagrams is lost in each direction, from fixed seeds.
        """
        port = await self.listen(mutual())
        peer = GoPeer.start(self, "dtls")
        relays = [self.relay(port, up=unreliable(seed, 0.1), down=unreliable(100 + seed, 0.1)) for seed in range(8)]
        for said in await gatherResults([self.dial(peer, relay.port) for relay in relays], consumeErrors=True):
            await peer.call("close", conn=said["conn"])

    @asynchronous
    async def test_certificatesAreVerifiedOnBothSides(self) -> None:
        port = await self.listen(mutual())
        peer = GoPeer.start(self, "dtls")
        number = port.getHost().port
        for wrong in (
            {"name": "other.example"},
            {"authority": authorityPEM(Authority("stranger").certificate)},
            pem(Authority("stranger").identity("me")),
            {"certificate": "", "key": ""},
            {"cipher": 0xC02C},
        ):
            try:
                await self.dial(peer, number, **wrong)
            except GoError:
                continue
            self.fail(f"accepted {sorted(wrong)}")
        self.assertEqual(self.applications.built, [])

    @asynchronous
    async def test_aServerThatClosesIsNoticed(self) -> None:
        port = await self.listen(mutual())
        peer = GoPeer.start(self, "dtls")
        conn = (await self.dial(peer, port.getHost().port))["conn"]
        server = await self.applications.whenBuilt()
        server.transport.loseConnection()
        with self.assertRaises(GoError) as raised:
            await peer.call("receive", conn=conn, seconds=30)
        self.assertNotEqual(raised.exception.kind, "Timeout")


class PionServerTests(Ends):
    """
    Our client and pion's server.
    """

    async def pion(self, **parameters: Any) -> tuple[GoPeer, int]:
        peer = GoPeer.start(self, "dtls")
        settings = {"authority": authorityPEM(), "mutual": True, "cipher": ECDSA_AES128}
        answer = await peer.call("listen", **{**settings, **pem(authority().identity(NAME)), **parameters})
        return peer, answer["port"]

    @asynchronous
    async def test_datagramsOfEverySizeAreEchoed(self) -> None:
        _, port = await self.pion()
        client = await self.connect(port, clientOptions(identity=authority().identity("me")))
        for number, size in enumerate((1, 64, 1163, 1200, LONGEST_OF_PION), 1):
            client.transport.write(bytes(size))
            await client.whenReceived(number)
            self.assertEqual(len(client.received[-1]), size)

    @asynchronous
    async def test_whatPionCannotReceiveCostsOnlyItself(self) -> None:
        _, port = await self.pion()
        client = await self.connect(port, clientOptions(identity=authority().identity("me")))
        client.transport.write(bytes(LONGEST_OF_PION + 1))
        client.transport.write(b"after")
        await client.whenReceived(1)
        self.assertEqual(client.received, [b"after"])

    @asynchronous
    async def test_certificatesAreVerifiedOnBothSides(self) -> None:
        peer, port = await self.pion()
        me = authority().identity("me")
        for options in (
            clientOptions("other.example", identity=me),
            clientOptions(ca=[Authority("stranger").certificate], identity=me),
            clientOptions(identity=Authority("stranger").identity("me")),
            clientOptions(),
        ):
            try:
                await self.connect(port, options, handshakeSeconds=5)
            except Exception:
                continue
            self.fail("the handshake succeeded")

    @asynchronous
    async def test_aClientThatClosesIsNoticed(self) -> None:
        peer, port = await self.pion()
        client = await self.connect(port, clientOptions(identity=authority().identity("me")))
        client.transport.write(b"x")
        await client.whenReceived(1)
        client.transport.loseConnection()
        for _ in range(50):
            failures = (await peer.call("failures"))["failures"]
            if failures:
                break
            await deferLater(reactor, 0.05)
        self.assertEqual(failures, ["EOF"])


class OpenSSL(ProcessProtocol):
    """
    A program of OpenSSL.

    @ivar output: what it wrote.
    """

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.output += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None)


class OpenSSLTests(Ends):
    """
    C{openssl s_client} and C{s_server}.
    """

    def setUp(self) -> None:
        super().setUp()
        if shutil.which("openssl") is None:
            raise SkipTest("openssl is not on the PATH")
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        (self.folder / "ca.pem").write_text(authorityPEM())
        for name, identity in (("server", authority().identity(NAME)), ("client", authority().identity("me"))):
            both = pem(identity)
            (self.folder / f"{name}.pem").write_text(both["certificate"] + both["key"])

    def openssl(self, *arguments: str) -> OpenSSL:
        program = OpenSSL()
        executable = str(shutil.which("openssl"))
        transport = reactor.spawnProcess(program, executable, [executable, *arguments], env={}, path=str(self.folder))

        def kill() -> Deferred[None]:
            if not program.ended.called:
                transport.signalProcess("KILL")
            return program.ended

        self.addCleanup(kill)
        return program

    async def until(self, program: OpenSSL, text: bytes) -> None:
        for _ in range(600):
            if text in program.output:
                return
            await deferLater(reactor, 0.05)
        self.fail(program.output.decode(errors="replace"))

    @asynchronous
    async def test_itsClientReachesOurServer(self) -> None:
        port = await self.listen(mutual())
        program = self.openssl(
            "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{port.getHost().port}", "-CAfile", "ca.pem", "-cert", "client.pem",
            "-verify_return_error", "-verify_hostname", NAME, "-servername", NAME, "-quiet",
        )
        server = await self.applications.whenBuilt()
        program.transport.write(b"through openssl\n")    # type: ignore[union-attr]
        await server.whenReceived(1)
        self.assertEqual(server.received, [b"through openssl\n"])
        await self.until(program, b"through openssl\n")

    @inlineCallbacks
    def startServer(self, *arguments: str) -> Any:
        """
        @return: the program and its port.
        """
        probe = subprocess.run(["openssl", "version"], check=True, capture_output=True, timeout=60)
        self.assertIn(b"OpenSSL", probe.stdout)
        program = self.openssl(
            "s_server", "-dtls1_2", "-accept", "127.0.0.1:0", "-CAfile", "ca.pem", "-cert", "server.pem", "-Verify", "2",
            "-verify_return_error", *arguments,
        )
        yield Deferred.fromCoroutine(self.until(program, b"ACCEPT 127.0.0.1:"))
        yield deferLater(reactor, 0.05)
        port = int(program.output.split(b"ACCEPT 127.0.0.1:")[1].split()[0])
        return program, port

    async def exchange(self, *arguments: str) -> None:
        program, port = await self.startServer(*arguments)
        client = await self.connect(port, clientOptions(identity=authority().identity("me")))
        client.transport.write(b"to openssl\n")
        await self.until(program, b"to openssl\n")
        program.transport.write(b"from openssl\n")
        await client.whenReceived(1)
        self.assertEqual(client.received, [b"from openssl\n"])

    @asynchronous
    async def test_ourClientReachesItsServer(self) -> None:
        await self.exchange()

    @asynchronous
    async def test_ourClientReachesItsServerThatSendsCookies(self) -> None:
        await self.exchange("-listen")



"""
TLS as this program uses it: who is trusted, who must show a certificate, and who serves which protocol.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL.crypto import FILETYPE_PEM, X509, dump_certificate
from OpenSSL.SSL import TLS1_1_VERSION, Error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.certificates import SERVER, Authority, authority, edge, general
from tests.transport.rawpeer import BINARY, MASK, Raw, RawServer, frame, requestHead
from tests.transport.test_websocket import Collect, factoryOf
from tunnelstack.errors import ConfigurationError
from tunnelstack.testing import Wire
from tunnelstack.transport.tls import (
    ALPNFactory,
    NoApplicationProtocol,
    TLSIdentity,
    certificateFingerprint,
    clientContext,
    kindOf,
    loadCertificates,
    loadIdentity,
    serverContext,
)
from tunnelstack.transport.verification import CertificateRejected
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.errors import UpgradeRefused
from tunnelstack.transport.websocket.server import upgrade


def pem(identity: TLSIdentity) -> tuple[bytes, bytes]:
    key = identity.key.to_cryptography_key().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return dump_certificate(FILETYPE_PEM, identity.certificate), key


class Handshake(SynchronousTestCase):
    """
    A client and a server over a wire.
    """

    def meet(self, server: Any, client: Any, listening: Any = None) -> tuple[Raw, Raw]:
        self.wire = Wire()
        near, far = Raw(), Raw()
        accepting = TLSMemoryBIOFactory(server, False, factoryOf(far), self.wire.clock)
        dialling = TLSMemoryBIOFactory(client, True, factoryOf(near), self.wire.clock)
        below = (listening(self.wire.clock, server) if listening else accepting).buildProtocol(None)
        self.wire.connect(dialling.buildProtocol(None), below)
        near.transport.write(b"question")      # type: ignore[union-attr]
        self.wire.settle()
        return near, far

    def trusting(self, name: str = "edge.example", **options: Any) -> Any:
        return clientContext(name, ca=[authority().certificate], **options)


class TrustTests(Handshake):
    def test_theNameAndTheRootMustFit(self) -> None:
        for name in ("edge.example", "127.0.0.1"):
            _, far = self.meet(serverContext(edge()), self.trusting(name))
            self.assertEqual(far.got, b"question")
        near, far = self.meet(serverContext(edge()), self.trusting("other.example"))
        self.assertTrue(near.reason.check(CertificateRejected), near.reason)
        self.assertEqual(far.got, b"")
        near, far = self.meet(serverContext(edge()), clientContext("edge.example", ca=[Authority().certificate]))
        self.assertTrue(near.reason.check(Error), near.reason)
        near, far = self.meet(serverContext(edge()), clientContext("edge.example"))
        self.assertTrue(near.reason.check(Error), near.reason)

    def test_oldVersionsAreRefused(self) -> None:
        for ours in (True, False):
            server = serverContext(edge())
            old: Any = CertificateOptions(privateKey=edge().key, certificate=edge().certificate)
            old.getContext().set_min_proto_version(0)
            old.getContext().set_max_proto_version(TLS1_1_VERSION)
            old.getContext().set_cipher_list(b"ALL:@SECLEVEL=0")
            near, far = self.meet(server, old) if ours else self.meet(old, self.trusting())
            self.assertTrue(near.reason.check(Error, ConnectionLost, ConnectionDone))
            self.assertEqual(far.got, b"")

    def test_clientsAreAskedForCertificates(self) -> None:
        member, stranger = authority().identity("agent.example"), Authority().identity("agent.example")
        for auth, identity, welcome in (
            ("require", member, True),
            ("require", None, False),
            ("require", stranger, False),
            ("request", member, True),
            ("request", None, True),
            ("request", stranger, False),
            (None, member, True),
        ):
            roots = [] if auth is None else [authority().certificate]
            server = serverContext(edge(), clientCA=roots, clientAuth=auth)
            _, far = self.meet(server, self.trusting(identity=identity))
            self.assertEqual(far.got, b"question" if welcome else b"", (auth, identity))
            if welcome:
                shown = identity if auth else None
                self.assertEqual(
                    certificateFingerprint(far.transport),
                    None if shown is None else self._sha256(shown.certificate),
                )

    def _sha256(self, certificate: X509) -> str:
        return sha256(certificate.to_cryptography().public_bytes(Encoding.DER)).hexdigest()

    def test_withoutTLSNobodyShowsAnything(self) -> None:
        self.assertIsNone(certificateFingerprint(Wire().near))

    def test_contradictingOptionsAreRejected(self) -> None:
        root = [authority().certificate]
        for options in ({"clientAuth": "require"}, {"clientCA": root}, {"clientCA": root, "clientAuth": "maybe"}):
            self.assertRaises(ConfigurationError, serverContext, edge(), **options)


class FileTests(SynchronousTestCase):
    def write(self, *octets: bytes) -> str:
        path: str = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"".join(octets))
        return path

    def test_anIdentityIsInOneFileOrTwo(self) -> None:
        identity = authority().identity("a.example")
        certificate, key = pem(identity)
        chain = dump_certificate(FILETYPE_PEM, authority().certificate)
        for paths in (
            (self.write(certificate, chain), self.write(key)),
            (self.write(certificate, chain, key),),
            (self.write(key, certificate, chain),),
        ):
            loaded = loadIdentity(*paths)
            self.assertEqual(pem(loaded), (certificate, key))
            self.assertEqual(len(loaded.chain), 1)

    def test_filesThatCannotBeUsed(self) -> None:
        certificate, key = pem(authority().identity("a.example"))
        other = pem(authority().identity("b.example"))[1]
        for paths in (
            (self.write(certificate),),
            (self.write(key),),
            (self.write(b"nonsense"), self.write(key)),
            (self.write(certificate), self.write(b"nonsense")),
            (self.write(certificate), self.write(other)),
            (self.mktemp(), self.write(key)),
            (self.write(certificate), self.mktemp()),
        ):
            error = self.assertRaises(ConfigurationError, loadIdentity, *paths)
            self.assertTrue(any(repr(path) in str(error) for path in paths), error)
        self.assertRaises(ConfigurationError, loadCertificates, self.write(key))


class ALPNTests(Handshake):
    def meetALPN(self, offered: list[bytes], **routes: Any) -> tuple[Raw, dict[str, Raw]]:
        served = {name: Raw() for name in ("http", "stream")}
        protocols = {None: factoryOf(served["http"]), b"http/1.1": factoryOf(served["http"]),
                     b"stream/1": factoryOf(served["stream"])}
        context = serverContext(edge(), alpn=[b"http/1.1", b"stream/1"])
        near, _ = self.meet(
            context,
            self.trusting(alpn=offered),
            lambda clock, server: ALPNFactory(protocols, clock).wrap(server),
        )
        return near, served

    def test_theProtocolIsChosenInTheServersOrder(self) -> None:
        for offered, server in (
            ([], "http"),
            ([b"http/1.1"], "http"),
            ([b"h2", b"http/1.1"], "http"),
            ([b"stream/1"], "stream"),
            ([b"stream/1", b"http/1.1"], "http"),     # our order counts
        ):
            near, served = self.meetALPN(offered)
            self.assertEqual([name for name, raw in served.items() if raw.got == b"question"], [server], offered)
            served[server].transport.write(b"answer")      # type: ignore[union-attr]
            self.wire.settle()
            self.assertEqual(near.got, b"answer")
            self.assertEqual(self.wire.clock.getDelayedCalls(), [])
            near.transport.loseConnection()                # type: ignore[union-attr]
            self.wire.settle()
            self.assertIsNotNone(served[server].reason)

    def test_aClientThatOffersOnlyOthersFails(self) -> None:
        near, served = self.meetALPN([b"h2"])
        self.assertIsNotNone(near.reason)
        self.assertEqual([raw.transport for raw in served.values()], [None, None])
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])
        self.assertTrue(issubclass(NoApplicationProtocol, Error))

    def test_aHandshakeHasSoManySeconds(self) -> None:
        wire, client = Wire(), Raw()
        router = ALPNFactory({None: factoryOf(Raw())}, wire.clock, handshakeTimeout=3)
        wire.connect(client, router.wrap(serverContext(edge())).buildProtocol(None))
        wire.settle()
        wire.clock.advance(3)
        wire.settle()
        self.assertTrue(client.reason.check(ConnectionLost, ConnectionDone))
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_aFactoryThatBuildsNothingEndsTheConnection(self) -> None:
        near, _ = self.meet(
            serverContext(edge()),
            self.trusting(),
            lambda clock, server: ALPNFactory({None: factoryOf(None)}, clock).wrap(server),
        )
        self.assertIsNotNone(near.reason)


    def test_failedHandshakesAreReported(self) -> None:
        failures: list[Any] = []
        stranger = Authority("stranger").identity("agent.example")
        context = serverContext(edge(), clientCA=[authority().certificate], clientAuth="require")

        def listening(clock: Any, server: Any) -> Any:
            routed = {None: factoryOf(Raw())}
            return ALPNFactory(routed, clock, onFailure=lambda address, reason: failures.append(reason.value)).wrap(server)

        self.meet(context, self.trusting(identity=stranger), listening)
        self.meet(context, self.trusting(identity=authority().identity("agent.example")), listening)
        (failure,) = failures
        self.assertIsInstance(failure, CertificateRejected)

    def test_handshakesAreBounded(self) -> None:
        clock = Clock()
        router = ALPNFactory({None: factoryOf(Raw())}, clock, handshakeTimeout=3, mostHandshakes=2)
        accepting = router.wrap(serverContext(edge()))
        wires = [Wire(clock=clock) for _ in range(2)]
        for wire in wires:
            wire.connect(Raw(), accepting.buildProtocol(None))
        self.assertIsNone(accepting.buildProtocol(None))
        self.assertEqual(router.handshakes, 2)
        clock.advance(3)
        for wire in wires:
            wire.settle()
        self.assertEqual(router.handshakes, 0)
        self.assertIsNotNone(accepting.buildProtocol(None))


    def test_oneAddressDoesNotTakeThePlacesOfOthers(self) -> None:
        router = ALPNFactory({None: factoryOf(Raw())}, Clock(), mostHandshakes=5, mostOfOne=2)
        accepting = router.wrap(serverContext(edge()))

        def accepted(host: str) -> bool:
            address = (IPv6Address if ":" in host else IPv4Address)("TCP", host, 1)
            protocol = accepting.buildProtocol(address)
            if protocol is not None:
                Wire(clock=router.clock).connect(Raw(), protocol)  # type: ignore[arg-type]
            return protocol is not None

        self.assertEqual([accepted("192.0.2.1") for _ in range(3)], [True, True, False])
        self.assertEqual([accepted(f"2001:db8:0:1::{last}") for last in range(3)], [True, True, False])
        self.assertEqual([accepted("2001:db8:0:2::1"), accepted("2001:db8:0:3::1")], [True, False])
        router.clock.advance(10)  # type: ignore[attr-defined]
        self.assertTrue(accepted("192.0.2.1"))


class ClientCertificateTests(Handshake):
    """
    Why a server rejects the certificate of a client.
    """

    def test_causeAndRemedyAreReported(self) -> None:
        name = [general("agent.example")]
        for identity, cause, remedy in (
            (authority().issue(name, days=(-9, -2)), "its certificate has expired, on ", "renew it on the client"),
            (authority().issue(name, days=(2, 9)), "its certificate is not valid before ", "correct the clock"),
            (authority().issue(name, ownRoot=True), "its certificate is self-signed", "with the_setting"),
            (Authority("stranger").issue(name), 'issued by "stranger", an authority that is not trusted', "with the_setting"),
            (authority().issue(name, purposes=[SERVER]), "not issued for this purpose", "clientAuth"),
        ):
            for auth in ("require", "request"):
                server = serverContext(edge(), clientCA=[authority().certificate], clientAuth=auth, trust="the_setting")
                _, far = self.meet(server, self.trusting(identity=identity))
                self.assertIsInstance(far.reason.value, CertificateRejected)
                self.assertIn(cause, far.reason.value.cause)
                self.assertIn(remedy, far.reason.value.remedy)
                self.assertEqual(far.got, b"")

    def test_namesOfClientsDoNotMatter(self) -> None:
        server = serverContext(edge(), clientCA=[authority().certificate], clientAuth="require")
        _, far = self.meet(server, self.trusting(identity=authority().issue(None)))
        self.assertEqual(far.got, b"question")


class TakeOverTests(Handshake):
    def test_aWebSocketTakesOverATLSConnection(self) -> None:
        application = Collect()
        member = authority().identity("agent.example")
        server = serverContext(edge(), clientCA=[authority().certificate], clientAuth="require", alpn=[b"http/1.1"])
        near, far = self.meet(server, self.trusting(identity=member, alpn=[b"http/1.1"]))
        upgrade(far.transport, requestHead(), factoryOf(application), clock=self.wire.clock)
        near.transport.write(frame(BINARY, b"hello", mask=MASK))     # type: ignore[union-attr]
        self.wire.settle()
        self.assertEqual(application.got, b"hello")
        self.assertTrue(near.got.startswith(b"HTTP/1.1 101 "))
        self.assertEqual(application.transport.negotiatedProtocol, b"http/1.1")
        self.assertEqual(
            certificateFingerprint(application.transport),
            certificateFingerprint(far.transport),
        )
        self.assertEqual(far.got, b"question")
        near.transport.abortConnection()                             # type: ignore[union-attr]
        self.wire.settle()
        self.assertTrue(application.reason.check(ConnectionLost))


class RefusalTests(SynchronousTestCase):
    def test_aRefusalThatEndsWithItsConnection(self) -> None:
        wire, server = Wire(), RawServer()
        server.answer = b"HTTP/1.1 403 No\r\n\r\nno"

        class Below:
            def connect(self, factory: Any) -> Any:
                client = clientContext("edge.example", ca=[authority().certificate])
                near: Any = TLSMemoryBIOFactory(client, True, factory, wire.clock).buildProtocol(None)
                far = TLSMemoryBIOFactory(serverContext(edge()), False, factoryOf(server), wire.clock)
                wire.connect(near, far.buildProtocol(None))
                return succeed(near.wrappedProtocol)

        endpoint = WebSocketClientEndpoint(wire.clock, "wss://edge.example/", endpoint=Below())   # type: ignore[arg-type]
        outcome = endpoint.connect(factoryOf(Collect()))
        wire.settle()
        server.transport.loseConnection()      # type: ignore[union-attr]
        wire.settle()
        self.assertEqual(self.failureResultOf(outcome, UpgradeRefused).value.body, "no")
        self.assertEqual(wire.clock.getDelayedCalls(), [])


class KindTests(SynchronousTestCase):
    def test_failuresOfOneKindHaveClassAndCauseInCommon(self) -> None:
        one, other = CertificateRejected("expired", "x"), CertificateRejected("for another name", "x")
        self.assertEqual(kindOf(one), kindOf(CertificateRejected("expired", "y")))
        self.assertEqual(len({kindOf(error) for error in (one, other, ValueError("a"), ValueError("b"), Error())}), 4)


class FactoryTests(SynchronousTestCase):
    def test_factoriesAreStartedAndStopped(self) -> None:
        inner = Factory()
        router = ALPNFactory({None: inner}, None)
        router.doStart()
        self.assertEqual(inner.numPorts, 1)
        router.doStop()
        self.assertEqual(inner.numPorts, 0)

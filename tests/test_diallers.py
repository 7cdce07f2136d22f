"""
Everything that dials with TLS, against servers with each kind of certificate: who is not verified receives no credential.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.test_imports import modules
from tests.transport.certificates import authority
from tests.transport.kinds import KINDS, Kind
from tunnelstack.agent.edge_endpoint import makeEdgeEndpoint
from tunnelstack.agent.target import Target, probe
from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.dialect.native.agent import NativeDialler
from tunnelstack.dialect.shellhub.http_client import APIClient
from tunnelstack.doctor.checks import EdgeDiagnosis
from tunnelstack.testing import Network
from tunnelstack.transport.proxy import Proxy, ProxyEndpoint
from tunnelstack.transport.tls import serverContext
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint

PORT = 8443
SECRET = "ts_0123_swordfish"

DIALLERS: dict[str, Callable[[Network, str, str], Deferred[Any]]] = {
    "websocket": lambda network, host, ca: WebSocketClientEndpoint(
        network, f"wss://{bracketed(host)}:{PORT}/", headers=[("Authorization", SECRET)]
    ).connect(Factory.forProtocol(Protocol)),
    "websocket with its own context": lambda network, host, ca: WebSocketClientEndpoint(
        network, f"wss://{bracketed(host)}:{PORT}/", headers=[("Authorization", SECRET)],
        contextFactory=makeEdgeEndpoint(network, EdgeAddress(url=f"https://{bracketed(host)}")).contextFactory,
    ).connect(Factory.forProtocol(Protocol)),
    "proxy": lambda network, host, ca: ProxyEndpoint(
        network, Proxy(True, host, PORT, SECRET), "edge.example", 443
    ).connect(Factory.forProtocol(Protocol)),
    "uplink": lambda network, host, ca: uplink(network, host),
    "uplink with ca_file": lambda network, host, ca: uplink(network, host, caFile=ca),
    "shellhub": lambda network, host, ca: APIClient(
        network, f"https://{bracketed(host)}:{PORT}", agent="agent"
    ).post("/api", b"{}", SECRET),
    "origin": lambda network, host, ca: origin(network, host),
    "origin at https": lambda network, host, ca: Target(f"https://{bracketed(host)}:{PORT}", "http").endpoint(network).connect(
        Factory.forProtocol(Writes)
    ),
    "origin with trustRoots": lambda network, host, ca: origin(network, host, f":trustRoots={ca}"),
}


def bracketed(host: str) -> str:
    """
    A host as it stands in a URL.
    """
    return f"[{host}]" if ":" in host else host


def uplink(network: Network, host: str, **options: str) -> Deferred[Any]:
    """
    An agent's way to its edge.
    """
    edge = EdgeAddress(url=f"https://{bracketed(host)}:{PORT}", token=SECRET, **options)
    dialled: Deferred[Any] = NativeDialler(
        network, edge.url, SECRET, {}, endpoint=makeEdgeEndpoint(network, edge).endpoint
    ).dial()
    return dialled


def origin(network: Network, host: str, options: str = "") -> Deferred[Any]:
    """
    A server of the agent's own that is published.
    """
    escaped = host.replace(":", "\\:")
    target = Target(f"tls:{escaped}:{PORT}{options}").endpoint(network)
    return target.connect(Factory.forProtocol(Writes))


class Writes(Protocol):
    """
    A client that writes at once.
    """

    def connectionMade(self) -> None:
        self.transport.write(SECRET.encode())  # type: ignore[union-attr]


class Listens(Protocol):
    """
    A server that records what it receives.
    """

    factory: Any

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.lost += 1


class CertificateTests(SynchronousTestCase):
    """
    A network without sockets, whose system trusts one authority.
    """

    def setUp(self) -> None:
        self.ca = Path(self.mktemp()).absolute()
        self.ca.write_bytes(authority().certificate.to_cryptography().public_bytes(Encoding.PEM))
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(self.ca)      # OpenSSL asks the process's environment itself
        self.addCleanup(lambda: os.environ.pop("SSL_CERT_FILE") and before and os.environ.update(SSL_CERT_FILE=before))

    def listen(self, kind: Kind) -> tuple[Network, Any]:
        network = Network()
        server: Any = Factory.forProtocol(Listens)
        server.noisy, server.received, server.lost = False, b"", 0
        network.listenTCP(PORT, TLSMemoryBIOFactory(serverContext(kind.issue()), False, server, network))
        return network, server

    def check(self, kind: Kind, dial: Callable[[Network, str, str], Deferred[Any]], name: str) -> None:
        network, server = self.listen(kind)
        dialled = dial(network, kind.host, str(self.ca))
        network.settle()
        if not kind.cause:
            self.assertIn(SECRET.encode(), server.received, name)
            dialled.addErrback(lambda _: None)
            dialled.cancel()
            network.passTime(60)
            return
        error = self.failureResultOf(dialled).value
        self.assertEqual(server.received, b"", name)
        self.assertEqual(server.lost, 1, name)
        self.assertRegex(str(error), rf"{kind.cause}; ", name)
        self.assertRegex(str(error), kind.remedy, name)
        self.assertEqual(network.getDelayedCalls(), [], name)

    def test_theDoctorReportsTheCause(self) -> None:
        for name, kind in KINDS.items():
            network, server = self.listen(kind)
            edge = EdgeAddress(url=f"https://{bracketed(kind.host)}:{PORT}", token=SECRET)
            doctor = EdgeDiagnosis(network, edge, lambda host: succeed(["192.0.2.1"]), time)
            examined = doctor.runChecks()
            network.passTime(100)
            self.successResultOf(examined)
            found = {finding.check: finding for finding in doctor.findings}
            if not kind.cause:
                self.assertTrue(found["tls"].good, name)
                self.assertRegex(found["tls"].says, rf"\Athe certificate is for {kind.host} and valid for 0 days\Z")
                self.assertIn(SECRET.encode(), server.received, name)
                continue
            self.assertIs(found["tls"].good, False, name)
            self.assertRegex(found["tls"].says, rf"\Ano TLS with {kind.host}: {kind.cause}\Z", name)
            self.assertRegex(found["tls"].remedy, kind.remedy, name)
            self.assertIsNone(found["session"].good, name)
            self.assertEqual(server.received, b"", name)

    def test_theDoctorReportsTheCauseOfAProxy(self) -> None:
        for name, kind in KINDS.items():
            if not kind.cause:
                continue
            network, server = self.listen(kind)
            proxy = f"https://anna:{SECRET}@{bracketed(kind.host)}:{PORT}"
            edge = EdgeAddress(url="https://edge.example", token=SECRET, proxy=proxy)
            doctor = EdgeDiagnosis(network, edge, lambda host: succeed(["192.0.2.1"]), time)
            examined = doctor.runChecks()
            network.passTime(100)
            self.successResultOf(examined)
            found = {finding.check: finding for finding in doctor.findings}
            self.assertRegex(found["reach"].says, rf"\Ano TLS with the proxy {kind.host}:{PORT}: {kind.cause}\Z", name)
            self.assertRegex(found["reach"].remedy, kind.remedy, name)
            self.assertNotIn("--ca-file", found["reach"].remedy)      # it is for the edge's certificate
            self.assertEqual(server.received, b"", name)

    def test_aProbeReportsTheCauseOfATarget(self) -> None:
        for name in ("good", "no names", "expired", "self-signed"):
            kind = KINDS[name]
            network, _ = self.listen(kind)
            probed = probe(Target(f"tls:{kind.host}:{PORT}").endpoint(network), network)
            network.settle()
            self.assertRegex(self.successResultOf(probed), kind.cause or r"\A\Z")

    def test_theFlagThatExistsIsNamed(self) -> None:
        for dialler, flag in (
            ("uplink", "--ca-file (ca_file in [[edge]])"), ("origin", "trustRoots=FILE"), ("proxy", "SSL_CERT_FILE"),
            ("shellhub", "SSL_CERT_FILE"), ("websocket", "SSL_CERT_FILE"),
        ):  # fmt: skip
            network, _ = self.listen(KINDS["self-signed"])
            dialled = DIALLERS[dialler](network, KINDS["self-signed"].host, str(self.ca))
            network.settle()
            self.assertIn(flag, str(self.failureResultOf(dialled).value), dialler)

    def test_anOriginThatNeedNotBeVerified(self) -> None:
        for name, kind in KINDS.items():
            network, server = self.listen(kind)
            target = Target(f"https://{bracketed(kind.host)}:{PORT}", "http", insecure=True)
            connected = target.endpoint(network).connect(Factory.forProtocol(Writes))
            network.settle()
            self.successResultOf(connected)
            self.assertEqual(server.received, SECRET.encode(), name)

    def test_aCertificateIsForTheHostOfTheString(self) -> None:
        """
        The certificate is for the host of the C{tls:} string, not for the host that is dialled.
        """
        network, server = self.listen(KINDS["good"])
        text = f"tls:{KINDS['good'].host}:1:endpoint=tcp\\:127.0.0.1\\:{PORT}"
        connected = Target(text).endpoint(network).connect(Factory.forProtocol(Writes))
        network.settle()
        self.successResultOf(connected)
        self.assertEqual(server.received, SECRET.encode())


def _define(dialler: str) -> None:
    def test(self: CertificateTests) -> None:
        for name, kind in KINDS.items():
            self.check(kind, DIALLERS[dialler], f"{dialler}: {name}")

    words = "".join(word.capitalize() for word in dialler.split())
    setattr(CertificateTests, f"test_noCredentialWithoutVerification{words}", test)


for _dialler in DIALLERS:
    _define(_dialler)


class OneVerifierTests(SynchronousTestCase):
    """
    There is one place that verifies servers.
    """

    def test_nothingElseBeginsTLSAsAClient(self) -> None:
        """
        Twisted's C{optionsForClientTLS} and what uses it accept certificates whose names cannot be read.
        """
        keepers = {
            "tlsFactory": ("transport.tls", "transport.secure"),
            "clientFromString": ("transport.clientstring", "transport.dtls.strings"),
            # Local servers, whose certificates an operator or a system has chosen not to verify.
            "unverifiedContext": (
                "transport.tls", "agent.target", "dialect.godoxy.agent_servers", "dialect.jetty.upstream",
            ),
        }  # fmt: skip
        nowhere = (
            "optionsForClientTLS", "wrapClientTLS", "SSL4ClientEndpoint", "ClientContextFactory", "connectSSL",
            "BrowserLikePolicyForHTTPS",
        )  # fmt: skip
        for module, path in modules():
            text = path.read_text()
            for name in (*keepers, *nowhere):
                self.assertFalse(name in text and module not in keepers.get(name, ()), (module, name))

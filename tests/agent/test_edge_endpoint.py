"""
The way to an edge: proxies, certificates, roots.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.certificates import authority
from tunnelstack.agent.edge_endpoint import makeEdgeEndpoint
from tunnelstack.control.config.records import EdgeAddress, ServiceConfig
from tunnelstack.errors import ConfigurationError
from tunnelstack.testing import EdgeAndAgent, Network
from tunnelstack.transport.proxy import ProxyEndpoint


class Forward(Protocol):
    """
    A proxy that joins whoever asks to the edge.
    """

    transport: Any
    far: Any = None

    def dataReceived(self, data: bytes) -> None:
        if self.far is not None:
            self.far.transport.write(data)
            return
        self.factory.asked.append(data)  # type: ignore[attr-defined]
        self.far = Back(self)
        network = self.factory.network  # type: ignore[attr-defined]
        network.join(self.far, network.ports[8080].factory, IPv4Address("TCP", "127.0.0.1", 8080))


class Back(Protocol):
    """
    The edge's side of it.
    """

    def __init__(self, near: Forward) -> None:
        self._near = near

    def connectionMade(self) -> None:
        self._near.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        self._near.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self._near.transport.loseConnection()


class WayTests(SynchronousTestCase):
    """
    What is made of an edge's address.
    """

    def test_withoutAProxyTheHostOfTheURLIsDialled(self) -> None:
        for proxy in ("", "direct"):
            way = makeEdgeEndpoint(Network(), EdgeAddress(url="https://edge.example", proxy=proxy))
            self.assertEqual((way.host, way.port, way.secure, way.proxy), ("edge.example", 443, True, None))
            self.assertIsNot(way.endpoint, way.transportEndpoint)
        way = makeEdgeEndpoint(Network(), EdgeAddress(url="http://edge.example:8080"))
        self.assertEqual((way.port, way.secure), (8080, False))
        self.assertIs(way.endpoint, way.transportEndpoint)

    def test_aConfiguredProxyIsDialled(self) -> None:
        way = makeEdgeEndpoint(Network(), EdgeAddress(url="http://edge.example", proxy="http://proxy:3128"))
        self.assertIsInstance(way.endpoint, ProxyEndpoint)

    def test_TLSIsSpokenWithTheEdgeAndNotWithTheProxy(self) -> None:
        network, heard = Network(), []

        class Proxy(Protocol):
            def dataReceived(self, data: bytes) -> None:
                heard.append(data)
                if len(heard) == 1:
                    self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")

        network.listenTCP(3128, Factory.forProtocol(Proxy))
        endpoint: Any = makeEdgeEndpoint(network, EdgeAddress(url="https://edge.example", proxy="http://localhost:3128")).endpoint
        endpoint.connect(Factory.forProtocol(Protocol)).addErrback(lambda failure: None)
        network.settle()
        self.assertTrue(heard[0].startswith(b"CONNECT edge.example:443 "))
        self.assertEqual(heard[1][:2], b"\x16\x03")     # a TLS handshake
        self.assertIn(b"edge.example", heard[1])        # with the edge's name

    def test_filesThatCannotBeUsed(self) -> None:
        for wrong in (
            {"caFile": "/nowhere"}, {"certificateFile": "/nowhere"}, {"proxy": "socks5://proxy"},
            {"url": "http://edge.example", "caFile": "/nowhere"},
        ):  # fmt: skip
            edge = EdgeAddress(**({"url": "https://edge.example"} | wrong))
            self.assertRaises(ConfigurationError, makeEdgeEndpoint, Network(), edge)

    def test_rootsAndACertificateAreUsed(self) -> None:
        root = authority()
        identity = root.identity("laptop.example")
        ours, roots = Path(self.mktemp()), Path(self.mktemp())
        key = identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        ours.write_bytes(identity.certificate.to_cryptography().public_bytes(Encoding.PEM) + key)
        roots.write_bytes(root.certificate.to_cryptography().public_bytes(Encoding.PEM))
        way = makeEdgeEndpoint(Network(), EdgeAddress(url="https://edge.example", caFile=str(roots), certificateFile=str(ours)))
        TLSMemoryBIOFactory(way.contextFactory, True, Factory())      # it can be used

    def test_anAgentServesThroughAProxy(self) -> None:
        both = EdgeAndAgent()
        proxy: Any = Factory.forProtocol(Forward)
        proxy.network, proxy.asked = both.network, []
        both.network.listenTCP(3128, proxy)
        both.edge.startService()
        edges = (EdgeAddress(url="http://edge.example:8080", token=both.token, proxy="http://localhost:3128"),)
        agent = both.another(ServiceConfig(name="site", target="3000"), edges=edges)
        agent.startService()
        both.settle()
        self.assertTrue(both.edge.registry.isHeld("site"))
        self.assertEqual(len(proxy.asked), 1)
        for service in (agent, both.edge):
            service.stopService()
            both.network.passTime(40)

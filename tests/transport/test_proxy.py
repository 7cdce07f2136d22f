"""
Out through a proxy: what it is asked, what may come back, and what becomes of the connection.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tunnelstack.errors import ConfigurationError
from tunnelstack.testing import Caller, Network
from tunnelstack.transport.proxy import NotAProxy, Proxy, ProxyEndpoint, ProxyFailed, ProxyRefused, parseProxy


class Between(Protocol):
    """
    A proxy that says what the test wants, and remembers what it was asked.
    """

    transport: Any
    asked = b""

    def dataReceived(self, data: bytes) -> None:
        self.asked += data


class EndpointTests(SynchronousTestCase):
    """
    One proxy on a network without sockets.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.between = Between()
        self.network.listenTCP(3128, self.factory(self.between))
        self.caller = Caller()

    def factory(self, protocol: Any) -> Any:
        factory: Any = Factory.forProtocol(lambda: protocol)
        factory.noisy = False
        return factory

    def connect(self, url: str = "http://proxy.localhost:3128", host: str = "edge.example", **more: Any) -> Any:
        endpoint = ProxyEndpoint(self.network, parseProxy(url), host, 443, **more)
        verifyObject(IStreamClientEndpoint, endpoint)
        connected = endpoint.connect(self.factory(self.caller))
        self.network.settle()
        return connected

    def says(self, octets: bytes) -> None:
        self.between.transport.write(octets)
        self.network.settle()

    def test_aRequestOfCONNECTIsSent(self) -> None:
        self.connect()
        self.assertEqual(self.between.asked, b"CONNECT edge.example:443 HTTP/1.1\r\nHost: edge.example:443\r\n\r\n")

    def test_addressesAndCredentialsAreEncoded(self) -> None:
        self.connect("http://anna:p%40ss%3A@localhost:3128/", "fd00::1")
        self.assertTrue(self.between.asked.startswith(b"CONNECT [fd00::1]:443 HTTP/1.1\r\n"))
        shown = self.between.asked.split(b"Proxy-Authorization: Basic ")[1].split(b"\r\n")[0]
        self.assertEqual(b64decode(shown), b"anna:p@ss:")

    def test_theConnectionIsTheApplications(self) -> None:
        answer = b"HTTP/1.1 200 Connection established\r\nVia: it\r\n\r\nearly"
        for cut in range(len(answer) + 1):
            self.setUp()
            connected = self.connect()
            self.says(answer[:cut])
            self.says(answer[cut:])
            self.assertIs(self.successResultOf(connected), self.caller)
            self.assertEqual(self.caller.got, b"early")
            self.caller.transport.write(b"hello")
            self.network.settle()
            self.assertTrue(self.between.asked.endswith(b"\r\n\r\nhello"))
            self.says(b" and late")
            self.assertEqual(self.caller.got, b"early and late")
            self.between.transport.loseConnection()
            self.network.settle()
            self.assertIsNotNone(self.caller.lost)

    def test_interimAnswersArePassedOver(self) -> None:
        connected = self.connect()
        self.says(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\n")
        self.assertIs(self.successResultOf(connected), self.caller)

    def test_eachStatusHasItsError(self) -> None:
        for status, error in (
            (407, ProxyRefused), (403, ProxyRefused), (502, ProxyFailed), (503, ProxyFailed), (504, ProxyFailed),
            (301, ProxyFailed),
        ):  # fmt: skip
            self.setUp()
            connected = self.connect("http://anna:swordfish@localhost:3128")
            self.says(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)
            failure = self.failureResultOf(connected, error)
            self.assertEqual(failure.value.status, status)
            self.assertNotIn("swordfish", str(failure.value))
            self.network.settle()
            self.assertEqual(self.network.wires, [])

    def test_otherServersAreRejected(self) -> None:
        for octets in (b"SSH-2.0-x\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 17_000):
            self.setUp()
            connected = self.connect()
            self.says(octets)
            self.failureResultOf(connected, NotAProxy)

    def test_aProxyThatGoes(self) -> None:
        connected = self.connect()
        self.between.transport.loseConnection()
        self.network.settle()
        self.failureResultOf(connected, ProxyFailed)

    def test_aProxyThatIsNotThere(self) -> None:
        self.failureResultOf(self.connect("http://localhost:1"), ConnectionRefusedError)

    def test_aProxyThatSaysNothing(self) -> None:
        connected = self.connect(timeout=20)
        self.network.passTime(19)
        self.assertNoResult(connected)
        self.network.passTime(2)
        self.failureResultOf(connected, TimeoutError)
        self.assertEqual(self.network.wires, [])

    def test_cancellingClosesTheConnection(self) -> None:
        connected = self.connect()
        connected.addErrback(lambda failure: None)
        connected.cancel()
        self.network.settle()
        self.assertEqual(self.network.wires, [])
        self.assertEqual(self.network.getDelayedCalls(), [])


class ParseTests(SynchronousTestCase):
    """
    A proxy's URL.
    """

    def test_URLsOfProxiesAreParsed(self) -> None:
        self.assertEqual(parseProxy("proxy:3128"), Proxy(False, "proxy", 3128))
        self.assertEqual(parseProxy("http://proxy/"), Proxy(False, "proxy", 80))
        self.assertEqual(parseProxy("https://[fd00::1]"), Proxy(True, "fd00::1", 443))
        self.assertNotIn("YTpi", repr(parseProxy("http://a:b@proxy")))

    def test_URLsOfNoProxyAreRejected(self) -> None:
        for url in (
            "socks5://proxy:1080", "http://", "http://proxy:port", "http://a:secret@proxy:99999", "http://proxy/path", "http://[::1",
        ):  # fmt: skip
            wrong = self.assertRaises(ConfigurationError, parseProxy, url)
            self.assertNotIn("secret", str(wrong))

"""
Applications that were written for TCP run over a stream unchanged, at any chunking.
"""

from __future__ import annotations

import io
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from OpenSSL import crypto
from twisted.conch.ssh import keys
from twisted.internet import defer, ssl
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols import amp
from twisted.protocols.basic import FileSender, LineReceiver
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import resource, server

from tests.promises.streams import Collect, HalfCollect
from tests.session.conch import sshPair
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.testing import sessionPair


class Greeter(LineReceiver):
    """
    Says hello and repeats lines until it hears C{bye}.
    """

    def connectionMade(self) -> None:
        self.sendLine(b"hello")

    def lineReceived(self, line: bytes) -> None:
        if line == b"bye":
            self.sendLine(b"goodbye")
            self.transport.loseConnection()
        else:
            self.sendLine(b"you said " + line)


class Sum(amp.Command):
    arguments = [(b"a", amp.Integer()), (b"b", amp.Integer())]
    response = [(b"total", amp.Integer())]


class Adder(amp.AMP):
    """
    Adds.
    """

    @Sum.responder
    def sum(self, a: int, b: int) -> dict[str, int]:
        return {"total": a + b}


class Page(resource.Resource):
    """
    A small answer to GET, the length of its body to POST.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return b"page " + bytes(request.path)

    def render_POST(self, request: Any) -> bytes:
        return b"%d octets" % len(request.content.read())


class Sender(Protocol):
    """
    Sends a file and closes.
    """

    size = 3_000_000

    def connectionMade(self) -> None:
        sent = FileSender().beginFileTransfer(io.BytesIO(bytes(range(250)) * (self.size // 250)), self.transport)
        sent.addCallback(lambda last: self.transport.loseConnection())  # type: ignore[union-attr]


def certificate(name: str) -> ssl.PrivateCertificate:
    """
    @return: a self-signed one, for tests.
    """
    key = ssl.KeyPair.generate(crypto.TYPE_RSA, size=2048)
    return key.selfSignedCert(1, CN=name)


class ApplicationTests(SynchronousTestCase):
    """
    Each with the application's own idea of both sides.
    """

    cut: int | None = None

    def connect(self, server: Any, client: Any) -> tuple[Any, Any]:
        """
        @return: the wire and the client's protocol.
        """
        wire, near, _ = sessionPair(server, cut=self.cut)
        protocol = self.successResultOf(near.connector.connect(client))
        return wire, protocol

    def test_lineProtocolsWork(self) -> None:
        wire, client = self.connect(Factory.forProtocol(Greeter), Factory.forProtocol(Collect))
        client.transport.writeSequence([b"yo\r\nwhat", b"ever\r\nbye\r\n"])
        wire.settle()
        self.assertEqual(client.got, b"hello\r\nyou said yo\r\nyou said whatever\r\ngoodbye\r\n")
        self.assertIsNotNone(client.reason)

    def test_ampWorks(self) -> None:
        wire, client = self.connect(Factory.forProtocol(Adder), Factory.forProtocol(Adder))
        answers = [client.callRemote(Sum, a=n, b=1) for n in range(50)]
        wire.settle()
        self.assertEqual([self.successResultOf(answer)["total"] for answer in answers], list(range(1, 51)))

    def test_webServersWork(self) -> None:
        site = server.Site(Page(), reactor=Clock())
        wire, client = self.connect(site, Factory.forProtocol(HalfCollect))
        client.transport.write(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        wire.settle()
        self.assertEqual(client.got.count(b"HTTP/1.1 200 OK"), 2)
        self.assertIn(b"page /two", client.got)
        self.assertIn("read ended", client.told)

    def test_webTakesALargeBody(self) -> None:
        site = server.Site(Page(), reactor=Clock())
        wire, client = self.connect(site, Factory.forProtocol(HalfCollect))
        client.transport.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000))
        wire.settle()
        self.assertTrue(client.got.endswith(b"2000000 octets"), client.got)

    def test_fileSendersWork(self) -> None:
        wire, client = self.connect(Factory.forProtocol(Sender), Factory.forProtocol(Collect))
        wire.settle()
        self.assertEqual(client.got, bytes(range(250)) * (Sender.size // 250))
        self.assertIsNotNone(client.reason)

    def test_tlsWorks(self) -> None:
        own = certificate("stream.example")
        clock = Clock()
        secured = TLSMemoryBIOFactory(own.options(), False, Factory.forProtocol(Greeter), clock)
        trusting = ssl.CertificateOptions(trustRoot=ssl.Certificate(own.original))
        wire, client = self.connect(
            secured, TLSMemoryBIOFactory(trusting, True, Factory.forProtocol(Collect), clock))
        application = client.wrappedProtocol
        for _ in range(5):
            wire.settle()
            clock.advance(0)
        application.transport.write(b"secret\r\nbye\r\n")
        for _ in range(5):
            clock.advance(0)
            wire.settle()
        self.assertEqual(application.got, b"hello\r\nyou said secret\r\ngoodbye\r\n")
        self.assertIsNotNone(application.reason)

    def test_aStreamCarriesASession(self) -> None:
        """
        A session over a stream of another session: a stream is a carrier too.
        """
        inner = YamuxSession(False, clock=Clock())
        wire, outer, far = sessionPair(cut=self.cut)
        inner._clock = wire.clock
        accepted = Factory()
        accepted.buildProtocol = lambda address: inner  # type: ignore[method-assign,assignment]
        far.listener.listen(accepted)
        inner.listener.listen(Factory.forProtocol(Greeter))
        client = YamuxSession(True, clock=wire.clock)
        opened = Factory()
        opened.buildProtocol = lambda address: client  # type: ignore[method-assign,assignment]
        self.successResultOf(outer.connector.connect(opened))
        speaker: Any = self.successResultOf(client.connector.connect(Factory.forProtocol(Collect)))
        speaker.transport.write(b"deep\r\n")
        wire.settle()
        self.assertEqual(speaker.got, b"hello\r\nyou said deep\r\n")

    def test_sshWorks(self) -> None:
        """
        A whole SSH login, channel and exec over a stream.
        """
        wire, done = self.connectConch()
        for _ in range(60):
            wire.settle()
            wire.clock.advance(0.1)
        self.assertEqual(self.successResultOf(done), b"ran: uptime")

    def connectConch(self) -> tuple[Any, defer.Deferred[bytes]]:
        listening, connecting, done = sshPair(keys.Key(ed25519.Ed25519PrivateKey.generate()))
        wire, _ = self.connect(listening, connecting)
        return wire, done


class CutApplicationTests(ApplicationTests):
    """
    The same in small pieces.
    """

    cut = 701

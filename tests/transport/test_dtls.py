"""
DTLS on real sockets: both ends, what each rejects, and networks that lose, repeat and reorder datagrams.

OpenSSL reads the machine's clock, so a test in which a flight is repeated takes the second that OpenSSL waits.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from OpenSSL.SSL import Error
from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    NoProtocol,
)
from twisted.internet.error import TimeoutError as TwistedTimeoutError
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tests.ports import freePort
from tests.transport.certificates import CLIENT, SERVER, Authority, authority, general
from tests.transport.datagrams import Collector, CollectorFactory, Relay, unreliable
from tests.wire.test_dtls import HELLO
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IDatagramTransport
from tunnelstack.transport.dtls.client import DTLSClientEndpoint
from tunnelstack.transport.dtls.cookies import COOKIE_OCTETS, SECRET_SECONDS, CookieSecrets
from tunnelstack.transport.dtls.limits import DTLSLimits
from tunnelstack.transport.dtls.options import DTLSClientOptions, DTLSServerOptions
from tunnelstack.transport.dtls.server import DTLSListeningPort, DTLSServerEndpoint
from tunnelstack.transport.verification import CertificateRejected

reactor: Any = installed

NAME = "dtls.example"


def serverOptions(**parameters: Any) -> DTLSServerOptions:
    return DTLSServerOptions(authority().identity(NAME), **parameters)


def mutualOptions() -> DTLSServerOptions:
    return serverOptions(clientCA=[authority().certificate], clientAuth="require")


def clientOptions(name: str = NAME, **parameters: Any) -> DTLSClientOptions:
    return DTLSClientOptions(name, **{"ca": [authority().certificate]} | parameters)


def withoutKeys(datagram: bytes) -> list[tuple[float, bytes]]:
    """
    Lose what a client sends after its hellos: its certificate if it has one, and its key.
    """
    return [(0.0, datagram)] if datagram[13] == 1 else []


class Ends(TestCase):
    """
    A server and its clients; the reactor is clean after each test.
    """

    timeout = 60

    def setUp(self) -> None:
        self.applications = CollectorFactory(echo=True)
        self.relays: list[Relay] = []
        self.clients: list[Collector] = []
        self.ports: list[DTLSListeningPort] = []

    async def listen(self, options: DTLSServerOptions | None = None, **limits: Any) -> DTLSListeningPort:
        endpoint = DTLSServerEndpoint(
            reactor, 0, options or serverOptions(), interface="127.0.0.1", limits=DTLSLimits(**limits)
        )
        port = await endpoint.listen(self.applications)
        self.ports.append(port)
        return port

    async def connect(self, port: Any, options: DTLSClientOptions | None = None, **limits: Any) -> Collector:
        number = port if isinstance(port, int) else port.getHost().port
        endpoint = DTLSClientEndpoint(reactor, "localhost", number, options or clientOptions(), limits=DTLSLimits(**limits))
        client = await endpoint.connect(CollectorFactory())
        assert isinstance(client, Collector)
        self.clients.append(client)
        return client

    def relay(self, port: DTLSListeningPort, **fates: Any) -> Relay:
        relay = Relay(port.getHost().port, **fates)
        self.relays.append(relay)
        return relay

    async def tidy(self) -> None:
        for client in self.clients:
            client.transport.loseConnection()
        for port in self.ports:
            await port.stopListening()
        for relay in self.relays:
            await relay.stop()
        await deferLater(reactor, 0.01)

    def tearDown(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.tidy())


def asynchronous(test: Callable[[Any], Coroutine[Deferred[Any], Any, None]]) -> Callable[[Any], Deferred[None]]:
    """
    A test that both trial and pytest run.
    """

    def run(self: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(test(self))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class TransportTests(Ends):
    """
    What an application gets.
    """

    @asynchronous
    async def test_datagramsArriveWholeInBothDirections(self) -> None:
        client = await self.connect(await self.listen())
        sent = [os.urandom(size) for size in (1, 64, 1163, 1164, 8155, 16384)]
        for datagram in sent:
            client.transport.write(datagram)
        await client.whenReceived(len(sent))
        self.assertEqual(self.applications.built[0].received, sent)
        self.assertEqual(client.received, sent)

    @asynchronous
    async def test_itProvidesTheInterface(self) -> None:
        client = await self.connect(await self.listen())
        verifyObject(IDatagramTransport, client.transport)
        verifyObject(IDatagramTransport, self.applications.built[0].transport)

    @asynchronous
    async def test_addressesAreThoseOfTheSockets(self) -> None:
        port = await self.listen()
        client = await self.connect(port)
        server = self.applications.built[0]
        self.assertEqual(client.transport.getPeer().port, port.getHost().port)
        self.assertEqual(client.transport.getHost().port, server.transport.getPeer().port)

    @asynchronous
    async def test_anEmptyAndATooLongDatagramAreDroppedAndCounted(self) -> None:
        client = await self.connect(await self.listen(), payloadOctets=100)
        for datagram in (b"", bytes(101), b"after"):
            client.transport.write(datagram)
        await client.whenReceived(1)
        self.assertEqual(client.received, [b"after"])
        self.assertEqual((client.transport.longest, client.transport.dropped), (100, 2))

    @asynchronous
    async def test_aClosingClientIsNoticedByTheServer(self) -> None:
        client = await self.connect(await self.listen())
        client.transport.loseConnection()
        self.assertIsInstance(client.reason and client.reason.value, ConnectionDone)
        server = self.applications.built[0]
        await server.whenLost()
        self.assertIsInstance(server.reason and server.reason.value, ConnectionDone)
        self.assertEqual(len(self.ports[0].protocol), 0)

    @asynchronous
    async def test_aServerThatStopsTellsItsClients(self) -> None:
        port = await self.listen()
        client = await self.connect(port)
        await port.stopListening()
        await client.whenLost()
        self.assertIsInstance(client.reason and client.reason.value, ConnectionDone)
        self.ports.clear()

    @asynchronous
    async def test_anAbortingClientSaysNothing(self) -> None:
        port = await self.listen()
        relay = self.relay(port)
        client = await self.connect(relay.port)
        client.transport.write(b"x")
        await client.whenReceived(1)
        before = len(relay.sent[0])
        client.transport.abortConnection()
        client.transport.write(b"unsent")
        client.transport.loseConnection()
        await deferLater(reactor, 0.02)
        self.assertIsInstance(client.reason and client.reason.value, ConnectionAborted)
        self.assertEqual(len(relay.sent[0]), before)

    @asynchronous
    async def test_anIdleAssociationIsClosedAtBothEnds(self) -> None:
        client = await self.connect(await self.listen(idleSeconds=0.1), idleSeconds=0)
        server = self.applications.built[0]
        await gatherResults([server.whenLost(), client.whenLost()])
        self.assertIsInstance(server.reason and server.reason.value, TwistedTimeoutError)
        self.assertIsInstance(client.reason and client.reason.value, ConnectionDone)

    @asynchronous
    async def test_useKeepsAnAssociation(self) -> None:
        client = await self.connect(await self.listen(idleSeconds=0.3))
        for number in range(8):
            client.transport.write(b"x")
            await client.whenReceived(number + 1)
            await deferLater(reactor, 0.06)
        self.assertIsNone(client.reason)

    @asynchronous
    async def test_anApplicationThatFailsLosesItsAssociationAlone(self) -> None:
        port = await self.listen()
        first, second = await self.connect(port), await self.connect(port)

        def fail(datagram: bytes) -> None:
            raise ZeroDivisionError

        failing = self.applications.built[0]
        failing.datagramReceived = fail    # type: ignore[method-assign]
        first.transport.write(b"x")
        second.transport.write(b"y")
        await gatherResults([first.whenLost(), second.whenReceived(1)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsInstance(failing.reason and failing.reason.value, ConnectionLost)
        self.assertIsNone(second.reason)


class RejectionTests(Ends):
    """
    Handshakes that must fail, and as what.
    """

    async def rejected(self, port: Any, options: DTLSClientOptions, *kinds: type[Exception]) -> Exception:
        try:
            await self.connect(port, options, handshakeSeconds=5)
        except kinds as error:
            self.assertEqual([one for one in self.applications.built if one.received], [])
            return error
        raise self.failureException("the handshake succeeded")

    @asynchronous
    async def test_clientsVerifyTheServersCertificate(self) -> None:
        """
        The kinds of certificate that every dialler must reject.
        """
        names = [general(NAME)]
        stranger = Authority("stranger")
        table = {
            "not for dtls.example": authority().identity("other.example"),
            "expired": authority().issue(names, days=(-2, -1)),
            "not trusted": stranger.issue(names),
            "self-signed": authority().issue(names, ownRoot=True),
            "no host names": authority().issue(None),
            "only in its subject": authority().issue(None, subject=NAME),
            "not issued for this purpose": authority().issue(names, purposes=[CLIENT]),
        }
        for cause, identity in table.items():
            port = await self.listen(DTLSServerOptions(identity))
            error = await self.rejected(port, clientOptions(), CertificateRejected)
            self.assertIn(cause, str(error))

    @asynchronous
    async def test_anAddressIsVerifiedAsAName(self) -> None:
        port = await self.listen(DTLSServerOptions(authority().identity("127.0.0.1")))
        await self.connect(port, clientOptions("127.0.0.1"))
        error = await self.rejected(port, clientOptions("127.0.0.2"), CertificateRejected)
        self.assertIn("127.0.0.2", str(error))

    @asynchronous
    async def test_aServerRequiresACertificate(self) -> None:
        port = await self.listen(mutualOptions())
        await self.rejected(port, clientOptions(), Error)
        await self.rejected(port, clientOptions(identity=Authority("stranger").identity("me")), Error)
        await self.rejected(
            port, clientOptions(identity=authority().issue([general("me")], purposes=[SERVER])), Error
        )
        self.assertEqual(port.protocol.counts.failed, 3)
        self.assertEqual(len(port.protocol), 0)

    @asynchronous
    async def test_aCertificateOfAClientIsKnownToTheApplication(self) -> None:
        identity = authority().identity("me")
        await self.connect(await self.listen(mutualOptions()), clientOptions(identity=identity))
        certificate = self.applications.built[0].transport.getPeerCertificate()
        self.assertEqual(certificate.digest("sha256"), identity.certificate.digest("sha256"))

    @asynchronous
    async def test_aServerThatRequestsACertificateAcceptsNone(self) -> None:
        options = serverOptions(clientCA=[authority().certificate], clientAuth="request")
        await self.connect(await self.listen(options))
        self.assertIsNone(self.applications.built[0].transport.getPeerCertificate())

    @asynchronous
    async def test_noCommonCipherIsAnError(self) -> None:
        port = await self.listen(serverOptions(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"))
        await self.rejected(port, clientOptions(ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"), Error)

    @asynchronous
    async def test_anEmptyPortRefusesTheConnection(self) -> None:
        port = await self.listen()
        await port.stopListening()
        self.ports.clear()
        await self.rejected(freePort(), clientOptions(), ConnectionRefusedError)

    @asynchronous
    async def test_aSilentPeerIsGivenUp(self) -> None:
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(silent.close)
        silent.bind(("127.0.0.1", 0))
        connecting = DTLSClientEndpoint(
            reactor, "127.0.0.1", silent.getsockname()[1], clientOptions(), limits=DTLSLimits(handshakeSeconds=0.05)
        ).connect(CollectorFactory())
        with self.assertRaises(TwistedTimeoutError) as raised:
            await connecting
        self.assertIn("0.05 s", str(raised.exception))

    @asynchronous
    async def test_connectingCanBeCancelled(self) -> None:
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(silent.close)
        silent.bind(("127.0.0.1", 0))
        connecting = DTLSClientEndpoint(reactor, "127.0.0.1", silent.getsockname()[1], clientOptions()).connect(
            CollectorFactory()
        )
        await deferLater(reactor, 0.01)
        connecting.cancel()
        with self.assertRaises(CancelledError):
            await connecting

    @asynchronous
    async def test_aNameWithoutAddressIsAnError(self) -> None:
        with self.assertRaises(DNSLookupError):
            await DTLSClientEndpoint(reactor, "nowhere.invalid", 1, clientOptions()).connect(CollectorFactory())

    @asynchronous
    async def test_aFactoryMayRefuseAPeer(self) -> None:
        port = await self.listen()

        class Refusing(CollectorFactory):
            def buildProtocol(self, address: Any) -> Any:
                return None

        with self.assertRaises(NoProtocol):
            await DTLSClientEndpoint(reactor, "127.0.0.1", port.getHost().port, clientOptions()).connect(Refusing())


class OptionTests(SynchronousTestCase):
    """
    Parameters that cannot be used.
    """

    def test_clientAuthAndClientCAGoTogether(self) -> None:
        for parameters in ({"clientAuth": "require"}, {"clientCA": [authority().certificate]}):
            with self.assertRaises(ConfigurationError):
                serverOptions(**parameters)
        with self.assertRaisesRegex(ConfigurationError, "'demand'"):
            serverOptions(clientAuth="demand", clientCA=[authority().certificate])

    def test_anUnknownCipherIsAnError(self) -> None:
        with self.assertRaisesRegex(ConfigurationError, "'ROT13'"):
            serverOptions(ciphers="ROT13")

    def test_limitsHaveBounds(self) -> None:
        for wrong in ({"handshakeSeconds": 0}, {"payloadOctets": 16385}, {"flightOctets": 100}, {"associations": 0}):
            with self.assertRaises(ValueError):
                DTLSLimits(**wrong)    # type: ignore[arg-type]


class CookieTests(SynchronousTestCase):
    """
    Cookies belong to an address and to a time.
    """

    def test_aCookieIsForOneAddress(self) -> None:
        ours = CookieSecrets(0.0)
        cookie = ours.make(("192.0.2.1", 1000))
        self.assertEqual(len(cookie), COOKIE_OCTETS)
        self.assertTrue(ours.verify(("192.0.2.1", 1000), cookie))
        for other in (("192.0.2.1", 1001), ("192.0.2.2", 1000), ("192.0.2.11", 0)):
            self.assertFalse(ours.verify(other, cookie))
        self.assertFalse(ours.verify(("192.0.2.1", 1000), cookie[:-1]))
        self.assertFalse(CookieSecrets(0.0).verify(("192.0.2.1", 1000), cookie))

    def test_aCookieOutlivesOneSecretAndNotTwo(self) -> None:
        ours = CookieSecrets(0.0)
        cookie = ours.make(("192.0.2.1", 1))
        ours.rotate(SECRET_SECONDS - 1)
        self.assertEqual(ours.make(("192.0.2.1", 1)), cookie)
        ours.rotate(SECRET_SECONDS)
        self.assertTrue(ours.verify(("192.0.2.1", 1), cookie))
        ours.rotate(2 * SECRET_SECONDS)
        self.assertFalse(ours.verify(("192.0.2.1", 1), cookie))


class StrangerTests(Ends):
    """
    Datagrams of anybody: nothing is kept for who has not proved its address.
    """

    def socket(self) -> socket.socket:
        ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        self.addCleanup(ours.close)
        return ours

    @asynchronous
    async def test_aFloodOfHellosFromManyPortsAllocatesNothing(self) -> None:
        port = await self.listen()
        for _ in range(50):
            stranger = self.socket()
            for _ in range(10):
                stranger.sendto(HELLO, ("127.0.0.1", port.getHost().port))
            await deferLater(reactor, 0)
        await deferLater(reactor, 0.05)
        self.assertEqual(port.protocol.counts.cookies, 500)
        self.assertEqual((len(port.protocol), port.protocol.handshakes), (0, 0))
        await self.connect(port)

    @asynchronous
    async def test_theKernelKeepsMoreThanForOnePeer(self) -> None:
        port = await self.listen()
        with socket.socket(type=socket.SOCK_DGRAM) as usual:
            few = usual.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self.assertGreaterEqual(port._port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), few)

    @asynchronous
    async def test_theAnswerIsNoLongerThanTheHello(self) -> None:
        port = await self.listen()
        stranger = self.socket()
        numbered = HELLO[:10] + b"\x07" + HELLO[11:]
        stranger.sendto(numbered, ("127.0.0.1", port.getHost().port))
        await deferLater(reactor, 0.02)
        answer = stranger.recv(65536)
        self.assertEqual(len(answer), 48)
        self.assertEqual(answer[5:11], bytes(6))     # not the number of the hello

    @asynchronous
    async def test_nonsenseIsIgnored(self) -> None:
        port = await self.listen()
        client = await self.connect(port)
        stranger = self.socket()
        nonsense = [b"", b"x", os.urandom(1000), HELLO[:40], HELLO[:-1], HELLO + b"x", HELLO[:13] + b"\x02" + HELLO[14:]]
        for datagram in nonsense:
            stranger.sendto(datagram, ("127.0.0.1", port.getHost().port))
        client.transport.write(b"still here")
        await client.whenReceived(1)
        self.assertEqual(len(port.protocol), 1)

    @asynchronous
    async def test_aForgedDatagramOnALiveAssociationIsDropped(self) -> None:
        port = await self.listen()
        relay = self.relay(port)
        client = await self.connect(relay.port)
        client.transport.write(b"one")
        await client.whenReceived(1)
        genuine = relay.sent[0][-1]
        for position in range(len(genuine)):
            forged = bytearray(genuine)
            forged[position] ^= 1
            relay.datagramReceived(bytes(forged), ("127.0.0.1", client.transport.getHost().port))
        relay.datagramReceived(genuine, ("127.0.0.1", client.transport.getHost().port))
        client.transport.write(b"two")
        await client.whenReceived(2)
        self.assertEqual(self.applications.built[0].received, [b"one", b"two"])

    @asynchronous
    async def test_thereAreBoundsOnPeers(self) -> None:
        port = await self.listen(associations=2)
        await self.connect(port)
        second = await self.connect(port)
        with self.assertRaises(TwistedTimeoutError):
            await self.connect(port, handshakeSeconds=0.2)
        self.assertGreaterEqual(port.protocol.counts.refused, 1)
        second.transport.loseConnection()
        await self.applications.built[1].whenLost()
        await self.connect(port)

    @asynchronous
    async def test_aHandshakeThatStopsIsGivenUp(self) -> None:
        """
        A client that proves its address and goes on no further.
        """
        port = await self.listen(handshakeSeconds=0.3, handshakes=1)
        relay = self.relay(port, up=withoutKeys)
        stuck = DTLSClientEndpoint(reactor, "127.0.0.1", relay.port, clientOptions()).connect(CollectorFactory())
        stuck.addErrback(lambda failure: failure.trap(CancelledError))
        await deferLater(reactor, 0.1)
        self.assertEqual(port.protocol.handshakes, 1)
        await deferLater(reactor, 0.4)
        self.assertEqual((port.protocol.handshakes, port.protocol.counts.failed), (0, 1))
        stuck.cancel()


class NetworkTests(Ends):
    """
    Networks that do what UDP allows them.
    """

    @asynchronous
    async def test_everyLostFlightIsSentAgain(self) -> None:
        """
        Each of the first five datagrams is lost once, from either side.
        """
        port = await self.listen()
        connecting = []
        for lost in range(5):
            number = iter(range(1000))
            direction = "up" if lost % 2 == 0 else "down"
            relay = self.relay(port, **{
                direction: lambda octets, number=number, lost=lost: [] if next(number) == lost // 2 else [(0.0, octets)]
            })
            connecting.append(Deferred.fromCoroutine(self.connect(relay.port)))
        clients = await gatherResults(connecting)
        for client in clients:
            client.transport.write(b"x")
        await gatherResults([client.whenReceived(1) for client in clients])

    @asynchronous
    async def test_handshakesAndDataSurviveABadNetwork(self) -> None:
        """
        A tenth of all datagrams is lost, a tenth repeated, a fifth late.  More than half of the echoes arrive, none twice.
        """
        port = await self.listen(mutualOptions())
        options = clientOptions(identity=authority().identity("me"))
        relays = [
            self.relay(port, up=unreliable(seed, 0.1, 0.1, 0.2), down=unreliable(1000 + seed, 0.1, 0.1, 0.2))
            for seed in range(12)
        ]
        clients = await gatherResults([Deferred.fromCoroutine(self.connect(relay.port, options)) for relay in relays])
        sent = {number.to_bytes(2, "big") for number in range(50)}
        for datagram in sorted(sent):           # one of each client at a time: the kernel's buffers are small
            for client in clients:
                client.transport.write(datagram)
            await deferLater(reactor, 0)
        await gatherResults([client.whenReceived(26) for client in clients])
        for client in clients:
            self.assertEqual(len(client.received), len(set(client.received)))
            self.assertTrue(set(client.received) <= sent)
        self.assertEqual(len(port.protocol), 12)

    @asynchronous
    async def test_aRepeatedHelloDoesNotEndItsAssociation(self) -> None:
        port = await self.listen()
        relay = self.relay(port)
        client = await self.connect(relay.port)
        for datagram in list(relay.sent[0]):
            relay.datagramReceived(datagram, ("127.0.0.1", client.transport.getHost().port))
        client.transport.write(b"x")
        await client.whenReceived(1)
        self.assertEqual((len(port.protocol), port.protocol.counts.accepted), (1, 1))

    @asynchronous
    async def test_aClientMayBeginAnewOnItsPort(self) -> None:
        """
        The old association ends when the new one is complete, and not before (RFC 6347, section 4.2.8).
        """
        port = await self.listen()
        relay = self.relay(port)
        old = await self.connect(relay.port)
        relay.join(old.transport.getHost().port)
        old.transport.abortConnection()
        client = await self.connect(relay.port)
        client.transport.write(b"anew")
        await client.whenReceived(1)
        first, second = self.applications.built
        self.assertIsInstance(first.reason and first.reason.value, ConnectionLost)
        self.assertEqual(second.received, [b"anew"])
        self.assertEqual(len(port.protocol), 1)

    @asynchronous
    async def test_aHelloThatIsNotFollowedUpLeavesTheOldAssociation(self) -> None:
        """
        Somebody who sees the cookie, but has no key, cannot end an association.
        """
        port = await self.listen(handshakeSeconds=0.3)
        relay = self.relay(port)
        client = await self.connect(relay.port)
        relay.join(client.transport.getHost().port)
        connecting = DTLSClientEndpoint(reactor, "127.0.0.1", relay.port, clientOptions()).connect(CollectorFactory())
        connecting.addErrback(lambda failure: failure.trap(CancelledError))
        relay.up = withoutKeys
        await deferLater(reactor, 0.05)
        self.assertEqual(port.protocol.handshakes, 1)
        connecting.cancel()
        await deferLater(reactor, 0.4)
        self.assertEqual(port.protocol.handshakes, 0)
        self.applications.built[0].transport.write(b"still here")
        self.assertIsNone(self.applications.built[0].reason)

    @asynchronous
    async def test_aHundredPeersConnectAtOnce(self) -> None:
        port = await self.listen()
        clients = await gatherResults([Deferred.fromCoroutine(self.connect(port)) for _ in range(100)])
        for number, client in enumerate(clients):
            client.transport.write(str(number).encode())
        await gatherResults([client.whenReceived(1) for client in clients])
        self.assertEqual([client.received for client in clients], [[str(number).encode()] for number in range(100)])
        self.assertEqual(len(port.protocol), 100)

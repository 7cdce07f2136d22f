"""
The agent role of GoDoxy: streams over TLS, and what begins and ends them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL.crypto import FILETYPE_PEM, dump_certificate
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from zope.interface.verify import verifyObject

from tests.changed_settings import changes
from tests.dialect.godoxy.agent_support import (
    PORT,
    AgentCase,
    Host,
    authorityPEM,
    identityOf,
    serverPEM,
    writeCertificates,
)
from tests.transport.certificates import Authority
from tunnelstack.control.certificate_authority import issue, makeAuthority
from tunnelstack.dialect.godoxy.agent import HANDSHAKE_SECONDS, GoDoxyAgent, makeServices
from tunnelstack.dialect.godoxy.agent_settings import AgentSettings
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IListeningService
from tunnelstack.testing import Network
from tunnelstack.transport.stream_scheduler import HIGH
from tunnelstack.transport.tls import TLSIdentity
from tunnelstack.wire.records.godoxy import (
    HEADER_OCTETS,
    HEADER_SECONDS,
    PROBE,
    SERVER_NAME,
    StreamHeader,
    encode_header,
)

TARGET = StreamHeader("127.0.0.1", "3000")


class StreamTests(AgentCase):
    """
    Streams that reach their destination.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_octetsPassBothWays(self) -> None:
        edge = self.open(TARGET, b"question")
        (server,) = self.server.ends
        self.assertEqual(server.got, b"question")
        server.transport.write(b"answer")
        self.network.settle()
        self.assertEqual(edge.got, b"answer")
        self.assertEqual(self.agent.session.streams, 1)

    def test_theHeaderMayArriveInPieces(self) -> None:
        octets = encode_header(TARGET) + b"question"
        edge = self.successResultOf(self.connect())
        for octet in range(len(octets)):
            edge.transport.write(octets[octet : octet + 1])
            self.network.settle()
        self.assertEqual(self.server.ends[0].got, b"question")

    def test_anEmptyHostIsThisMachine(self) -> None:
        self.open(StreamHeader("", "3000"), b"x")
        self.assertEqual(self.server.ends[0].got, b"x")

    def test_eitherDirectionMayEndFirst(self) -> None:
        edge = self.open(TARGET, b"question")
        (server,) = self.server.ends
        edge.transport.loseWriteConnection()
        self.network.settle()
        self.assertTrue(server.ended)
        server.transport.write(b"answer")
        server.transport.loseConnection()
        self.network.settle()
        self.assertEqual((edge.got, edge.ended), (b"answer", True))
        edge.transport.loseConnection()
        self.network.settle()
        self.assertTrue(edge.reason.check(ConnectionDone))
        self.assertTrue(server.reason.check(ConnectionDone))
        self.assertEqual(self.agent.session.streams, 0)

    def test_aDestinationThatEndsFirstIsStillWrittenTo(self) -> None:
        edge = self.open(TARGET)
        (server,) = self.server.ends
        server.transport.loseWriteConnection()
        self.network.settle()
        self.assertTrue(edge.ended)
        edge.transport.write(b"late")
        self.network.settle()
        self.assertEqual(server.got, b"late")

    def test_aLostConnectionAbortsTheDestination(self) -> None:
        edge = self.open(TARGET)
        edge.transport.abortConnection()
        self.network.settle()
        self.assertTrue(self.server.ends[0].reason.check(ConnectionLost))
        self.assertEqual(self.agent.session.streams, 0)

    def test_aSlowReaderHoldsTheDestination(self) -> None:
        edge = self.open(TARGET)
        (server,) = self.server.ends
        edge.transport.pauseProducing()
        paused: list[bool] = []

        class Producer:
            def pauseProducing(self) -> None:
                paused.append(True)

            def resumeProducing(self) -> None:
                paused.append(False)

            def stopProducing(self) -> None:
                pass

        server.transport.registerProducer(Producer(), True)
        for _ in range(100):
            server.transport.write(bytes(HIGH // 4))
            self.network.settle()
            if paused:
                break
        self.assertEqual(paused, [True])
        edge.transport.resumeProducing()
        self.network.settle()
        self.assertEqual(paused, [True, False])

    def test_noLineIsLoggedForAStreamThatWorks(self) -> None:
        self.open(TARGET).transport.loseConnection()
        self.network.settle()
        self.assertEqual(self.lines, [])


class RefusalTests(AgentCase):
    """
    Streams that are closed: in an orderly way, alone, and with a line in the log.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def refused(self, header: StreamHeader | bytes, data: bytes = b"") -> str:
        """
        @return: the line.
        """
        neighbour = self.open(TARGET)
        before = len(self.server.ends)
        edge = self.open(header, data)
        self.assertEqual((edge.got, edge.ended), (b"", True))
        self.assertIsNone(edge.reason)
        edge.transport.loseConnection()
        self.network.settle()
        self.assertTrue(edge.reason.check(ConnectionDone), edge.reason)
        self.assertEqual(len(self.server.ends), before)
        neighbour.transport.write(b"still here")
        self.network.settle()
        self.assertEqual(self.server.ends[before - 1].got, b"still here")
        (line,) = self.lines
        self.lines.clear()
        return line

    def test_aWrongVersionIsRefused(self) -> None:
        octets = encode_header(TARGET).replace(b"0.1.0", b"0.2.0")
        line = self.refused(octets)
        self.assertRegex(line, r"a stream from 127\.0\.0\.1:\d+ is closed: the version of the header is not 0\.1\.0")

    def test_aLengthBeyondItsFieldIsRefused(self) -> None:
        octets = bytearray(encode_header(TARGET))
        octets[264] = 6
        self.assertIn("longer than its field", self.refused(bytes(octets)))

    def test_everyCorruptedOctetIsRefused(self) -> None:
        octets = encode_header(TARGET)
        for at in range(0, HEADER_OCTETS, 13):
            corrupted = bytearray(octets)
            corrupted[at] ^= 0x10
            self.assertIn("header", self.refused(bytes(corrupted), b"payload"))

    def test_aPortThatIsNoNumber(self) -> None:
        for port in ("abc", "70000", "0", ""):
            self.assertIn("is not a port", self.refused(StreamHeader("127.0.0.1", port)))

    def test_otherTargetsAreRefused(self) -> None:
        for header, text in (
            (StreamHeader("127.0.0.1", "3001"), "127.0.0.1:3001"), (StreamHeader("10.0.0.1", "3000"), "10.0.0.1:3000"),
            (StreamHeader("fe80::1%eth0", "22"), "[fe80::1%eth0]:22"), (StreamHeader("db.example", "5432"), "db.example:5432"),
        ):
            self.assertIn(f"{text} is not among the targets of this agent", self.refused(header))

    def test_textOfThePeerIsPrintable(self) -> None:
        line = self.refused(StreamHeader("\x1b[2J\nroot", "80"))
        self.assertIn("\\x1b[2J\\nroot:80", line)

    def test_aDestinationThatRefuses(self) -> None:
        self.stop()
        self.network.ports.pop(PORT, None)
        self.start(targets=("localhost:*",))
        self.assertIn("127.0.0.1:3009 cannot be reached", self.refused(StreamHeader("127.0.0.1", "3009")))

    def test_aHeaderThatEnds(self) -> None:
        edge = self.successResultOf(self.connect())
        edge.transport.write(encode_header(TARGET)[:100])
        edge.transport.loseWriteConnection()
        self.network.settle()
        self.assertTrue(edge.ended)
        self.assertIn("ended within its head", self.lines[0])

    def test_aHeaderThatDoesNotArrive(self) -> None:
        edge = self.successResultOf(self.connect())
        edge.transport.write(encode_header(TARGET)[:274])
        self.network.passTime(HEADER_SECONDS - 1)
        self.assertFalse(edge.ended)
        self.network.passTime(1)
        self.assertTrue(edge.ended)
        self.assertIn("did not finish in time", self.lines[0])

    def test_probesAreClosedInSilence(self) -> None:
        for header in (PROBE, StreamHeader("127.0.0.1", "3000", flags=3)):
            edge = self.open(header, b"payload")
            self.assertTrue(edge.ended)
            edge.transport.loseConnection()
            self.network.settle()
            self.assertTrue(edge.reason.check(ConnectionDone))
        self.assertEqual((self.lines, self.server.ends), ([], []))

    def test_aProbeThatIsClosedAtOnce(self) -> None:
        """
        As the genuine program does it: it reads nothing.
        """
        edge = self.successResultOf(self.connect())
        edge.transport.write(encode_header(PROBE))
        edge.transport.loseConnection()
        self.network.settle()
        self.assertTrue(edge.reason.check(ConnectionDone))
        self.assertEqual(self.lines, [])

    def test_aPeerThatNeverEndsIsCutOff(self) -> None:
        edge = self.open(StreamHeader("127.0.0.1", "1"))
        self.network.passTime(31)
        self.assertTrue(edge.reason.check(ConnectionLost))
        self.assertEqual(self.agent.session.streams, 0)


class NetworkTargetTests(AgentCase):
    """
    Targets that are networks.
    """

    def test_aNetworkGrantsItsAddresses(self) -> None:
        self.start(targets=("10.1.0.0/16:*", "[fd00::/8]:443"))
        for host, port, granted in (
            ("10.1.2.3", 80, True), ("10.2.0.1", 80, False), ("::ffff:10.1.2.3", 80, True), ("fd12::1", 443, True),
            ("fd12::1", 80, False), ("10.1.2.3.example", 80, False), ("127.0.0.1", 3000, False),
        ):
            allowed = self.agent._api.proxy.pools._destinations._allowed
            self.assertEqual(allowed.has(host, port), granted, host)

    def test_aMalformedNetworkIsAnErrorOfTheStart(self) -> None:
        for target in ("10.1.0.0/33:*", "10.1.2.3/16:80", "a/8:80"):
            with self.assertRaises(ConfigurationError):
                self.start(targets=(target,))


class CertificateTests(AgentCase):
    """
    Who may connect.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def rejected(self, identity: TLSIdentity) -> str:
        """
        With TLS 1.3 the edge learns of it when it reads.
        """
        connecting = self.connect(identity=identity)
        ends: list[Any] = []
        connecting.addBoth(ends.append)
        self.network.settle()
        if isinstance(ends[0], Protocol):
            self.assertIsNotNone(ends[0].reason)  # type: ignore[attr-defined]
        self.assertEqual(self.agent.session.streams, 0)
        (line,) = self.lines
        self.lines.clear()
        self.assertRegex(line, r"^TLS handshake with 127\.0\.0\.1:\d+ failed: ")
        return line

    def test_onlyCertificatesOfClientsAreAccepted(self) -> None:
        line = self.rejected(identityOf(serverPEM()))
        self.assertIn("its certificate is not issued for this purpose", line)
        self.assertIn("clientAuth", line)

    def test_anotherAuthorityIsRejected(self) -> None:
        stranger = identityOf(issue(makeAuthority("stranger", 1), "client", ["edge"], 1))
        line = self.rejected(stranger)
        self.assertIn('issued by "stranger", an authority that is not trusted here', line)
        self.assertIn("ca_file in [[godoxy]]", line)

    def test_aSelfSignedCertificateIsRejected(self) -> None:
        self.assertIn("self-signed", self.rejected(Authority().issue(None, ownRoot=True)))

    def test_anExpiredCertificateIsRejected(self) -> None:
        authority = Authority()
        self.stop()
        self.network.ports.pop(PORT, None)
        Path(self.files["caFile"]).write_bytes(dump_certificate(FILETYPE_PEM, authority.certificate))
        self.start()
        self.assertIn("has expired, on", self.rejected(authority.issue(None, days=(-9, -2))))

    def test_aServerForAnotherNameIsNotAccepted(self) -> None:
        connecting = self.connect(name="other.example")
        self.failureResultOf(connecting)

    def test_noHandshakeTakesForEver(self) -> None:
        class Silent(Protocol):
            lost = False

            def connectionLost(self, reason: Any = None) -> None:
                self.lost = True

        silent = Silent()
        self.network.join(silent, self.network.ports[PORT].factory, self.network.ports[PORT].getHost())
        self.network.passTime(HANDSHAKE_SECONDS)
        self.assertTrue(silent.lost)
        self.assertRegex(self.lines[0], "no TLS after 10 seconds|in time")

    def test_whatIsNoTLSIsClosed(self) -> None:
        class Plain(Protocol):
            lost = False

            def connectionMade(self) -> None:
                self.transport.write(b"GET / HTTP/1.1\r\n\r\n")  # type: ignore[union-attr]

            def connectionLost(self, reason: Any = None) -> None:
                self.lost = True

        plain = Plain()
        self.network.join(plain, self.network.ports[PORT].factory, self.network.ports[PORT].getHost())
        self.network.settle()
        self.assertTrue(plain.lost)
        self.assertIn("TLS handshake", self.lines[0])


class LimitTests(AgentCase):
    """
    Bounds.
    """

    @changes("agent [[godoxy]] streams")
    def test_moreStreamsThanTheLimitAreClosed(self) -> None:
        self.start(streams=2)
        first, _second = self.open(TARGET), self.open(TARGET)
        third = self.successResultOf(self.connect())
        self.network.settle()
        self.assertIsNotNone(third.reason)
        self.assertIn("2 streams of", self.lines[0])
        first.transport.loseConnection()
        self.server.ends[0].transport.loseConnection()
        self.network.settle()
        fourth = self.open(TARGET)
        self.assertIsNone(fourth.reason)


class ServiceTests(AgentCase):
    """
    The service: starting, draining, stopping.
    """

    def test_itIsAListeningService(self) -> None:
        agent = self.start()
        verifyObject(IListeningService, agent)
        self.assertEqual(agent.description, "*:8890")
        self.assertEqual(agent.report()["streams"], 0)

    def test_aTakenPortIsReported(self) -> None:
        self.network.listenTCP(PORT, self.server)
        agent = GoDoxyAgent(Host(self.network), AgentSettings(datagrams=False, **self.files))  # type: ignore[arg-type]
        waited = agent.whenListening()
        agent.startService()
        self.failureResultOf(waited, CannotListenError)
        self.failureResultOf(agent.whenListening(), CannotListenError)
        self.successResultOf(agent.stopService())

    def test_itDrains(self) -> None:
        agent = self.start()
        edge = self.open(TARGET)
        drained: Deferred[Any] = agent.drain()
        self.network.settle()
        self.assertNotIn(PORT, self.network.ports)
        self.assertNoResult(drained)
        edge.transport.write(b"last")
        self.network.settle()
        self.assertEqual(self.server.ends[0].got, b"last")
        edge.transport.loseConnection()
        self.server.ends[0].transport.loseConnection()
        self.network.settle()
        self.successResultOf(drained)

    def test_filesThatCannotBeUsed(self) -> None:
        other = writeCertificates(Path(self.mktemp()), issue(authorityPEM(), "server", ["a"], 1))
        for wrong in ({"caFile": "/nowhere"}, {"keyFile": other["keyFile"]}, {"certificateFile": "/nowhere"}):
            settings = AgentSettings(datagrams=False, **{**self.files, **wrong})  # type: ignore[arg-type]
            self.assertRaises(ConfigurationError, makeServices, Host(Network()), {"godoxy": (settings,)})

    def test_certificatesAreReadAgain(self) -> None:
        agent = self.start()
        before = self.open(TARGET)
        old = before.transport.getPeerCertificate().get_serial_number()
        Path(self.files["keyFile"]).write_text("no key")
        self.assertRaises(ConfigurationError, agent.prepareReload)
        self.assertEqual(self.open(TARGET).transport.getPeerCertificate().get_serial_number(), old)
        writeCertificates(Path(self.files["keyFile"]).parent, issue(authorityPEM(), "server", [SERVER_NAME], 1))
        reload = agent.prepareReload()
        self.assertEqual(self.open(TARGET).transport.getPeerCertificate().get_serial_number(), old)
        reload()
        self.assertNotEqual(self.open(TARGET).transport.getPeerCertificate().get_serial_number(), old)
        before.transport.write(b"still here")
        self.network.settle()
        self.assertEqual(self.server.ends[0].got, b"still here")

    def test_theNameIsThatOfTheMachineUnlessGiven(self) -> None:
        self.assertIn(b'"name":"rack"', self.start(name="rack")._api._info)

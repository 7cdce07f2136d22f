"""
An agent of GoDoxy, and the edge's side of the protocol in Go: C{crypto/tls} and C{pion/dtls} with the settings of the genuine
program.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL.crypto import FILETYPE_PEM, dump_certificate
from twisted.internet import reactor as installed
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.dialect.godoxy.agent_support import (
    Host,
    authorityPEM,
    clientPEM,
    serverPEM,
    writeCertificates,
)
from tests.peers._go import GoError, GoPeer
from tests.ports import freePort
from tests.transport.certificates import Authority
from tests.transport.datagrams import Relay, unreliable
from tests.transport.test_dtls import asynchronous
from tests.wire.test_records_godoxy import ENCODED, OCTETS, changed
from tunnelstack.control.certificate_authority import IssuedCertificate, issue, makeAuthority
from tunnelstack.dialect.godoxy.agent import GoDoxyAgent
from tunnelstack.dialect.godoxy.agent_settings import AgentSettings
from tunnelstack.wire.records.godoxy import ALPN, HEADER_OCTETS, StreamHeader, encode_header

reactor: Any = installed
SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"
STREAMS = [ALPN.decode()]
TLS_1_2, TLS_1_3 = 0x0303, 0x0304


@implementer(IHalfCloseableProtocol)
class Answering(Protocol):
    """
    Keeps what it receives, and sends it back once the other side has ended its direction.
    """

    def __init__(self) -> None:
        self.got = b""

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.got.startswith(b"now "):
            self.transport.write(data)  # type: ignore[union-attr]

    def readConnectionLost(self) -> None:
        self.transport.write(self.got.upper())  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]

    def writeConnectionLost(self) -> None:
        pass


class Echo(DatagramProtocol):
    noisy = False

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.transport.write(datagram, addr)  # type: ignore[union-attr]


def certificates(issued: IssuedCertificate | None, authority: IssuedCertificate | None = None) -> dict[str, str]:
    """
    Certificates as parameters of the Go program.
    """
    own = {"authority": (authority or authorityPEM()).certificate.decode()}
    if issued is not None:
        own |= {"certificate": issued.certificate.decode(), "key": issued.key.decode()}
    return own


class AgentCase(TestCase):
    """
    An agent, a TCP server, and a UDP server that echoes.
    """

    timeout = 120

    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._logged)
        self.addCleanup(globalLogPublisher.removeObserver, self._logged)
        self.server = Factory.forProtocol(Answering)
        self.server.noisy = False
        self.tcp = reactor.listenTCP(0, self.server, interface="127.0.0.1")
        self.addCleanup(self.tcp.stopListening)
        self.udp = reactor.listenUDP(0, Echo(), "127.0.0.1", maxPacketSize=65536)
        self.addCleanup(self.udp.stopListening)
        self.start()
        self.go = GoPeer.start(self, "godoxy", "cmd/client")

    def _logged(self, event: Any) -> None:
        if event["log_namespace"].startswith("tunnelstack.dialect"):
            self.lines.append(formatEvent(event))

    def start(self, **settings: Any) -> None:
        files = writeCertificates(Path(self.mktemp()))
        given = {"targets": ("localhost:*",), "address": "127.0.0.1", **files, **settings}
        self.port = freePort()
        self.host = Host(reactor)
        self.agent = GoDoxyAgent(self.host, AgentSettings(port=self.port, **given))  # type: ignore[arg-type]
        self.agent.startService()
        self.addCleanup(self.agent.stopService)

    def parameters(self, port: int, **given: Any) -> dict[str, Any]:
        return {
            **certificates(clientPEM()), "agent": self.port, "alpn": STREAMS, "withHeader": True, "host": "127.0.0.1",
            "destination": str(port), **given,
        }  # fmt: skip

    async def stream(self, **given: Any) -> int:
        answer = await self.go.call("tcp", **self.parameters(self.tcp.getHost().port, **given))
        conn: int = answer["conn"]
        return conn

    async def flow(self, **given: Any) -> int:
        answer = await self.go.call("udp", **self.parameters(self.udp.getHost().port, **given))
        conn: int = answer["conn"]
        return conn

    async def until(self, condition: Any) -> None:
        for _ in range(3000):
            if condition():
                return
            await deferLater(reactor, 0.01)
        self.fail("it did not happen")

    async def ended(self, conn: int, data: bytes = b"") -> None:
        """
        The agent closes a stream in an orderly way.
        """
        answer = await self.go.call("receive", conn=conn, seconds=30, least=1 << 20)
        self.assertEqual((answer["data"], answer["ended"]), (data, "EOF"))
        await self.go.call("close", conn=conn)


class HeaderTests(AgentCase):
    """
    The header in Go and here.
    """

    @asynchronous
    async def test_bothWriteAndReadTheSame(self) -> None:
        for host, port, flags in (("example.com", "443", 0), ("", "", 1), ("a" * 255, "8080", 2), ("fe80::1%eth0", "22", 255)):
            ours = encode_header(StreamHeader(host, port, flags))
            self.assertEqual((await self.go.call("encode", host=host, destination=port, flags=flags))["data"], ours)
            self.assertEqual((await self.go.call("decode", raw=ours))["flags"], flags)
        corrupted = bytearray(ours)
        corrupted[3] ^= 1
        with self.assertRaises(GoError):
            await self.go.call("decode", raw=bytes(corrupted))

    @asynchronous
    async def test_theVectorsAreJudgedAlike(self) -> None:
        good = [(encode_header(header), True) for header, *_ in ENCODED.values()]
        wrong = [changed(0, b"0.2.0\0\0\0"), changed(0, b"0.1.0   "), changed(264, b"\x0644300"), OCTETS[:-4] + bytes(4)]
        for octets, valid in [*good, *((octets, False) for octets in wrong)]:
            try:
                await self.go.call("decode", raw=octets)
                found = True
            except GoError:
                found = False
            self.assertEqual(found, valid, octets[:20])


class StreamTests(AgentCase):
    """
    TCP over TLS.
    """

    @asynchronous
    async def test_octetsPassBothWaysWithEitherVersion(self) -> None:
        for version in (TLS_1_2, TLS_1_3):
            answer = await self.go.call("tcp", **self.parameters(self.tcp.getHost().port, version=version, data=b"now and "))
            self.assertEqual((answer["alpn"], answer["version"]), (ALPN.decode(), version))
            conn = answer["conn"]
            self.assertEqual((await self.go.call("receive", conn=conn, seconds=30))["data"], b"now and ")
            await self.go.call("send", conn=conn, data=b"then")
            self.assertEqual((await self.go.call("receive", conn=conn, seconds=30))["data"], b"then")
            await self.go.call("close", conn=conn)
        await self.until(lambda: self.agent.session.streams == 0)
        self.assertEqual(self.lines, [])

    @asynchronous
    async def test_halfClosePasses(self) -> None:
        for version in (TLS_1_2, TLS_1_3):
            conn = await self.stream(version=version)
            await self.go.call("send", conn=conn, data=b"question " * 20_000)
            await self.go.call("closeWrite", conn=conn)
            await self.ended(conn, b"QUESTION " * 20_000)
        await self.until(lambda: self.agent.session.streams == 0)

    @asynchronous
    async def test_everyRefusalIsAnOrderlyEndWithAReason(self) -> None:
        good = encode_header(StreamHeader("127.0.0.1", str(self.tcp.getHost().port)))
        cases: list[tuple[dict[str, Any], str]] = [
            ({"raw": good[:-1] + bytes([good[-1] ^ 1])}, "checksum"),
            ({"raw": good.replace(b"0.1.0", b"0.2.0")}, "version"),
            ({"raw": good[:264] + b"\x06" + good[265:]}, "longer than its field"),
            ({"destination": "abc"}, "is not a port"),
            ({"destination": "70000"}, "is not a port"),
            ({"host": "192.0.2.1"}, "not among the targets"),
            ({"host": "localhost", "destination": "1"}, "cannot be reached"),
        ]
        for given, reason in cases:
            self.lines.clear()
            await self.ended(await self.stream(**given))
            self.assertEqual(len(self.lines), 1, given)
            self.assertIn(reason, self.lines[0])

    @asynchronous
    async def test_aHostThatDoesNotResolve(self) -> None:
        await self.agent.stopService()
        self.start(targets=("nowhere.invalid:*",))
        await self.ended(await self.stream(host="nowhere.invalid"))
        self.assertIn("nowhere.invalid:", self.lines[0])
        self.assertIn("cannot be reached", self.lines[0])

    @asynchronous
    async def test_probesAreAnsweredByAnEndInSilence(self) -> None:
        await self.ended(await self.stream(flags=1))
        await self.ended(await self.stream(flags=1, host="", destination="", data=b"payload"))
        conn = await self.stream(flags=1)
        await self.go.call("close", conn=conn)                # as the genuine program does it
        await self.until(lambda: self.agent.session.streams == 0)
        self.assertEqual(self.lines, [])

    @asynchronous
    async def test_everyCorruptedOctetOfTheHeaderIsRefused(self) -> None:
        good = encode_header(StreamHeader("127.0.0.1", str(self.tcp.getHost().port)))
        for at in range(0, HEADER_OCTETS, 1 if SOAK else 25):
            await self.ended(await self.stream(raw=good[:at] + bytes([good[at] ^ 0x80]) + good[at + 1 :]))


class NegotiationTests(AgentCase):
    """
    ALPN and certificates.
    """

    @asynchronous
    async def test_withoutTheNameOfStreamsItIsTheAPI(self) -> None:
        for offered in ([], ["http/1.1"], ["h2", "http/1.1"], [*STREAMS, "http/1.1"]):
            answer = await self.go.call("get", **self.parameters(0, alpn=offered, path="/godoxy/agent/info", data=b""))
            self.assertEqual(answer["status"], 200)
            self.assertTrue(json.loads(answer["data"])["supports_udp_stream"])

    @asynchronous
    async def test_onlyUnknownNamesAreRefused(self) -> None:
        for offered in (["h2"], ["godoxy-agent-stream/2"]):
            with self.assertRaises(GoError) as raised:
                await self.stream(alpn=offered)
            self.assertIn("no application protocol", str(raised.exception))

    @asynchronous
    async def test_certificatesAreVerifiedOnBothSides(self) -> None:
        """
        With TLS 1.3 the client learns of it when it reads.
        """
        stranger = makeAuthority("stranger", 1)
        for wrong, reason in (
            (certificates(None), "did not return a certificate"),
            (certificates(issue(stranger, "client", ["edge"], 1)), "an authority that is not trusted here"),
            (certificates(serverPEM()), "not issued for this purpose"),
            (certificates(_pem(Authority().issue(None, ownRoot=True))), "self-signed"),
        ):
            for version in (TLS_1_2, TLS_1_3):
                self.lines.clear()
                with self.assertRaises((GoError, AssertionError)):
                    await self.ended(await self.stream(version=version, **_withoutOwn(wrong)))
                await self.until(lambda: self.lines)
                self.assertIn(reason, self.lines[0])
        for theirs in ({"name": "other.example"}, certificates(clientPEM(), stranger)):
            with self.assertRaises(GoError):
                await self.stream(**theirs)
        self.assertEqual(self.agent.session.streams, 0)

    @asynchronous
    async def test_certificatesAreVerifiedForDatagramsToo(self) -> None:
        stranger = makeAuthority("stranger", 1)
        for wrong in (
            certificates(None), certificates(issue(stranger, "client", ["edge"], 1)), certificates(serverPEM()),
            {"name": "other.example"}, certificates(clientPEM(), stranger),
        ):
            with self.assertRaises(GoError):
                await self.flow(seconds=5, **_withoutOwn(wrong))
        self.assertEqual(self.agent._datagrams.flows, 0)


class FlowTests(AgentCase):
    """
    UDP over DTLS.
    """

    async def echoed(self, conn: int, data: bytes) -> bytes:
        await self.go.call("send", conn=conn, data=data)
        answer: bytes = (await self.go.call("receive", conn=conn, seconds=30))["data"]
        return answer

    @asynchronous
    async def test_datagramsOfEverySizeAreEchoed(self) -> None:
        conn = await self.flow()
        for size in (1, 64, 1163, 1200, 8155):
            self.assertEqual(await self.echoed(conn, bytes(size)), bytes(size))
        self.assertEqual(self.agent._datagrams.flows, 1)
        await self.go.call("close", conn=conn)
        await self.until(lambda: self.agent._datagrams.flows == 0)
        self.assertEqual(self.lines, [])

    @asynchronous
    async def test_theHeaderMayArriveInTwoRecords(self) -> None:
        header = encode_header(StreamHeader("127.0.0.1", str(self.udp.getHost().port)))
        conn = await self.flow(withHeader=False)
        await self.go.call("send", conn=conn, data=header[:100])
        await self.go.call("send", conn=conn, data=header[100:])
        self.assertEqual(await self.echoed(conn, b"question"), b"question")

    @asynchronous
    async def test_everyRefusalIsAnEndWithAReason(self) -> None:
        header = encode_header(StreamHeader("127.0.0.1", str(self.udp.getHost().port)))
        cases: list[tuple[dict[str, Any], str]] = [
            ({"data": b"payload"}, "continues after the end of the header"),
            ({"raw": header[:-1] + b"\0"}, "checksum"),
            ({"destination": "abc"}, "is not a port"),
            ({"host": "192.0.2.1"}, "not among the targets"),
        ]
        for given, reason in cases:
            self.lines.clear()
            await self.ended(await self.flow(**given))
            self.assertEqual(len(self.lines), 1, given)
            self.assertIn(reason, self.lines[0])

    @asynchronous
    async def test_probesAreClosedInSilence(self) -> None:
        await self.ended(await self.flow(flags=1, host="", destination=""))
        self.assertEqual(self.lines, [])

    @asynchronous
    async def test_aDestinationThatRefusesEndsTheFlow(self) -> None:
        conn = await self.flow(destination=str(freePort()))
        await self.go.call("send", conn=conn, data=b"question")
        await self.ended(conn)
        self.assertIn("is closed", self.lines[0])

    @asynchronous
    async def test_manyPeersAreServedAtOnce(self) -> None:
        count = 1000 if SOAK else 100
        given = self.parameters(self.udp.getHost().port, count=count, seconds=60)
        answer = await self.go.call("many", timeout=110, **given)
        self.assertEqual(answer["good"], count, answer["bad"])
        await self.until(lambda: self.agent._datagrams.flows == 0)

    @asynchronous
    async def test_aBadNetworkCostsTimeOnly(self) -> None:
        """
        A tenth of the datagrams of a handshake is lost in each direction, from fixed seeds; a fifth in soak.  The header, which
        nothing protects, is sent when the network is good again.
        """
        header = encode_header(StreamHeader("127.0.0.1", str(self.udp.getHost().port)))
        loss = 0.2 if SOAK else 0.1
        for seed in range(20 if SOAK else 5):
            relay = Relay(self.port, up=unreliable(seed, loss, 0.1, 0.1), down=unreliable(100 + seed, loss, 0.1, 0.1))
            self.addCleanup(lambda relay=relay: asynchronous(lambda _: relay.stop())(None))
            conn = await self.flow(agent=relay.port, withHeader=False, seconds=60)
            relay.up = relay.down = unreliable(0, 0.0)
            await self.go.call("send", conn=conn, data=header)
            self.assertEqual(await self.echoed(conn, b"question"), b"question")
            await self.go.call("close", conn=conn)


class ProxyTests(AgentCase):
    """
    Requests through the API, by Go's client.
    """

    @asynchronous
    async def test_aRequestIsForwarded(self) -> None:
        class Origin(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")  # type: ignore[union-attr]

        factory = Factory.forProtocol(Origin)
        factory.noisy = False
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        fields = {"X-Proxy-Scheme": "http", "X-Proxy-Host": f"127.0.0.1:{port.getHost().port}", "X-Proxy-Config": "e30="}
        given = {"path": "/godoxy/agent/proxy/http/a?b=c", "fields": fields, "requestHost": "app.example", "data": b""}
        answer = await self.go.call("get", **self.parameters(0, alpn=[], **given))
        self.assertEqual((answer["status"], answer["data"]), (200, b"hi"))
        await self.until(lambda: self.host.requests)
        self.assertEqual(self.host.requests, [("godoxy", 200)])


def _withoutOwn(given: dict[str, str]) -> dict[str, str]:
    """
    Certificates that replace all of those that a test would use.
    """
    return given if "name" in given else {"certificate": "", "key": "", **given}


def _pem(identity: Any) -> IssuedCertificate:
    key = identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return IssuedCertificate(dump_certificate(FILETYPE_PEM, identity.certificate), key)

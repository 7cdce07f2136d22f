"""
ShellHub's genuine agents at our edge, and our agent at a genuine server, in both versions.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Generator
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.peers._go import GoError
from tests.peers._shellhub import GREETING, MAC, TENANT, Agents, Server
from tunnelstack.control.config.records import EdgeConfig
from tunnelstack.dialect.shellhub.bootstrap import Bootstrap
from tunnelstack.dialect.shellhub.connections import DeviceConnections, DeviceNotConnected
from tunnelstack.dialect.shellhub.device_book import DeviceStore
from tunnelstack.dialect.shellhub.dialler import DeviceIdentity, DeviceStreams, ShellHubDialler
from tunnelstack.dialect.shellhub.hub import ShellHubEdge
from tunnelstack.dialect.shellhub.rsa_keys import newKey
from tunnelstack.edge.service import EdgeService
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.negotiation.errors import NegotiationRefused
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.wire.records.shellhub import HTTPProxy, SSHOpen
from tunnelstack.wire.records.shellhub_settings import Settings

KIB = 1 << 10
SOAK = bool(os.environ.get("TUNNELSTACK_SOAK"))
Steps = Generator[Any, Any, None]


class Talker(Protocol):
    """
    Collects, and tells when enough has come.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.count = 0
        self.digest = sha256()
        self.keep = True
        self.reason: Failure | None = None
        self._wanted: list[tuple[int, Deferred[bytes]]] = []
        self._ends: list[Deferred[list[Failure]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)
        self.digest.update(data)
        if self.keep:
            self.got += data
        for count, waiting in list(self._wanted):
            if self.count >= count:
                self._wanted.remove((count, waiting))
                waiting.callback(self.got[:count])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        for end in self._ends:
            end.callback([reason])

    def read(self, count: int) -> Deferred[bytes]:
        """
        The first so many octets.
        """
        waiting: Deferred[bytes] = Deferred()
        if self.count >= count:
            waiting.callback(self.got[:count])
        else:
            self._wanted.append((count, waiting))
        return waiting.addTimeout(20, reactor)

    def ended(self) -> Deferred[list[Failure]]:
        """
        Why, in a list: as itself it would be an error.
        """
        end: Deferred[list[Failure]] = Deferred()
        if self.reason is not None:
            end.callback([self.reason])
        else:
            self._ends.append(end)
        return end.addTimeout(20, reactor)


class Greeting(Talker):
    """
    An SSH server as far as its first words, then an echo.
    """

    def connectionMade(self) -> None:
        self.transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data)


class Echo(Protocol):
    transport: Any
    first = b""

    def connectionMade(self) -> None:
        if self.first:
            self.transport.write(self.first)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class OurEdgeTests(TestCase):
    """
    Genuine agents at our edge.
    """

    timeout = 120

    @inlineCallbacks
    def serve(self, **settings: Any) -> Steps:
        self.book = DeviceStore(reactor, automatic=True)
        self.bootstrap = Bootstrap(self.book, newKey(), reactor, **settings)
        self.heard: list[str] = []
        self.gone: list[str] = []
        self.fleet = DeviceConnections(
            self.bootstrap, onSeen=lambda device: self.heard.append(device.uid),
            onLost=lambda device: self.gone.append(device.uid),
        )  # fmt: skip
        config = EdgeConfig(listen=("tcp:0:interface=127.0.0.1",), drainSeconds=0.2)
        self.edge = EdgeService(reactor, config, dialects=[ShellHubEdge(self.fleet)])
        self.edge.startService()
        self.addCleanup(self.edge.stopService)
        yield self.until(lambda: self.edge.addresses)
        self.url = f"http://127.0.0.1:{self.edge.addresses[0].port}"

    @inlineCallbacks
    def until(self, condition: Any, seconds: float = 30) -> Steps:
        for _ in range(int(seconds / 0.02)):
            if condition():
                return
            yield deferLater(reactor, 0.02)
        self.fail("it did not come to that in time")

    @inlineCallbacks
    def meet(self, version: int, **agent: Any) -> Steps:
        yield self.serve()
        self.agents = Agents.start(self)
        self.authorized, self.agent = yield self.agents.join(self.url, version, **agent)
        self.uid = self.authorized.uid
        yield self.until(lambda: self.fleet.find(TENANT, self.uid))

    def dial(self, target: Any, uid: str = "") -> Deferred[Any]:
        return self.fleet.endpointTo(TENANT, uid or self.uid, target).connect(Factory.forProtocol(Talker))

    @inlineCallbacks
    def test_anAgentIsAuthorized(self) -> Steps:
        yield self.serve(settings=Settings(keep_alive=False))
        agents = Agents.start(self)
        said = yield agents.authorize(self.url)
        device = self.book.find(TENANT, said.uid)
        assert device is not None
        self.assertEqual((said.name, said.namespace, device.agent), ("box", "dev", "dev.box"))
        self.assertEqual(said.config, {"yamux_enable_keep_alive": False})
        key = newKey()
        self.bootstrap.vouchedKeys.add("aa:bb", key, said.uid)
        data = '{"Username":"root","Namespace":"box"}'
        signature = yield agents.authKey(self.url, said.token, "aa:bb", data)
        key.public_key().verify(base64.b64decode(signature), data.encode(), PKCS1v15(), SHA256())
        for version in (1, 2):
            error = yield self.assertFailure(agents.connect(self.url, "no token", version), GoError)
            self.assertEqual(error.kind, "BadHandshake")

    @inlineCallbacks
    def sessions(self, version: int) -> Steps:
        yield self.meet(version)
        ends = yield gatherResults([self.dial(SSHOpen(f"s{n}")) for n in range(8)], consumeErrors=True)
        for number, end in enumerate(ends):
            end.transport.write(b"%d" % number)
        for number, end in enumerate(ends):
            self.assertEqual((yield end.read(len(GREETING) + 1)), GREETING + b"%d" % number)
        state = yield self.agent.state()
        self.assertEqual(set(state["sessions"]), {f"s{n}" for n in range(8)})
        tunnel: Any = self.fleet.find(TENANT, self.uid)
        yield tunnel.closeSession("s3")
        (reason,) = yield ends[3].ended()
        self.assertTrue(reason.check(ConnectionDone), reason)
        ends[4].transport.write(b"still")
        self.assertEqual((yield ends[4].read(len(GREETING) + 6)), GREETING + b"4still")
        yield self.until(lambda: tunnel.session.streams == 7)
        self.assertGreaterEqual((yield tunnel.ping()), 0)

    def test_sessionsOpenAndCloseInVersion1(self) -> Any:
        return self.sessions(1)

    def test_sessionsOpenAndCloseInVersion2(self) -> Any:
        return self.sessions(2)

    @inlineCallbacks
    def proxy(self, version: int) -> Steps:
        yield self.meet(version)
        for first in (b"", b"220 hello\r\n", b"\nlines\n"):
            port = yield self.agents.echo(first)
            end = yield self.dial(HTTPProxy("127.0.0.1", port, "r1"))
            octets = os.urandom(300 * KIB)
            end.transport.write(octets)
            got = yield end.read(len(first) + len(octets))
            # an agent's line feed is taken off once, never one of the server's own that follows it
            self.assertEqual(got, first + octets)
            end.transport.loseConnection()
        failed = yield self.assertFailure(self.dial(HTTPProxy("127.0.0.1", 1, "r2")), NegotiationRefused)
        self.assertIn("failed to dial" if version == 2 else "500 Internal Server Error", str(failed))
        tunnel: Any = self.fleet.find(TENANT, self.uid)
        yield self.until(lambda: tunnel.session.streams == 0)

    def test_proxyStreamsReachLocalServersInVersion1(self) -> Any:
        return self.proxy(1)

    def test_proxyStreamsReachLocalServersInVersion2(self) -> Any:
        return self.proxy(2)

    @inlineCallbacks
    def bulk(self, version: int) -> Steps:
        yield self.meet(version)
        octets = (200 if SOAK else 20) * KIB * KIB
        port = yield self.agents.echo()
        end = yield self.dial(HTTPProxy("127.0.0.1", port))
        end.keep = False
        sent, block = sha256(), os.urandom(64 * KIB)

        class Source:
            left = octets
            running = False

            def resumeProducing(self) -> None:
                self.running = True
                while self.running and self.left:
                    self.left -= len(block)
                    sent.update(block)
                    end.transport.write(block)
                if not self.left:
                    end.transport.unregisterProducer()

            def pauseProducing(self) -> None:
                self.running = False

            def stopProducing(self) -> None:
                self.left = 0

        source = Source()
        end.transport.registerProducer(source, True)
        source.resumeProducing()
        yield end.read(octets)
        self.assertEqual(end.digest.hexdigest(), sent.hexdigest())
        end.transport.loseConnection()

    def test_bulkArrivesInVersion1(self) -> Any:
        return self.bulk(1)

    def test_bulkArrivesInVersion2(self) -> Any:
        return self.bulk(2)

    @inlineCallbacks
    def test_newestWins(self) -> Steps:
        yield self.meet(1)
        end = yield self.dial(SSHOpen("s1"))
        yield end.read(len(GREETING))
        yield self.agents.connect(self.url, self.authorized.token, 2)
        yield self.until(lambda: (tunnel := self.fleet.find(TENANT, self.uid)) and tunnel.dialect == "shellhub/2")
        self.assertEqual(self.gone, [])
        end.transport.write(b"x")
        self.assertEqual((yield end.read(len(GREETING) + 1)), GREETING + b"x", "streams of version 1 go on")

    @inlineCallbacks
    def test_deadAgentsAreForgotten(self) -> Steps:
        for version in (1, 2):
            yield self.meet(version)
            self.agents.peer.kill()
            yield self.until(lambda: not len(self.fleet))
            self.assertEqual(self.gone, [self.uid])
            yield self.assertFailure(self.dial(SSHOpen("s")), DeviceNotConnected)

    @inlineCallbacks
    def test_agentsOfBothVersionsAnswerTheirOwnStreams(self) -> Steps:
        """
        50 of each version in the gate, 200 in the soak; each answers its own streams.
        """
        yield self.serve()
        agents = Agents.start(self)
        members = [(f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", 1 + n % 2) for n in range(400 if SOAK else 100)]
        found = yield agents.fleet(self.url, members)
        yield self.until(lambda: len(self.fleet) == len(members))
        ends = yield gatherResults([self.dial(SSHOpen(uid[:16]), uid) for mac, uid in found], consumeErrors=True)
        for (mac, _), end in zip(found, ends, strict=True):
            expected = GREETING + mac.encode()
            self.assertEqual((yield end.read(len(expected))), expected)


class OurAgentTests(TestCase):
    """
    Our agent at a genuine server.
    """

    timeout = 120

    @inlineCallbacks
    def meet(
        self, version: int, allow: tuple[str, ...] = ("127.0.0.1:*",), through: Callable[[str], str] = str, **behaviour: Any
    ) -> Steps:
        """
        @param through: from the URL of the server to the one that the agent dials.
        """
        self.server = yield Server.start(self, **behaviour)
        self.sshd: list[Greeting] = []
        self.streams = DeviceStreams(
            reactor, ssh=self._sshd(), allowed=TargetAllowlist(allow), endpoint=lambda host,
            port: hostEndpoint(reactor, host, port),
        )  # fmt: skip
        identity = DeviceIdentity(key=newKey(), tenant=TENANT, mac=MAC, hostname="box")
        self.dialler = ShellHubDialler(reactor, through(self.server.url), identity, self.streams, version=version)
        self.link = yield self.dialler.dial()
        self.addCleanup(self._leave)
        self.uid = self.dialler.registration.answer.uid
        found = yield self.server.awaitDevice(self.uid)
        self.assertEqual(found, [version])

    def _leave(self) -> Deferred[Any]:
        lost: Deferred[Any] = self.link.whenLost()
        self.link.abort("the test is over")
        return lost.addCallback(lambda _: deferLater(reactor, 0.05))

    def _sshd(self) -> Any:
        test = self

        class Serving(Factory):
            noisy = False

            def buildProtocol(self, address: Any) -> Greeting:
                test.sshd.append(Greeting())
                return test.sshd[-1]

        return Serving()

    @inlineCallbacks
    def listen(self, first: bytes = b"") -> Steps:
        factory = Factory.forProtocol(type("First", (Echo,), {"first": first}))
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        yield None
        return port.getHost().port

    @inlineCallbacks
    def sessions(self, version: int) -> Steps:
        yield self.meet(version)
        conns = yield gatherResults(
            [self.server.endpointTo(self.uid, "open", session=f"s{n}") for n in range(8)], consumeErrors=True
        )  # fmt: skip
        for conn in conns:
            self.assertEqual(conn.version, version)
            self.assertEqual((yield conn.read(len(GREETING))), GREETING)
        for number, conn in enumerate(conns):
            yield conn.write(b"%d" % number)
        for number, conn in enumerate(conns):
            self.assertEqual((yield conn.read(1)), b"%d" % number)
        self.assertEqual(set(self.streams.sessions), {f"s{n}" for n in range(8)})
        yield self.server.endpointTo(self.uid, "close", session="s3")
        data, _ = yield conns[3].readToEnd()
        self.assertEqual(data, b"")
        yield conns[4].write(b"still")
        self.assertEqual((yield conns[4].read(5)), b"still")

    def test_sessionsOpenAndCloseInVersion1(self) -> Any:
        return self.sessions(1)

    def test_sessionsOpenAndCloseInVersion2(self) -> Any:
        return self.sessions(2)

    @inlineCallbacks
    def proxy(self, version: int, **behaviour: Any) -> Steps:
        yield self.meet(version, **behaviour)
        for first in (b"", b"220 hello\r\n"):
            port = yield self.listen(first)
            conn = yield self.server.endpointTo(self.uid, "proxy", request="r1", host="127.0.0.1", port=port)
            self.assertEqual((yield conn.read(len(first))) if first else b"", first)
            sent, got = yield gatherResults([conn.send(300 * KIB), conn.receive(300 * KIB)], consumeErrors=True)
            self.assertEqual(sent["sha256"], got["sha256"])
            yield conn.close()
        for host, port in (("127.0.0.1", 1), ("192.0.2.1", 80)):
            waiting = self.server.endpointTo(self.uid, "proxy", request="r2", host=host, port=port)
            error = yield self.assertFailure(waiting, GoError)
            self.assertEqual(error.kind, "Refused", str(error))
        yield deferLater(reactor, 0.2)
        self.assertEqual(self.link.session.streams, 0)

    def test_proxyStreamsReachLocalServersInVersion1(self) -> Any:
        return self.proxy(1)

    def test_proxyStreamsReachLocalServersInVersion2(self) -> Any:
        return self.proxy(2)

    def test_proxyStreamsOfOldServersAreServed(self) -> Any:
        """
        They lose what they read behind our answer.
        """
        return self.proxy(2, drop_lf=True)

    @inlineCallbacks
    def test_settingsOfTheServerApply(self) -> Steps:
        yield self.meet(2, config={"yamux_enable_keep_alive": False, "yamux_max_stream_window_size": 524288})
        limits = self.link.session.limits
        self.assertEqual((limits.keepalive, limits.window), (0.0, 524288))
        conn = yield self.server.endpointTo(self.uid, "open", session="s")
        self.assertEqual((yield conn.read(len(GREETING))), GREETING)

    @inlineCallbacks
    def test_unusableSettingsAreIgnored(self) -> Steps:
        yield self.meet(2, config={"yamux_accept_backlog": 0})
        self.assertEqual(self.link.session.limits.backlog, 256)

    @inlineCallbacks
    def test_pingsAreAnswered(self) -> Steps:
        yield self.meet(2, ping=0.1, pong=0.5)
        yield self.server.awaitEvent(self.uid, "beat", 4)
        self.assertEqual((yield self.server.devices()), {f"{TENANT}:{self.uid}": [2]})

    @inlineCallbacks
    def test_aTokenThatIsTakenBackIsAskedForAgain(self) -> Steps:
        for version in (1, 2):
            yield self.meet(version)
            first = self.dialler.registration.token
            yield self.server.set(revoke=True)
            yield self.server.kick(self.uid)
            yield self.link.whenLost()
            self.link = yield self.dialler.dial()
            self.assertNotEqual(self.dialler.registration.token, first)
            found = yield self.server.awaitDevice(self.uid)
            self.assertEqual(found, [version])

    @inlineCallbacks
    def test_bulkArrivesInBothVersions(self) -> Steps:
        for version in (1, 2):
            yield self.meet(version)
            port = yield self.listen()
            conn = yield self.server.endpointTo(self.uid, "proxy", request="r", host="127.0.0.1", port=port)
            octets = (200 if SOAK else 20) * KIB * KIB
            sent, got = yield gatherResults([conn.send(octets), conn.receive(octets)], consumeErrors=True)
            self.assertEqual(sent["sha256"], got["sha256"])
            yield self._leave()

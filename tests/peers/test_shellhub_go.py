"""
The Go programs of ShellHub with each other: what our own ends are tried against is what it says it is.
"""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.peers._go import GoError
from tests.peers._shellhub import GREETING, MAC, PEM, TENANT, Agentd, Agents, Server
from tunnelstack.wire.records.shellhub_identity import device_uid

KIB = 1 << 10


class GoWithGoTests(TestCase):
    """
    Genuine server, genuine agents, in two programs.
    """

    timeout = 120

    @inlineCallbacks
    def meet(self, version: int, behaviour: dict[str, Any] | None = None, **agent: Any) -> Any:
        self.server = yield Server.start(self, **(behaviour or {}))
        self.agents = Agents.start(self)
        self.authorized, self.agent = yield self.agents.join(self.server.url, version, **agent)
        self.uid = self.authorized.uid
        found = yield self.server.awaitDevice(self.uid)
        self.assertEqual(found, [version])

    @inlineCallbacks
    def failing(self, waiting: Any, kind: str) -> Any:
        error = yield self.assertFailure(waiting, GoError)
        self.assertEqual(error.kind, kind, str(error))
        return error

    @inlineCallbacks
    def test_anAgentIsAuthorized(self) -> Any:
        """
        The digest is the same by cnf/structhash and by us.
        """
        server = yield Server.start(self, config={"yamux_enable_keep_alive": False, "yamux_accept_backlog": 64})
        agents = Agents.start(self)
        said = yield agents.authorize(server.url)
        self.assertEqual(said.uid, device_uid(MAC, PEM, TENANT))
        self.assertEqual((said.name, said.namespace), ("box", "dev"))
        self.assertEqual(said.config, {"yamux_enable_keep_alive": False, "yamux_accept_backlog": 64})
        self.assertEqual(said.info["version"], "v0.26.0")
        signature = yield agents.authKey(server.url, said.token, "aa:bb", '{"Username":"root","Namespace":"box"}')
        self.assertEqual(len(base64.b64decode(signature)), 256)
        yield server.set(auth=403)
        yield self.failing(agents.authorize(server.url, within=0.5), "Timeout")        # it would retry for ever
        yield self.failing(agents.connect(server.url, "not a token", 2), "BadHandshake")
        yield self.failing(agents.connect(server.url, "not a token", 1), "BadHandshake")

    @inlineCallbacks
    def sessions(self, version: int) -> Any:
        yield self.meet(version)
        conns = yield gatherResults(
            [self.server.endpointTo(self.uid, "open", session=f"s{number}") for number in range(8)], consumeErrors=True
        )
        for conn in conns:
            self.assertEqual(conn.version, version)
            greeting = yield conn.read(len(GREETING))
            self.assertEqual(greeting, GREETING)
        for number, conn in enumerate(conns):
            yield conn.write(b"%d" % number)
        for number, conn in enumerate(conns):
            self.assertEqual((yield conn.read(1)), b"%d" % number)
        state = yield self.agent.state()
        self.assertEqual(set(state["sessions"]), {f"s{number}" for number in range(8)})
        yield self.server.endpointTo(self.uid, "close", session="s3")
        data, end = yield conns[3].readToEnd()
        self.assertEqual((data, end), (b"", "EOF" if version == 2 else "Gone"))
        yield conns[4].write(b"still")
        self.assertEqual((yield conns[4].read(5)), b"still")

    def test_sessionsOpenAndCloseInVersion1(self) -> Any:
        return self.sessions(1)

    def test_sessionsOpenAndCloseInVersion2(self) -> Any:
        return self.sessions(2)

    @inlineCallbacks
    def login(self, version: int) -> Any:
        yield self.meet(version, ssh="ssh")
        for number in range(3):
            conn = yield self.server.endpointTo(self.uid, "open", session=f"s{number}")
            yield self.agent.awaitSession(f"s{number}")
            said = yield conn.ssh("cat; exit 3", stdin=b"hello")
            self.assertEqual((said["data"], said["status"]), (b"hello", 3))

        conn = yield self.server.endpointTo(self.uid, "open", session="wrong")
        yield self.agent.awaitSession("wrong")
        yield self.failing(conn.ssh("true", password="no"), "Other")

    def test_loginsSucceedInVersion1(self) -> Any:
        return self.login(1)

    def test_loginsSucceedInVersion2(self) -> Any:
        return self.login(2)

    @inlineCallbacks
    def proxy(self, version: int) -> Any:
        yield self.meet(version)
        port = yield self.agents.echo()
        conn = yield self.server.endpointTo(self.uid, "proxy", request="r1", host="127.0.0.1", port=port)
        stray = b"\n" if version == 2 else b""            # bug B5: what the agent's encoder ends with
        self.assertEqual((yield conn.read(len(stray))) if stray else b"", stray)
        sent, got = yield gatherResults([conn.send(300 * KIB), conn.receive(300 * KIB)], consumeErrors=True)
        self.assertEqual(sent["sha256"], got["sha256"])
        yield conn.close()
        error = yield self.failing(
            self.server.endpointTo(self.uid, "proxy", request="r2", host="127.0.0.1", port=1), "Refused"
        )
        self.assertIn("failed to dial" if version == 2 else "500 Internal Server Error", str(error))

    def test_proxyStreamsReachLocalServersInVersion1(self) -> Any:
        return self.proxy(1)

    def test_proxyStreamsReachLocalServersInVersion2(self) -> Any:
        return self.proxy(2)

    @inlineCallbacks
    def test_numberWhereAStringBelongs(self) -> Any:
        yield self.meet(2)
        yield self.failing(self.server.endpointTo(self.uid, "proxy", host="127.0.0.1", port=[8080]), "EOF")

    @inlineCallbacks
    def test_aStreamToAMuteAgentTimesOut(self) -> Any:
        for version in (1, 2):
            yield self.meet(version, ssh="mute")
            yield self.failing(self.server.endpointTo(self.uid, "proxy", host="127.0.0.1", port=1, within=0.5), "Timeout")

    @inlineCallbacks
    def test_newestWins(self) -> Any:
        """
        Version 1, then version 2 of the same device: the older one is closed, the device was never offline.
        """
        yield self.meet(1)
        yield self.agents.connect(self.server.url, self.authorized.token, 2)
        found = yield self.server.awaitDevice(self.uid, version=2)
        self.assertEqual(found, [2])
        conn = yield self.server.endpointTo(self.uid, "open", session="x")
        self.assertEqual(conn.version, 2)
        events = yield self.server.events()
        self.assertNotIn("offline", {event["what"] for event in events})

    @inlineCallbacks
    def test_aPeerThatDoesNotAnswerPingsIsOffline(self) -> Any:
        yield self.meet(2, {"ping": 0.1, "pong": 0.5})
        yield self.server.awaitEvent(self.uid, "beat", 2)
        self.agents.peer.freeze()
        self.addCleanup(self.agents.peer.thaw)
        yield self.server.awaitDevice(self.uid, 0)
        events = yield self.server.events()
        self.assertEqual(events[-1]["what"], "offline")
        yield self.failing(self.server.endpointTo(self.uid, "open", session="x"), "NoConnection")

    @inlineCallbacks
    def test_agentsReconnect(self) -> Any:
        for version in (1, 2):
            yield self.meet(version, retry=0.5)
            yield self.server.kick(self.uid)
            yield self.server.awaitDevice(self.uid, 0)
            yield self.server.awaitDevice(self.uid, 1)
            yield self.agent.close()
            yield self.server.awaitDevice(self.uid, 0)

    @inlineCallbacks
    def test_manyAgentsAnswerTheirOwnStreams(self) -> Any:
        server = yield Server.start(self)
        agents = Agents.start(self)
        wanted = [(f"02:00:00:00:00:{number:02x}", 1 + number % 2) for number in range(20)]
        members = yield agents.fleet(server.url, wanted)
        self.assertEqual([mac for mac, _ in members], [mac for mac, _ in wanted])
        for mac, uid in members:
            yield server.awaitDevice(uid)
            conn = yield server.endpointTo(uid, "open", session="x")
            self.assertEqual((yield conn.read(len(GREETING) + len(mac))), GREETING + mac.encode())


class AgentdTests(TestCase):
    """
    ShellHub's own agent, whole, with the Go server.
    """

    timeout = 120

    @inlineCallbacks
    def meet(self, version: int) -> Any:
        server = yield Server.start(self)
        agents = Agents.start(self)
        port = yield agents.echo(b"first")
        Agentd.start(self, server.url, version)
        while not (yield server.devices()):
            yield deferLater(reactor, 0.1)
        ((key, versions),) = (yield server.devices()).items()
        uid = key.removeprefix(f"{TENANT}:")
        self.assertEqual(versions, [version])
        conn = yield server.endpointTo(uid, "open", session="s1")
        yield deferLater(reactor, 0.3)          # until it has read what it was asked for
        said = yield conn.ssh("cat; exit 4", stdin=b"hello")
        self.assertEqual((said["data"], said["status"]), (b"hello", 4))
        proxied = yield server.endpointTo(uid, "proxy", host="127.0.0.1", port=port)
        expected = b"\nfirst" if version == 2 else b"first"
        self.assertEqual((yield proxied.read(len(expected))), expected)
        yield self.assertFailure(server.endpointTo(uid, "proxy", host="127.0.0.1", port=1), GoError)
        yield server.endpointTo(uid, "close", session="s1")
        yield conn.readToEnd()

    def test_theWholeAgentServesVersion1(self) -> Any:
        return self.meet(1)

    def test_theWholeAgentServesVersion2(self) -> Any:
        return self.meet(2)

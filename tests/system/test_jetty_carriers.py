"""
Jetty's two carriers at one edge, with whole programs: many requests at a time, visitors who do not read, large bodies in little
memory, streams of events, and connections that change their protocol.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

from tests.ports import freePort
from tests.system.origin import Origin, Talk
from tests.system.stage import Program, Stage
from tests.system.test_strain import Peak
from tunnelstack.control.auth.tokens import newToken

CARRIERS = ("websocket", "grpc")
"""The names of the sites are those of the carriers of their agents."""

MIB = 1024 * 1024
LARGE = 64 * MIB
KEPT = 24 * MIB
"""Octets by which a program may grow while it carries L{LARGE}."""

STALLED = 4 * MIB
"""Octets for a visitor who does not read them: of a WebSocket, which has no credit, an edge holds as many."""

AT_ONCE = 100


class JettyCarriers(Stage):
    """
    An edge, and an agent by each carrier.

    @ivar web: the local web server of both agents.
    """

    timeout = 300
    CONFIG = "--config", "edge.toml"

    def setUp(self) -> None:
        super().setUp()
        self.web = Origin(True)
        self.addCleanup(self.web.close)
        tokens = {carrier: newToken() for carrier in CARRIERS}
        config = "".join(
            f'[[agent]]\nname = "owner-{carrier}"\ntoken_sha256 = "{token.tokenSha256}"\nid = "{token.id}"\n'
            f'allow = ["http:{carrier}"]\n' for carrier, token in tokens.items()
        )
        (self.home / "edge.toml").write_text(
            f'{config}[jetty]\ntransport_mode = "grpc"\ngrpc_listen = "tcp:{freePort()}:interface=127.0.0.1"\n'
        )
        self.edge = self.startEdge(*self.CONFIG)
        self.agents = {carrier: self.startCarrier(carrier, token.token) for carrier, token in tokens.items()}
        for carrier in CARRIERS:
            self.assertEqual(self.sees(carrier, path="/length").body, b"hello")

    def startCarrier(self, carrier: str, token: str) -> Program:
        file = self.home / f"{carrier}.token"
        file.write_text(token)
        file.chmod(0o600)
        return self.program(
            "tunnel-agent", "jetty", str(self.web.port), "--edge", f"http://127.0.0.1:{self.port}", "--token-file", str(file),
            "--name", carrier, "--transport", carrier, "--health-path", "/length",
        )

    def connect(self, buffer: int = 0) -> Talk:
        """
        @param buffer: octets that the visitor's socket receives without being read; 0 is as many as usual.
        """
        visitor = socket.socket()
        if buffer:
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        visitor.settimeout(60)
        visitor.connect(("127.0.0.1", self.port))
        self.addCleanup(visitor.close)
        talk = Talk(visitor)
        visitor.settimeout(60)
        return talk

    def ask(self, talk: Talk, carrier: str, path: str, *fields: str, method: str = "GET") -> Talk:
        talk.say("\r\n".join((f"{method} {path} HTTP/1.1", f"Host: {carrier}.localhost", *fields, "", "")).encode())
        return talk

    def said(self, *arguments: str) -> str:
        """
        What C{tunnelstack} prints.
        """
        done = subprocess.run(
            [*self.command("tunnelstack"), *arguments], env=self.environ, cwd=self.home, capture_output=True, text=True,
            timeout=60, check=True,
        )
        return done.stdout


class ManyTests(JettyCarriers):
    """
    Many exchanges of one agent.
    """

    def test_aVisitorWhoDoesNotReadHoldsNobody(self) -> None:
        for carrier in CARRIERS:
            stalled = self.ask(self.connect(buffer=4096), carrier, f"/large?{STALLED}")
            self.assertEqual(stalled.head().status, 200)
            with ThreadPoolExecutor(AT_ONCE) as visitors:
                answers = list(visitors.map(lambda number: self.visit(
                    carrier, "/echo", method="POST", body=b"%d" % number * 1000, seconds=60
                ), range(AT_ONCE)))
            self.assertEqual(
                [(each.status, each.body) for each in answers], [(200, b"%d" % number * 1000) for number in range(AT_ONCE)]
            )
            self.assertEqual(len(stalled.exactly(STALLED)), STALLED, carrier)


class LargeTests(JettyCarriers):
    """
    Bodies larger than the memory of both programs should be.
    """

    def test_memoryIsConstantBothWays(self) -> None:
        """
        By gRPC; a message of the other carrier holds a whole piece, and its agents send credit for nothing.
        """
        piece = bytes(range(256)) * 256
        digest = hashlib.sha256()
        with Peak(self.edge, self.agents["grpc"]) as peak:
            upload = self.ask(self.connect(), "grpc", "/swallow", f"Content-Length: {LARGE}", method="PUT")
            for _ in range(LARGE // len(piece)):
                upload.say(piece)
                digest.update(piece)
            self.assertEqual(upload.body(upload.head()).decode(), digest.hexdigest())
            received = hashlib.sha256()
            download = self.ask(self.connect(), "grpc", f"/large?{LARGE}")
            self.assertEqual(download.head().field("content-length"), str(LARGE))
            for _ in range(LARGE // len(piece)):
                received.update(download.exactly(len(piece)))
            self.assertEqual(received.hexdigest(), digest.hexdigest())
        for grown in peak.grown:
            self.assertLess(grown, KEPT)


class StreamTests(JettyCarriers):
    """
    What does not end by itself.
    """

    def test_eventsArriveOneByOne(self) -> None:
        for carrier in CARRIERS:
            talk = self.ask(self.connect(), carrier, "/events", "Accept: text/event-stream")
            self.assertEqual(talk.head().field("content-type"), "text/event-stream")
            chunks = talk.chunks()
            for number in range(3):
                self.web.steps.put(b"%d" % number)
                self.assertEqual(next(chunks), b"data: %d\n\n" % number)
            self.web.steps.put(b"")
            self.assertEqual(list(chunks), [])

    def test_aConnectionMayChangeItsProtocol(self) -> None:
        for carrier in CARRIERS:
            talk = self.ask(self.connect(), carrier, "/upgrade", "Upgrade: raw", "Connection: Upgrade")
            self.assertEqual(talk.head().status, 101)
            self.assertEqual(talk.exactly(10), b"here I am.")
            for octets in (b"hello", b"\x00" * 100_000, b"bye"):
                talk.say(octets)
                self.assertEqual(talk.exactly(len(octets)), octets.upper())
            talk.socket.shutdown(socket.SHUT_WR)
            self.assertEqual(talk.rest(), b"!bye")

    def test_aVisitorWhoLeavesEndsTheRequest(self) -> None:
        for carrier in CARRIERS:
            talk = self.ask(self.connect(), carrier, "/silent")
            self.assertEqual(self.web.happened.get(timeout=60), "asked")
            talk.reset()                      # a mere end could be that of one direction only
            self.assertEqual(self.web.happened.get(timeout=60), "gone")

    def test_agentsComeBackToAnEdgeThatWasRestarted(self) -> None:
        self.assertEqual(self.edge.end(), 0)
        self.edge = self.startEdge(*self.CONFIG, port=self.port)
        for carrier in CARRIERS:
            self.assertEqual(self.sees(carrier, path="/length").body, b"hello")
        listed = {each["name"]: each["transports"] for each in json.loads(self.said("jetty", "--json"))["tunnels"]}
        self.assertEqual(listed, {carrier: [carrier] for carrier in CARRIERS})

    def test_healthChecksThatAReloadBringsExamineBoth(self) -> None:
        path = self.home / "edge.toml"
        config = path.read_text()
        check = '[[health]]\nto = "{}"\npath = "/nowhere"\ninterval_seconds = 1\nfailures = 1\n'
        path.write_text(config + "".join(map(check.format, CARRIERS)))
        self.assertIn("[[health]]: 2 added", self.said("reload"))
        for carrier in CARRIERS:
            self.assertIn(b"it answered 404", self.sees(carrier, 503, "/length").body)
        path.write_text(config)
        self.said("reload")
        for carrier in CARRIERS:
            self.assertEqual(self.visit(carrier, "/length").body, b"hello")

    def test_anAgentThatDiesCutsTheResponse(self) -> None:
        for carrier in CARRIERS:
            talk = self.ask(self.connect(), carrier, f"/large?{LARGE}")
            self.assertEqual(talk.head().status, 200)
            talk.exactly(MIB)
            self.agents[carrier].drop()
            self.assertLess(self.left(talk), LARGE - MIB)

    def left(self, talk: Talk) -> int:
        """
        @return: octets that are received until the connection is closed or reset.
        """
        received = 0
        with contextlib.suppress(ConnectionError):
            while octets := talk.more():
                received += len(octets)
        return received

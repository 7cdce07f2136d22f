"""
koding/tunnel against its genuine server and client, github.com/koding/tunnel.

Tests whose docstrings name a function of its own suite (C{tunnel_test.go}, C{websocket_test.go}) do as it does, with
a genuine client and our edge, and with a genuine server and our agent.  docs/protocols/koding-tunnel.md has the differences.
"""

from __future__ import annotations

import os
import shutil
import socket
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.peers._go import PROGRAMS, GoPeer, program
from tests.peers._koding import OurAgent, OurEdge
from tests.peers._ours import pause
from tests.ports import freePort
from tunnelstack.dialect.koding.settings import HostSettings
from tunnelstack.dialect.koding.states import ClientState, StateChange

HTTP = "http.test"
UPGRADE = (
    "GET /eager HTTP/1.1\r\nHost: http.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Page(Protocol):
    """
    Answers each request with its target.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        target = data.split(b" ")[1]
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))


class GenuineSuiteTests(TestCase):
    """
    The suite of the genuine project, against itself.  Some of its tests are races that a busy machine loses, so it may be
    repeated.
    """

    timeout = 360

    @inlineCallbacks
    def test_theGenuineSuitePasses(self) -> Any:
        program("koding")                    # skips where it cannot be built
        go = shutil.which("go") or ""
        for _ in range(3):
            out, err, code = yield getProcessOutputAndValue(
                go, ["test", "-count=1", "-vet=off", "github.com/koding/tunnel"], env=os.environ, path=str(PROGRAMS / "koding")
            )
            if not code:
                break
        self.assertEqual(code, 0, (out + err).decode(errors="replace")[-4000:])


class Suite:
    """
    Counterparts of the genuine suite.
    """

    go: Any
    port: int
    begin: Any
    client: Any
    visit: Any
    openPort: Any
    stop: Any
    assertEqual: Any
    assertIn: Any

    @inlineCallbacks
    def single(self, latency: float = 0.0) -> Any:
        """
        One host with one client.
        """
        yield self.begin({HTTP: "http"})
        self.local = yield self.go.call("local-http", latency=latency)
        self.connected = yield self.client("http", self.local["port"])

    @inlineCallbacks
    def singleTCP(self, latency: float = 0.0) -> Any:
        """
        One TCP port with one client.
        """
        local = yield self.go.call("local-tcp", latency=latency)
        self.public = yield self.openPort("http", local["port"])

    @inlineCallbacks
    def test_manyRequestsAreAnswered(self) -> Any:
        """
        C{TestMultipleRequest}.
        """
        yield self.single()
        yield self.visit("get", self.port, HTTP, count=100)

    @inlineCallbacks
    def test_manyRequestsToASlowServerAreAnswered(self) -> Any:
        """
        C{TestMultipleLatencyRequest}.
        """
        yield self.single(2.0)
        yield self.visit("get", self.port, HTTP, count=100)

    @inlineCallbacks
    def test_aRequestIsAnswered(self) -> Any:
        """
        C{TestSingleRequest}.
        """
        yield self.single()
        yield self.visit("get", self.port, HTTP, count=1)

    @inlineCallbacks
    def test_aRequestToASlowServerIsAnswered(self) -> Any:
        """
        C{TestSingleLatencyRequest}.
        """
        yield self.single(2.0)
        yield self.visit("get", self.port, HTTP, count=1)

    @inlineCallbacks
    def test_aClientWithoutItsServerAnswers503(self) -> Any:
        """
        C{TestNoLocalServer}.
        """
        yield self.single()
        yield self.go.call("local-close", number=self.local["number"])
        said = yield self.visit("get", self.port, HTTP)
        self.assertEqual((said["status"], said["body"]), (503, "no local server"))

    @inlineCallbacks
    def test_aConnectionOfTCPIsServed(self) -> Any:
        """
        C{TestSingleTCP}.
        """
        yield self.singleTCP()
        yield self.visit("tcp", self.public, "")

    @inlineCallbacks
    def test_manyConnectionsOfTCPAreServed(self) -> Any:
        """
        C{TestMultipleTCP}.
        """
        yield self.singleTCP()
        yield self.visit("tcp", self.public, "", count=100)

    @inlineCallbacks
    def test_manyConnectionsToASlowServerAreServed(self) -> Any:
        """
        C{TestMultipleLatencyTCP}.
        """
        yield self.singleTCP(2.0)
        yield self.visit("tcp", self.public, "", count=100)

    @inlineCallbacks
    def test_aWebSocketIsForwarded(self) -> Any:
        """
        C{TestWebsocket}.
        """
        yield self.single()
        yield self.visit("websocket", self.port, HTTP, count=10)

    @inlineCallbacks
    def test_aWebSocketToASlowServerIsForwarded(self) -> Any:
        """
        C{TestLatencyWebsocket}.
        """
        yield self.single(2.0)
        yield self.visit("websocket", self.port, HTTP, count=10)

    # Beyond the suite

    @inlineCallbacks
    def test_bodiesArriveInChunks(self) -> Any:
        yield self.single()
        said = yield self.visit("post", self.port, HTTP, size=700_000, count=10)
        self.assertEqual(said["coding"], "chunked")

    @inlineCallbacks
    def test_hostsMayHaveCapitalsAndPorts(self) -> Any:
        yield self.begin({HTTP: "http", "two.test": "http", "three.test": "other"})
        for identifier in ("http", "other"):
            local = yield self.go.call("local-http")
            yield self.client(identifier, local["port"])
        for host in (HTTP, "two.test", "three.test", "HTTP.Test:8080", "Three.TEST"):
            yield self.visit("get", self.port, host, count=10)


class GenuineClientTests(Suite, OurEdge):
    """
    Genuine clients, our edge.
    """

    @inlineCallbacks
    def openPort(self, identifier: str, local: int) -> Any:
        port = freePort()
        yield self.begin({HTTP: identifier}, {port: (HTTP, "")})
        yield self.client(identifier, tcp={port: local})
        return port

    @inlineCallbacks
    def test_aClientThatReconnectsIsServed(self) -> Any:
        """
        C{TestReconnectClient}.
        """
        yield self.single()
        yield self.visit("get", self.port, HTTP, count=1)
        yield self.go.call("close", number=self.connected)
        yield self.go.call("restart", number=self.connected)
        yield self.visit("get", self.port, HTTP, count=1)

    @inlineCallbacks
    def test_theEndOfAClientIsReported(self) -> Any:
        """
        C{TestNoClient}.
        """
        changes: list[StateChange] = []
        yield self.begin({HTTP: "http"})
        self.dialect.states.watch(changes.append)
        number = yield self.client("http", 1)
        yield self.go.call("close", number=number)
        yield self.until(lambda: len(changes) == 2)
        self.assertEqual(
            [(change.previous, change.current) for change in changes],
            [(ClientState.UNKNOWN, ClientState.CONNECTED), (ClientState.CONNECTED, ClientState.CLOSED)],
        )
        states = yield self.statesToTheEnd(number)
        self.assertEqual(states[:4], ["ClientStarted", "ClientConnecting", "ClientConnected", "ClientDisconnected"])
        self.assertIn(states[4:-1], ([], ["ClientConnecting"]), "it may begin to dial before it reads that it is closed")
        said = yield self.visit("get", self.port, HTTP)
        self.assertEqual(said["status"], 503)
        self.assertIn("The agent of this site is not connected.", said["body"])

    @inlineCallbacks
    def test_anUnknownClientIsRejected(self) -> Any:
        """
        C{TestNoHost}.
        """
        changes: list[StateChange] = []
        yield self.begin({HTTP: "http"})
        self.dialect.states.watch(changes.append)
        for count in (1, 2):
            said = yield self.go.call(
                "client", identifier="unknown", server=f"127.0.0.1:{self.port}", once=True, wait=False
            )
            yield self.until(lambda: len(changes) == count)
            yield self.statesToTheEnd(said["number"])
        self.assertEqual([change.current for change in changes], [ClientState.CLOSED, ClientState.CLOSED])
        self.assertIn("no host has its identifier", str(changes[0].error))

    @inlineCallbacks
    def test_severalPortsOfAClientAreServed(self) -> Any:
        """
        C{TestMultipleStreamTCP}: ports of all addresses and of one, for one client.
        """
        plain, one, two = freePort(), freePort(), freePort()
        yield self.begin({HTTP: "http"}, {plain: (HTTP, ""), one: (HTTP, "127.0.0.1"), two: (HTTP, "127.0.0.2")})
        local = yield self.go.call("local-tcp")
        web = yield self.go.call("local-http")
        yield self.client("http", web["port"], tcp=dict.fromkeys((plain, one, two), local["port"]))
        yield gatherResults([
            self.visit("tcp", plain, "", count=33), self.visit("tcp", one, "", count=33),
            self.visit("tcp", two, "", count=33, server="127.0.0.2"), self.visit("get", self.port, HTTP, count=20),
        ], consumeErrors=True)  # fmt: skip

    @inlineCallbacks
    def test_duplicatesReplaceEachOther(self) -> Any:
        yield self.single()
        first = self.connected
        second = yield self.client("http", self.local["port"])
        yield self.visit("get", self.port, HTTP, count=20)
        said = yield self.go.call("states", number=first)
        self.assertIn("http ClientConnected ClientDisconnected", said["states"])
        yield self.go.call("close", number=second)
        yield pause(1.0)                       # the other one may have to dial once more
        yield self.until(lambda: len(list(self.edge.registry)) == 1)
        yield self.visit("get", self.port, HTTP, count=20)

    @inlineCallbacks
    def test_itConnectsAgainAfterALoss(self) -> Any:
        yield self.single()
        for _ in range(2):
            (tunnel,) = self.edge.registry
            connected = self.dialect.states.when("koding.http.test", ClientState.CONNECTED)
            tunnel.abort("killed by the test")
            yield connected
            yield self.visit("get", self.port, HTTP, count=5)

    @inlineCallbacks
    def test_aKilledClientIsReplaced(self) -> Any:
        yield self.single()
        yield self.go.kill()
        yield self.until(lambda: not list(self.edge.registry))
        self.setUp()
        local = yield self.go.call("local-http")
        yield self.client("http", local["port"])
        yield self.visit("get", self.port, HTTP, count=5)

    @inlineCallbacks
    def test_hostsAreAddedAndRevokedWhileItRuns(self) -> Any:
        yield self.single()
        post = self.dialect.postHandlers
        post[b"/koding/hosts/add"]({"host": "new.test", "identifier": "new"})
        number = yield self.client("new", self.local["port"])
        yield self.visit("get", self.port, "new.test", count=5)
        post[b"/koding/hosts/revoke"]({"host": "new.test"})
        yield self.until(lambda: len(list(self.edge.registry)) == 1)
        said = yield self.visit("get", self.port, "new.test")
        self.assertEqual(said["status"], 404)
        yield self.visit("get", self.port, HTTP, count=5)
        yield pause(1.0)
        said = yield self.go.call("states", number=number)
        self.assertEqual(said["states"][-1].split()[-1], "ClientConnecting")

    @inlineCallbacks
    def test_aReloadAddsAHostAndKeepsTheSession(self) -> Any:
        yield self.single()
        from tunnelstack.dialect.koding.host_store import digestOf

        added = HostSettings(host="added.test", identifierSha256=digestOf(b"http"))
        tables = {**self.tables, "koding.host": (*self.tables["koding.host"], added)}
        self.edge.reload(evolve(self.edge.config, dialects={"koding": tables}))
        yield self.visit("get", self.port, "added.test", count=5)
        said = yield self.go.call("states", number=self.connected)
        self.assertEqual(len(said["states"]), 3)

    @inlineCallbacks
    def test_eventsAreNotHeldBack(self) -> Any:
        yield self.single()
        said = yield self.visit("events", self.port, HTTP)
        self.assertEqual(said["events"], 3)

    @inlineCallbacks
    def test_interimResponsesAndEagerMessagesArrive(self) -> Any:
        yield self.single()
        said = yield self.visit("get", self.port, HTTP, path="hints")
        self.assertEqual(said["body"], "after hints")
        said = yield self.visit("raw", self.port, HTTP, octets=UPGRADE, until="late!")
        self.assertTrue(said["data"].endswith(b"\r\n\r\n\x81\x05late!"), said["data"])

    @inlineCallbacks
    def test_aStreamThatComesLateIsNotTakenForAnother(self) -> Any:
        """
        The client stands still, so its streams come late; the genuine server would fail every request from then on.
        """
        yield self.begin({HTTP: "http"}, openSeconds=3.0)
        local = yield self.go.call("local-http")
        still = GoPeer.start(self, "koding")
        yield still.call(
            "client", identifier="http", server=f"127.0.0.1:{self.port}", http=f"127.0.0.1:{local['port']}"
        )
        yield self.visit("get", self.port, HTTP, count=5)
        (tunnel,) = self.edge.registry
        for _ in range(2):
            announced = tunnel.session.streamsOpened + 1 + 20
            still.freeze()
            said = yield self.visit("get", self.port, HTTP)
            self.assertEqual(said["status"], 503)
            still.thaw()
            yield self.visit("get", self.port, HTTP, count=20)
            yield self.until(lambda count=announced: tunnel.session.streamsOpened == count)     # the late one has come, too

    @inlineCallbacks
    def test_theVisitorThatLeavesIsPassedOn(self) -> Any:
        """
        The genuine server leaves the stream open.
        """
        local = yield self.go.call("local-tcp")
        port = yield self.openPort("http", local["port"])
        (tunnel,) = self.edge.registry
        with socket.create_connection(("127.0.0.1", port)):
            yield pause(0.2)
        yield self.until(lambda: tunnel.inFlight == 0)


class GenuineServerTests(Suite, OurAgent):
    """
    A genuine server, our agent.
    """

    @inlineCallbacks
    def openPort(self, identifier: str, local: int) -> Any:
        yield self.begin({HTTP: identifier})
        said = yield self.go.call("add-addr", identifier=identifier)
        yield self.client(identifier, tcp={said["port"]: local}, http=("1",))
        return said["port"]

    @inlineCallbacks
    def test_aClientThatReconnectsIsServed(self) -> Any:
        """
        C{TestReconnectClient}.
        """
        yield self.single()
        yield self.visit("get", self.port, HTTP, count=1)
        yield self.connected.stopService()
        yield self.client("http", self.local["port"])
        yield self.visit("get", self.port, HTTP, count=1)

    @inlineCallbacks
    def test_theEndOfAClientIsReported(self) -> Any:
        """
        C{TestNoClient}.
        """
        yield self.begin({HTTP: "http"})
        agent = yield self.client("http", 1)
        changes: list[str] = []
        self.dialectOf(agent).states.watch(lambda change: changes.append(str(change.current)))
        gone = self.go.call("disconnected", identifier="http")
        yield self.go.call("states", number=0)             # the callback is registered by now
        yield agent.stopService()
        yield gone
        self.assertEqual(changes, ["ClientClosed"])
        said = yield self.go.call("states", number=0)
        self.assertEqual(said["states"], [
            "http ClientUnknown ClientConnected", "http ClientConnected ClientClosed",
        ])
        said = yield self.visit("get", self.port, HTTP)
        self.assertEqual((said["status"], said["body"]), (502, "no client session established\n"))

    @inlineCallbacks
    def test_anUnknownClientIsRejected(self) -> Any:
        """
        C{TestNoHost}.
        """
        yield self.begin({HTTP: "http"})
        agent = yield self.client("unknown", 1, wait=False)
        error = yield agent.whenFailed()
        self.assertEqual(error.code, 77)
        said = yield self.go.call("states", number=0)
        self.assertEqual(said["states"], ["unknown ClientUnknown ClientClosed"])

    @inlineCallbacks
    def test_severalPortsOfAClientAreServed(self) -> Any:
        """
        C{TestMultipleStreamTCP}, but not together with HTTP: the genuine server confuses streams of several kinds that arrive
        at once (bug 3).
        """
        yield self.begin({HTTP: "http"})
        ports = []
        for ip in ("", "127.0.0.1"):
            said = yield self.go.call("add-addr", identifier="http", ip=ip)
            ports.append(said["port"])
        local = yield self.go.call("local-tcp")
        web = yield self.go.call("local-http")
        yield self.client("http", web["port"], tcp=dict.fromkeys(ports, local["port"]))
        yield gatherResults([self.visit("tcp", port, "", count=50) for port in ports], consumeErrors=True)
        yield self.visit("get", self.port, HTTP, count=20)

    @inlineCallbacks
    def test_itConnectsAgainAfterAKill(self) -> Any:
        yield self.single()
        before = yield self.connections("http")
        link = self.connected.links[0].uplink.link
        link.session.abort()
        while (yield self.connections("http")) == before:
            yield pause(0.01)
        yield self.visit("get", self.port, HTTP, count=5)

    @inlineCallbacks
    def test_aKilledServerIsDialledUntilItIsBack(self) -> Any:
        listening: Any = reactor.listenTCP(0, Factory.forProtocol(Page), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        yield self.begin({HTTP: "http"}, freePort())
        yield self.client("http", listening.getHost().port)
        yield self.go.kill()
        yield pause(0.8)
        self.setUp()
        yield self.go.call("serve", hosts={HTTP: "http"}, port=self.port)
        while not (yield self.connections("http")):
            yield pause(0.05)
        said = yield self.visit("get", self.port, HTTP, path="again")
        self.assertEqual(said["body"], "/again?echo=hello0")

    @inlineCallbacks
    def test_duplicatesDisplaceTheFirstOnce(self) -> Any:
        """
        The server ends both, and the second is accepted when it dials again.
        """
        yield self.single()
        first = self.connected
        dialect = self.dialectOf(first)
        displaced = dialect.states.when(dialect.address, ClientState.DISCONNECTED)
        displaced.addCallback(lambda _: first.stopService())       # when it dialled again it would displace the second
        yield self.client("http", self.local["port"])
        yield displaced
        yield self.visit("get", self.port, HTTP, count=5)

    @inlineCallbacks
    def test_aTargetThatIsMissingPoisonsNothing(self) -> Any:
        yield self.begin({HTTP: "http"})
        local = yield self.go.call("local-http")
        yield self.client("http", (f"{self.port}={local['port']}",))
        for _ in range(3):
            said = yield self.visit("get", self.port, HTTP)
            self.assertEqual((said["status"], said["body"]), (503, "no local server"))
        yield self.visit("get", self.port, f"{HTTP}:{self.port}", count=5)

    @inlineCallbacks
    def test_interimResponsesAreLeftOut(self) -> Any:
        """
        The genuine server takes them for final ones.
        """
        yield self.single()
        said = yield self.visit("get", self.port, HTTP, path="hints")
        self.assertEqual((said["status"], said["body"]), (200, "after hints"))

    @inlineCallbacks
    def test_anEagerMessageIsNotLost(self) -> Any:
        """
        The genuine server loses what arrives together with the head.
        """
        yield self.single()
        said = yield self.visit("raw", self.port, HTTP, octets=UPGRADE, until="late!")
        self.assertTrue(said["data"].endswith(b"\r\n\r\n\x81\x05late!"), said["data"])

    @inlineCallbacks
    def test_aBodyUntilTheEndOfTheConnectionEnds(self) -> Any:
        """
        With a genuine client it never does.
        """
        class Old(Protocol):
            transport: Any

            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
                self.transport.loseConnection()

        listening: Any = reactor.listenTCP(0, Factory.forProtocol(Old), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        yield self.begin({HTTP: "http"})
        yield self.client("http", listening.getHost().port)
        said = yield self.visit("get", self.port, HTTP)
        self.assertEqual(said["body"], "all of it")

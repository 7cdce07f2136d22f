"""
Genuine programs beside ours on a link of 60 kB/s, with all defaults: hashicorp/yamux over both carriers, and ShellHub's ends.

A Go session is closed when one of its pings is not answered within 10 seconds.  So what we have handed down and not sent, and
what a peer may send before it gets more credit, must be less than the link carries in that time.  The tests take minutes, and
run with C{TUNNELSTACK_SOAK=1} only.
"""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from tests.cases.relay import SlowRelay
from tests.peers import test_shellhub
from tests.peers._go import GoPeer
from tests.peers._ours import SOAK, MeetsGo, Pump, Watched, awaitOne, factoryOf, ours, reach
from tests.peers._shellhub import TENANT, Agents
from tests.peers.test_shellhub import Steps
from tunnelstack.wire.records.shellhub import HTTPProxy

RATE = 60_000
OCTETS = 75 * RATE
"""Octets of each transfer: of two pings of Go and more."""

QUEUE = 32_768
"""Octets of the relay's receive buffers, which Linux doubles: a second of the link.  Both directions are full, and a ping waits
in both."""

PATIENCE = 10.0
"""Seconds in which Go's default configuration has its ping answered."""


class SlowLinkWithGo(MeetsGo):
    """
    What holds on either carrier, whoever dials.
    """

    timeout = 400

    @inlineCallbacks
    def meet(self: Any, **config: Any) -> Any:
        """
        As in L{MeetsGo}, through a relay that is slow in both directions.
        """
        self.peer = GoPeer.start(self)
        self.session = ours(self, self.client)
        config.update(carrier=self.carrier, role="server" if self.client else "client")
        if self.weDial:
            port = (yield self.peer.call("listen", **config))["port"]
            yield reach(self.carrier, SlowRelay(port, RATE, upward=True, downward=True, buffer=QUEUE).port, self.session)
            self.there = (yield self.peer.call("arrived"))["session"]
        else:
            port = yield awaitOne(self, self.carrier, self.session)
            relay = SlowRelay(port, RATE, upward=True, downward=True, buffer=QUEUE)
            self.there = (yield self.peer.call("dial", port=relay.port, **config))["session"]
            yield self.session.whenUp()

    @inlineCallbacks
    def test_bulkInBothDirectionsOutlivesPings(self: Any) -> Any:
        if not SOAK:
            raise SkipTest("takes minutes: TUNNELSTACK_SOAK=1 runs it")
        yield self.meet()
        sink, trips = Watched(), []
        yield self.listen(sink)
        pump = yield self.connect(Pump(OCTETS))
        taken = (yield self.ask("accept"))["stream"]
        opened = (yield self.ask("open"))["stream"]
        pings = LoopingCall(lambda: self.session.ping().addCallbacks(trips.append, lambda failure: None))
        pings.start(5.0)
        self.addCleanup(pings.stop)
        got, sent = yield gatherResults([
            self.peer.call("receive", stream=taken, timeout=300),
            self.peer.call("send", stream=opened, octets=OCTETS, timeout=300),
        ])
        self.assertEqual((got["octets"], got["sha256"]), (OCTETS, pump.sentSum.hexdigest()))
        yield sink.whenCount(OCTETS)
        self.assertEqual(sink.sum.hexdigest(), sent["sha256"])
        stats = yield self.ask("stats")
        self.assertEqual((stats["log"], stats["closed"]), ([], False))
        self.assertGreater(len(trips), 5)
        self.assertLess(max(trips), PATIENCE)


class ClientOverTCPTests(SlowLinkWithGo, TestCase):
    """
    We dial and are the yamux client.
    """

    carrier, client, weDial = "tcp", True, True


class ServerOverTCPTests(SlowLinkWithGo, TestCase):
    """
    Go dials and is the yamux client.
    """

    carrier, client, weDial = "tcp", False, False


class ClientOverWebSocketTests(SlowLinkWithGo, TestCase):
    """
    Go dials and is the yamux server: an edge that opens streams to its agents.
    """

    carrier, client, weDial = "ws", True, False


class ServerOverWebSocketTests(SlowLinkWithGo, TestCase):
    """
    We dial and are the yamux server: an agent.
    """

    carrier, client, weDial = "ws", False, True


class SlowDeviceTests(TestCase):
    """
    A genuine agent of ShellHub, version 2, at our edge.
    """

    timeout = 400
    serve, until = test_shellhub.OurEdgeTests.serve, test_shellhub.OurEdgeTests.until

    @inlineCallbacks
    def test_bulkInBothDirectionsOutlivesPings(self) -> Steps:
        if not SOAK:
            raise SkipTest("takes minutes: TUNNELSTACK_SOAK=1 runs it")
        yield self.serve()
        relay = SlowRelay(self.edge.addresses[0].port, RATE, upward=True, downward=True, buffer=QUEUE)
        self.agents = Agents.start(self)
        authorized, agent = yield self.agents.join(f"http://127.0.0.1:{relay.port}", 2)
        yield self.until(lambda: self.fleet.find(TENANT, authorized.uid))
        port = yield self.agents.echo()
        endpoint = self.fleet.endpointTo(TENANT, authorized.uid, HTTPProxy("127.0.0.1", port))
        pump = yield endpoint.connect(factoryOf(Pump(OCTETS, endless=True)))
        yield pump.whenCount(OCTETS)
        self.assertEqual(pump.sum.hexdigest(), pump.sentSum.hexdigest())
        state = yield agent.state()
        self.assertEqual((state["up"], state["tunnels"], self.gone), (True, 1, []))
        pump.transport.loseConnection()


class SlowServerTests(TestCase):
    """
    Our agent at a genuine server of ShellHub, version 2.
    """

    timeout = 400
    meet, listen = test_shellhub.OurAgentTests.meet, test_shellhub.OurAgentTests.listen
    _sshd, _leave = test_shellhub.OurAgentTests._sshd, test_shellhub.OurAgentTests._leave

    @inlineCallbacks
    def test_bulkInBothDirectionsOutlivesPings(self) -> Steps:
        if not SOAK:
            raise SkipTest("takes minutes: TUNNELSTACK_SOAK=1 runs it")
        yield self.meet(2, through=self.slow)
        port = yield self.listen()
        conn = yield self.server.endpointTo(self.uid, "proxy", request="r1", host="127.0.0.1", port=port)
        sent, got = yield gatherResults([conn.send(OCTETS), conn.receive(OCTETS, within=200)])
        self.assertEqual(sent["sha256"], got["sha256"])
        self.assertEqual((yield self.server.devices()), {f"{TENANT}:{self.uid}": [2]})

    def slow(self, url: str) -> str:
        """
        The URL of a relay to the server of this URL.
        """
        relay = SlowRelay(int(url.rpartition(":")[2]), RATE, upward=True, downward=True, buffer=QUEUE)
        return f"http://127.0.0.1:{relay.port}"

"""
The judges themselves: two Go programs with each other.  What fails here is no fault of tunnelstack.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from tests.peers._go import GoError, GoPeer

MIB = 1 << 20


class GoWithGo:
    """
    Two Go peers over one carrier, the dialler being the yamux client or its server.
    """

    carrier: str
    dialler: str
    fragment = 0

    @inlineCallbacks
    def setUp(self) -> Any:
        self.near, self.far = GoPeer.start(self), GoPeer.start(self)
        how = {"carrier": self.carrier, "fragment": self.fragment}
        listener = {"client": "server", "server": "client"}[self.dialler]
        port = (yield self.far.call("listen", role=listener, **how))["port"]
        self.here = (yield self.near.call("dial", role=self.dialler, port=port, **how))["session"]
        self.there = (yield self.far.call("arrived"))["session"]

    @inlineCallbacks
    def test_streamsOpenedByEitherSideAreEchoed(self) -> Any:
        pairs = [(self.near, self.here, self.far, self.there), (self.far, self.there, self.near, self.here)]
        for opener, mine, server, its in pairs:
            yield server.call("serve", session=its, protocols={"/echo": "echo"})
            report = yield opener.call("drive", session=mine, streams=50, octets=5000, protocol="/echo", together=True)
            self.assertEqual((report["good"], report["errors"]), (50, {}))

    @inlineCallbacks
    def test_bulkArrivesWhole(self) -> Any:
        opened = (yield self.near.call("open", session=self.here))["stream"]
        taken = (yield self.far.call("accept", session=self.there))["stream"]
        receiving = self.far.call("receive", stream=taken)
        sent = yield self.near.call("send", stream=opened, octets=4 * MIB)
        yield self.near.call("close", stream=opened)
        received = yield receiving
        self.assertEqual(received["octets"], 4 * MIB)
        self.assertEqual(received["sha256"], sent["sha256"])

    @inlineCallbacks
    def test_errorsHaveNames(self) -> Any:
        yield self.far.call("serve", session=self.there, protocols={"/echo": "echo"})
        opened = (yield self.near.call("open", session=self.here))["stream"]
        failed = self.near.call("negotiate", stream=opened, how="fail", protocols=["/other"])
        error = yield self.assertFailure(failed, GoError)
        self.assertEqual(error.kind, "NotSupported")
        yield self.far.call("close-session", session=self.there)
        ended = yield self.near.call("lost", session=self.here)
        self.assertEqual(ended["kind"], "EOF")


class GoWithGoOverTCPTests(GoWithGo, TestCase):
    carrier, dialler = "tcp", "client"


class GoWithGoOverWebSocketTests(GoWithGo, TestCase):
    carrier, dialler = "ws", "server"


class GoWithGoInFragmentsTests(GoWithGo, TestCase):
    carrier, dialler, fragment = "ws", "client", 7


class GoPeerTests(TestCase):
    """
    The way a test drives a program.
    """

    def test_killedPeerFailsWhatWaits(self) -> Deferred[Any]:
        peer = GoPeer.start(self)
        waiting = self.assertFailure(peer.call("arrived"), Exception)
        return gatherResults([waiting, peer.kill()])

    def test_unknownCommandIsAnError(self) -> Deferred[Any]:
        return self.assertFailure(GoPeer.start(self).call("jump"), GoError)

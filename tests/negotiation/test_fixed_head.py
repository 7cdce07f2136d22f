"""
Streams that begin with a head of fixed length, and what becomes of those that are refused.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.promises.streams import Collect
from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.negotiation.endpoint import NegotiatingEndpoint, NegotiatingFactory
from tunnelstack.testing import sessionPair
from tunnelstack.wire.negotiation.fixed_head import FixedHeadInitiator, FixedHeadResponder


def decode(head: bytes) -> tuple[bytes, dict[str, Any]]:
    if head[:1] == b"!":
        raise PeerError("the head is bad")
    return head[:1], {"rest": head[1:]}


@implementer(IDiallingHandler)
class Unreachable:
    def connect(self, address: Any) -> Deferred[Any]:
        return fail(Unavailable("nobody is there"))


class FixedHeadTests(SynchronousTestCase):
    cut: int | None = None

    def setUp(self) -> None:
        self.accepted: list[Collect] = []
        self.refused: list[tuple[int, str]] = []
        test = self

        class Accepting(Factory):
            def buildProtocol(self, address: Any) -> Any:
                test.accepted.append(Collect())
                return test.accepted[-1]

        class Declining(Factory):
            def buildProtocol(self, address: Any) -> None:
                return None

        def refuse(transport: Any, reason: str) -> None:
            self.refused.append((transport.streamId, reason))
            transport.loseConnection()

        factory = NegotiatingFactory(
            {b"a": Accepting(), b"d": Declining(), b"u": Unreachable()}, onRefusal=refuse,
            makeNegotiation=lambda: FixedHeadResponder(4, decode, 10.0),
        )
        self.wire, self.near, self.far = sessionPair(factory, cut=self.cut)
        self.wire.settle()

    def open(self, head: bytes) -> Any:
        endpoint = NegotiatingEndpoint(self.near.connector, lambda: FixedHeadInitiator(b"x", head))
        protocol = self.successResultOf(endpoint.connect(Factory.forProtocol(Collect)))
        protocol.transport.write(b"body")
        self.wire.settle()
        return protocol

    def test_aHandlerHasWhatFollowsTheHead(self) -> None:
        near = self.open(b"a123")
        self.assertEqual(self.accepted[0].got, b"body")
        self.accepted[0].transport.write(b"answer")  # type: ignore[union-attr]
        self.wire.settle()
        self.assertEqual((near.got, self.refused), (b"answer", []))

    def test_whoeverRefusesClosesTheStream(self) -> None:
        for head, reason in (
            (b"!123", "the head is bad"), (b"d123", "the handler refused the stream"), (b"u123", "nobody is there"),
            (b"z123", "there is no handler of that name"),
        ):  # fmt: skip
            near = self.open(head)
            self.assertEqual([why for _, why in self.refused], [reason])
            self.refused.clear()
            self.assertEqual(near.reason.getErrorMessage(), "Connection was closed cleanly.")

    def test_aHeadThatIsLate(self) -> None:
        near = self.successResultOf(self.near.connector.connect(Factory.forProtocol(Collect)))
        near.transport.write(b"a12")
        self.wire.settle()
        self.wire.clock.advance(9)
        self.assertEqual(self.refused, [])
        self.wire.clock.advance(1)
        self.wire.settle()
        self.assertIn("did not finish in time", self.refused[0][1])
        self.assertIsNotNone(near.reason)


class CutFixedHeadTests(FixedHeadTests):
    cut = 1

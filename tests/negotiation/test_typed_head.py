"""
Streams that begin with a type and metadata, over two sessions.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.promises.streams import Collect
from tunnelstack.negotiation.typed_head import TypedHeadFactory, typedHeadEndpoint
from tunnelstack.testing import sessionPair
from tunnelstack.wire.negotiation.typed_head import METADATA, TypedHead


class TypedHeadTests(SynchronousTestCase):
    cut: int | None = None

    def setUp(self) -> None:
        self.accepted: list[Collect] = []
        self.addresses: list[Any] = []
        test = self

        class Accepting(Factory):
            noisy = False

            def buildProtocol(self, address: Any) -> Any:
                test.addresses.append(address)
                test.accepted.append(Collect())
                return test.accepted[-1]

        self.wire, self.near, self.far = sessionPair(
            TypedHeadFactory({b"one": Accepting()}, {1: b"one", 2: b"two"}, limit=64), cut=self.cut
        )
        self.wire.settle()

    def open(self, name: bytes, head: TypedHead, write: bytes = b"", ownFrame: bool = False) -> Any:
        opened = typedHeadEndpoint(self.near.connector, name, head, ownFrame=ownFrame).connect(Factory.forProtocol(Collect))
        protocol = self.successResultOf(opened)
        protocol.transport.write(write)
        self.wire.settle()
        return protocol

    def test_theHandlerHasTheMetadataAndTheOctets(self) -> None:
        near = self.open(b"one", TypedHead(1, b"hello"), b"body")
        (address,), (far,) = self.addresses, self.accepted
        self.assertEqual((address.protocol, address.parameters), (b"one", {METADATA: b"hello"}))
        self.assertEqual(far.got, b"body")
        far.transport.write(b"answer")
        self.wire.settle()
        self.assertEqual(near.got, b"answer")

    def test_theHeadMayHaveAFrameOfItsOwn(self) -> None:
        self.open(b"one", TypedHead(1, b"hello"), b"body", ownFrame=True)
        self.assertEqual(self.accepted[0].got, b"body")

    def assertReset(self, head: TypedHead) -> None:
        bystander = self.open(b"one", TypedHead(1))
        near = self.open(b"any", head)
        self.assertIsNotNone(near.reason)
        self.assertIsNone(bystander.reason)
        self.assertIsNone(self.far.lostReason())

    def test_anUnknownTypeCostsItsStreamOnly(self) -> None:
        self.assertReset(TypedHead(9))

    def test_aTypeWithoutAHandlerCostsItsStreamOnly(self) -> None:
        self.assertReset(TypedHead(2))

    def test_tooMuchMetadataCostsItsStreamOnly(self) -> None:
        self.assertReset(TypedHead(1, bytes(65)))


class CutTypedHeadTests(TypedHeadTests):
    cut = 1

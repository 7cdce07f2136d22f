"""
The whole stack against what the genuine programs say: yamux, multistream-select, and an application above them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.promises.streams import Collect, HalfCollect
from tests.wire.vectors_multistream import STACKED, octets
from tunnelstack.negotiation.multistream import MultistreamFactory, multistreamEndpoint
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.testing import Wire
from tunnelstack.wire.negotiation.base import Release
from tunnelstack.wire.yamux.limits import SessionLimits

NAME = b"/ssh/open/1.0.0"


class Go(Collect):
    """
    The genuine program's octets, said by hand.
    """


class StackedTests(SynchronousTestCase):
    """
    The transcripts N8, N9 and N10.
    """

    def meet(self, client: bool, cut: int | None = None) -> None:
        self.wire = Wire(cut=cut)
        self.ours = YamuxSession(client, clock=self.wire.clock, limits=SessionLimits(keepalive=0))
        self.go = Go()
        self.wire.connect(self.ours, self.go)
        self.wire.settle()
        self.heard = 0

    def say(self, text: str) -> None:
        """
        Go says, and we answer.
        """
        self.go.transport.write(octets(text))
        self.wire.settle()

    def expect(self, text: str) -> None:
        """
        Go has heard exactly this since it was last asked.
        """
        self.wire.settle()
        heard, self.heard = self.go.got[self.heard :], len(self.go.got)
        self.assertEqual(heard.hex(), octets(text).hex())

    def serve(self, built: list[Any]) -> None:
        class Built(Factory):
            def buildProtocol(self, addr: Any) -> Any:
                built.append(HalfCollect())
                return built[-1]

        self.ours.listener.listen(MultistreamFactory({NAME: Built()}))

    def test_goOpensAndWaits(self) -> None:
        turns = [text for _, text in STACKED["N8"]]
        self.meet(client=False)
        built: list[Any] = []
        self.serve(built)
        self.go.transport.write(octets(turns[0]))
        self.say(turns[1])
        self.expect(turns[2])
        self.assertEqual(len(self.go.pieces), 1)       # acknowledgement and both tokens in one write
        self.say(turns[3])
        self.assertEqual(built[0].got, b'{"id":"x"}\n')
        built[0].transport.write(b"hi")
        self.expect(turns[4])
        self.say(turns[5])
        self.assertEqual(built[0].told, ["made", "read ended"])

    def test_goOpensAndDoesNotWait(self) -> None:
        turns = [text for _, text in STACKED["N10"]]
        self.meet(client=False)
        built: list[Any] = []
        self.serve(built)
        self.go.transport.write(octets(turns[0]))
        self.say(turns[1])
        self.expect(turns[2])
        self.assertEqual(built[0].got, b"hello")
        self.say(turns[3])
        self.assertEqual(built[0].told, ["made", "read ended"])

    def test_weOpenAndSayEverythingAtOnce(self) -> None:
        turns = [text for _, text in STACKED["N9"]]
        for cut in (None, *range(1, 40)):
            self.meet(client=True, cut=cut)
            endpoint = multistreamEndpoint(self.ours.connector, NAME, release=Release.AT_ONCE)
            connected = self.successResultOf(endpoint.connect(Factory.forProtocol(HalfCollect)))
            assert isinstance(connected, HalfCollect)
            connected.transport.write(b'{"id":"x"}\n')
            connected.transport.loseWriteConnection()
            self.expect(turns[0])
            for text in turns[1:]:
                self.go.transport.write(octets(text))
            self.wire.settle()
            self.assertEqual(connected.got, b"ok")
            self.assertTrue(connected.reason.check(ConnectionDone))

    def test_goMayBeCutAnywhere(self) -> None:
        for name, payload in (("N8", b'{"id":"x"}\n'), ("N10", b"hello")):
            for cut in range(1, 60):
                self.meet(client=False, cut=cut)
                built: list[Any] = []
                self.serve(built)
                for who, text in STACKED[name]:
                    if who == "<":
                        self.go.transport.write(octets(text))
                self.wire.settle()
                self.assertEqual(built[0].got, payload)
                self.assertEqual(built[0].told, ["made", "read ended"])
                self.assertEqual(self.go.got.count(octets("A01")), 1)
                self.assertEqual(self.go.got.count(octets("A06")), 1)

"""
Whether newcomers are let in.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.edge.public.admission import (
    RESERVE,
    Accept,
    mostDescriptors,
    nextDescriptor,
    raiseDescriptors,
)


class Port:
    """
    A listening port.
    """

    paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


class AcceptTests(SynchronousTestCase):
    """
    Three visitors at most, and a hundred descriptors.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.taken = 10
        self.accept = Accept(
            self.clock, most=3, perSecond=2, trusts=lambda address: address == "10.0.0.1", descriptors=lambda: 100 + RESERVE,
            next=lambda: self.taken,
        )
        self.port = Port()
        self.accept.opened(self.port)
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def said(self) -> list[str]:
        return [str(formatEvent(event)) for event in self.events if event.get("status") == "limit"]

    def test_theLastOneClosesTheDoor(self) -> None:
        for _ in range(2):
            self.accept.entered(11)
        self.assertFalse(self.port.paused)
        self.accept.entered(12)
        self.assertTrue(self.port.paused)
        self.assertEqual(self.said(), ["3 visitors are here: the next wait until somebody goes"])
        self.accept.left()
        self.assertFalse(self.port.paused)

    def test_itIsSaidOnceAMinute(self) -> None:
        for _ in range(2):
            self.accept.entered()
        for _ in range(100):
            self.accept.entered()
            self.accept.left()
        self.assertEqual(len(self.said()), 1)
        self.clock.advance(60)
        self.accept.entered()
        self.assertEqual(len(self.said()), 2)

    def test_aPortThatIsOpenedMeanwhileWaitsToo(self) -> None:
        for _ in range(3):
            self.accept.entered()
        late = Port()
        self.accept.opened(late)
        self.assertTrue(late.paused)
        self.accept.closed(self.port)
        self.accept.left()
        self.assertEqual((late.paused, self.port.paused), (False, True))

    def test_anotherBoundCountsAtOnce(self) -> None:
        for _ in range(3):
            self.accept.entered()
        self.accept.configure(4, 2)
        self.assertFalse(self.port.paused)

    def test_descriptorsRunShort(self) -> None:
        self.accept.entered(99)
        self.assertFalse(self.port.paused)
        self.taken = 101
        self.accept.entered(100)
        self.assertTrue(self.port.paused)
        self.assertIn("100 descriptors of 164 are in use", self.said()[0])
        self.clock.advance(1)
        self.assertTrue(self.port.paused)
        self.taken = 99
        self.clock.advance(1)
        self.assertFalse(self.port.paused)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aDepartureDoesNotHideThatTheyAreShort(self) -> None:
        for _ in range(2):
            self.accept.entered(11)
        self.taken = 120
        self.accept.entered(12)               # as many as there may be
        self.accept.left()
        self.assertTrue(self.port.paused)
        self.taken = 20
        self.clock.advance(1)
        self.assertFalse(self.port.paused)

    def test_stop(self) -> None:
        self.taken = 120
        self.accept.entered(120)
        self.accept.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_newcomersOfOneAddress(self) -> None:
        self.assertEqual([self.accept.admits("192.0.2.1") for _ in range(3)], [True, True, False])
        self.assertTrue(self.accept.admits("192.0.2.2"))
        self.assertEqual(len(self.said()), 1)
        self.assertIn("192.0.2.1", self.said()[0])
        self.clock.advance(0.5)
        self.assertTrue(self.accept.admits("192.0.2.1"))

    def test_proxiesAndThisMachineAreNotCounted(self) -> None:
        for address in ("10.0.0.1", "127.0.0.1", "::1"):
            self.assertTrue(all(self.accept.admits(address) for _ in range(20)))


class DescriptorTests(SynchronousTestCase):
    """
    What the system says.
    """

    def test_theNextOne(self) -> None:
        first = nextDescriptor()
        with open("/dev/null") as file:
            self.assertEqual(file.fileno(), first)
            self.assertGreater(nextDescriptor(), first)

    def test_raisingNeverLowers(self) -> None:
        before = mostDescriptors()
        raiseDescriptors(10)
        self.assertEqual(mostDescriptors(), before)

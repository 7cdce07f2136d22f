"""
Whether newcomers are let in.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.edge.public.admission import (
    ACCEPTS,
    RESERVED_DESCRIPTORS,
    Admission,
    maxDescriptors,
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
        self.admission = Admission(
            self.clock, most=3, perSecond=2, isTrusted=lambda address: address == "10.0.0.1",
            descriptors=lambda: 100 + RESERVED_DESCRIPTORS,
            next=lambda: self.taken,
        )
        self.port = Port()
        self.admission.addPort(self.port)
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def said(self) -> list[str]:
        return [str(formatEvent(event)) for event in self.events if event.get("status") == "limit"]

    def test_aPortAcceptsABoundedNumberInATurn(self) -> None:
        accepted: list[Any] = []
        factory: Any = Factory()
        factory.buildProtocol = accepted.append
        port: Any = tcp.Port(0, factory, interface="127.0.0.1", backlog=200, reactor=MemoryReactor())
        port.startListening()
        self.addCleanup(port.socket.close)
        self.admission.addPort(port)
        for _ in range(150):
            caller = socket.create_connection(("127.0.0.1", port.getHost().port))
            self.addCleanup(caller.close)
        for turn in range(1, 4):
            port.doRead()
            self.assertEqual(len(accepted), ACCEPTS * turn)

    def test_theLastOneClosesTheDoor(self) -> None:
        for _ in range(2):
            self.admission.connectionOpened(11)
        self.assertFalse(self.port.paused)
        self.admission.connectionOpened(12)
        self.assertTrue(self.port.paused)
        self.assertEqual(self.said(), [
            "3 visitors' connections are open, as many as allowed: new connections wait until some are closed"
        ])
        self.admission.connectionClosed()
        self.assertFalse(self.port.paused)

    def test_itIsSaidOnceAMinute(self) -> None:
        for _ in range(2):
            self.admission.connectionOpened()
        for _ in range(100):
            self.admission.connectionOpened()
            self.admission.connectionClosed()
        self.assertEqual(len(self.said()), 1)
        self.clock.advance(60)
        self.admission.connectionOpened()
        self.assertEqual(len(self.said()), 2)

    def test_aPortThatIsOpenedMeanwhileWaitsToo(self) -> None:
        for _ in range(3):
            self.admission.connectionOpened()
        late = Port()
        self.admission.addPort(late)
        self.assertTrue(late.paused)
        self.admission.removePort(self.port)
        self.admission.connectionClosed()
        self.assertEqual((late.paused, self.port.paused), (False, True))

    def test_anotherBoundCountsAtOnce(self) -> None:
        for _ in range(3):
            self.admission.connectionOpened()
        self.admission.configure(4, 2)
        self.assertFalse(self.port.paused)

    def test_descriptorsRunShort(self) -> None:
        self.admission.connectionOpened(99)
        self.assertFalse(self.port.paused)
        self.taken = 101
        self.admission.connectionOpened(100)
        self.assertTrue(self.port.paused)
        self.assertIn("100 of 164 file descriptors are in use", self.said()[0])
        self.clock.advance(1)
        self.assertTrue(self.port.paused)
        self.taken = 99
        self.clock.advance(1)
        self.assertFalse(self.port.paused)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_theLimitIsReadForDescriptorsThatAreHigherThanAllBefore(self) -> None:
        asked: list[int] = []

        def limit() -> int:
            asked.append(0)
            return 100 + RESERVED_DESCRIPTORS

        admission = Admission(self.clock, most=1000, descriptors=limit, next=lambda: self.taken)
        for descriptor in (10, 9, 10, 11):
            admission.connectionOpened(descriptor)
        self.assertEqual(len(asked), 2)
        self.taken = 101
        for _ in range(2):
            admission.connectionOpened(100)                 # one that is too high is so again
        self.assertEqual(len(asked), 6)
        admission.stop()

    def test_aDepartureDoesNotHideThatTheyAreShort(self) -> None:
        for _ in range(2):
            self.admission.connectionOpened(11)
        self.taken = 120
        self.admission.connectionOpened(12)               # as many as there may be
        self.admission.connectionClosed()
        self.assertTrue(self.port.paused)
        self.taken = 20
        self.clock.advance(1)
        self.assertFalse(self.port.paused)

    def test_stoppingLeavesNoTimer(self) -> None:
        self.taken = 120
        self.admission.connectionOpened(120)
        self.admission.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_newConnectionsOfOneAddressAreBounded(self) -> None:
        self.assertEqual([self.admission.admit("192.0.2.1") for _ in range(3)], [True, True, False])
        self.assertTrue(self.admission.admit("192.0.2.2"))
        self.assertEqual(len(self.said()), 1)
        self.assertIn("192.0.2.1", self.said()[0])
        self.clock.advance(0.5)
        self.assertTrue(self.admission.admit("192.0.2.1"))

    def test_proxiesAndThisMachineAreNotCounted(self) -> None:
        for address in ("10.0.0.1", "127.0.0.1", "::1"):
            self.assertTrue(all(self.admission.admit(address) for _ in range(20)))


class DescriptorTests(SynchronousTestCase):
    """
    What the system says.
    """

    def test_theNextDescriptorIsFound(self) -> None:
        first = nextDescriptor()
        with open("/dev/null") as file:
            self.assertEqual(file.fileno(), first)
            self.assertGreater(nextDescriptor(), first)

    def test_raisingNeverLowers(self) -> None:
        before = maxDescriptors()
        raiseDescriptors(10)
        self.assertEqual(maxDescriptors(), before)

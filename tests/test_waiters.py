"""
Callers that wait for the same event.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.waiters import Waiters


class WaitersTests(SynchronousTestCase):
    """
    Who is given what, and when.
    """

    def setUp(self) -> None:
        self.waiters: Waiters[int] = Waiters()

    def test_allThatWaitAreGivenTheResult(self) -> None:
        first, second = self.waiters.wait(), self.waiters.wait()
        self.assertEqual(len(self.waiters), 2)
        self.waiters.fire(7)
        self.assertEqual((self.successResultOf(first), self.successResultOf(second)), (7, 7))
        self.assertFalse(self.waiters)

    def test_allThatWaitAreGivenTheFailure(self) -> None:
        first, second = self.waiters.wait(), self.waiters.wait()
        self.waiters.fail(ZeroDivisionError())
        for waiter in (first, second):
            self.failureResultOf(waiter, ZeroDivisionError)
        self.assertFalse(self.waiters)

    def test_aCallerThatBeginsToWaitMeanwhileWaitsForTheNextResult(self) -> None:
        again: list[Deferred[int]] = []
        self.waiters.wait().addCallback(lambda _: again.append(self.waiters.wait()))
        self.waiters.fire(1)
        self.assertNoResult(again[0])
        self.waiters.fire(2)
        self.assertEqual(self.successResultOf(again[0]), 2)

    def test_aCancelledCallerWaitsNoMore(self) -> None:
        first, second = self.waiters.wait(), self.waiters.wait()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(len(self.waiters), 1)
        self.waiters.fire(3)
        self.assertEqual(self.successResultOf(second), 3)

    def test_aCallerMayCancelAnotherThatIsAboutToBeGivenTheResult(self) -> None:
        first, second = self.waiters.wait(), self.waiters.wait()
        first.addCallback(lambda _: second.cancel())
        self.waiters.fire(4)
        self.failureResultOf(second, CancelledError)
        self.successResultOf(first)

"""
The reactor that looks before it sleeps: it still does what a reactor does, and it gives up where looking is vain.

What a reactor does with descriptors, timers, threads and its own start and stop is said by suites of Twisted's.
"""

from __future__ import annotations

import select
from itertools import pairwise
from socket import socketpair
from typing import Any
from unittest import skipUnless

from twisted.internet.error import ConnectionDone, ConnectionFdescWentAway
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.task import Clock
from twisted.internet.test.test_core import SystemEventTestsBuilder
from twisted.internet.test.test_fdset import ReactorFDSetTestsBuilder
from twisted.internet.test.test_threads import ThreadTestsBuilder
from twisted.internet.test.test_time import TimeTestsBuilder
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.reactor.suites import onOurs
from tunnelstack.transport.turn_end import turnEnd

EPOLL = hasattr(select, "epoll")
if EPOLL:
    from tunnelstack.reactor import busypoll
    from tunnelstack.reactor.busypoll import MAX_SKIP_EXPONENT, SPIN_SECONDS, BusyPollReactor


class FDSet(ReactorFDSetTestsBuilder):
    """
    Less one: a file that was closed without a word is something that epoll does not tell, as Twisted's suite says of its own.
    """

    def test_lostFileDescriptor(self) -> None:
        raise SkipTest("epoll does not tell")


globals().update(onOurs(__name__, FDSet, SystemEventTestsBuilder, ThreadTestsBuilder, TimeTestsBuilder))


class Poller:
    """
    A poller to which something comes at a time that is said, on a clock that each question takes forward.

    @ivar comes: when.
    @ivar asked: the timeout of each question, the last of which is Twisted's own.
    """

    def __init__(self, real: Any) -> None:
        self._real = real
        self.now = 1000.0
        self.comes = 0.0
        self.asked: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def monotonic(self) -> float:
        return self.now

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        self.asked.append(timeout)
        self.now += 1e-6
        if timeout and self.comes > self.now:
            self.now = self.comes if timeout < 0 else min(self.comes, self.now + timeout)
        return [(-1, 0)] if self.comes <= self.now else []


@skipUnless(EPOLL, "this system has no epoll")
class LookTests(SynchronousTestCase):
    """
    When it looks, and for how long.
    """

    def setUp(self) -> None:
        self.reactor = BusyPollReactor()
        self.addCleanup(self.close)
        self.poller = Poller(self.reactor._poller)
        self.reactor._poller = self.poller
        self.patch(busypoll, "monotonic", self.poller.monotonic)

    def close(self) -> None:
        """
        As Twisted's suites do with theirs.
        """
        for reader in self.reactor._internalReaders:
            self.reactor.removeReader(reader)
            reader.connectionLost(None)
        self.poller._real.close()

    def turn(self, comes: float, timeout: float | None = None) -> int:
        """
        Something comes after so many seconds.

        @return: how often that was looked for without a sleep, and without a look that was asked for.
        """
        poller = self.poller
        poller.asked, poller.comes = [], poller.now + comes
        self.reactor.doIteration(timeout)
        waits = timeout is None or timeout > 0
        return poller.asked.count(0) if waits else len(poller.asked) - 1

    def test_whatComesSoonIsSeenWithoutSleep(self) -> None:
        for _ in range(100):
            self.assertGreater(self.turn(SPIN_SECONDS / 2), SPIN_SECONDS * 0.45e6)     # one each microsecond

    def test_othersMayWorkBetweenTwoLooks(self) -> None:
        offered: list[int] = []
        self.patch(busypoll, "sched_yield", lambda: offered.append(len(self.poller.asked)))
        looks = self.turn(SPIN_SECONDS / 2)
        self.assertEqual(offered, list(range(1, looks)))

    def test_whatOthersDoMeanwhileIsFound(self) -> None:
        """
        Also if they kept the processor for long.
        """
        def work() -> None:
            self.poller.now += 10 * SPIN_SECONDS

        self.patch(busypoll, "sched_yield", work)
        for _ in range(10):
            self.assertEqual(self.turn(5 * SPIN_SECONDS), 2)
            self.assertEqual(set(self.poller.asked), {0}, "it did not sleep")

    def test_whatIsThereIsNotLookedForTwice(self) -> None:
        self.assertEqual(self.turn(0), 1)

    def test_nothingIsLookedForWhereNothingIsWaitedFor(self) -> None:
        self.assertEqual(self.turn(1, timeout=0), 0)
        self.assertEqual(self.turn(1, timeout=False), 0)     # so says a reactor that was stopped

    def test_vainLooksBecomeRare(self) -> None:
        looks = [bool(self.turn(1)) for _ in range(10_000)]
        self.assertLess(sum(looks), 20)
        gaps = [index for index, looked in enumerate(looks) if looked]
        self.assertEqual([later - one - 1 for one, later in pairwise(gaps)][:4], [2, 4, 8, 16])
        self.assertLessEqual(max(later - one for one, later in pairwise(gaps)), 1 + (1 << MAX_SKIP_EXPONENT))

    def test_itWakesUpAgain(self) -> None:
        for _ in range(10_000):
            self.turn(1)
        for _ in range(3 << MAX_SKIP_EXPONENT):
            self.turn(SPIN_SECONDS / 2)
        self.assertTrue(all(self.turn(SPIN_SECONDS / 2) for _ in range(100)))

    def test_someOfWhatComesSoonIsFoundAmongWhatComesLate(self) -> None:
        """
        Where what comes soon and what comes late take turns, it is not always the late that is looked for.
        """
        found = 0
        for _ in range(1000):
            found += bool(self.turn(SPIN_SECONDS / 2))
            self.turn(1)
        self.assertGreater(found, 250)

    def test_whatWasFoundIsNotLookedForOnceMore(self) -> None:
        self.turn(SPIN_SECONDS / 2)
        self.assertEqual(set(self.poller.asked), {0})

    def test_timersAreNotKeptWaiting(self) -> None:
        self.turn(1, timeout=SPIN_SECONDS / 4)
        self.assertEqual(self.poller.asked[-1], 0)
        for _ in range(2):
            self.turn(1, timeout=0.5)         # not looked for: the first was vain
            self.assertEqual(self.poller.asked, [0.5])
        self.turn(1, timeout=0.5)
        self.assertEqual(self.poller.asked[-1], 0.5 - SPIN_SECONDS)


class Readable:
    """
    A descriptor that is always ready to be read.

    @ivar reads: what each C{doRead} returns, or raises; the last is repeated.
    @ivar lost: why it was closed.
    """

    def __init__(self, *reads: object) -> None:
        self.ours, self.theirs = socketpair()
        self.theirs.send(b"-")
        self.reads = list(reads)
        self.lost: list[object] = []

    def fileno(self) -> int:
        return self.ours.fileno()

    def logPrefix(self) -> str:
        return "readable"

    def doRead(self) -> object:
        result = self.reads.pop(0) if len(self.reads) > 1 else self.reads[0]
        if isinstance(result, BaseException) and not isinstance(result, ConnectionDone):
            raise result
        return result

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason.value)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@skipUnless(EPOLL, "this system has no epoll")
class DescriptorTests(SynchronousTestCase):
    """
    What happens to a descriptor that can be read.
    """

    def setUp(self) -> None:
        self.reactor = BusyPollReactor()
        self.addCleanup(self.reactor._poller.close)
        for reader in list(self.reactor._internalReaders):
            self.reactor.removeReader(reader)
            self.addCleanup(reader.connectionLost, None)

    def read(self, *reads: object) -> Readable:
        """
        @return: a descriptor that a turn of the reactor has read.
        """
        readable = Readable(*reads)
        self.addCleanup(readable.close)
        self.reactor.addReader(readable)
        self.reactor.doIteration(0)
        return readable

    def test_aDescriptorThatHasEndedIsClosed(self) -> None:
        readable = self.read(CONNECTION_DONE)
        self.assertEqual([type(each) for each in readable.lost], [ConnectionDone])
        self.assertNotIn(readable, self.reactor.getReaders())

    def test_aDescriptorThatFailsIsLoggedAndClosed(self) -> None:
        readable = self.read(ZeroDivisionError("in the application"))
        self.assertEqual([type(each) for each in readable.lost], [ZeroDivisionError])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_aDescriptorWithoutANumberIsClosed(self) -> None:
        readable = Readable(None)
        self.addCleanup(readable.close)
        self.reactor.addReader(readable)
        self.patch(readable, "fileno", lambda: -1)
        self.reactor.doIteration(0)
        self.assertIsInstance(readable.lost[0], ConnectionFdescWentAway)

    def test_oneThatFailsToCloseDoesNotStopTheOthers(self) -> None:
        first, second = (Readable(ValueError("at its end")) for _ in range(2))
        for readable in first, second:
            self.addCleanup(readable.close)
            self.patch(readable, "connectionLost", lambda reason: 1 / 0)
            self.reactor.addReader(readable)
        self.reactor.doIteration(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.flushLoggedErrors(ValueError)

    def test_aReadThatWentWellIsFollowedByOthers(self) -> None:
        readable = self.read(None)
        self.assertEqual(readable.lost, [])
        self.assertIn(readable, self.reactor.getReaders())


@skipUnless(EPOLL, "this system has no epoll")
class TurnEndTests(SynchronousTestCase):
    """
    Calls at the end of a turn.
    """

    def setUp(self) -> None:
        self.reactor = BusyPollReactor()
        self.addCleanup(self.reactor._poller.close)
        for reader in list(self.reactor._internalReaders):
            self.reactor.removeReader(reader)
            self.addCleanup(reader.connectionLost, None)
        self.calls: list[str] = []

    def test_aCallIsMadeOnceAfterTheDelayedCalls(self) -> None:
        self.reactor.callAtTurnEnd(lambda: self.calls.append("end"))
        self.reactor.callLater(0, self.calls.append, "delayed")
        for _ in range(3):
            self.reactor.runUntilCurrent()
            self.reactor.timeout()
        self.assertEqual(self.calls, ["delayed", "end"])

    def test_aDelayedCallThatItMakesIsNotMissed(self) -> None:
        self.reactor.callAtTurnEnd(lambda: self.reactor.callLater(0, self.calls.append, "delayed"))
        self.assertEqual(self.reactor.timeout(), 0)

    def test_aCallRequestedAtTheEndBelongsToTheNextTurnWhichComesAtOnce(self) -> None:
        self.reactor.callAtTurnEnd(lambda: self.reactor.callAtTurnEnd(lambda: self.calls.append("next")))
        self.assertEqual(self.reactor.timeout(), 0)
        self.assertEqual(self.calls, [])
        self.assertIsNone(self.reactor.timeout())
        self.assertEqual(self.calls, ["next"])

    def test_aCallThatStopsTheReactorIsNotFollowedByAWait(self) -> None:
        self.reactor.startRunning(installSignalHandlers=False)
        self.reactor.runUntilCurrent()
        self.reactor.callAtTurnEnd(self.reactor.stop)
        self.assertEqual(self.reactor.timeout(), 0)

    def test_aCallThatFailsIsLoggedAndTheOthersAreMade(self) -> None:
        self.reactor.callAtTurnEnd(lambda: 1 / 0)
        self.reactor.callAtTurnEnd(lambda: self.calls.append("other"))
        self.reactor.timeout()
        self.assertEqual(self.calls, ["other"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_anotherReactorMakesItOnTheNextTurn(self) -> None:
        clock = Clock()
        turnEnd(clock)(lambda: self.calls.append("later"))
        self.assertEqual(self.calls, [])
        clock.advance(0)
        self.assertEqual(self.calls, ["later"])

    def test_thisReactorMakesItItself(self) -> None:
        turnEnd(self.reactor)(lambda: self.calls.append("end"))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.reactor.timeout()
        self.assertEqual(self.calls, ["end"])

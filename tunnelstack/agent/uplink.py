"""
An agent's connection to one edge, which is dialled again whenever it is lost, and drained when the agent stops.

The machine has six states::

             start           connected             stop             lost
      idle --------> dialling --------> up ------------> draining --------> stopped
                      ^    |            |
         retryTimeout |    | failed     | lost
                      |    v            |
                      waiting <---------+

and these transitions; an empty field means that the input cannot occur in that state::

    ==========  ==========  ==========  ==========  ============  ==========  ==========
    state       start       connected   failed      lost          retryTime.  stop
    ==========  ==========  ==========  ==========  ============  ==========  ==========
    idle        dialling                                                      stopped
    dialling                up          waiting                               stopped
    up                                              waiting                   draining
    waiting                                                       dialling    stopped
    draining                                        stopped                   draining
    stopped                 stopped     stopped     stopped                   stopped
    ==========  ==========  ==========  ==========  ============  ==========  ==========

What happens on the way:

  - to I{dialling}: an attempt is made; C{stop} cancels it, and a link that comes afterwards is aborted.
  - to I{waiting}: a timer is started, and the observer receives the reason.
  - to I{draining}: the link is drained, and aborted if that takes longer than C{drainSeconds}.
  - to I{stopped}: the Deferreds of L{Uplink.stop} fire.

The wait is random between zero and a bound that doubles with every failure ("full jitter"), so that many agents that lost the
same edge do not all reconnect at the same moment.  After a refusal, which only a person can remedy, the wait is longer and
does not grow.  A dialect whose system prescribes the waits is an L{IBackoff}, and chooses them itself.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Literal
from typing import Protocol as TypingProtocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.errors import PeerError, Refused
from tunnelstack.interfaces import IBackoff, ILink
from tunnelstack.waiters import Waiters

FIRST_BACKOFF_SECONDS = 1.0
"""The bound of the first wait."""

MAX_BACKOFF_SECONDS = 30.0
"""The largest bound, unless the configuration has another."""

STABLE_SECONDS = 60.0
"""Seconds after which a session counts as stable: when it is lost, the bound begins with the first one again."""

REFUSED_SECONDS = 60.0
"""Seconds to wait (times 0.75 to 1.25) after a failure that a person must remedy: the credential was refused, or the server is
not an edge."""


_State = Literal["idle", "dialling", "up", "waiting", "draining", "stopped"]
_Input = Literal["start", "connected", "failed", "lost", "retryTimeout", "stop"]


class UplinkObserver(TypingProtocol):
    """
    What an uplink reports to.  C{uplinkUp} and C{uplinkDown} are called in turn; C{uplinkFailed} only between C{uplinkDown} and
    C{uplinkUp}.  None is called after L{Uplink.stop}.
    """

    def uplinkUp(self, uplink: Uplink, link: ILink) -> None:
        """
        A session has been established.
        """

    def uplinkDown(self, uplink: Uplink, reason: BaseException) -> None:
        """
        The session is lost.
        """

    def uplinkFailed(self, uplink: Uplink, reason: BaseException, seconds: float) -> None:
        """
        An attempt failed; the next one is made after C{seconds}.
        """


class _Machine:
    """
    The machine: its state, its data, and what its inputs cause.

    @ivar attempt: the one that is under way.
    @ivar timer: until the next attempt, or until the end of the drain.
    """

    def __init__(self, uplink: Uplink) -> None:
        self.uplink = uplink
        self.state: _State = "idle"
        self.link: ILink | None = None
        self.attempt: Deferred[ILink] | None = None
        self.timer: IDelayedCall | None = None
        self.stopped: Waiters[None] = Waiters()
        self._failures = 0
        self._upSince = 0.0

    def take(self, given: _Input, *data: object) -> None:
        """
        Take an input.

        @raise KeyError: it cannot occur in this state.
        """
        self.state, output = _TRANSITIONS[self.state, given]
        output(self, *data)

    def dial(self) -> None:
        """
        Make an attempt to connect.
        """
        self.timer = None
        self.attempt = attempt = self.uplink._dial()
        attempt.addCallbacks(lambda link: self.take("connected", link), self._attemptFailed)
        attempt.addErrback(self._unexpectedError)

    def _attemptFailed(self, failure: Failure) -> None:
        if not failure.check(CancelledError) or self.attempt is not None:
            self.take("failed", failure.value or ConnectionError())

    def _unexpectedError(self, failure: Failure) -> None:
        self.uplink.log.failure("unexpected error in an uplink", failure=failure)

    def up(self, link: ILink) -> None:
        """
        Report the new session, and wait for its loss.
        """
        self.attempt = None
        self.link = link
        self._upSince = self.uplink._clock.seconds()
        if self.uplink._backoff is not None:
            self.uplink._backoff.connected()
        self.uplink._observer.uplinkUp(self.uplink, link)
        link.whenLost().addCallback(lambda reason: self.take("lost", reason)).addErrback(self._unexpectedError)

    def failed(self, reason: BaseException) -> None:
        """
        Report that the attempt failed, and wait.
        """
        self.attempt = None
        seconds = self._backoff(reason)
        self._wait(seconds)
        self.uplink._observer.uplinkFailed(self.uplink, reason, seconds)

    def lost(self, reason: BaseException) -> None:
        """
        Report that the session is lost, and wait.
        """
        self.link = None
        if self.uplink._clock.seconds() - self._upSince >= STABLE_SECONDS:
            self._failures = 0
        self._wait(self._backoff(reason))
        self.uplink._observer.uplinkDown(self.uplink, reason)

    def _wait(self, seconds: float) -> None:
        self.timer = self.uplink._clock.callLater(seconds, self.take, "retryTimeout")

    def _backoff(self, reason: BaseException) -> float:
        """
        Choose the time until the next attempt, and count the failure.

        @return: seconds.
        """
        if self.uplink._backoff is not None:
            return self.uplink._backoff.nextWait()
        if isinstance(reason, (Refused, PeerError)):
            return REFUSED_SECONDS * (0.75 + 0.5 * self.uplink._random())
        bound = min(self.uplink.maxBackoff, FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return bound * self.uplink._random()

    def drain(self) -> None:
        """
        Drain the link, and abort it if that takes too long.
        """
        assert self.link is not None
        self.timer = self.uplink._clock.callLater(self.uplink.drainSeconds, self.link.abort, "the drain took too long")
        self.link.drain().addErrback(self._unexpectedError)

    def drained(self, reason: BaseException) -> None:
        """
        Report that the last session has ended.
        """
        self.link = None
        self.endWait()

    def endAttempt(self) -> None:
        """
        Cancel the attempt, and report the end.
        """
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            attempt.cancel()
        self.end()

    def endWait(self) -> None:
        """
        Cancel the timer, if it has not fired, and report the end.
        """
        timer, self.timer = self.timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self.end()

    def end(self) -> None:
        """
        Report the end.
        """
        self.stopped.fire(None)

    def abortLate(self, link: ILink) -> None:
        """
        End a link that came after the end.
        """
        link.abort("the agent has stopped")

    def ignore(self, *data: object) -> None:
        """
        Do nothing.
        """


_TRANSITIONS: dict[tuple[_State, _Input], tuple[_State, Callable[..., None]]] = {
    ("idle", "start"): ("dialling", _Machine.dial),
    ("idle", "stop"): ("stopped", _Machine.end),
    ("dialling", "connected"): ("up", _Machine.up),
    ("dialling", "failed"): ("waiting", _Machine.failed),
    ("dialling", "stop"): ("stopped", _Machine.endAttempt),
    ("up", "lost"): ("waiting", _Machine.lost),
    ("up", "stop"): ("draining", _Machine.drain),
    ("waiting", "retryTimeout"): ("dialling", _Machine.dial),
    ("waiting", "stop"): ("stopped", _Machine.endWait),
    ("draining", "lost"): ("stopped", _Machine.drained),
    ("draining", "stop"): ("draining", _Machine.ignore),
    ("stopped", "stop"): ("stopped", _Machine.end),
    ("stopped", "connected"): ("stopped", _Machine.abortLate),
    ("stopped", "failed"): ("stopped", _Machine.ignore),
    ("stopped", "lost"): ("stopped", _Machine.ignore),
}
"""The next state, and what happens on the way, for each input that can occur in a state."""


class Uplink:
    """
    An agent's connection to one edge.

    @ivar link: the session, while there is one.
    @ivar maxBackoff: the largest bound of the waits, in seconds.
    @ivar drainSeconds: how long streams may continue after L{stop}, in seconds.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        dial: Callable[[], Deferred[ILink]],
        observer: UplinkObserver,
        *,
        maxBackoff: float = MAX_BACKOFF_SECONDS,
        drainSeconds: float = 30.0,
        random: Callable[[], float] = random,
        backoff: IBackoff | None = None,
    ) -> None:
        """
        @param dial: makes an attempt; returns a C{Deferred} of a L{ILink}.  C{Refused} and C{PeerError} mean that a person must
            remedy the failure.
        @param random: gives a number from 0 to 1, which varies the waits.
        @param backoff: chooses the waits instead of this machine.
        """
        self._clock = clock
        self._backoff = backoff
        self._dial = dial
        self._observer = observer
        self.maxBackoff = maxBackoff
        self.drainSeconds = drainSeconds
        self._random = random
        self._machine = _Machine(self)

    @property
    def link(self) -> ILink | None:
        return self._machine.link

    @property
    def isDialling(self) -> bool:
        """
        Whether an attempt to connect is under way.
        """
        return self._machine.attempt is not None

    @property
    def nextAttempt(self) -> float | None:
        """
        When the next attempt to connect is made, in seconds of the clock; C{None} unless the uplink waits for it.
        """
        timer = self._machine.timer
        return timer.getTime() if timer is not None and timer.active() and self._machine.link is None else None

    def start(self) -> None:
        """
        Dial now, and after every loss.
        """
        self._machine.take("start")

    def stop(self) -> Deferred[None]:
        """
        Drain the session, and do not dial again.

        @return: fires when the session is closed.
        """
        stopped = self._machine.stopped.wait()
        self._machine.take("stop")
        return stopped

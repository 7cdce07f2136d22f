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
from typing import Protocol as TypingProtocol

from attrs import define, field
from automat import TypeMachineBuilder
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


class _Inputs(TypingProtocol):
    """
    The inputs of the machine.
    """

    def start(self) -> None: ...
    def connected(self, link: ILink) -> None: ...
    def failed(self, reason: BaseException) -> None: ...
    def lost(self, reason: BaseException) -> None: ...
    def retryTimeout(self) -> None: ...
    def stop(self) -> None: ...


@define
class _Core:
    """
    The data of the machine, and its outputs.
    """

    uplink: Uplink
    inputs: _Inputs | None = None
    link: ILink | None = None
    attempt: Deferred[ILink] | None = None
    timer: IDelayedCall | None = None
    failures: int = 0
    upSince: float = 0.0
    stopped: Waiters[None] = field(factory=Waiters)

    def dial(self) -> None:
        """
        Make an attempt to connect.
        """
        uplink = self.uplink
        assert self.inputs is not None
        self.attempt = attempt = uplink._dial()
        attempt.addCallbacks(self.inputs.connected, lambda failure: self._failed(failure))
        attempt.addErrback(self._unexpectedError)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError) or self.attempt is not None:
            assert self.inputs is not None
            self.inputs.failed(failure.value or ConnectionError())

    def _unexpectedError(self, failure: Failure) -> None:
        self.uplink.log.failure("unexpected error in an uplink", failure=failure)

    def up(self, link: ILink) -> None:
        """
        Report the new session, and wait for its loss.
        """
        assert self.inputs is not None
        self.attempt = None
        self.link = link
        self.upSince = self.uplink._clock.seconds()
        if self.uplink._backoff is not None:
            self.uplink._backoff.connected()
        self.uplink._observer.uplinkUp(self.uplink, link)
        link.whenLost().addCallback(self.inputs.lost).addErrback(self._unexpectedError)

    def wait(self, seconds: float) -> None:
        """
        Start the timer of the next attempt.
        """
        assert self.inputs is not None
        self.timer = self.uplink._clock.callLater(seconds, self.inputs.retryTimeout)

    def cancelTimer(self) -> None:
        """
        Cancel the timer, if it has not fired.
        """
        timer, self.timer = self.timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def backoff(self, reason: BaseException) -> float:
        """
        Choose the time until the next attempt, and count the failure.

        @return: seconds.
        """
        if self.uplink._backoff is not None:
            return self.uplink._backoff.nextWait()
        if isinstance(reason, (Refused, PeerError)):
            return REFUSED_SECONDS * (0.75 + 0.5 * self.uplink._random())
        bound = min(self.uplink.maxBackoff, FIRST_BACKOFF_SECONDS * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return bound * self.uplink._random()


_builder = TypeMachineBuilder(_Inputs, _Core)
_idle = _builder.state("idle")
_dialling = _builder.state("dialling")
_up = _builder.state("up")
_waiting = _builder.state("waiting")
_draining = _builder.state("draining")
_stopped = _builder.state("stopped")


@_idle.upon(_Inputs.start).to(_dialling)
def _dialFirst(inputs: _Inputs, core: _Core) -> None:
    core.inputs = inputs
    core.dial()


@_dialling.upon(_Inputs.connected).to(_up)
def _connected(inputs: _Inputs, core: _Core, link: ILink) -> None:
    core.up(link)


@_dialling.upon(_Inputs.failed).to(_waiting)
def _notConnected(inputs: _Inputs, core: _Core, reason: BaseException) -> None:
    core.attempt = None
    seconds = core.backoff(reason)
    core.wait(seconds)
    core.uplink._observer.uplinkFailed(core.uplink, reason, seconds)


@_up.upon(_Inputs.lost).to(_waiting)
def _lost(inputs: _Inputs, core: _Core, reason: BaseException) -> None:
    core.link = None
    if core.uplink._clock.seconds() - core.upSince >= STABLE_SECONDS:
        core.failures = 0
    core.wait(core.backoff(reason))
    core.uplink._observer.uplinkDown(core.uplink, reason)


@_waiting.upon(_Inputs.retryTimeout).to(_dialling)
def _redial(inputs: _Inputs, core: _Core) -> None:
    core.timer = None
    core.dial()


@_up.upon(_Inputs.stop).to(_draining)
def _drain(inputs: _Inputs, core: _Core) -> None:
    assert core.link is not None
    core.timer = core.uplink._clock.callLater(core.uplink.drainSeconds, core.link.abort, "the drain took too long")
    core.link.drain().addErrback(core._unexpectedError)


@_draining.upon(_Inputs.lost).to(_stopped)
def _drained(inputs: _Inputs, core: _Core, reason: BaseException) -> None:
    core.link = None
    core.cancelTimer()
    core.stopped.fire(None)


@_dialling.upon(_Inputs.stop).to(_stopped)
def _cancelDialling(inputs: _Inputs, core: _Core) -> None:
    attempt, core.attempt = core.attempt, None
    if attempt is not None:
        attempt.cancel()
    core.stopped.fire(None)


@_waiting.upon(_Inputs.stop).to(_stopped)
def _cancelWaiting(inputs: _Inputs, core: _Core) -> None:
    core.cancelTimer()
    core.stopped.fire(None)


@_idle.upon(_Inputs.stop).to(_stopped)
def _stopIdle(inputs: _Inputs, core: _Core) -> None:
    core.stopped.fire(None)


@_stopped.upon(_Inputs.stop).loop()
def _stoppedAlready(inputs: _Inputs, core: _Core) -> None:
    core.stopped.fire(None)


@_stopped.upon(_Inputs.connected).loop()
def _abortLateLink(inputs: _Inputs, core: _Core, link: ILink) -> None:
    link.abort("the agent has stopped")


_draining.upon(_Inputs.stop).loop().returns(None)
_stopped.upon(_Inputs.failed).loop().returns(None)
_stopped.upon(_Inputs.lost).loop().returns(None)

_build = _builder.build()


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
        self._core = _Core(self)
        self._machine = _build(self._core)

    @property
    def link(self) -> ILink | None:
        return self._core.link

    @property
    def isDialling(self) -> bool:
        """
        Whether an attempt to connect is under way.
        """
        return self._core.attempt is not None

    @property
    def nextAttempt(self) -> float | None:
        """
        When the next attempt to connect is made, in seconds of the clock; C{None} unless the uplink waits for it.
        """
        timer = self._core.timer
        return timer.getTime() if timer is not None and timer.active() and self._core.link is None else None

    def start(self) -> None:
        """
        Dial now, and after every loss.
        """
        self._machine.start()

    def stop(self) -> Deferred[None]:
        """
        Drain the session, and do not dial again.

        @return: fires when the session is closed.
        """
        stopped = self._core.stopped.wait()
        self._machine.stop()
        return stopped

"""
An agent's way to one edge, for ever: dial, be up, wait, dial again; and at the end, drain.

The wait is random between nothing and a bound that doubles with every failure (full jitter), so that a thousand agents that
lost the same edge do not come back in the same second.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any
from typing import Protocol as TypingProtocol

from attrs import define, field
from automat import TypeMachineBuilder
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.errors import PeerError, Refused

FIRST_BACKOFF_SECONDS = 1.0
"""The bound of the first wait."""

MAX_BACKOFF_SECONDS = 30.0
"""The bound that is not doubled any more, unless the configuration has another."""

STABLE_SECONDS = 60.0
"""Seconds after which a session counts as stable: the next failure begins with the first wait again."""

REFUSED_SECONDS = 60.0
"""Seconds to wait where another attempt needs somebody to change something: the credential was refused, or no edge is there."""


class Link(TypingProtocol):
    """
    What dialling gives: a session with an edge.
    """

    def whenLost(self) -> Deferred[Any]:
        """
        Fires with the reason, as a result, once it is gone.
        """

    def drain(self) -> Deferred[Any]:
        """
        Take no more work; fires when the last of it is done.
        """

    def abort(self, reason: str) -> None:
        """
        Drop it at once.
        """


class UplinkObserver(TypingProtocol):
    """
    Who hears of what becomes of an uplink.
    """

    def uplinkUp(self, uplink: Uplink, link: Any) -> None:
        """
        There is a session.
        """

    def uplinkDown(self, uplink: Uplink, reason: BaseException) -> None:
        """
        The session is gone.
        """

    def uplinkFailed(self, uplink: Uplink, reason: BaseException, seconds: float) -> None:
        """
        An attempt failed; the next one is made after C{seconds}.
        """


class _Inputs(TypingProtocol):
    """
    What may happen to an uplink.
    """

    def start(self) -> None: ...
    def connected(self, link: Link) -> None: ...
    def failed(self, reason: BaseException) -> None: ...
    def lost(self, reason: BaseException) -> None: ...
    def retryTimeout(self) -> None: ...
    def stop(self) -> None: ...


@define
class _Core:
    """
    What the machine works with.
    """

    uplink: Uplink
    inputs: _Inputs | None = None
    link: Link | None = None
    attempt: Deferred[Any] | None = None
    timer: Any = None
    failures: int = 0
    upSince: float = 0.0
    stopped: list[Deferred[None]] = field(factory=list)

    def dial(self) -> None:
        """
        Make an attempt.
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
        self.uplink.log.failure("an uplink failed", failure=failure)

    def up(self, link: Link) -> None:
        """
        There is a session.
        """
        assert self.inputs is not None
        self.attempt = None
        self.link = link
        self.upSince = self.uplink._clock.seconds()
        self.uplink._observer.uplinkUp(self.uplink, link)
        link.whenLost().addCallback(self.inputs.lost).addErrback(self._unexpectedError)

    def wait(self, seconds: float) -> None:
        """
        Dial again later.
        """
        assert self.inputs is not None
        self.timer = self.uplink._clock.callLater(seconds, self.inputs.retryTimeout)

    def backoff(self, reason: BaseException) -> float:
        """
        @return: seconds to wait after a failure.
        """
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
def _connected(inputs: _Inputs, core: _Core, link: Link) -> None:
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
    if core.timer.active():
        core.timer.cancel()
    _fireStopped(core)


@_dialling.upon(_Inputs.stop).to(_stopped)
def _cancelDialling(inputs: _Inputs, core: _Core) -> None:
    attempt, core.attempt = core.attempt, None
    if attempt is not None:
        attempt.cancel()
    _fireStopped(core)


@_waiting.upon(_Inputs.stop).to(_stopped)
def _cancelWaiting(inputs: _Inputs, core: _Core) -> None:
    core.timer.cancel()
    _fireStopped(core)


@_idle.upon(_Inputs.stop).to(_stopped)
def _stopIdle(inputs: _Inputs, core: _Core) -> None:
    _fireStopped(core)


@_stopped.upon(_Inputs.stop).loop()
def _stoppedAlready(inputs: _Inputs, core: _Core) -> None:
    _fireStopped(core)


@_stopped.upon(_Inputs.connected).loop()
def _abortLateLink(inputs: _Inputs, core: _Core, link: Link) -> None:
    link.abort("the agent has stopped")


_draining.upon(_Inputs.stop).loop().returns(None)
_stopped.upon(_Inputs.failed).loop().returns(None)
_stopped.upon(_Inputs.lost).loop().returns(None)

_build = _builder.build()


def _fireStopped(core: _Core) -> None:
    waiting, core.stopped = core.stopped, []
    for stopped in waiting:
        stopped.callback(None)


class Uplink:
    """
    An agent's way to one edge.

    @ivar link: the session, while there is one.
    @ivar maxBackoff: the bound of the waits, in seconds.
    @ivar drainSeconds: for streams under way when it is stopped.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        dial: Callable[[], Deferred[Any]],
        observer: UplinkObserver,
        *,
        maxBackoff: float = MAX_BACKOFF_SECONDS,
        drainSeconds: float = 30.0,
        random: Callable[[], float] = random,
    ) -> None:
        """
        @param dial: makes an attempt; fires with a L{Link}.  C{Refused} and C{PeerError} are what only people can mend.
        @param random: a number from 0 to 1.
        """
        self._clock = clock
        self._dial = dial
        self._observer = observer
        self.maxBackoff = maxBackoff
        self.drainSeconds = drainSeconds
        self._random = random
        self._core = _Core(self)
        self._machine = _build(self._core)

    @property
    def link(self) -> Any:
        return self._core.link

    def start(self) -> None:
        """
        Dial, now and whenever it is needed.
        """
        self._machine.start()

    def stop(self) -> Deferred[None]:
        """
        Drain, and dial no more.

        @return: fires when the session is gone.
        """
        stopped: Deferred[None] = Deferred()
        self._core.stopped.append(stopped)
        self._machine.stop()
        return stopped

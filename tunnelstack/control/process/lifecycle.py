"""
The lifecycle of a process with one service: signals, failure of the service, and the exit code.

It works both under C{twistd} and in our own console scripts, because it is a service itself.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable

from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from tunnelstack.control.process.exit_status import INTERNAL_ERROR, STOPPED, exitCode
from tunnelstack.control.process.systemd import Notifier
from tunnelstack.control.process.terminal import ControllingTerminal
from tunnelstack.errors import TunnelError
from tunnelstack.interfaces import IProcessService, IReactor

HANGUP_SECONDS = 1.0
"""Seconds after SIGHUP until the terminal is looked at once more: a shell may pass the signal on before it is gone."""


class ProcessLifecycle(MultiService):
    """
    The parent of one service: stops the process when the service has failed, and drains the service when the process is asked
    to stop.

    @ivar code: the exit code of the process, valid once the reactor has stopped.
    @ivar error: the error that the service has failed with, or C{None}.
    @ivar logObserver: the log observer for C{twistd}, or C{None} for its own.
    @ivar lines: shows status lines instead of standard output, or C{None}.
    @ivar raises: whether L{startService} raises the error that prevents the start, after it has been logged.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        service: IProcessService,
        *,
        reload: Callable[[], Iterable[str]] | None = None,
        report: Callable[[], object] | None = None,
        notifier: Notifier | None = None,
        lines: ILogObserver | None = None,
        terminal: Callable[[], ControllingTerminal] = ControllingTerminal,
    ) -> None:
        """
        @param reload: called at SIGHUP, unless the terminal of the process was closed.
        @param report: called at SIGUSR2; logs the state.
        @param notifier: notifies systemd.
        @param lines: shows status lines instead of standard output.
        @param terminal: finds the terminal of the process, once the reactor runs.
        """
        super().__init__()
        self.code = STOPPED
        self.lines = lines
        self.logObserver: ILogObserver | None = None
        self.raises = False
        self._reactor = reactor
        self._service = service
        self._reload = reload
        self._report = report
        self._notifier = notifier or Notifier({})
        self._findTerminal = terminal
        self._stopWatchdog: Callable[[], object] = lambda: None
        self._stopping = False
        self.error: BaseException | None = None
        service.setServiceParent(self)

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """
        Set the L{logObserver} on the application of C{twistd} as well.
        """
        super().setServiceParent(parent)
        if self.logObserver is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.logObserver)

    def startService(self) -> None:
        """
        Start the service.  If that fails, the process stops.
        """
        self._reactor.callWhenRunning(self._reactorStarted)
        self._service.whenReady().addCallback(lambda _: self._reactor.callWhenRunning(self._notifier.ready))
        self._service.whenFailed().addCallbacks(self._serviceFailed, self._unexpectedError)
        try:
            super().startService()
        except Exception:
            self._unexpectedError(Failure())
        if self.raises and self.error is not None:
            raise self.error

    def _serviceFailed(self, why: BaseException) -> None:
        if self._stopping:
            return
        self.code, self.error = exitCode(why), why
        self._log.critical("{reason}", reason=str(why), code=self.code)
        self._stop()

    def _unexpectedError(self, failure: Failure) -> None:
        if isinstance(failure.value, TunnelError):
            self._serviceFailed(failure.value)
            return
        self.code, self.error = INTERNAL_ERROR, failure.value
        self._log.failure("the process stops because of a defect of tunnelstack", failure)
        self._stop()

    def _stop(self) -> None:
        """
        Stop the reactor once it runs: before that, it cannot be stopped.
        """
        if not self._stopping:
            self._stopping = True
            self._reactor.callWhenRunning(self._reactor.stop)

    def stopService(self) -> Deferred[object]:
        self._notifier.stopping(self._service.drainSeconds)
        stopped: Deferred[object] = maybeDeferred(super().stopService)
        return stopped.addBoth(self._stopped)

    def _stopped(self, result: object) -> object:
        self._stopWatchdog()
        return result

    def _reactorStarted(self) -> None:
        self._watchSignals()
        self._stopWatchdog = self._notifier.startWatchdog(self._reactor)

    def _watchSignals(self) -> None:
        self._terminal = self._findTerminal()
        for number, answer in (
            (signal.SIGTERM, self._stopSignalled), (signal.SIGINT, self._stopSignalled), (signal.SIGHUP, self._hangupSignalled),
            (signal.SIGUSR2, self._reportSignalled),
        ):  # fmt: skip
            signal.signal(number, self._handler(answer))

    def _handler(self, answer: Callable[[], None]) -> Callable[[int, object], None]:
        return lambda number, frame: self._reactor.callFromThread(answer)

    def stop(self) -> None:
        """
        Drain the service and stop the process, as SIGTERM does.
        """
        if not self._stopping:
            self._stopSignalled()

    def reload(self) -> Deferred[Iterable[str]]:
        """
        Read the configuration again; as SIGHUP does.

        @return: a C{Deferred} of the result of C{reload}, a sentence for each difference; it fails with L{ConfigurationError}
            if the new configuration cannot be used.
        """
        if self._reload is None:
            return succeed(())
        self._notifier.reloading()
        read: Deferred[Iterable[str]] = maybeDeferred(self._reload)
        return read.addBoth(self._reloaded)

    def _reloaded(self, result: Iterable[str] | Failure) -> Iterable[str] | Failure:
        self._notifier.ready()
        return result

    def _stopSignalled(self) -> None:
        """
        Drain; on a second signal, stop at once.
        """
        if self._stopping:
            self._log.warn("stopped at once; work in progress is lost")
            self._reactor.crash()
            return
        self._log.info("work in progress may finish; a second signal stops at once", status="stopping")
        self._stop()

    def _hangupSignalled(self) -> None:
        """
        Stop if the terminal of the process is gone; reload otherwise.
        """
        if self._stopIfTerminalClosed():
            return
        self._reloadSignalled()
        if self._terminal.matters:
            self._reactor.callLater(HANGUP_SECONDS, self._stopIfTerminalClosed)

    def _stopIfTerminalClosed(self) -> bool:
        if not (self._terminal.matters and self._terminal.isClosed()):
            return False
        if not self._stopping:                # a shell sends the signal as well as the kernel
            self._log.info("the terminal was closed; work in progress may finish", status="stopping")
            self._stop()
        return True

    def _reloadSignalled(self) -> None:
        if self._reload is None:
            self._log.info("this process has no configuration to reload")
        else:
            self.reload().addErrback(self._reloadFailed)

    def _reloadFailed(self, failure: Failure) -> None:
        if failure.check(TunnelError):
            reason = "; ".join(str(failure.value).splitlines())       # a file may have several mistakes
            self._log.error("the configuration is unchanged: {reason}", reason=reason)
        else:
            self._log.failure("the configuration is unchanged", failure)

    def _reportSignalled(self) -> None:
        if self._report is not None:
            self._report()

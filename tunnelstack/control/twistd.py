"""
How our services log and end under C{twistd}: its options decide where the log goes, a L{LogWriter} writes it, and the exit code
reports why the service ended.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from twisted.application.service import Service
from twisted.logger import ILogObserver, Logger, formatEventAsClassicLogText, formatTime
from twisted.python.logfile import LogFile
from zope.interface import implementer

from tunnelstack.control.access_log import Output
from tunnelstack.control.log_writer import FINISH_SECONDS, LogWriter, finishAll, standardWriters, textReport
from tunnelstack.control.process.exit_status import STOPPED
from tunnelstack.control.process.lifecycle import ProcessLifecycle

DEFAULT_LOG = "twistd.log"
"""Where a daemon logs without C{--logfile}; as C{twistd} does."""


class RotatingFile:
    """
    A log file of Twisted's, which begins anew when it is long, as the target of a L{LogWriter}.
    """

    def __init__(self, path: str) -> None:
        self._file = LogFile.fromFullPath(path)
        self.rotate: Callable[[], None] = self._file.rotate

    def write(self, octets: memoryview) -> int:
        self._file.write(bytes(octets))
        return len(octets)

    def close(self) -> None:
        self._file.close()

    def isatty(self) -> bool:
        return False


@implementer(ILogObserver)
class ClassicText:
    """
    The log as C{twistd} writes it.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, event: Any) -> None:
        if text := formatEventAsClassicLogText(event, formatTime):
            self._write(text)


class EventOutput:
    """
    Makes each line an event of the log, for observers that are not ours.
    """

    _log = Logger("tunnelstack.access")

    def write(self, text: str) -> None:
        for line in text.splitlines():
            self._log.info("{line}", line=line)

    def isatty(self) -> bool:
        return False


class Release(Service):
    """
    Lets a writer begin once the process has been forked: C{twistd} starts services after that.
    """

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._writer.release()


class TwistdLog:
    """
    The log of a process that C{twistd} runs.

    @ivar access: where the access log goes that is to go to standard error: the same, with C{-n} and without C{--logfile};
        otherwise the log, since a daemon has no standard error.
    @ivar observer: writes the log; C{None} where C{--logger} or C{--syslog} name another way.
    """

    access: Output
    observer: ILogObserver | None = None
    _held: LogWriter | None = None

    def __init__(self, reactor: Any, options: Mapping[str, Any] | None) -> None:
        """
        @param options: those of C{twistd}; C{None} if another program has made the service.
        """
        self._reactor = reactor
        self._daemon = options is not None and not options["nodaemon"]
        self._owned = options is not None
        path = "" if options is None else options.get("logfile") or ("" if options["nodaemon"] else DEFAULT_LOG)
        if options is not None and (options.get("logger") or options.get("syslog")):
            self.access = EventOutput()
        elif options is None or (path == "-" and self._daemon):      # twistd refuses the latter
            self.access = standardWriters(sys.stdout, sys.stderr)[1]
        elif path in ("", "-"):
            out, self.access = standardWriters(sys.stdout, sys.stderr)
            self.observer = ClassicText(out.write)
        else:
            self.access = self._held = writer = self._rotating(path)
            self.observer = ClassicText(writer.write)

    def _rotating(self, path: str) -> LogWriter:
        """
        A writer into a file that SIGUSR1 rotates, if no other handler is installed; as with C{twistd}.
        """
        target = RotatingFile(path)
        writer = LogWriter(target, textReport, delayStart=self._daemon)
        if not signal.getsignal(signal.SIGUSR1):
            rotate = partial(writer.call, target.rotate)
            signal.signal(signal.SIGUSR1, lambda number, frame: self._reactor.callFromThread(rotate))
        return writer

    def follow(self, life: ProcessLifecycle) -> ProcessLifecycle:
        """
        Let a service log here, and let the process end with its exit code.

        @return: C{life}.
        """
        if self._owned:
            life.logObserver = self.observer
            if self._daemon:
                life.raises = True                            # the parent process waits for the start and reports its error
                sys.excepthook = partial(_excepthook, life)
            if self._held is not None:
                Release(self._held).setServiceParent(life)
            self._reactor.addSystemEventTrigger("after", "shutdown", finishAll, FINISH_SECONDS)
            atexit.register(_exit, life)
        return life


def _excepthook(
    life: ProcessLifecycle, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """
    Write the traceback of an error into the log, but not of the one that the service has logged.
    """
    if error is not life.error:
        sys.__excepthook__(kind, error, traceback)


def _exit(life: ProcessLifecycle) -> None:
    """
    End the process with the code of its service.  C{twistd} would end it with 0, and can be given no other code.
    """
    if life.code != STOPPED:
        finishAll()
        os._exit(life.code)

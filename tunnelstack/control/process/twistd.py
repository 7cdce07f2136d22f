"""
Logging and exit codes of the services under C{twistd}: its options choose the destination of the log, a L{LogWriter} writes it,
and the exit code reports why the service has ended.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import NoReturn

from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, Logger, formatEventAsClassicLogText, formatTime
from twisted.python.logfile import LogFile
from zope.interface import implementer

from tunnelstack.control.access_log import Output
from tunnelstack.control.process.exit_status import STOPPED, exitCode
from tunnelstack.control.process.lifecycle import ProcessLifecycle
from tunnelstack.control.process.log_writer import (
    FINISH_SECONDS,
    LogWriter,
    finishAll,
    standardWriters,
    textReport,
)
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.wire.printable_text import printable_lines

DEFAULT_LOG = "twistd.log"
"""The log file of a daemon without C{--logfile}, as in C{twistd}."""


class RotatingFile:
    """
    A rotating log file of Twisted as the target of a L{LogWriter}.
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
    Writes events in the format of C{twistd}.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, event: LogEvent) -> None:
        if text := formatEventAsClassicLogText(event, formatTime):
            self._write(text)


class EventOutput:
    """
    Logs each line as an event, for log observers that the user has chosen.
    """

    _log = Logger("tunnelstack.access")

    def write(self, text: str) -> None:
        for line in text.splitlines():
            self._log.info("{line}", line=line)

    def isatty(self) -> bool:
        return False


class WriterRelease(Service):
    """
    Releases a writer when services are started: C{twistd} does so after it has forked.
    """

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._writer.release()


class TwistdLog:
    """
    The log of a process that C{twistd} runs.

    @ivar access: the destination of an access log C{"-"}: standard error, with C{-n} and without C{--logfile}; otherwise the
        log, because a daemon has no standard error.
    @ivar observer: writes the log; C{None} if C{--logger} or C{--syslog} choose another observer.
    """

    access: Output
    observer: ILogObserver | None = None
    _held: LogWriter | None = None

    def __init__(self, reactor: IReactor, options: Mapping[str, str | int | None] | None) -> None:
        """
        @param options: the options of C{twistd}; C{None} if another program has made the service.
        """
        self._reactor = reactor
        self._daemon = options is not None and not options["nodaemon"]
        self._owned = options is not None
        path = "" if options is None else str(options.get("logfile") or "") or ("" if options["nodaemon"] else DEFAULT_LOG)
        if options is not None and (options.get("logger") or options.get("syslog")):
            self.access = EventOutput()
        elif options is None or (path == "-" and self._daemon):      # twistd rejects the latter
            self.access = standardWriters(sys.stdout, sys.stderr)[1]
        elif path in ("", "-"):
            out, self.access = standardWriters(sys.stdout, sys.stderr)
            self.observer = ClassicText(out.write)
        else:
            self.access = self._held = writer = self._rotating(path)
            self.observer = ClassicText(writer.write)

    def _rotating(self, path: str) -> LogWriter:
        """
        @return: a writer to a file that SIGUSR1 rotates, unless another handler is installed, as in C{twistd}.
        """
        target = RotatingFile(path)
        writer = LogWriter(target, textReport, delayStart=self._daemon)
        if not signal.getsignal(signal.SIGUSR1):
            rotate = partial(writer.call, target.rotate)
            signal.signal(signal.SIGUSR1, lambda number, frame: self._reactor.callFromThread(rotate))
        return writer

    def follow(self, life: ProcessLifecycle) -> ProcessLifecycle:
        """
        Let a service use this log, and let the process exit with its exit code.

        @return: C{life}.
        """
        if self._owned:
            life.logObserver = self.observer
            if self._daemon:
                life.raises = True                            # the parent process waits for the start and reports its error
                sys.excepthook = partial(_excepthook, life)
            if self._held is not None:
                WriterRelease(self._held).setServiceParent(life)
            self._reactor.addSystemEventTrigger("after", "shutdown", finishAll, FINISH_SECONDS)
            atexit.register(_exit, life)
        return life


def exitWith(program: str, error: ConfigurationError) -> NoReturn:
    """
    End a process of C{twistd} that cannot make its service, with a sentence instead of a traceback.
    """
    print(f"{program}: {printable_lines(str(error))}", file=sys.stderr)  # noqa: T201
    raise SystemExit(exitCode(error))


def _excepthook(
    life: ProcessLifecycle, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """
    Log the traceback of an error, except of the error that the service has logged.
    """
    if error is not life.error:
        sys.__excepthook__(kind, error, traceback)


def _exit(life: ProcessLifecycle) -> None:
    """
    Exit with the code of the service.  C{twistd} always exits with 0 and has no way to set another code.
    """
    if life.code != STOPPED:
        finishAll()
        os._exit(life.code)

"""
A login shell of the agent's own user, in a terminal whose size may change.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import termios
from collections.abc import Callable
from contextlib import suppress
from struct import pack
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tunnelstack.handler.ssh.local_user import LocalUser
from tunnelstack.wire.terminal import WindowSize

TERM = "xterm-256color"


class TerminalProgram(ProcessProtocol):
    """
    A shell that runs in a terminal.

    @ivar transport: the process, which is a transport, a producer of the shell's output, and a consumer of what is typed.
    @ivar running: the shell has not ended.
    """

    transport: Any

    def __init__(self, output: Callable[[bytes], object], ended: Callable[[], object]) -> None:
        """
        @param output: called with what the shell shows.
        @param ended: called once, when it has ended and all of its output was passed on.
        """
        self.running = False
        self._output = output
        self._ended = ended
        self._master = -1

    def start(self, reactor: IReactorProcess, user: LocalUser, size: WindowSize, term: str = TERM) -> None:
        """
        Run the shell of a user.

        @raise OSError: it cannot be run.
        """
        master, slave = pty.openpty()
        name = os.ttyname(slave)
        self._master = master
        try:
            self.resize(size)
            environment = {**user.environment, "TERM": term}
            reactor.spawnProcess(
                self, user.shell, [f"-{os.path.basename(user.shell)}".encode()], environment, user.folder,
                usePTY=(master, slave, name),      # type: ignore[arg-type]     # open already: both ends and its name
            )
        except OSError:
            self._master = -1
            for descriptor in (master, slave):
                os.close(descriptor)
            raise

    def connectionMade(self) -> None:
        self.running = True

    def resize(self, size: WindowSize) -> None:
        """
        Change the size of the window; the shell receives SIGWINCH.
        """
        if self._master >= 0:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, pack("4H", size.rows, size.columns, 0, 0))

    def write(self, octets: bytes) -> None:
        """
        Type.
        """
        if self.running:
            self.transport.write(octets)

    def hangUp(self) -> None:
        """
        Close the terminal: SIGHUP for the shell and everything that it runs.
        """
        if not self.running:
            return
        try:
            os.killpg(self.transport.pid, signal.SIGHUP)
        except (ProcessLookupError, PermissionError, TypeError):
            self._signalShell()
        self.transport.unregisterProducer()
        self.transport.resumeProducing()      # while it is paused, the end of the process is not noticed
        self.transport.loseConnection()

    def _signalShell(self) -> None:
        with suppress(ProcessExitedAlready):      # its end is about to be reported
            self.transport.signalProcess("HUP")

    def outReceived(self, data: bytes) -> None:
        self._output(data)

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        self._master = -1                     # Twisted has closed it
        self._ended()

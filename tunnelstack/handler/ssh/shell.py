"""
The C{session} channel of an embedded SSH server: a shell or a command of the agent's own user, with or without a terminal, or
a subsystem (SFTP).

Each program is the leader of a session of its own, so that its terminal controls its jobs and SIGHUP reaches all of them.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import sys
import termios
from collections.abc import Callable
from functools import partial
from struct import pack
from typing import Any, cast

from twisted.conch import ttymodes
from twisted.conch.ssh import session
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import EXTENDED_DATA_STDERR
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.handler.ssh.channel import ORDINARY_DATA, FlowControlledChannel
from tunnelstack.handler.ssh.local_user import LocalUser
from tunnelstack.handler.ssh.sftp import FileServer
from tunnelstack.interfaces import IReactor

VARIABLES = re.compile(rb"LANG|LC_[A-Z]{1,32}|COLORTERM|NO_COLOR")
"""Environment variables that a client may set: none that names programs, libraries or folders."""

LARGEST_VARIABLE = 1024
"""Octets of the value of such a variable."""

SIGNALS = {b"HUP", b"INT", b"KILL", b"QUIT", b"TERM", b"USR1", b"USR2", b"ALRM"}
"""Signals that a client may send to its program."""

NAMES = {int(number): number.name.removeprefix("SIG") for number in signal.Signals}
"""Names of signals in SSH, without C{SIG}."""

SESSION_LEADER_SCRIPT = """\
import os, signal, sys
os.setsid()
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[2:])
"""
"""
Makes a program without a terminal the leader of a session, with no signal ignored.  Twisted does this only for programs with a
terminal; and a program cannot trap a signal that it inherits as ignored, as from an agent under C{nohup}.
"""


class ShellSession(FlowControlledChannel):
    """
    The server side of the C{session} channel (RFC 4254, section 6).
    """

    name = b"session"
    deliversAfterClose = False                # a program that does not read must still receive SIGHUP
    log = Logger()

    def __init__(self, user: LocalUser, reactor: IReactor, **windows: int) -> None:
        super().__init__(**windows)
        self._user = user
        self._reactor = reactor
        self._environment = dict(user.environment)
        self._terminal: tuple[int, int, str] | None = None
        self._program: Any = None             # the process's transport, which has no interface for its pid
        self._files: FileServer | None = None
        self._started = False
        self._inputClosed = False             # the program reads no more
        self._asked: dict[bytes, Callable[[bytes], bool]] = {
            b"env": self._env,
            b"pty-req": self._pty,
            b"shell": lambda data: self._run([f"-{os.path.basename(user.shell)}".encode()]),
            b"exec": lambda data: self._run([os.path.basename(user.shell).encode(), b"-c", getNS(data)[0]]),
            b"subsystem": lambda data: self._subsystem(getNS(data)[0]),
            b"window-change": self._windowChange,
            b"signal": lambda data: self._signal(getNS(data)[0]),
        }
        self.pauseProducing()                 # until a program is started

    # Requests

    def requestReceived(self, requestType: bytes, data: bytes) -> bool:
        """
        Called by the connection.

        @return: whether the request is granted.
        """
        asked = self._asked.get(requestType)
        return asked is not None and asked(data)

    def _env(self, data: bytes) -> bool:
        name, value, _ = getNS(data, 2)
        if self._started or not VARIABLES.fullmatch(name) or len(value) > LARGEST_VARIABLE or b"\0" in value:
            return False
        self._environment[name.decode()] = os.fsdecode(value)
        return True

    def _pty(self, data: bytes) -> bool:
        if self._started or self._terminal is not None:
            return False
        term, size, modes = session.parseRequest_pty_req(data)
        master, slave = pty.openpty()
        self._terminal = (master, slave, os.ttyname(slave))
        self._environment["TERM"] = re.sub(r"[^\w.+-]", "", term[:64].decode("ascii", "replace")) or "dumb"
        self._environment["SSH_TTY"] = self._terminal[2]
        _resize(master, size)
        _setModes(slave, modes)
        return True

    def _windowChange(self, data: bytes) -> bool:
        if self._terminal is None:
            return False
        if self._terminal[0] >= 0:
            _resize(self._terminal[0], session.parseRequest_window_change(data))
        return True

    def _signal(self, name: bytes) -> bool:
        return name in SIGNALS and self._kill(name.decode())

    def _kill(self, name: str) -> bool:
        """
        Send a signal to the process group of the program.

        @return: whether it was sent.
        """
        program = self._program
        try:
            if program is None or not program.pid:
                return False
            try:
                os.killpg(program.pid, getattr(signal, f"SIG{name}"))
            except ProcessLookupError:        # it has not called setsid() yet
                program.signalProcess(name)
        except (ProcessExitedAlready, OSError):
            return False
        return True

    # Programs

    def _run(self, arguments: list[bytes]) -> bool:
        if self._started or any(b"\0" in argument for argument in arguments):
            return False
        executable, given = self._user.shell, arguments
        if self._terminal is None:
            executable = sys.executable
            given = [
                os.fsencode(sys.executable),
                b"-I",
                b"-S",
                b"-c",
                SESSION_LEADER_SCRIPT.encode(),
                os.fsencode(self._user.shell),
                *arguments,
            ]
        try:
            self._reactor.spawnProcess(
                ProgramProtocol(self), executable, given, self._environment, self._user.folder,
                usePTY=cast(bool, self._terminal or False),       # a terminal that is open already: both ends and its name
            )
        except OSError as failed:
            self.log.error("cannot start a program for {user}: {reason}", user=self._user.name, reason=failed.strerror)
            return False
        self._started = True
        self.resumeProducing()
        return True

    def programStarted(self, program: Any) -> None:
        """
        Called by the program's protocol when the program runs.

        @param program: the process's transport.
        """
        self._program = program
        if self._terminal is not None:
            self._terminal = (self._terminal[0], -1, self._terminal[2])   # Twisted has closed our copy of the other end
        self.registerProducer(program, True)
        program.registerProducer(self, True)

    def programEnded(self, reason: Any) -> None:
        """
        Called by the program's protocol when the program has ended: report the exit status, then close the channel.

        @param reason: a C{ProcessDone} or a C{ProcessTerminated}, which have the same attributes.
        """
        self._program = None
        if self._terminal is not None:
            self._terminal = (-1, -1, self._terminal[2])
        self.unregisterProducer()
        if reason.signal is not None:
            name = NAMES.get(reason.signal, f"{reason.signal}@{sys.platform}")
            report = partial(self.conn.sendRequest, self, b"exit-signal", NS(name.encode()) + b"\0" + NS(b"") + NS(b""))
        else:
            report = partial(self.conn.sendRequest, self, b"exit-status", pack(">L", reason.exitCode or 0))
        self.sendAfterQueued(report)
        self.loseWriteConnection()
        self.loseConnection()

    # Subsystems

    def _subsystem(self, name: bytes) -> bool:
        if self._started or name != b"sftp":
            return False
        self._started = True
        self._files = FileServer(self, self._user.home)
        self.registerProducer(self._files, True)
        self.resumeProducing()
        return True

    def fileTransferEnded(self, status: int) -> None:
        """
        Called by the file server when the client has finished or has broken the protocol.

        @param status: the exit status for the client: 0 or 1.
        """
        self.sendAfterQueued(partial(self.conn.sendRequest, self, b"exit-status", pack(">L", status)))
        self.loseWriteConnection()
        self.loseConnection()

    # The client

    def received(self, kind: int, data: bytes) -> None:
        if kind != ORDINARY_DATA:
            return
        if self._files is not None:
            self._files.dataReceived(data)
        elif self._program is not None and not self._inputClosed:
            self._program.write(data)

    def receivedEnd(self) -> None:
        """
        Close the program's input.  A terminal is not closed: it has no half-close.
        """
        if self._files is not None:
            self._files.endReceived()
        elif self._program is not None:
            self._program.unregisterProducer()
            self._program.closeStdin()

    def stopProducing(self) -> None:
        """
        The program reads no more: discard further input.
        """
        self._inputClosed = True
        self.resumeProducing()

    def receivedClose(self, reason: Failure) -> None:
        """
        The channel is closed: send SIGHUP to the program.
        """
        if self._files is not None:
            self._files.connectionLost(reason)
        if self._program is not None:
            self._kill("HUP")
            self._program.unregisterProducer()
            self._program.resumeProducing()   # while it is paused, the end of the process is not noticed
            self._program.loseConnection()
        elif self._terminal is not None and not self._started:
            os.close(self._terminal[0])
            os.close(self._terminal[1])


class ProgramProtocol(ProcessProtocol):
    """
    The protocol of a program, which passes its events to the channel.
    """

    transport: Any

    def __init__(self, session: ShellSession) -> None:
        self._session = session

    def connectionMade(self) -> None:
        self._session.programStarted(self.transport)

    def outReceived(self, data: bytes) -> None:
        self._session.write(data)

    def errReceived(self, data: bytes) -> None:
        self._session.writeExtended(EXTENDED_DATA_STDERR, data)

    def processEnded(self, reason: Failure) -> None:
        # Called after all output was received, unlike processExited.
        self._session.programEnded(reason.value)


def _resize(descriptor: int, size: tuple[int, int, int, int]) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, pack("4H", *(min(number, 0xFFFF) for number in size)))


def _setModes(descriptor: int, modes: list[tuple[int, int]]) -> None:
    """
    Set the terminal modes that the client requests: flags and control characters, by the numbers of RFC 4254, section 8.
    """
    attributes: list[Any] = termios.tcgetattr(descriptor)
    for number, value in modes:
        mode: Any = ttymodes.TTYMODES.get(number)
        if isinstance(mode, tuple):
            index, name = mode
            flag = getattr(termios, name, 0)
            attributes[index] = attributes[index] | flag if value else attributes[index] & ~flag
        elif mode is not None and mode.startswith("V") and hasattr(termios, mode) and value < 256:
            attributes[6][getattr(termios, mode)] = bytes((0 if value == 255 else value,))   # 255 is SSH's value for "disabled"
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)

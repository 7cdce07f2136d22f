"""
The command C{tunnelstack terminal}, which opens a terminal on an agent and shows it in this one.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import termios
import tty
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.commands.outgoing_stream import EDGE_HELP, EdgeOptions, OutgoingStream, runStream
from tunnelstack.control.process.exit_status import STOPPED
from tunnelstack.errors import PeerError
from tunnelstack.interfaces import IReactor
from tunnelstack.wire.terminal import (
    TerminalMessageReader,
    WindowSize,
    encode_terminal_data,
    encode_window_size,
)

HELP = """
Usage: tunnelstack terminal NAME [options]

Open a terminal on an agent.  The token needs the right terminal:NAME.

  tunnelstack terminal demo
        the shell of the agent "demo"; its window follows the size of this one

Type exit to end the shell, or Enter ~ . to leave it: where the agent keeps shells, the next terminal finds it again.

Options                        Environment               Default
""" + EDGE_HELP

PURPOSE = "terminal"

DEFAULT_SIZE = WindowSize(80, 24)
"""Of the window if standard input is not a terminal."""


class Options(EdgeOptions):
    """
    The command line, read into C{config} and C{name}.
    """

    helpText = HELP

    def parseArgs(self, *arguments: str) -> None:
        """
        Read the name of the agent.
        """
        if len(arguments) != 1:
            raise usage.UsageError("terminal takes the name of one agent")
        self.name = arguments[0]


class EscapeFilter:
    """
    Finds the escape sequence in what is typed: C{~.} at the beginning of a line, as in ssh.  C{~~} stands for one C{~}.
    """

    _LINE_START, _TILDE, _INSIDE = range(3)

    def __init__(self) -> None:
        self._state = self._LINE_START

    def filter(self, octets: bytes) -> tuple[bytes, bool]:
        """
        @return: what is sent of the octets, and whether the sequence was complete; nothing after it is sent.
        """
        sent = bytearray()
        for octet in octets:
            if self._state == self._TILDE:
                self._state = self._INSIDE
                if octet == ord("."):
                    return bytes(sent), True
                if octet != ord("~"):
                    sent += b"~"
            elif self._state == self._LINE_START and octet == ord("~"):
                self._state = self._TILDE
                continue
            sent.append(octet)
            self._state = self._LINE_START if octet in b"\r\n" else self._INSIDE
        return bytes(sent), False


class LocalTerminal:
    """
    The terminal that this process runs in.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._saved: list[Any] | None = None

    def size(self) -> WindowSize:
        """
        The size of its window, or L{DEFAULT_SIZE} if there is none.
        """
        try:
            packed = fcntl.ioctl(self._descriptor, termios.TIOCGWINSZ, bytes(8))
        except OSError:
            return DEFAULT_SIZE
        rows, columns, _, _ = struct.unpack("4H", packed)
        return WindowSize(columns, rows) if columns and rows else DEFAULT_SIZE

    def makeRaw(self) -> None:
        """
        Pass on every key as it is typed, if this is a terminal.
        """
        if os.isatty(self._descriptor):
            self._saved = termios.tcgetattr(self._descriptor)
            tty.setraw(self._descriptor, termios.TCSADRAIN)      # what was typed already is sent as well

    def restore(self) -> None:
        """
        Undo L{makeRaw}.
        """
        saved, self._saved = self._saved, None
        if saved is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, saved)


class TerminalSession:
    """
    Joins this terminal with a remote one.

    @ivar far: the protocol of the stream of terminal messages.
    @ivar near: the protocol of standard input and output.
    """

    def __init__(self, ended: Callable[[Failure], object], size: Callable[[], WindowSize]) -> None:
        """
        @param ended: called once, with the reason.
        @param size: gives the size of this terminal's window.
        """
        self._ended = ended
        self._size = size
        self._over = False
        self.far = _FarEnd(self)
        self.near = _NearEnd(self)

    def connected(self) -> None:
        """
        Both ends have their transports: pass on the pressure of each to the other, and send the size of the window.
        """
        self.far.transport.registerProducer(_Pressure(self.near.transport), True)
        self.near.transport.registerProducer(_Pressure(self.far.transport), True)
        self.windowChanged()

    def windowChanged(self) -> None:
        """
        Send the size of the window.
        """
        if not self._over and self.far.transport is not None:
            self.far.transport.write(encode_window_size(self._size()))

    def close(self, reason: Failure) -> None:
        """
        One end is over.
        """
        if self._over:
            return
        self._over = True
        for end in (self.far, self.near):
            transport: Any = end.transport
            if transport is not None:
                transport.unregisterProducer()
                transport.loseConnection()
        self._ended(reason)


@implementer(IPushProducer)
class _Pressure:
    """
    A transport as the producer of another, which it does not close.
    """

    def __init__(self, transport: Any) -> None:
        self.pauseProducing = transport.pauseProducing
        self.resumeProducing = transport.resumeProducing

    def stopProducing(self) -> None:
        """
        The other transport is closed; its protocol is called as well.
        """


class _FarEnd(Protocol):
    """
    The remote terminal.
    """

    transport: Any = None

    def __init__(self, session: TerminalSession) -> None:
        self._session = session
        self._reader = TerminalMessageReader()

    def dataReceived(self, data: bytes) -> None:
        near: ITransport | None = self._session.near.transport
        try:
            messages = self._reader.receive_data(data)
        except PeerError as error:
            self._session.close(Failure(error))
            return
        for message in messages:
            if isinstance(message, bytes) and near is not None:
                near.write(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._session.close(reason)


class _NearEnd(Protocol):
    """
    The keys and the screen.
    """

    transport: Any = None

    def __init__(self, session: TerminalSession) -> None:
        self._session = session
        self._escapes = EscapeFilter()

    def connectionMade(self) -> None:
        self._session.connected()

    def dataReceived(self, data: bytes) -> None:
        typed, left = self._escapes.filter(data)
        self._session.far.transport.write(encode_terminal_data(typed))
        if left:
            self._session.close(Failure(ConnectionDone()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._session.close(Failure(ConnectionDone()))


def start(reactor: IReactor, stream: OutgoingStream) -> None:
    """
    Show the remote terminal in this one.
    """
    terminal = LocalTerminal(sys.stdin.fileno())

    def ended(reason: Failure) -> None:
        terminal.restore()
        stream.ended(reason)

    session = TerminalSession(ended, terminal.size)
    far = Factory.forProtocol(lambda: session.far)
    far.noisy = False

    def opened() -> None:
        terminal.makeRaw()
        reactor.addSystemEventTrigger("before", "shutdown", terminal.restore)
        signal.signal(signal.SIGWINCH, lambda *_: reactor.callFromThread(session.windowChanged))
        StandardIO(session.near, reactor=reactor)

    stream.open(far, opened)


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    code = runStream(options, options.name, PURPOSE, start)
    if code == STOPPED and os.isatty(sys.stderr.fileno()):
        sys.stderr.write("\n")
    return code

"""
The agent's end of terminal streams.

As in genuine agents there is one shell, which continues when its stream ends.  The next stream closes the former one, is
sent the last output, and continues with the same shell.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer, IReactorProcess
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.handler.ssh.local_user import ownUser
from tunnelstack.handler.terminal import TerminalProgram
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.records.agentserver_terminal import (
    COLUMNS,
    HISTORY,
    LARGEST_DATA,
    ROWS,
    TypedInputReader,
    encode_data,
)
from tunnelstack.wire.terminal import WindowSize

StartProgram = Callable[[TerminalProgram, WindowSize], object]
"""Starts the program of a terminal, whose window has this size; raises C{OSError} if it cannot be run."""


class TerminalStreams(Factory):
    """
    The one terminal of an agent.

    @ivar program: the running shell, or C{None}.
    """

    noisy = False
    log = Logger()

    def __init__(self, start: StartProgram | None) -> None:
        """
        @param start: C{None} if the agent has no terminal: its streams are closed at once.
        """
        self._start = start
        self.program: TerminalProgram | None = None
        self._stream: TerminalStreamProtocol | None = None
        self._history = bytearray()
        self._size = WindowSize(COLUMNS, ROWS)

    def buildProtocol(self, address: object) -> Protocol:
        return _ClosingProtocol() if self._start is None else TerminalStreamProtocol(self)

    # From streams

    def attach(self, stream: TerminalStreamProtocol) -> None:
        """
        Show the terminal on this stream, and on no other.
        """
        former, self._stream = self._stream, stream
        if former is not None:
            self._disconnect(former)
            former.transport.loseConnection()
        if self.program is None and not self._startProgram():
            stream.transport.loseConnection()
            return
        assert self.program is not None
        stream.show(bytes(self._history))
        stream.transport.registerProducer(_ShellOutput(self.program), True)
        self.program.transport.registerProducer(stream.transport, True)

    def _startProgram(self) -> bool:
        assert self._start is not None
        self._history.clear()
        self._size = WindowSize(COLUMNS, ROWS)
        program = TerminalProgram(self._outputReceived, self._ended)
        try:
            self._start(program, self._size)
        except OSError as failed:
            self.log.error("the shell of a terminal cannot be run: {reason}", reason=failed.strerror)
            return False
        self.program = program
        return True

    def typed(self, stream: TerminalStreamProtocol, octets: bytes) -> None:
        """
        Type, unless another stream has the terminal.
        """
        if stream is self._stream and self.program is not None:
            self.program.write(octets)

    def resized(self, stream: TerminalStreamProtocol, size: WindowSize) -> None:
        """
        The window of a stream has another size.
        """
        if stream is self._stream and self.program is not None and size != self._size:
            self._size = size
            self.program.resize(size)

    def detach(self, stream: TerminalStreamProtocol) -> None:
        """
        A stream has ended.  The shell continues.
        """
        if stream is self._stream:
            self._stream = None
            self._disconnect(stream)

    def _disconnect(self, stream: TerminalStreamProtocol) -> None:
        """
        Let the shell run without a stream: its output is kept as history, within a bound.
        """
        stream.transport.unregisterProducer()
        if self.program is not None and self.program.running:
            self.program.transport.unregisterProducer()
            self.program.transport.resumeProducing()

    # From the program

    def _outputReceived(self, octets: bytes) -> None:
        self._history += octets
        excess = len(self._history) - HISTORY
        if excess > HISTORY // 4:             # not for each piece
            del self._history[:excess]
        if self._stream is not None:
            self._stream.show(octets)

    def _ended(self) -> None:
        self.program = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.transport.unregisterProducer()
            stream.transport.loseConnection()

    def close(self) -> None:
        """
        End the shell.
        """
        if self.program is not None:
            self.program.hangUp()


@implementer(IPushProducer)
class _ShellOutput:
    """
    The shell as the producer of a stream; it continues when the stream ends.
    """

    def __init__(self, program: TerminalProgram) -> None:
        self.pauseProducing = program.transport.pauseProducing
        self.resumeProducing = program.transport.resumeProducing

    def stopProducing(self) -> None:
        """
        The stream is closed; its protocol is called as well.
        """


class TerminalStreamProtocol(Protocol):
    """
    The protocol of one terminal stream.
    """

    transport: StreamTransport

    def __init__(self, terminal: TerminalStreams) -> None:
        self._terminal = terminal
        self._reader = TypedInputReader()

    def connectionMade(self) -> None:
        self._terminal.attach(self)

    def dataReceived(self, data: bytes) -> None:
        for message in self._reader.receive_data(data):
            if isinstance(message, WindowSize):
                self._terminal.resized(self, message)
            else:
                self._terminal.typed(self, message)

    def show(self, octets: bytes) -> None:
        """
        Send what the terminal shows, in messages that one read of any peer holds.
        """
        for start in range(0, len(octets), LARGEST_DATA):
            self.transport.writeRecord(encode_data(octets[start : start + LARGEST_DATA]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._terminal.detach(self)


class _ClosingProtocol(Protocol):
    """
    The protocol of a terminal stream of an agent without a terminal.
    """

    transport: StreamTransport

    def connectionMade(self) -> None:
        self.transport.loseConnection()


def runShell(reactor: IReactorProcess, shell: str) -> StartProgram:
    """
    @param shell: its path; C{""} for that of the user.
    @return: starts the shell of the agent's own user.
    """
    return lambda program, size: program.start(reactor, ownUser(shell), size)

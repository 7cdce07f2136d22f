"""
The command C{tunnelstack connect}, which connects standard input and output to a stream, for scripts and for
C{ssh -o ProxyCommand}.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.stdio import StandardIO
from twisted.python import usage
from twisted.python.failure import Failure

from tunnelstack.commands.outgoing_stream import EDGE_HELP, EdgeOptions, OutgoingStream, runStream
from tunnelstack.interfaces import IReactor
from tunnelstack.stream.splice import Splice
from tunnelstack.wire.printable_text import quoted

HELP = """
Usage: tunnelstack connect NAME [options]

Connect standard input and output to a service of another agent.

  tunnelstack connect db
        the service "db"; write "agent/db" if several agents may publish one
  ssh -o ProxyCommand='tunnelstack connect %h --purpose ssh' me@laptop
        the SSH server of an agent (tunnel-agent ... ssh), or of a device
  tunnelstack connect lab.bench --purpose tcp:10.0.0.5:5432
        a host and port that a device can reach and allows

Options                        Environment               Default
      --purpose PURPOSE                                  the service  ssh, tcp:HOST:PORT, or a stream protocol of the
                                                                      agent, such as /demo/shout/1.0.0
""" + EDGE_HELP


class Options(EdgeOptions):
    """
    The command line, read into C{config}, C{name} and C{purpose}.
    """

    helpText = HELP
    optParameters = [["purpose", None, "", "ssh, tcp:HOST:PORT, or a stream protocol's name"]]

    def parseArgs(self, *arguments: str) -> None:
        """
        Read the name of the service.
        """
        if len(arguments) != 1:
            raise usage.UsageError("connect takes one name")
        self.name = arguments[0]

    def postOptions(self) -> None:
        """
        Check the purpose, and find the edge.
        """
        self.purpose = self["purpose"]
        if self.purpose not in ("", "ssh") and not self.purpose.startswith(("/", "tcp:")):
            raise usage.UsageError(
                "--purpose must be ssh, tcp:HOST:PORT, or the name of a stream protocol, such as /demo/shout/1.0.0, "
                f"not {quoted(self.purpose)}"
            )
        super().postOptions()


class StdioTransport(StandardIO):
    """
    Standard input and output as a transport that a splice can join.
    """

    _writer: Any
    connectionLost: Any

    def childConnectionLost(self, fd: str, reason: Failure) -> None:
        """
        One direction is closed.  C{StandardIO} leaves the descriptor of the output open; without an end its reader, such as an
        SSH client, would wait until this program exits.
        """
        if fd == "write" and self._writer is not None:
            _redirectToNull(self._writer.fd)
        super().childConnectionLost(fd, reason)         # type: ignore[misc]

    def loseConnection(self) -> None:
        """
        Close after the output is flushed.  C{StandardIO} does nothing here once its writing side is closed.
        """
        if self._writer is None and not self.disconnected:
            self.connectionLost(Failure(ConnectionDone()))
        else:
            super().loseConnection()

    def abortConnection(self) -> None:
        """
        Close as well: a pipe has no reset.
        """
        self.loseConnection()


def _redirectToNull(descriptor: int) -> None:
    """
    Close what a descriptor refers to, and keep the number in use.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def start(reactor: IReactor, stream: OutgoingStream) -> None:
    """
    Join standard input and output with the stream.
    """
    splice = Splice(reactor, lambda reason: stream.ended(reason, begun=splice.far.octets > 0))
    far = Factory.forProtocol(lambda: splice.far)
    far.noisy = False
    stream.open(far, lambda: StdioTransport(splice.near, reactor=reactor))


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    return runStream(options, options.name, options.purpose, start)

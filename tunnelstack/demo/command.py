"""
The command C{tunnelstack demo}, which runs an edge, an agent and a small site as three processes until Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python import usage
from twisted.python.failure import Failure

from tunnelstack.control.config.dev_edge import readDevEdge
from tunnelstack.control.config.records import DEV_PORT
from tunnelstack.control.config.sources import Sources
from tunnelstack.control.options import BaseOptions, parsePort, wrongValue
from tunnelstack.control.process.exit_status import STOPPED
from tunnelstack.control.process.log_writer import finishAll, standardWriters
from tunnelstack.control.process.reactor import runningReactor
from tunnelstack.demo.parent import KILL_SECONDS
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.wire.printable_text import LINE, printable, quoted

HELP = """
Usage: tunnelstack demo [--port N]

Run an edge, an agent and a small site, as three processes on this machine, until Ctrl-C.

  tunnelstack demo
        publishes the site at http://demo.localhost:8080/, for a browser or curl
  tunnelstack demo --port 9000
        does so on another port
  tunnel-agent --dev http 3000 --name myapp
        in another terminal at the same time: publishes your own server through the same edge

Options         Environment  Default
  -p, --port N  DEMO_PORT    8080     the port of the edge
      --version, --help

Exit codes: 0 stopped, 64 usage, 75 the port is in use; otherwise the code of the process that ended.
"""

NAME = "demo"
GRACE_SECONDS = 0.5
"""Seconds until processes that still run are sent SIGTERM.  Ctrl-C on a terminal sends SIGINT to all of them, and a second
signal would make them stop without draining."""
PARENT = "import sys; from tunnelstack.demo.parent import endWithParent; endWithParent(); "
EDGE = PARENT + "from tunnelstack.commands.main import tunnelEdge; sys.exit(tunnelEdge())"
AGENT = PARENT + "from tunnelstack.commands.main import tunnelAgent; sys.exit(tunnelAgent())"
SITE = PARENT + "from tunnelstack.demo.site import main; main()"

BANNER = """
  {url}

Open this URL in a browser, or try in another terminal:

  curl {url}
  curl -N {url}clock
  tunnel-agent --dev{edge} http 3000 --name myapp        your own server, at http://myapp.localhost:{port}/
{strings}
Ctrl-C stops all three processes.
"""

STRINGS = "  twistd -n --pidfile= web --path . --listen tunnel:files\n"
"""In the banner, unless tunnel: endpoints find another edge."""


PORT = "DEMO_PORT"
"""The variable of the environment that stands for C{--port}."""


class Options(BaseOptions):
    """
    The command line.
    """

    helpText = HELP
    optParameters = [["port", "p", None, "the port of the edge"]]

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.environ = os.environ if environ is None else environ

    def parseArgs(self, *arguments: str) -> None:
        """
        Reject arguments: there are only options.
        """
        if arguments:
            raise usage.UsageError(f"demo takes options only, not {quoted(arguments[0])}")

    def postOptions(self) -> None:
        """
        Choose the port.
        """
        source = "--port" if self["port"] else PORT
        self.port = parsePort(self["port"] or self.environ.get(PORT) or DEV_PORT, source)
        if not self.port:
            raise wrongValue(source, "must be a port from 1 to 65535, not 0")


class LineSplitter:
    """
    Splits the output of a process into lines.
    """

    def __init__(self, deliver: Callable[[str], None]) -> None:
        self._deliver = deliver
        self._begun = b""

    def feed(self, data: bytes) -> None:
        """
        Receive some octets of the output, and deliver the lines that are complete.
        """
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            self._deliver(line.decode("utf-8", "replace").rstrip("\r"))


class DemoProcess(ProcessProtocol):
    """
    One of the three processes.
    """

    transport: Any

    def __init__(self, demo: Demo, name: str, code: str, *arguments: str) -> None:
        self.name = name
        self._demo = demo
        self._command = [sys.executable, "-c", code, *arguments]
        self._lines = {1: LineSplitter(self._outputLine), 2: LineSplitter(self._logLine)}

    def start(self) -> None:
        """
        Start the process, with pipes for its outputs, and one for its input by which it notices our end.
        """
        self._demo.parts.append(self)
        self._demo.reactor.spawnProcess(
            self, self._command[0], self._command, env=None, childFDs={0: "w", 1: "r", 2: "r"}
        )

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._lines[childFD].feed(data)

    def _outputLine(self, line: str) -> None:
        self._demo.statusLine(self, line)

    def _logLine(self, line: str) -> None:
        if not line.startswith("{"):       # JSON is the log, of which the status lines are a summary
            self._demo.printLine(f"{self.name:<6} {line}")

    def sendSignal(self, number: int) -> None:
        """
        Send the process a signal, unless it has ended.
        """
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(number)

    def processEnded(self, reason: Failure) -> None:
        self._demo.ended(self, getattr(reason.value, "exitCode", None))


class Demo:
    """
    Runs the three processes.

    @ivar parts: the processes that run.
    @ivar code: the exit code.
    """

    def __init__(self, reactor: IReactor, port: int, write: Callable[[str], object]) -> None:
        """
        @param port: the port of the edge.
        @param write: writes text to standard output.
        """
        self.reactor = reactor
        self.parts: list[DemoProcess] = []
        self.code = STOPPED
        self._write = write
        self._port = port
        self._ending = False

    def start(self) -> None:
        """
        Start the edge.  Each process is started when the one that it needs has written its first status line: the edge, the
        site, the agent.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, frame: self.reactor.callFromThread(self.stop))
        DemoProcess(self, "edge", EDGE, "--dev", "--port", str(self._port)).start()

    def statusLine(self, part: DemoProcess, line: str) -> None:
        """
        Print a status line of a process, and start the next process if this one is ready.
        """
        word, _, rest = line.partition(" ")
        if part.name == "site":
            self._agent(rest)
            return
        self.printLine(f"{part.name:<6} {printable(line, LINE)}")
        if part.name == "edge" and word == "edge":
            DemoProcess(self, "site", SITE).start()
        elif part.name == "agent" and word == NAME:
            self.printLine(self._banner())

    def _banner(self) -> str:
        edge = f"http://localhost:{self._port}"
        found = devEdgeURL() == edge           # otherwise another edge with --dev was started before this one
        return BANNER.format(
            url=f"http://{NAME}.localhost:{self._port}/", port=self._port, edge="" if found else f" --edge {edge}",
            strings=STRINGS if found else "",
        )

    def _agent(self, port: str) -> None:
        self.printLine(f"site   listens on 127.0.0.1:{port}")
        edge = f"http://localhost:{self._port}"
        DemoProcess(self, "agent", AGENT, "--dev", "--edge", edge, "http", port, "--name", NAME).start()

    def printLine(self, line: str) -> None:
        """
        Print one line.
        """
        self._write(line + "\n")

    def ended(self, part: DemoProcess, code: int | None) -> None:
        """
        A process has ended.  If that was not requested, the others are stopped as well.
        """
        self.parts.remove(part)
        if not self._ending:
            self.code = code or 1
            self.printLine(f"{part.name:<6} has ended unexpectedly; stopping the demo")
            self.stop()
        if not self.parts:
            self.reactor.stop()

    def stop(self) -> None:
        """
        Stop all processes: the agent first, because it needs the edge to drain.
        """
        if self._ending:
            return
        self._ending = True
        self.reactor.callLater(GRACE_SECONDS, self._signalAll, signal.SIGTERM)
        self.reactor.callLater(KILL_SECONDS, self._signalAll, signal.SIGKILL)

    def _signalAll(self, number: int) -> None:
        for part in reversed(self.parts):
            part.sendSignal(number)


def devEdgeURL() -> str:
    """
    @return: the URL of the edge that agents with C{--dev} find; C{""} if there is none.
    """
    try:
        edge = readDevEdge(Sources(os.environ).state)
    except ConfigurationError:
        return ""
    return "" if edge is None else edge.url


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    reactor = runningReactor()
    out, _ = standardWriters(sys.stdout, sys.stderr, "text")
    demo = Demo(reactor, options.port, out.write)
    reactor.callWhenRunning(demo.start)
    reactor.run()
    finishAll()
    return demo.code

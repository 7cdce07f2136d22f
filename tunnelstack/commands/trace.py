"""
The command C{tunnelstack trace}, which finds one request in the access logs of an edge and of an agent, and shows where its
time went.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

from attrs import frozen
from twisted.python import usage

from tunnelstack.commands.admin_client import asJSON, formatOctets
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED, FatalError
from tunnelstack.control.tracing.layers import AGENT, EDGE, Layer, Steps, layersOf
from tunnelstack.wire.printable_text import LINE, printable, quoted

HELP = """
Usage: tunnelstack trace REQUEST_ID [LOG ...] [--json]

Show where the time of a request went, from the access logs of the edge and of the agent.  Error pages and the field
X-Request-Id have the identifier of a request.

  tunnelstack trace 3f9c0a1b2c-1d4 edge-access.log agent-access.log
        both sides, from files; names that end in .gz are unpacked
  journalctl -u tunnel-edge -o cat | tunnelstack trace 3f9c0a1b2c-1d4
        one side, from standard input
  ssh laptop cat agent.log | tunnelstack trace 3f9c0a1b2c-1d4 edge-access.log -
        both sides; - is standard input

Options                 Default
  -j, --json            text     print one JSON object
      --version, --help

The logs must be JSON, as they are in files.  Other lines are skipped.  Steps of less than a millisecond are not logged.
Exit codes: 0 found, 64 usage, 69 no log has the request.
"""

LONGEST_LINE = 1024 * 1024
"""Characters of the longest line that is read; a longer one is skipped."""

MOST_LINES = 100
"""Lines of one request that are shown.  A trusted proxy may send many requests with one identifier."""

BAR = 30
"""Columns of the longest bar."""

Value = str | int | float | bool | None
Line = Mapping[str, Value]


class NoSuchRequest(FatalError):
    """
    No log has the request.
    """

    code = 69


class UnreadableLog(FatalError):
    """
    A log cannot be read.
    """

    code = 69


class Options(BaseOptions):
    """
    The command line.

    @ivar request: the identifier.
    @ivar logs: the paths of the logs.
    """

    helpText = HELP
    takesText = True
    optFlags = [["json", "j", "print one JSON object"]]

    def parseArgs(self, *arguments: str) -> None:
        """
        Read the identifier and the paths.
        """
        if not arguments:
            raise usage.UsageError("trace takes the identifier of a request, and the paths of access logs")
        if len(arguments) == 1 and sys.stdin.isatty():
            raise usage.UsageError("trace reads access logs: give their paths, or send a log to standard input")
        self.request, self.logs = arguments[0], arguments[1:] or ("-",)


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    lines = findLines(options.request, options.logs)
    if not lines:
        logs = ", ".join("standard input" if path == "-" else path for path in options.logs)
        raise NoSuchRequest(f"the request {quoted(options.request)} is not in {logs}")
    sides = [Side.of(line) for line in lines]
    sys.stdout.write(asJSON(asRecord(options.request, sides)) if options["json"] else asText(options.request, sides))
    return STOPPED


# Reading

def findLines(request: str, logs: Sequence[str]) -> list[Line]:
    """
    @return: the lines of a request, the edge's first, at most L{MOST_LINES}.
    @raise UnreadableLog: a log cannot be read.
    """
    found: list[Line] = []
    for path in logs:
        try:
            with _open(path) as log:
                for line in _matching(request, log):
                    if len(found) < MOST_LINES:
                        found.append(line)
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UnreadableLog(f"{path} cannot be read: {reason}") from None
    return sorted(found, key=lambda line: (line.get("role") == AGENT, str(line.get("time", ""))))


@contextmanager
def _open(path: str) -> Iterator[IO[str]]:
    """
    Open a log: standard input, a file, or a packed file.
    """
    if path == "-":
        yield sys.stdin
    elif path.endswith(".gz"):
        with gzip.open(path, "rt", encoding="ascii", errors="replace") as unpacked:
            yield unpacked
    else:
        with open(path, encoding="ascii", errors="replace") as file:
            yield file


def _matching(request: str, log: IO[str]) -> Iterator[Line]:
    """
    @return: the lines of an access log with this identifier.
    """
    wanted = json.dumps(request)
    whole = True                              # the piece begins a line
    while piece := log.readline(LONGEST_LINE):
        begins, whole = whole, piece.endswith("\n")
        if begins and wanted in piece:
            line = _parse(piece)
            if line is not None and line.get("request") == request:
                yield line


def _parse(text: str) -> Line | None:
    """
    @return: an access log's line as an object; C{None} if it is none.
    """
    at = text.find("{")                       # what collects logs may put a time or a host before each line
    try:
        value = json.loads(text[at:]) if at >= 0 else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and "seconds" in value and "status" in value else None


# What is shown

@frozen
class Side:
    """
    A request as one program saw it.

    @ivar role: C{"edge"} or C{"agent"}.
    """

    role: str
    line: Line
    steps: Steps
    layers: tuple[Layer, ...]

    @staticmethod
    def of(line: Line) -> Side:
        """
        @return: the side that wrote a line.
        """
        role = AGENT if line.get("role") == AGENT else EDGE
        names = ("routed", "opened", "whole", "first", "seconds")
        steps = Steps(**{name: value for name in names if (value := _number(line, name)) is not None})
        return Side(role, line, steps, tuple(layersOf(role, steps)))

    def text(self, name: str) -> str:
        """
        @return: a member of the line, printable.
        """
        return printable(str(self.line.get(name, "")), LINE)


def _number(line: Line, name: str) -> float | None:
    value = line.get(name)
    isNumber = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if isNumber and value == value and abs(value) < 1e9 else None  # type: ignore[arg-type]


def missingSide(sides: Iterable[Side]) -> tuple[str, str]:
    """
    @return: the side of which no log has the request, and a sentence; C{("", "")} if both are there.
    """
    present = {side.role: side for side in sides}
    if len(present) == 2:
        return "", ""
    edge = present.get(EDGE)
    if edge is None:
        return EDGE, "No log of the edge has this request: add the access log of the edge."
    if edge.steps.first < 0 and edge.text("reason"):
        return AGENT, "The agent is missing: the edge answered the request itself."
    return AGENT, "No log of the agent has this request: add the access log of the agent, or set access_log there."


def tunnelSeconds(sides: Sequence[Side]) -> float | None:
    """
    @return: the time to the first octet that neither the agent nor the edge account for: that of the tunnel between them;
        C{None} if it is not known.
    """
    edges, agents = ([side for side in sides if side.role == role] for role in (EDGE, AGENT))
    if len(edges) != 1 or len(agents) != 1 or edges[0].steps.first < 0 or agents[0].steps.first < 0:
        return None
    begin = max(edges[0].steps.opened, edges[0].steps.routed, 0.0)
    return max(0.0, edges[0].steps.first - begin - agents[0].steps.first)


def asRecord(request: str, sides: Sequence[Side]) -> dict[str, object]:
    """
    @return: the report for programs.
    """
    missing, _ = missingSide(sides)
    return {
        "request": request, "missing": [missing] if missing else [], "tunnel_seconds": tunnelSeconds(sides),
        "sides": [
            {
                **side.line, "role": side.role,
                "layers": [{"name": layer.name, "begin": layer.begin, "end": layer.end} for layer in side.layers],
            }
            for side in sides
        ],
    }  # fmt: skip


def asText(request: str, sides: Sequence[Side]) -> str:
    """
    @return: the report for people.
    """
    first = sides[0]
    lines = [
        f"request {printable(request)}",
        f"  {first.text('method')} {first.text('host')}{first.text('target')}",
    ]
    if first.text("trace"):
        lines.append(f"  trace {first.text('trace')}")
    for side in sides:
        lines += ["", *_sideLines(side)]
    tunnel = tunnelSeconds(sides)
    if tunnel is not None:
        lines += ["", f"tunnel  {_milliseconds(tunnel)} of the time to the first octet were spent between edge and agent"]
    _, sentence = missingSide(sides)
    if sentence:
        lines += ["", sentence]
    return "\n".join(lines) + "\n"


def _sideLines(side: Side) -> Iterator[str]:
    octets = _number(side.line, "octets") or 0
    yield (
        f"{side.role:<6} {side.text('status')}  {_milliseconds(side.steps.seconds)}, {formatOctets(int(octets))}, "
        f"service {side.text('service') or '-'}, ended {side.text('time')}"
    )
    if side.text("reason"):
        yield f"  failed: {side.text('reason')}"
    longest = max(side.steps.seconds, 1e-6)
    for layer in side.layers:
        begin = min(BAR, int(BAR * layer.begin / longest))
        width = max(1, min(BAR, round(BAR * layer.end / longest)) - begin)
        yield f"  {layer.name:<28} {_milliseconds(layer.end - layer.begin):>12}  {' ' * begin}{'#' * width}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"

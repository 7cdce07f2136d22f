"""
C{tunnelstack status}, C{agents}, C{routes}, C{streams}: what a running edge is doing, as text for people or as JSON for
programs.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.python import usage

from tunnelstack.control.config.sources import Sources
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED, FatalError
from tunnelstack.settings.state_dir import ADMIN_SOCKET, socketPath
from tunnelstack.wire.printable_text import LINE, printable

HELP = """
Usage: tunnelstack status|agents|routes|streams [--json] [--admin PATH|URL]

What a running edge is doing.

  tunnelstack status
        the edge in numbers: since when, how many agents, streams and visitors
  tunnelstack agents
        who is connected, with what they offer
  tunnelstack routes --json | jq -r '.routes[].public'
        what the public can reach, for programs

Options                 Environment        Default
  -j, --json                               text         one JSON object, as the edge says it
      --admin PATH|URL  TUNNELSTACK_ADMIN  admin.sock   the socket in the state folder, or http://host:port
      --version, --help

Exit codes: 0 answered, 64 usage, 69 no edge runs there.
"""

TIMEOUT_SECONDS = 10.0
"""Seconds in which an edge answers."""


class EdgeNotReachable(FatalError):
    """
    No edge answers.
    """

    code = 69


class AdminRequestFailed(FatalError):
    """
    The edge answers, and says no.

    @ivar status: of the answer.
    """

    code = 69

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class Options(BaseOptions):
    """
    The command line.
    """

    helpText = HELP
    optFlags = [["json", "j", "one JSON object"]]
    optParameters = [["admin", None, None, "the Unix socket, or a URL"]]

    def parseArgs(self, *arguments: str) -> None:
        """
        There are none.
        """
        if arguments:
            raise usage.UsageError(f"{self.command} takes options only, not {arguments[0]!r}")


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    said = adminRequest("GET", f"/{options.command}", adminAddress(options["admin"]))
    sys.stdout.write(asJSON(said) if options["json"] else FORMATTERS[options.command](said))
    return STOPPED


def asJSON(said: Any) -> str:
    """
    An answer for programs: ASCII without control characters but line feeds, so that a terminal can show it, too.
    """
    return json.dumps(said, indent=2).replace("\x7f", "\\u007f") + "\n"


def adminAddress(given: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """
    Where an edge is asked: what was given, or else the environment's, or else the socket in the state folder.
    """
    return given or environ.get("TUNNELSTACK_ADMIN") or str(Sources(environ).state.path(ADMIN_SOCKET))


def adminRequest(method: str, path: str, at: str, said: Any = None) -> Any:
    """
    Ask an edge, and wait for its answer.

    @param at: the path of its socket, or a URL.
    @param said: what goes with a C{POST}.
    @raise EdgeNotReachable: there is none.
    @raise AdminRequestFailed: the answer is no.
    """
    connection = _connection(at)
    try:
        connection.request(method, path, None if said is None else json.dumps(said))
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, HTTPException, ValueError) as error:
        raise EdgeNotReachable(f"no edge answers at {at}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        connection.close()
    if response.status != 200 and not (response.status == 503 and "error" not in answer):
        raise AdminRequestFailed(printable(str(answer.get("error", response.status))), response.status)
    return answer


def _connection(at: str) -> HTTPConnection:
    if not at.startswith("http://"):
        return _UnixConnection(at)
    try:
        parts = urlsplit(at)
        return HTTPConnection(parts.hostname or "localhost", parts.port or 80, timeout=TIMEOUT_SECONDS)
    except ValueError:
        raise usage.UsageError(f"--admin must be a path or a URL such as http://127.0.0.1:9000, not {at!r}") from None


class _UnixConnection(HTTPConnection):
    """
    HTTP over a Unix socket.
    """

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """
        Instead of a TCP connection.
        """
        path, descriptor = socketPath(Path(self._path))
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(TIMEOUT_SECONDS)
            self.sock.connect(path)
        finally:
            with suppress(OSError):
                os.close(descriptor)


# For people

Row = Sequence[object]


def formatTable(heads: Row, rows: Iterable[Row]) -> str:
    """
    Rows under their heads, in columns; each cell is one line of visible characters.
    """
    cells = [[printable(str(cell)) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in cells
    )


def formatOctets(count: int) -> str:
    """
    A number of octets as people read it.
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def formatDuration(seconds: float | None) -> str:
    """
    A time as people read it: C{"2d 3h"}, C{"5m 7s"}.
    """
    if seconds is None:
        return "-"
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _status(said: Any) -> str:
    rows = [
        ("edge", f"{said['state']}   {said['url']}   version {said['version']}, process {said['pid']}"),
        ("listening", ", ".join(said["listening"])),
        ("up", formatDuration(said["uptime_seconds"])),
        ("agents", f"{said['agents']} ({said['sessions']} sessions, {said['services']} services)"),
        ("streams", said["streams"]),
        ("visitors", said["visitors"]),
        ("traffic", f"{formatOctets(said['octets_in'])} from agents, {formatOctets(said['octets_out'])} to them"),
    ]
    return "".join(f"{name:<10} {printable(str(value), LINE)}\n" for name, value in rows)


def _agents(said: Any) -> str:
    return formatTable(
        ("AGENT", "FOR", "PEER", "CREDENTIAL", "SERVICES", "STREAMS", "IN", "OUT", ""),
        [
            (
                each["agent"], formatDuration(each["seconds"]), each["peer"], each["credential"],
                " ".join(each["services"]) or "-",
                each["streams"], formatOctets(each["octets_in"]), formatOctets(each["octets_out"]),
                "" if each["healthy"] else "draining",
            )
            for each in said["agents"]
        ],
    )


def _routes(said: Any) -> str:
    return formatTable(
        ("PUBLIC", "TO", "AGENTS", ""),
        [
            (each["public"], f"{each['kind']}:{each['to']}", " ".join(each["agents"]) or "nobody is there",
             "configured" if each["configured"] else "")
            for each in said["routes"]
        ],
    )  # fmt: skip


def _streams(said: Any) -> str:
    return formatTable(
        ("AGENT", "STREAM", "PROTOCOL", "SERVICE", "QUEUED"),
        [
            (each["agent"], each["stream"], each["protocol"] or "-", each["service"] or "-", formatOctets(each["queued"]))
            for each in said["streams"]
        ],
    )


FORMATTERS: dict[str, Callable[[Any], str]] = {
    "status": _status, "agents": _agents, "routes": _routes, "streams": _streams,
}  # fmt: skip

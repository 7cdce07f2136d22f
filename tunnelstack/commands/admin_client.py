"""
The commands C{tunnelstack status}, C{agents}, C{routes}, C{streams} and C{samples}, which show what a running edge is doing, as
text or as JSON, and C{reload}, which makes it read its configuration again.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from twisted.python import usage

from tunnelstack.commands.http_address import SCHEMES, connectionTo
from tunnelstack.control.config.sources import Sources
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED, FatalError
from tunnelstack.settings.state_dir import ADMIN_SOCKET, socketPath
from tunnelstack.wire.printable_text import LINE, printable, quoted

HELP = """
Usage: tunnelstack status|agents|routes|streams|samples|reload [--json] [--admin PATH|URL]

Show what a running edge is doing, or make it read its configuration again.

  tunnelstack status
        the state of the edge: uptime, and the numbers of agents, streams and visitors
  tunnelstack routes --json | jq -r '.routes[].public'
        the public addresses, for programs
  tunnelstack reload
        makes the edge read its configuration file again, as SIGHUP does, and shows each difference

Options                 Environment        Default
  -j, --json                               text         print one JSON object
      --admin PATH|URL  TUNNELSTACK_ADMIN  admin.sock   the socket in the state folder, or http(s)://host:port
      --version, --help

Exit codes: 0 answered, 64 usage, 69 no edge answers, or it rejects the request.
"""

JSONObject = dict[str, Any]

TIMEOUT_SECONDS = 10.0
"""The time for one answer of an edge, in seconds."""


class EdgeNotReachable(FatalError):
    """
    No edge answers at the address.
    """

    code = 69


class AdminRequestFailed(FatalError):
    """
    The edge rejected the request.

    @ivar status: the HTTP status of the answer.
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
    optFlags = [["json", "j", "print one JSON object"]]
    optParameters = [["admin", None, None, "the Unix socket, or a URL"]]

    def parseArgs(self, *arguments: str) -> None:
        """
        Reject arguments: there are only options.
        """
        if arguments:
            raise usage.UsageError(f"{self.command} takes options only, not {quoted(arguments[0])}")


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    method = "POST" if options.command == "reload" else "GET"
    answer = adminRequest(method, f"/{options.command}", adminAddress(options["admin"]))
    sys.stdout.write(asJSON(answer) if options["json"] else FORMATTERS[options.command](answer))
    return STOPPED


def asJSON(answer: object) -> str:
    """
    Format an answer for programs: as ASCII without control characters except line feeds, which is safe on a terminal, too.
    """
    return json.dumps(answer, indent=2).replace("\x7f", "\\u007f") + "\n"


def adminAddress(given: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """
    The address of an edge's administration: the one that was given, or else the one in the environment, or else the socket in
    the state folder.
    """
    return given or environ.get("TUNNELSTACK_ADMIN") or str(Sources(environ).state.path(ADMIN_SOCKET))


def adminRequest(method: str, path: str, at: str, body: object = None) -> JSONObject:
    """
    Send a request to an edge, and wait for its answer.

    @param at: the path of its socket, or a URL.
    @param body: the object to send with a C{POST}.
    @return: the answer, decoded from JSON.
    @raise EdgeNotReachable: no edge answers at the address.
    @raise AdminRequestFailed: the edge rejects the request.
    """
    connection = _connection(at)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        answer: JSONObject = json.loads(response.read())
    except (OSError, HTTPException, ValueError) as error:
        raise EdgeNotReachable(f"no edge answers at {at}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        connection.close()
    if response.status != 200 and not (response.status == 503 and "error" not in answer):
        reason = "; ".join(str(answer.get("error", response.status)).splitlines())   # a file may have several mistakes
        raise AdminRequestFailed(printable(reason, LINE), response.status)
    return answer


def _connection(at: str) -> HTTPConnection:
    if not at.startswith(SCHEMES):
        return _UnixConnection(at)
    try:
        return connectionTo(at, TIMEOUT_SECONDS)
    except ValueError:
        raise usage.UsageError(f"--admin must be a path or a URL such as http://127.0.0.1:9000, not {quoted(at)}") from None


class _UnixConnection(HTTPConnection):
    """
    HTTP over a Unix socket.
    """

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """
        Connect to the Unix socket.
        """
        path, descriptor = socketPath(Path(self._path))
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(TIMEOUT_SECONDS)
            self.sock.connect(path)
        finally:
            with suppress(OSError):
                os.close(descriptor)


# Output as text

Row = Sequence[object]


def formatTable(heads: Row, rows: Iterable[Row]) -> str:
    """
    Align rows in columns under their headings.  Each cell is one line of printable characters.
    """
    cells = [[printable(str(cell)) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in cells
    )


def formatOctets(count: int) -> str:
    """
    Format a number of octets: C{"512 B"}, C{"1.5 MiB"}.
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def formatDuration(seconds: float | None) -> str:
    """
    Format a duration: C{"2d 3h"}, C{"5m 7s"}; C{"-"} if it is not known.
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


def _status(said: JSONObject) -> str:
    rows = [
        ("edge", f"{said['state']}   {said['url']}   version {said['version']}, process {said['pid']}"),
        ("listening", ", ".join(said["listening"])),
        ("up", formatDuration(said["uptime_seconds"])),
        ("agents", f"{said['agents']} ({said['sessions']} sessions, {said['services']} services)"),
        ("streams", said["streams"]),
        ("visitors", said["visitors"]),
        ("traffic", f"{formatOctets(said['octets_in'])} from agents, {formatOctets(said['octets_out'])} to them"),
        *_limits(said),
    ]
    return "".join(f"{name:<11} {printable(str(value), LINE)}\n" for name, value in rows)


def _limits(said: JSONObject) -> Iterator[tuple[str, str]]:
    """
    What needs attention: limits that are reached, refusals, certificates, and a reload that failed.
    """
    full = [each["key"] for each in said.get("limits", ()) if each["full"]]
    if full:
        yield "reached", f"the limits {', '.join(full)}"
    if said.get("denials"):
        yield "refused", ", ".join(f"{code} {count}" for code, count in said["denials"].items())
    for each in said.get("certificates", ()):
        yield "certificate", f"{each['file']} expires {datetime.fromtimestamp(each['expires'], UTC):%Y-%m-%d}"
    last = said.get("reload")
    if last:
        ago = formatDuration(last["seconds"])
        yield "reloaded", f"{ago} ago" if not last["error"] else f"not {ago} ago: {'; '.join(last['error'].splitlines())}"


def _agents(said: JSONObject) -> str:
    connected = formatTable(
        ("AGENT", "SESSION", "FOR", "PEER", "CREDENTIAL", "SERVICES", "STREAMS", "IN", "OUT", ""),
        [
            (
                each["agent"], each["session"] or "-", formatDuration(each["seconds"]), each["peer"], each["credential"],
                " ".join(each["services"]) or "-",
                each["streams"], formatOctets(each["octets_in"]), formatOctets(each["octets_out"]),
                _condition(each),
            )
            for each in said["agents"]
        ],
    )
    if not said.get("outbound"):
        return connected
    rows = [(each["agent"], each["address"], each["state"], each["reason"]) for each in said["outbound"]]
    return f"{connected}\n{formatTable(('DIALLED', 'ADDRESS', 'STATE', ''), rows)}"


def _condition(agent: JSONObject) -> str:
    if not agent["healthy"]:
        return "draining"
    out = [f"{key}: {reason}" for key, reason in agent.get("out_of_service", {}).items()]
    return f"out of service: {'; '.join(out)}" if out else ""


def _routes(said: JSONObject) -> str:
    return formatTable(
        ("PUBLIC", "TO", "AGENTS", ""),
        [
            (each["public"], f"{each['kind']}:{each['to']}", " ".join(each["agents"]) or "not connected",
             _notes(each))
            for each in said["routes"]
        ],
    )  # fmt: skip


def _notes(route: JSONObject) -> str:
    out = route.get("out_of_service")
    notes = ["configured"] if route["configured"] else []
    if route["state"] == "draining":
        notes.append("draining")
    return ", ".join([*notes, f"out of service: {' '.join(out)}"] if out else notes)


def _streams(said: JSONObject) -> str:
    return formatTable(
        ("AGENT", "STREAM", "PROTOCOL", "SERVICE", "VISITOR", "QUEUED", "UNREAD", "WAITS FOR"),
        [
            (each["agent"], each["stream"], each["protocol"] or "-", each["service"] or "-", each["visitor"] or "-",
             formatOctets(each["queued"]), formatOctets(each["unread"]), _waitsFor(each))
            for each in said["streams"]
        ],
    )


def _samples(said: JSONObject) -> str:
    return formatTable(
        ("TIME", "SERVICE", "REQUEST", "STATUS", "IN", "OUT", "MS"),
        [
            (datetime.fromtimestamp(each["time"]).strftime("%H:%M:%S"), each["service"],
             f"{each['method']} {each['path']}{'?' * bool(each['query'])}{each['query']}", each["status"],
             formatOctets(each["octets_in"]), formatOctets(each["octets_out"]), f"{each['seconds'] * 1000:.1f}")
            for each in said["samples"]
        ],
    ) if said["samples"] else "no requests: an edge keeps the last requests of each service with requests = N in [samples]\n"


def _waitsFor(stream: JSONObject) -> str:
    still = stream["still"]
    return stream["slow"] + ("" if still is None else f" {formatDuration(still)}")


def _reloaded(said: JSONObject) -> str:
    return "".join(f"{printable(sentence, LINE)}\n" for sentence in said["changed"] or ("nothing has changed",))


FORMATTERS: dict[str, Callable[[JSONObject], str]] = {
    "status": _status, "agents": _agents, "routes": _routes, "streams": _streams, "samples": _samples, "reload": _reloaded,
}  # fmt: skip

"""
C{tunnelstack devices}: the devices that have registered with a running edge, and their SSH sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import frozen
from twisted.python import usage
from zope.interface import implementer

from tunnelstack.interfaces import ICommand
from tunnelstack.settings.setting import formatValue
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.wire.printable_text import printable

JSON = dict[str, Any]
"""An object that the edge has answered."""

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Headings and rows."""

HELP = """
Usage: tunnelstack devices [list|accept NAME|reject NAME|sessions|close SESSION] [--json] [--admin PATH|URL]

The devices of ShellHub that have registered with a running edge, see [shellhub] of its file.

  tunnelstack devices
        list the devices: accepted, pending or rejected, and which are connected
  tunnelstack devices accept lab.bench
        accept a device; its agent connects within a minute
  tunnelstack devices close 5d41402a
        end an SSH session that 'tunnelstack devices sessions' lists

reject NAME rejects a device, and disconnects it at once.  The first 8 digits of its identity, or of the identifier of a
session, are enough.

Options                 Environment        Default
  -j, --json                               text         one JSON object
      --admin PATH|URL  TUNNELSTACK_ADMIN  admin.sock   the socket in the state folder, or http://host:port
      --version, --help

Exit codes: 0 done, 64 usage, 69 no edge runs there, or no such device or session.
"""

VERBS = {
    "list": "no name", "accept": "the name of one device", "reject": "the name of one device", "sessions": "no name",
    "close": "the identifier of one session",
}  # fmt: skip
"""The verbs, and what each takes."""


@frozen
class Request:
    """
    What the command line requests.

    @ivar verb: one of L{VERBS}.
    @ivar which: the name of a device or the beginning of its identity, or the identifier of a session; C{""} for the lists.
    """

    verb: str = "list"
    which: str = ""


@implementer(ICommand)
class Devices:
    """
    Lists, accepts and rejects devices, and lists and ends their SSH sessions.
    """

    name = "devices"
    usage = "devices list|accept|reject|sessions|close"
    summary = "the devices of ShellHub that connect to a running edge"
    helpText = HELP
    optFlags = ()
    optParameters = ()

    def parse(self, options: Mapping[str, object], arguments: Sequence[str]) -> Request:
        verb, names = (arguments[0], arguments[1:]) if arguments else ("list", ())
        if verb not in VERBS:
            raise usage.UsageError(f"devices has no verb {formatValue(verb)}{didYouMean(verb, VERBS)}")
        if len(names) != (verb not in ("list", "sessions")):
            raise usage.UsageError(f"{verb} takes {VERBS[verb]}")
        return Request(verb, *names)

    def run(self, parsed: Request, admin: Callable[..., JSON]) -> tuple[JSON, Table | str]:
        match parsed.verb:
            case "list":
                answer = admin("GET", "/devices")
                return answer, (DEVICE_HEADINGS, [_deviceRow(device) for device in answer["devices"]])
            case "sessions":
                answer = admin("GET", "/devices/sessions")
                return answer, (SESSION_HEADINGS, [_sessionRow(session) for session in answer["sessions"]])
            case "close":
                answer = admin("POST", "/devices/sessions/close", {"session": parsed.which})
                session = answer["session"]
                return answer, printable(f"session {session['session']} of {session['device']} is closed") + "\n"
        answer = admin("POST", f"/devices/{parsed.verb}", {"device": parsed.which})
        return answer, printable(f"{answer['device']['device']} is {answer['device']['status']}") + "\n"


DEVICE_HEADINGS = ("DEVICE", "STATUS", "CONNECTED", "IDENTITY", "ABOUT")
SESSION_HEADINGS = ("SESSION", "DEVICE", "OPENED")


def _deviceRow(device: JSON) -> tuple[str, ...]:
    return device["device"], device["status"], device["connected"] or "-", device["uid"][:12], device["about"]


def _sessionRow(session: JSON) -> tuple[str, ...]:
    opened = datetime.fromtimestamp(session["opened"], UTC)
    return session["session"], session["device"], f"{opened:%Y-%m-%d %H:%M:%S}Z"


COMMANDS = (Devices(),)

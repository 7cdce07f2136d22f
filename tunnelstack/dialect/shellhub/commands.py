"""
C{tunnelstack devices}: the devices that have registered with a running edge, and whether they are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.python import usage
from zope.interface import implementer

from tunnelstack.interfaces import ICommand
from tunnelstack.settings.setting import formatValue
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.wire.printable_text import printable

HELP = """
Usage: tunnelstack devices [list|accept NAME|reject NAME] [--json] [--admin PATH|URL]

The devices of ShellHub that have asked to be let in by a running edge, see [shellhub] of its file.

  tunnelstack devices
        all of them: accepted, pending or rejected, and which are connected
  tunnelstack devices accept lab.bench
        let one in; its agent comes by itself, within a minute
  tunnelstack devices reject 3f9a1c77
        send one away, at once; by name, or by the beginning of its identity

Options                 Environment        Default
  -j, --json                               text         one JSON object, as the edge says it
      --admin PATH|URL  TUNNELSTACK_ADMIN  admin.sock   the socket in the state folder, or http://host:port
      --version, --help

Exit codes: 0 done, 64 usage, 69 no edge runs there, or no such device.
"""


VERBS = ("list", "accept", "reject")


@frozen
class Request:
    """
    What the command line asks for.

    @ivar verb: C{"list"}, C{"accept"} or C{"reject"}.
    @ivar device: its name, or the beginning of its identity.
    """

    verb: str = "list"
    device: str = ""


@implementer(ICommand)
class Devices:
    """
    Lists, accepts and rejects devices.
    """

    name = "devices"
    usage = "devices list|accept|reject"
    summary = "the devices of ShellHub that come to a running edge"
    helpText = HELP
    optFlags = ()
    optParameters = ()

    def parse(self, options: Mapping[str, Any], arguments: Sequence[str]) -> Request:
        """
        As in L{ICommand}.
        """
        verb, names = (arguments[0], arguments[1:]) if arguments else ("list", ())
        if verb not in VERBS:
            raise usage.UsageError(f"devices knows list, accept and reject, not {formatValue(verb)}{didYouMean(verb, VERBS)}")
        if len(names) != (verb != "list"):
            raise usage.UsageError(f"{verb} takes {'no name' if verb == 'list' else 'the name of one device'}")
        return Request(verb, *names)

    def run(self, parsed: Request, admin: Callable[..., Any]) -> tuple[Any, Any]:
        """
        As in L{ICommand}.
        """
        if parsed.verb == "list":
            answer = admin("GET", "/devices")
            return answer, (HEADINGS, [_row(device) for device in answer["devices"]])
        answer = admin("POST", f"/devices/{parsed.verb}", {"device": parsed.device})
        return answer, printable(f"{answer['device']['device']} is {answer['device']['status']}") + "\n"


HEADINGS = ("DEVICE", "STATUS", "CONNECTED", "IDENTITY", "ABOUT")


def _row(device: dict[str, Any]) -> tuple[str, ...]:
    return device["device"], device["status"], device["connected"] or "-", device["uid"][:12], device["about"]


COMMANDS = (Devices(),)

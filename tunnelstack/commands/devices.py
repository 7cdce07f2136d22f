"""
C{tunnelstack devices}: the devices that have made themselves known to a running edge, and whether they are let in.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.python import usage

from tunnelstack.commands.admin_client import adminAddress, adminRequest, asJSON, formatTable
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED
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


class Options(BaseOptions):
    """
    The command line, read into C{action} and C{device}.
    """

    helpText = HELP
    optFlags = [["json", "j", "one JSON object"]]
    optParameters = [["admin", None, None, "the Unix socket, or a URL"]]

    def parseArgs(self, *arguments: str) -> None:
        """
        What to do.
        """
        self.action, names = (arguments[0], arguments[1:]) if arguments else ("list", ())
        if self.action not in ("list", "accept", "reject"):
            raise usage.UsageError(f"devices knows list, accept and reject, not {self.action!r}")
        if len(names) != (self.action != "list"):
            wanted = "no name" if self.action == "list" else "one device's name"
            raise usage.UsageError(f"{self.action} takes {wanted}")
        self.device = names[0] if names else ""


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    at = adminAddress(options["admin"])
    if options.action == "list":
        said = adminRequest("GET", "/devices", at)
        text = formatDevices(said["devices"])
    else:
        said = adminRequest("POST", f"/devices/{options.action}", at, {"device": options.device})
        text = printable(f"{said['device']['device']} is {said['device']['status']}") + "\n"
    sys.stdout.write(asJSON(said) if options["json"] else text)
    return STOPPED


def formatDevices(devices: list[dict[str, Any]]) -> str:
    """
    A line for each.
    """
    return formatTable(
        ("DEVICE", "STATUS", "CONNECTED", "IDENTITY", "ABOUT"),
        [(each["device"], each["status"], each["connected"] or "-", each["uid"][:12], each["about"]) for each in devices],
    )

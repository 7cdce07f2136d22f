"""
C{tunnelstack doctor}: what stands between this machine and its edge, one line for each thing that has to be right, and one
remedy for each that is not.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from attrs import asdict
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.python import usage
from twisted.python.failure import Failure

from tunnelstack.control.config.records import AgentConfig, EdgeAddress
from tunnelstack.control.config.sources import Sources
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED
from tunnelstack.doctor.checks import EdgeDiagnosis, Finding
from tunnelstack.wire.printable_text import printable

HELP = """
Usage: tunnelstack doctor [--json] [options]

What stands between this machine and its edge: a line a check, and a remedy for each that is wrong.

  tunnelstack doctor
        the edge that agents of this user dial
  tunnelstack doctor --edge https://tunnels.example.net --token-file laptop.token
        another one
  tunnelstack doctor --json | jq '.checks[] | select(.good == false)'
        for programs

Options                 Environment              Default
  -j, --json                                     text       one JSON object
      --dev                                                 the edge that was started here with --dev
  -e, --edge URL        TUNNELSTACK_EDGE         that one
      --token-file FILE TUNNELSTACK_TOKEN_FILE              (or the token itself in TUNNELSTACK_TOKEN)
      --insecure                                            let the token go to another machine by http:
      --ca-file FILE    TUNNELSTACK_CA_FILE      system's   the only authorities trusted for the edge, as PEM
  -c, --config FILE     TUNNELSTACK_CONFIG                  an agent's file
      --version, --help

HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured.
Exit codes: 0 all is well, 64 usage, 69 edge not reached, 76 no edge there, 77 credential refused, 78 configuration.
"""

class Options(BaseOptions):
    """
    The command line.
    """

    helpText = HELP
    optFlags = [
        ["json", "j", "one JSON object"], ["dev", None, "the edge that was started here with --dev"],
        ["insecure", None, "let the token go to another machine by http:"],
    ]  # fmt: skip
    optParameters = [
        ["edge", "e", "", "URL of the edge"],
        ["token-file", None, "", "a file that holds the token"],
        ["ca-file", None, "", "a PEM file with the only authorities that are trusted for the edge"],
        ["config", "c", "", "an agent's file"],
    ]

    def parseArgs(self, *arguments: str) -> None:
        """
        There are none.
        """
        if arguments:
            raise usage.UsageError(f"doctor takes options only, not {arguments[0]!r}")


def resolve(host: str) -> Deferred[list[str]]:
    """
    The addresses of a host, as the system knows them.
    """

    def look() -> list[str]:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})

    return deferToThread(look)


def formatText(edge: EdgeAddress, findings: list[Finding]) -> str:
    """
    Findings for people.
    """
    lines = [f"{'edge':<9} {edge.url}"]
    words = {True: "good", False: "WRONG", None: "-"}
    for finding in findings:
        lines.append(f"{finding.check:<9} {words[finding.good]:<6} {printable(finding.says)}")
        if finding.remedy:
            lines.append(f"{'':<9} {'':<6} {finding.remedy}")
    return "\n".join(lines) + "\n"


def formatJSON(edge: EdgeAddress, findings: list[Finding]) -> str:
    """
    Findings for programs.
    """
    checks = [asdict(finding, filter=lambda attribute, value: attribute.name != "code") for finding in findings]
    good = all(finding.good for finding in findings)
    said = json.dumps({"edge": edge.url, "good": good, "checks": checks}, indent=2) + "\n"
    return said.replace("\x7f", "\\u007f")


def main(options: Options, environ: Mapping[str, str] = os.environ) -> int:
    """
    @return: the exit code.
    """
    sources = Sources(environ)
    agent = AgentConfig() if options["dev"] and not options["config"] else sources.readAgentFile(options["config"])
    edge = sources.edges(
        options["edge"], options["token-file"], caFile=options["ca-file"], dev=bool(options["dev"]),
        insecure=bool(options["insecure"]), agent=agent,
    )[0]
    from twisted.internet import reactor

    diagnosis = EdgeDiagnosis(reactor, edge, resolve)
    run(reactor, diagnosis)
    sys.stdout.write((formatJSON if options["json"] else formatText)(edge, diagnosis.findings))
    return next((finding.code for finding in diagnosis.findings if finding.good is False), STOPPED)


def run(reactor: Any, diagnosis: EdgeDiagnosis) -> None:
    """
    Run the reactor until the doctor is done.
    """
    defects: list[Failure] = []

    def begin() -> None:
        done = diagnosis.runChecks()
        done.addErrback(defects.append)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    for defect in defects:
        defect.raiseException()

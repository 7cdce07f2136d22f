"""
The command C{tunnelstack doctor}, which tests the connection from this machine to its edge step by step, and suggests a remedy
for each failure.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping

from attrs import asdict
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.python import usage
from twisted.python.failure import Failure

from tunnelstack.control.config.records import AgentConfig, EdgeAddress
from tunnelstack.control.config.sources import Sources
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED
from tunnelstack.control.process.reactor import runningReactor
from tunnelstack.doctor.checks import EdgeDiagnosis, Finding
from tunnelstack.interfaces import IReactor
from tunnelstack.wire.printable_text import printable, quoted

HELP = """
Usage: tunnelstack doctor [--json] [options]

Test the connection from this machine to its edge: one line for each check, and a remedy for each failure.

  tunnelstack doctor
        tests the edge that agents of this user dial
  tunnelstack doctor --edge https://tunnels.example.net --token-file laptop.token
        tests another edge
  tunnelstack doctor --json | jq '.checks[] | select(.good == false)'
        prints the failures, for programs

Options                  Environment              Default
  -j, --json                                      text       print one JSON object
      --dev                                                  use the edge started on this machine with --dev
  -e, --edge URL         TUNNELSTACK_EDGE         --dev      http(s)://host[:port]
      --token-file FILE  TUNNELSTACK_TOKEN_FILE              a file with the token (or set TUNNELSTACK_TOKEN)
      --insecure                                             send the token to another machine over plain http:
      --ca-file FILE     TUNNELSTACK_CA_FILE      system's   PEM file: the only authorities to trust
  -c, --config FILE      TUNNELSTACK_CONFIG                  the configuration file of an agent
      --version, --help

The proxies in HTTPS_PROXY, HTTP_PROXY and NO_PROXY are used.
Exit codes: 0 no failure, 64 usage, 69 edge not reached, 76 not an edge, 77 credential refused, 78 configuration.
"""


class Options(BaseOptions):
    """
    The command line.
    """

    helpText = HELP
    optFlags = [
        ["json", "j", "print one JSON object"], ["dev", None, "use the edge started on this machine with --dev"],
        ["insecure", None, "send the token to another machine over plain http:"],
    ]  # fmt: skip
    optParameters = [
        ["edge", "e", "", "URL of the edge"],
        ["token-file", None, "", "a file that holds the token"],
        ["ca-file", None, "", "a PEM file with the only authorities that are trusted for the edge"],
        ["config", "c", "", "the configuration file of an agent"],
    ]

    def parseArgs(self, *arguments: str) -> None:
        """
        Reject arguments: there are only options.
        """
        if arguments:
            raise usage.UsageError(f"doctor takes options only, not {quoted(arguments[0])}")


def resolve(host: str) -> Deferred[list[str]]:
    """
    Resolve a host name with the system's resolver.

    @return: fires with the addresses; fails with C{OSError}.
    """

    def look() -> list[str]:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})

    return deferToThread(look)


def formatText(edge: EdgeAddress, findings: list[Finding]) -> str:
    """
    Format findings as text.
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
    Format findings as one JSON object, in ASCII without control characters except line feeds.
    """
    checks = [asdict(finding, filter=lambda attribute, value: attribute.name != "code") for finding in findings]
    good = all(finding.good for finding in findings)
    text = json.dumps({"edge": edge.url, "good": good, "checks": checks}, indent=2) + "\n"
    return text.replace("\x7f", "\\u007f")


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
    reactor = runningReactor()
    diagnosis = EdgeDiagnosis(reactor, edge, resolve)
    run(reactor, diagnosis)
    sys.stdout.write((formatJSON if options["json"] else formatText)(edge, diagnosis.findings))
    return next((finding.code for finding in diagnosis.findings if finding.good is False), STOPPED)


def run(reactor: IReactor, diagnosis: EdgeDiagnosis) -> None:
    """
    Run the reactor until all checks are made.
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

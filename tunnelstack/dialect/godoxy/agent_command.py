"""
C{tunnel-agent godoxy}: this machine as an agent of GoDoxy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.python import usage
from zope.interface import implementer

from tunnelstack.dialect.godoxy.agent_settings import AgentSettings
from tunnelstack.interfaces import IAgentCommand
from tunnelstack.settings.setting import formatValue

HELP = """
Usage: tunnel-agent godoxy --ca-file FILE --certificate-file FILE [--key-file FILE] [TARGET ...]

Listen for main programs of GoDoxy, or for edges with [[godoxy.agent]].  Each that has a certificate of the authority
may connect to the targets, and to nothing else.

  tunnel-agent godoxy --ca-file certs/ca.pem --certificate-file certs/server-godoxy.agent.pem \\
        --key-file certs/server-godoxy.agent.key localhost:3000 "172.17.0.0/16:*"
        port 3000 of this machine, and every port of the containers
  tunnel-agent godoxy --ca-file certs/ca.pem --certificate-file agent.pem --docker-socket /var/run/docker.sock
        the list of containers and their state, and no target

  TARGET    host:port, or host:* for every port; the host may be a network such as 172.17.0.0/16

Options                                                Default
  -p, --port PORT              TCP and UDP             8890
      --address IP             where it listens        every IPv4 address; :: is every address
      --name NAME              what it reports         the name of this machine
      --ca-file FILE                                   PEM file: the authority of the edges' certificates
      --certificate-file FILE                          PEM file: the agent's certificate, for the name godoxy.agent
      --key-file FILE                                  PEM file: its key; it may be in the file of the certificate
      --docker-socket PATH     give access, GET only   none
      --no-datagrams           do not listen on UDP
"""


@implementer(IAgentCommand)
class AgentCommand:
    """
    Makes this machine an agent that listens.
    """

    name = "godoxy"
    usage = "godoxy [TARGET ...]"
    summary = "listen for edges that dial, as an agent of GoDoxy"
    helpText = HELP
    optFlags = (("no-datagrams", None, "do not listen on UDP"),)
    optParameters = (
        ("port", "p", None, "the port"),
        ("address", None, None, "the address of this machine on which it listens"),
        ("name", None, None, "what the agent reports as its name"),
        ("ca-file", None, None, "a PEM file with the authority of the edges"),
        ("certificate-file", None, None, "a PEM file with the certificate"),
        ("key-file", None, None, "a PEM file with the key"),
        ("docker-socket", None, None, "the socket of Docker or Podman"),
    )

    def parse(self, options: Mapping[str, Any], arguments: Sequence[str]) -> Mapping[str, tuple[object, ...]]:
        if not (options["ca-file"] and options["certificate-file"]):
            raise usage.UsageError("godoxy needs --ca-file FILE and --certificate-file FILE")
        given: dict[str, Any] = {} if options["port"] is None else {"port": _port(options["port"])}
        settings = AgentSettings(
            address=options["address"] or "", name=options["name"] or "", caFile=options["ca-file"],
            certificateFile=options["certificate-file"], keyFile=options["key-file"] or "", targets=tuple(arguments),
            dockerSocket=options["docker-socket"] or "", datagrams=not options["no-datagrams"], **given,
        )
        return {"godoxy": (settings,)}


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise usage.UsageError(f"a port is a number from 1 to 65535, not {formatValue(text)}")
    return int(text)

"""
C{tunnelstack jetty}: the tunnels of agents of Jetty at a running edge; C{tunnel-agent jetty}: a tunnel of this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.python import usage
from zope.interface import implementer

from tunnelstack.dialect.jetty.registration import HTTP, PROTOCOLS
from tunnelstack.dialect.jetty.settings import AUTO, GRPC, WEBSOCKET, AgentSettings
from tunnelstack.interfaces import IAgentCommand, ICommand
from tunnelstack.settings.setting import formatValue
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.wire.printable_text import printable

HELP = """
Usage: tunnelstack jetty [list|add NAME|remove NAME] [options]

The tunnels of agents of Jetty that a running edge keeps, see [jetty] of its file.

  tunnelstack jetty
        all of them, whose they are, and which carriers their agents use
  tunnelstack jetty add shop --owner laptop
        reserve the name shop for the agent that has the token named laptop
  tunnelstack jetty remove shop
        remove a tunnel, and close the connections of its agents; by name or by id

Options                 Environment        Default
      --owner NAME                         the name      add: the name of the owner's token
      --protocol WORD                      http          add: http, tcp or udp
  -j, --json                               text          one JSON object, as the edge answers
      --admin PATH|URL  TUNNELSTACK_ADMIN  admin.sock    the socket in the state folder, or http://host:port
      --version, --help

Exit codes: 0 done, 64 usage, 69 no edge runs there, or it rejects the request, 78 configuration.
"""

VERBS = ("list", "add", "remove")

HEADINGS = ("TUNNEL", "OWNER", "TARGET", "AGENTS", "URL", "ID")


@frozen
class Request:
    """
    What the command line requests.

    @ivar verb: one of L{VERBS}.
    @ivar which: a name, or for C{remove} an id.
    """

    verb: str = "list"
    which: str = ""
    owner: str = ""
    protocol: str = HTTP


@implementer(ICommand)
class Tunnels:
    """
    Lists, reserves and removes tunnels.
    """

    name = "jetty"
    usage = "jetty list|add|remove"
    summary = "the tunnels of agents of Jetty at a running edge"
    helpText = HELP
    optFlags = ()
    optParameters = (
        ("owner", None, None, "the name of the owner's token"),
        ("protocol", None, None, "http, tcp or udp"),
    )

    def parse(self, options: Mapping[str, Any], arguments: Sequence[str]) -> Request:
        verb, names = (arguments[0], arguments[1:]) if arguments else ("list", ())
        if verb not in VERBS:
            raise usage.UsageError(
                f"the first argument must be {', '.join(VERBS[:-1])} or {VERBS[-1]}, not {formatValue(verb)}"
                + didYouMean(verb, VERBS)
            )
        if len(names) != (verb != "list"):
            raise usage.UsageError(f"{verb} takes {'no name' if verb == 'list' else 'the name of one tunnel'}")
        if verb != "add" and (options["owner"] or options["protocol"]):
            raise usage.UsageError(f"--owner and --protocol are for add, not for {verb}")
        protocol = options["protocol"] or HTTP
        _checkChoice("--protocol", protocol, PROTOCOLS)
        return Request(verb, names[0] if names else "", options["owner"] or "", protocol)

    def run(self, parsed: Request, admin: Callable[..., Any]) -> tuple[Any, Any]:
        if parsed.verb == "list":
            answer = admin("GET", "/jetty/tunnels")
            return answer, (HEADINGS, [_row(tunnel) for tunnel in answer["tunnels"]])
        if parsed.verb == "remove":
            answer = admin("POST", "/jetty/tunnels/remove", {"tunnel": parsed.which})
            return answer, printable(f"{answer['tunnel']['name']} ({answer['tunnel']['id']}) is removed") + "\n"
        answer = admin(
            "POST", "/jetty/tunnels/add", {"name": parsed.which, "owner": parsed.owner, "protocol": parsed.protocol}
        )
        tunnel = answer["tunnel"]
        return answer, printable(f"{tunnel['name']} is reserved for {tunnel['owner']}: {tunnel['url']}") + "\n"


def _row(tunnel: Mapping[str, Any]) -> tuple[str, ...]:
    agents = f"{tunnel['agents']} by {', '.join(tunnel['transports'])}" if tunnel["agents"] else "-"
    return (tunnel["name"], tunnel["owner"], tunnel["target"] or "-", agents, tunnel["url"], tunnel["id"])


def _checkChoice(option: str, value: str, choices: Sequence[str]) -> None:
    """
    @raise UsageError: the value is none of the choices.
    """
    if value not in choices:
        raise usage.UsageError(
            f"{option} must be {', '.join(choices[:-1])} or {choices[-1]}, not {formatValue(value)}"
            + didYouMean(value, choices)
        )


AGENT_HELP = """
Usage: tunnel-agent jetty TARGET --edge URL --token-file FILE [options]

Publish a local server through a Jetty service, or through an edge with [jetty].

  tunnel-agent jetty 3000 --edge https://tunnels.example.net --token-file laptop.token --name demo
        the web server on port 3000 of this machine, at demo.tunnels.example.net
  tunnel-agent jetty 5432 --protocol tcp --edge https://tunnels.example.net --token-file laptop.token
        the TCP server on port 5432, at a port of the edge

Options                        Environment               Default
  -e, --edge URL               TUNNELSTACK_EDGE                       http(s)://host[:port] of the service
      --token-file FILE        TUNNELSTACK_TOKEN_FILE                 a file that contains the token and nothing else
  -n, --name NAME              TUNNELSTACK_NAME          any          the subdomain
      --protocol WORD                                    http         http, tcp or udp
      --transport WORD                                   auto         grpc, websocket, or auto: gRPC if it is offered
      --route PATH=PORT[,...]                                         other local servers for paths that begin so
      --server NAME                                                   which of several servers of the account this is
      --no-resume                                                     create a tunnel even if one has this target
      --delete-on-exit                                                delete the tunnel at the end
      --health-path PATH                                 /            a page that must answer before the start
      --no-health-check                                               start although nothing answers
      --rewrite-body                                                  rewrite URLs in HTML and scripts, too
      --samples                                          off         report requests to the service, without bodies
      --ca-file FILE           TUNNELSTACK_CA_FILE       system's     PEM file: the only authorities to trust
      --insecure                                                      send the token to another machine over plain http:
"""


@implementer(IAgentCommand)
class TunnelAgent:
    """
    C{tunnel-agent jetty}.
    """

    name = "jetty"
    usage = "jetty TARGET"
    summary = "a local server through a Jetty service"
    helpText = AGENT_HELP
    optFlags = (
        ("no-resume", None, "create a tunnel although there is one"),
        ("delete-on-exit", None, "delete the tunnel at the end"),
        ("no-health-check", None, "start although nothing answers"),
        ("rewrite-body", None, "rewrite URLs in HTML and scripts"),
        ("samples", None, "report requests to the service, without bodies"),
        ("insecure", None, "send the token to another machine over plain http:"),
    )
    optParameters = (
        ("edge", "e", None, "URL of the service"),
        ("token-file", None, None, "a file that contains the token"),
        ("name", "n", None, "the subdomain"),
        ("protocol", None, None, "http, tcp or udp"),
        ("transport", None, None, "auto, grpc or websocket"),
        ("route", None, None, "PATH=PORT or PATH=HOST:PORT; several are separated by commas"),
        ("server", None, None, "which of several servers of the account this is"),
        ("health-path", None, None, "a page that must answer before the start"),
        ("ca-file", None, None, "a PEM file with the only authorities that are trusted"),
    )

    def parse(self, options: Mapping[str, Any], arguments: Sequence[str]) -> Mapping[str, tuple[object, ...]]:
        if len(arguments) != 1:
            raise usage.UsageError("jetty takes one target: a port, or host:port")
        missing = [f"--{name}" for name in ("edge", "token-file") if not options[name]]
        if missing:
            raise usage.UsageError(f"jetty needs {', '.join(missing)}")
        protocol, transport = options["protocol"] or HTTP, options["transport"] or AUTO
        _checkChoice("--protocol", protocol, PROTOCOLS)
        _checkChoice("--transport", transport, (AUTO, GRPC, WEBSOCKET))
        settings = AgentSettings(
            url=options["edge"], tokenFile=options["token-file"], target=arguments[0], subdomain=options["name"] or "",
            protocol=protocol, transport=transport, server=options["server"] or "", resume=not options["no-resume"],
            routes=tuple(filter(None, (options["route"] or "").split(","))), deleteOnExit=bool(options["delete-on-exit"]),
            healthPath=options["health-path"] or "/", healthCheck=not options["no-health-check"],
            rewriteBody=bool(options["rewrite-body"]), samples=bool(options["samples"]), caFile=options["ca-file"] or "",
            insecure=bool(options["insecure"]),
        )
        return {"jetty": (settings,)}


COMMANDS = (Tunnels(), TunnelAgent())

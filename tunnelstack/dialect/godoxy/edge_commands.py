"""
C{tunnelstack godoxy}: the agents that a running edge dials, and what is published of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.python import usage
from zope.interface import implementer

from tunnelstack.dialect.godoxy.edge_settings import KINDS
from tunnelstack.interfaces import ICommand
from tunnelstack.settings.setting import formatValue
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.wire.printable_text import printable

HELP = """
Usage: tunnelstack godoxy [list|add NAME ADDRESS|remove NAME|publish NAME AGENT KIND TARGET|withdraw NAME] [options]

The agents of GoDoxy that a running edge dials, and the services that it publishes of them, see [godoxy] of its file.

  tunnelstack godoxy
        all agents and services, with their states
  tunnelstack godoxy add nas nas.example.net:8890 --archive nas.zip
        dials another agent; the archive contains ca.pem, cert.pem and key.pem, and stays where it is
  tunnelstack godoxy publish wiki nas http 127.0.0.1:3000
        publishes a web server that the agent reaches, below the domain of the edge
  tunnelstack godoxy publish game nas tcp 192.168.1.5:25565 --port 25565
        opens a TCP port of the edge; with udp, a UDP port
  tunnelstack godoxy withdraw game
        no longer publishes a service
  tunnelstack godoxy remove nas
        no longer dials an agent, and removes its services

Agents and services of the configuration file are changed there, followed by SIGHUP.

Options                 Environment        Default
      --archive FILE                       [godoxy]     add: the certificates for the agent
      --port N                             any          publish: the public port
      --address IP                         all agents'  publish: the address on which the port is opened
      --insecure                                        publish: accept any certificate of an https server
  -j, --json                               text         one JSON object, as the edge sends it
      --admin PATH|URL  TUNNELSTACK_ADMIN  admin.sock   the socket in the state folder, or http://host:port
      --version, --help

Exit codes: 0 done, 64 usage, 69 no edge runs there, or it has refused.
"""

VERBS = {
    "list": ("", 0),
    "add": ("a name and an address", 2),
    "remove": ("the name of an agent", 1),
    "publish": ("a name, an agent, a kind and a target", 4),
    "withdraw": ("the name of a service", 1),
}
"""The verbs, with what each takes."""

PATHS = {"add": "agents/add", "remove": "agents/remove", "publish": "services/add", "withdraw": "services/remove"}

OPTIONS = {"archive": "add", "port": "publish", "address": "publish", "insecure": "publish"}
"""The verb that each option is for."""

AGENTS = ("AGENT", "ADDRESS", "STATE", "VERSION", "TCP", "UDP", "FROM", "")
SERVICES = ("SERVICE", "AGENT", "PUBLIC", "TARGET", "HEALTH", "FROM", "")

JSON = Any
Text = tuple[Sequence[object], Iterable[Sequence[object]]] | str


@frozen
class Request:
    """
    What the command line requests.

    @ivar verb: one of L{VERBS}.
    @ivar asked: what is sent to the edge.
    """

    verb: str
    asked: Mapping[str, object]


@implementer(ICommand)
class DialledAgentsCommand:
    """
    Lists, adds and removes agents and services.
    """

    name = "godoxy"
    usage = "godoxy list|add|remove|publish|withdraw"
    summary = "the agents of GoDoxy that a running edge dials"
    helpText = HELP
    optFlags = (("insecure", None, "accept any certificate of an https server"),)
    optParameters = (
        ("archive", None, None, "the certificates for the agent"),
        ("port", None, None, "the public port"),
        ("address", None, None, "the address on which the port is opened"),
    )

    def parse(self, options: Mapping[str, Any], arguments: Sequence[str]) -> Request:
        verb, rest = (arguments[0], arguments[1:]) if arguments else ("list", ())
        if verb not in VERBS:
            raise usage.UsageError(f"godoxy has no verb {formatValue(verb)}{didYouMean(verb, VERBS)}")
        takes, count = VERBS[verb]
        if len(rest) != count:
            raise usage.UsageError(f"godoxy {verb} takes {takes or 'nothing'}")
        for option, owner in OPTIONS.items():
            if options[option] and owner != verb:
                raise usage.UsageError(f"--{option} is for godoxy {owner}, not for godoxy {verb}")
        match verb:
            case "list":
                return Request(verb, {})
            case "add":
                archive = options["archive"]
                asked = {"name": rest[0], "address": rest[1], **({"archive": str(Path(archive).absolute())} if archive else {})}
                return Request(verb, asked)
            case "publish":
                return Request(verb, _service(options, rest))
        return Request(verb, {"name": rest[0]})

    def run(self, parsed: Request, admin: Callable[..., JSON]) -> tuple[JSON, Text]:
        verb = parsed.verb
        if verb == "list":
            answer = admin("GET", "/godoxy")
            return answer, (AGENTS, _rows(answer))
        answer = admin("POST", f"/godoxy/{PATHS[verb]}", parsed.asked)
        name = parsed.asked["name"]
        done = {
            "add": f"{name} is dialled at {parsed.asked.get('address')}", "remove": f"{name} is removed",
            "publish": f"{name} is published of {parsed.asked.get('agent')}", "withdraw": f"{name} is withdrawn",
        }
        return answer, printable(done[verb]) + "\n"


def _service(options: Mapping[str, Any], words: Sequence[str]) -> dict[str, object]:
    name, agent, kind, target = words
    if kind not in KINDS:
        raise usage.UsageError(f"the kind of a service is one of {', '.join(KINDS)}, not {formatValue(kind)}")
    asked: dict[str, object] = {"name": name, "agent": agent, "kind": kind, "target": target}
    if options["port"]:
        asked["port"] = _port(options["port"])
    if options["address"]:
        asked["address"] = options["address"]
    if options["insecure"]:
        asked["insecure"] = True
    return asked


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise usage.UsageError(f"--port must be a number from 1 to 65535, not {formatValue(text)}")
    return int(text)


def _rows(answer: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    """
    The agents, then a heading, then the services: a table has the same number of columns throughout.
    """
    for agent in answer["agents"]:
        yield (
            agent["agent"], agent["address"], agent["state"], agent.get("version") or "-", _yes(agent.get("tcp_streams")),
            _yes(agent.get("udp_streams")), _origin(agent), agent["reason"],
        )  # fmt: skip
    if answer["services"]:
        yield ("",) * len(AGENTS)
        yield (*SERVICES, "")
    for service in answer["services"]:
        yield (
            service["name"], service["agent"], _public(service), service["target"], _health(service), _origin(service),
            service.get("reason") or "", "",
        )  # fmt: skip


def _public(service: Mapping[str, Any]) -> str:
    if not service.get("published"):
        return "-"
    return service["kind"] + (f":{service['port']}" if service["port"] else "")


def _health(service: Mapping[str, Any]) -> str:
    healthy = service.get("healthy")
    return "-" if healthy is None else "good" if healthy else "bad"


def _yes(value: object) -> str:
    return "yes" if value else "-"


def _origin(record: Mapping[str, Any]) -> str:
    return "file" if record["configured"] else "command"


EDGE_COMMANDS = (DialledAgentsCommand(),)

"""
C{tunnelstack koding}: the virtual hosts of clients of koding/tunnel at a running edge.  C{tunnel-agent koding}: this machine as
such a client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from secrets import token_urlsafe
from typing import Any

from attrs import frozen
from twisted.python import usage
from zope.interface import implementer

from tunnelstack.dialect.koding.settings import AgentSettings
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IAgentCommand, ICommand
from tunnelstack.settings.files import readFile
from tunnelstack.settings.setting import formatValue
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.wire.printable_text import printable

EDGE_HELP = """
Usage: tunnelstack koding [list|add HOST|revoke HOST|open PORT HOST|close PORT] [options]

The virtual hosts and ports of clients of koding/tunnel at a running edge, see [koding] of its file.

  tunnelstack koding
        all hosts and ports, with their clients, and which of these are connected
  tunnelstack koding add app.example.net
        adds a host for a new client, and prints the client's identifier once
  tunnelstack koding add www.example.net --identifier-file app.identifier
        adds a host for the client with the identifier in the file
  tunnelstack koding revoke app.example.net
        removes a host; without any host, a client is disconnected at once
  tunnelstack koding open 2222 app.example.net --address 192.0.2.5
        opens a TCP port of the edge for the client of a host

Hosts and ports of the configuration file are changed there, followed by SIGHUP.

Options                 Environment        Default
      --identifier-file FILE                            add: a file that contains an identifier and nothing else
      --address IP                         all agents'  open, close: the address on which the port is opened
  -j, --json                               text         one JSON object, as the edge sends it
      --admin PATH|URL  TUNNELSTACK_ADMIN  admin.sock   the socket in the state folder, or http://host:port
      --version, --help

Exit codes: 0 done, 64 usage, 69 no edge runs there, or it has refused.
"""

AGENT_HELP = """
Usage: tunnel-agent koding --edge URL --identifier-file FILE http TARGET|tcp TARGET ...

Be a client of a koding/tunnel server, or of an edge with [koding]: local servers are public at the hosts and ports that the
server has for the identifier.

  tunnel-agent koding --edge https://tunnels.example.net --identifier-file app.identifier http 3000
        the web server on port 3000 of this machine
  tunnel-agent koding --edge https://tunnels.example.net --identifier-file app.identifier http 3000 http 8081=3001 tcp 2222=22
        requests to port 8081 of the server go to port 3001, those to other ports to 3000; its TCP port 2222 to port 22

  http TARGET    a web server, also for WebSockets        TARGET is a port, host:port, or an endpoint
  tcp TARGET     any TCP server                           string such as unix:/run/app.sock; PORT=TARGET is for one port

Options                        Environment               Default
  -e, --edge URL               TUNNELSTACK_EDGE                       http(s)://host[:port]
      --identifier-file FILE                                          a file that contains the identifier and nothing else
      --insecure                                                      send the identifier to another machine over plain http:
      --ca-file FILE           TUNNELSTACK_CA_FILE       system's     PEM file: the only authorities to trust
"""

VERBS = {"list": "nothing", "add": "a host", "revoke": "a host", "open": "a port and a host", "close": "a port"}
"""The verbs, and what each takes."""

COUNTS = {"list": 0, "add": 1, "revoke": 1, "open": 2, "close": 1}

JSON = Any
Table = tuple[Sequence[object], Iterable[Sequence[object]]]


@frozen
class Request:
    """
    What the command line requests.

    @ivar verb: one of L{VERBS}.
    @ivar asked: what is sent to the edge.
    @ivar new: the identifier in it was made for this request.
    """

    verb: str
    asked: Mapping[str, object]
    new: bool = False


@implementer(ICommand)
class Hosts:
    """
    Lists, adds and revokes hosts, and opens and closes ports.
    """

    name = "koding"
    usage = "koding list|add|revoke|open|close"
    summary = "the hosts of clients of koding/tunnel at a running edge"
    helpText = EDGE_HELP
    optFlags = ()
    optParameters = (
        ("identifier-file", None, None, "a file that contains an identifier"),
        ("address", None, None, "the address on which a port is opened"),
    )

    def parse(self, options: Mapping[str, Any], arguments: Sequence[str]) -> Request:
        verb, rest = (arguments[0], arguments[1:]) if arguments else ("list", ())
        if verb not in VERBS:
            raise usage.UsageError(f"koding has no verb {formatValue(verb)}{didYouMean(verb, VERBS)}")
        if len(rest) != COUNTS[verb]:
            raise usage.UsageError(f"koding {verb} takes {VERBS[verb]}")
        if options["identifier-file"] and verb != "add":
            raise usage.UsageError(f"--identifier-file is for koding add, not for koding {verb}")
        if options["address"] and verb not in ("open", "close"):
            raise usage.UsageError(f"--address is for koding open and koding close, not for koding {verb}")
        match verb:
            case "add":
                path = options["identifier-file"]
                return Request(verb, {"host": rest[0], "identifier": _identifier(path)}, not path)
            case "revoke":
                return Request(verb, {"host": rest[0]})
            case "open":
                return Request(verb, {"port": _port(rest[0]), "host": rest[1], "address": options["address"] or ""})
            case "close":
                return Request(verb, {"port": _port(rest[0]), "address": options["address"] or ""})
        return Request(verb, {})

    def run(self, parsed: Request, admin: Callable[..., JSON]) -> tuple[JSON, Table | str]:
        match parsed.verb:
            case "list":
                answer = admin("GET", "/koding/hosts")
                hosts, ports = answer["hosts"], answer["ports"]
                return answer, (HEADINGS, [*map(_hostRow, hosts), *(_portRow(port, hosts) for port in ports)])
            case "add":
                answer = admin("POST", "/koding/hosts/add", parsed.asked)
                said = f"{answer['host']['host']} is served by {answer['host']['client']}"
                if parsed.new:
                    answer["identifier"] = parsed.asked["identifier"]
                    return answer, f"{parsed.asked['identifier']}\n"
                return answer, printable(said) + "\n"
            case "revoke":
                answer = admin("POST", "/koding/hosts/revoke", parsed.asked)
                return answer, printable(f"{answer['host']['host']} is revoked") + "\n"
        answer = admin("POST", f"/koding/ports/{parsed.verb}", parsed.asked)
        done = "is opened for" if parsed.verb == "open" else "is closed for"
        return answer, printable(f"port {answer['port']['port']} {done} {answer['port']['client']}") + "\n"


HEADINGS = ("PUBLIC", "CLIENT", "CONNECTED", "FROM")


def _hostRow(host: Mapping[str, Any]) -> tuple[str, ...]:
    return host["host"], host["client"], "yes" if host["connected"] else "-", _origin(host)


def _portRow(port: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    connected = any(host["connected"] for host in hosts if host["host"] == port["host"])
    address = port["address"] or "*"
    return (
        f"tcp:{f'[{address}]' if ':' in address else address}:{port['port']}", port["client"] or f"no host {port['host']}",
        "yes" if connected else "-", _origin(port),
    )  # fmt: skip


def _origin(record: Mapping[str, Any]) -> str:
    return "file" if record["configured"] else "command"


def _identifier(path: str | None) -> str:
    """
    @return: the identifier in a file, or a new one.
    @raise UsageError: the file cannot be read, or is empty.
    """
    if not path:
        return token_urlsafe(24)
    try:
        identifier = readFile(path).strip()
    except ConfigurationError as unreadable:
        raise usage.UsageError(str(unreadable)) from None
    if not identifier:
        raise usage.UsageError(f"{path} contains no identifier")
    return identifier


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise usage.UsageError(f"a port is a number from 1 to 65535, not {formatValue(text)}")
    return int(text)


@implementer(IAgentCommand)
class Client:
    """
    Makes this machine a client of a server.
    """

    name = "koding"
    usage = "koding"
    summary = "local servers, as a client of koding/tunnel"
    helpText = AGENT_HELP
    optFlags = (("insecure", None, "send the identifier to another machine over plain http:"),)
    optParameters = (
        ("edge", "e", None, "URL of the server"),
        ("identifier-file", None, None, "a file that contains the identifier"),
        ("ca-file", None, None, "a PEM file with the only authorities that are trusted for the server"),
    )

    def parse(self, options: Mapping[str, Any], arguments: Sequence[str]) -> Mapping[str, tuple[object, ...]]:
        if not (options["edge"] and options["identifier-file"]):
            raise usage.UsageError("koding needs --edge URL and --identifier-file FILE")
        kinds, targets = arguments[::2], arguments[1::2]
        if not arguments or len(kinds) != len(targets) or not {"http", "tcp"}.issuperset(kinds):
            raise usage.UsageError("koding takes http TARGET or tcp TARGET, once or several times")
        found = {
            kind: tuple(target for each, target in zip(kinds, targets, strict=True) if each == kind) for kind in ("http", "tcp")
        }
        settings = AgentSettings(
            url=options["edge"], identifierFile=options["identifier-file"], http=found["http"], tcp=found["tcp"],
            caFile=options["ca-file"] or "", insecure=bool(options["insecure"]),
        )
        return {"koding": (settings,)}


COMMANDS = (Hosts(), Client())

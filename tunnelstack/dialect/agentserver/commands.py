"""
C{tunnelstack sandbox}: the sandboxes that a running edge accepts; C{tunnel-agent agentserver}: this machine as a sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.python import usage
from zope.interface import implementer

from tunnelstack.dialect.agentserver.sandbox_store import digestOf
from tunnelstack.dialect.agentserver.settings import AgentSettings
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IAgentCommand, ICommand
from tunnelstack.settings.setting import formatValue
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.wire.printable_text import printable

HELP = """
Usage: tunnelstack sandbox [list|add NAME|revoke NAME] [options]

The sandboxes of agentserver that a running edge accepts, see [agentserver] of its file.

  tunnelstack sandbox
        all of them, which are connected, and what their agents report
  tunnelstack sandbox add demo
        accept another sandbox, published under the name demo; prints its sandbox_id and its tunnel_token, once
  tunnelstack sandbox add demo --id sbx-1 --token-file demo.token
        the same for a sandbox that has both already, so that its agent needs no change but the URL of the server
  tunnelstack sandbox revoke demo
        no longer accept it, and close its connection; by name or by sandbox_id

Options                 Environment        Default
      --id ID                              a new one    add: the sandbox_id
      --token-file FILE                    a new one    add: a file that contains the tunnel_token and nothing else
  -j, --json                               text         one JSON object, as the edge answers
      --admin PATH|URL  TUNNELSTACK_ADMIN  admin.sock   the socket in the state folder, or http://host:port
      --version, --help

Exit codes: 0 done, 64 usage, 69 no edge runs there, or it rejects the request, 78 configuration.
"""

VERBS = ("list", "add", "revoke")

HEADINGS = ("SANDBOX", "ID", "CONNECTED", "HOST", "AGENT", "")


@frozen
class Request:
    """
    What the command line requests.

    @ivar verb: one of L{VERBS}.
    @ivar which: a name, or for C{revoke} an id.
    @ivar tokenSha256: of the token that a file contains.
    """

    verb: str = "list"
    which: str = ""
    id: str = ""
    tokenSha256: str = ""


@implementer(ICommand)
class Sandboxes:
    """
    Lists, adds and revokes sandboxes.
    """

    name = "sandbox"
    usage = "sandbox list|add|revoke"
    summary = "the sandboxes of agentserver that a running edge accepts"
    helpText = HELP
    optFlags = ()
    optParameters = (
        ("id", None, None, "the sandbox_id"),
        ("token-file", None, None, "a file that contains the tunnel_token"),
    )

    def parse(self, options: Mapping[str, Any], arguments: Sequence[str]) -> Request:
        verb, names = (arguments[0], arguments[1:]) if arguments else ("list", ())
        if verb not in VERBS:
            raise usage.UsageError(
                f"the first argument must be {', '.join(VERBS[:-1])} or {VERBS[-1]}, not {formatValue(verb)}"
                + didYouMean(verb, VERBS)
            )
        if len(names) != (verb != "list"):
            raise usage.UsageError(f"{verb} takes {'no name' if verb == 'list' else 'the name of one sandbox'}")
        if verb != "add" and (options["id"] or options["token-file"]):
            raise usage.UsageError(f"--id and --token-file are for add, not for {verb}")
        digest = digestOf(readToken(options["token-file"])) if options["token-file"] else ""
        return Request(verb, names[0] if names else "", options["id"] or "", digest)

    def run(self, parsed: Request, admin: Callable[..., Any]) -> tuple[Any, Any]:
        if parsed.verb == "list":
            answer = admin("GET", "/sandboxes")
            return answer, (HEADINGS, [_row(sandbox) for sandbox in answer["sandboxes"]])
        if parsed.verb == "revoke":
            answer = admin("POST", "/sandboxes/revoke", {"sandbox": parsed.which})
            return answer, printable(f"{answer['sandbox']['name']} ({answer['sandbox']['id']}) is revoked") + "\n"
        answer = admin(
            "POST", "/sandboxes/add", {"name": parsed.which, "id": parsed.id, "token_sha256": parsed.tokenSha256}
        )
        lines = [f"sandbox_id    {answer['sandbox']['id']}"]
        if answer["token"]:
            lines.append(f"tunnel_token  {answer['token']}")
        return answer, "".join(f"{printable(line)}\n" for line in lines)


def readToken(path: str) -> str:
    """
    @return: the one word that a file contains.
    @raise ConfigurationError: it cannot be read, or contains anything else.
    """
    try:
        words = Path(path).read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as unreadable:
        reason = getattr(unreadable, "strerror", None) or "it is not text"
        raise ConfigurationError(f"--token-file: {path} cannot be read: {reason}") from None
    if len(words) != 1:
        raise ConfigurationError(f"--token-file: {path} must contain a token and nothing else")
    return words[0]


def _row(sandbox: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        sandbox["name"], sandbox["id"], "yes" if sandbox["connected"] else "-", sandbox["hostname"] or "-",
        sandbox["agent_version"] or "-", "configured" if sandbox["configured"] else "",
    )


AGENT_HELP = """
Usage: tunnel-agent agentserver [TARGET] --edge URL --sandbox ID --token-file FILE [options]

Make this machine a sandbox of an agentserver, or of an edge with [agentserver].

  tunnel-agent agentserver 3000 --edge https://agents.example.net --sandbox sbx-1 --token-file sbx-1.token
        the web server on port 3000 of this machine
  tunnel-agent agentserver 3000 --edge https://agents.example.net --sandbox sbx-1 --token-file sbx-1.token --terminal
        the same, and terminals: their users have the rights of this user

Options                        Environment               Default
  -e, --edge URL               TUNNELSTACK_EDGE                       http(s)://host[:port][/base] of the server
      --sandbox ID                                                    the sandbox_id
      --token-file FILE        TUNNELSTACK_TOKEN_FILE                 a file that contains the tunnel_token
      --terminal                                         off          let the server open terminals
      --shell PATH                                       the user's   the shell of terminals
      --rewrite-host HOST                                the target   the Host field sent to the web server
      --rewrite-origin                                                put that host into Origin and Referer, too
      --heartbeat SECONDS                                20           the time between two reports of this machine
      --ca-file FILE           TUNNELSTACK_CA_FILE       system's     PEM file: the only authorities to trust
      --insecure                                                      send the token to another machine over plain http:
"""


@implementer(IAgentCommand)
class SandboxAgent:
    """
    C{tunnel-agent agentserver}.
    """

    name = "agentserver"
    usage = "agentserver [TARGET]"
    summary = "this machine as a sandbox of an agentserver"
    helpText = AGENT_HELP
    optFlags = (
        ("terminal", None, "let the server open terminals"),
        ("rewrite-origin", None, "put the Host field into Origin and Referer as well"),
        ("insecure", None, "send the token to another machine over plain http:"),
    )
    optParameters = (
        ("edge", "e", None, "URL of the server"),
        ("sandbox", None, None, "the sandbox_id"),
        ("token-file", None, None, "a file that contains the tunnel_token"),
        ("shell", None, None, "the shell of terminals"),
        ("rewrite-host", None, None, "the Host field sent to the web server"),
        ("heartbeat", None, None, "seconds"),
        ("ca-file", None, None, "a PEM file with the only authorities that are trusted"),
    )

    def parse(self, options: Mapping[str, Any], arguments: Sequence[str]) -> Mapping[str, tuple[object, ...]]:
        if len(arguments) > 1:
            raise usage.UsageError("agentserver takes at most one target: a port, host:port or an endpoint string")
        missing = [f"--{name}" for name in ("edge", "sandbox", "token-file") if not options[name]]
        if missing:
            raise usage.UsageError(f"agentserver needs {', '.join(missing)}")
        terminal = bool(options["terminal"])
        if not (arguments or terminal):
            raise usage.UsageError("agentserver needs a target, or --terminal, or both")
        if options["shell"] and not terminal:
            raise usage.UsageError("--shell is for --terminal")
        settings = AgentSettings(
            url=options["edge"], sandbox=options["sandbox"], tokenFile=options["token-file"],
            target=arguments[0] if arguments else "", rewriteHost=options["rewrite-host"] or "", terminal=terminal,
            rewriteOrigin=bool(options["rewrite-origin"]),
            shell=options["shell"] or "", heartbeatSeconds=_seconds(options["heartbeat"]), caFile=options["ca-file"] or "",
            insecure=bool(options["insecure"]),
        )
        return {"agentserver": (settings,)}


def _seconds(text: str | None) -> float:
    if text is None:
        return 20.0
    try:
        return float(text)
    except ValueError:
        raise usage.UsageError(f"--heartbeat must be a number of seconds, not {formatValue(text)}") from None


COMMANDS = (Sandboxes(), SandboxAgent())

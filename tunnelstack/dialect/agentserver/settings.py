"""
The tables of agentserver in configuration files.
"""

from __future__ import annotations

from attrs import frozen

from tunnelstack.settings.setting import atLeast, matching, setting
from tunnelstack.settings.tables import DialectSettings, Table
from tunnelstack.settings.validators import checkAuthority, checkDigest, checkLabel, isHTTPURL, optional

MEBIBYTE = 1024 * 1024

checkIdentifier = matching(r"[!-.0-~]{1,255}", "an identifier of up to 255 visible ASCII characters, without '/'")


@frozen(kw_only=True)
class EdgeSettings:
    """
    C{[agentserver]}: accept agents of agentserver, each for its sandbox.
    """

    bodyOctets: int = setting(
        64 * MEBIBYTE, "octets of the longest request body that is sent to a sandbox, whose agent holds all of it",
        check=atLeast(0),
    )
    chunkedOctets: int = setting(
        MEBIBYTE, "octets of the longest request body that comes in chunks: the protocol needs its length first, so the edge "
        "holds all of it", check=atLeast(0),
    )


@frozen(kw_only=True)
class SandboxSettings:
    """
    C{[[agentserver.sandbox]]}: a sandbox, whose agent may connect, and which is published as a web service.
    """

    id: str = setting(says="the sandbox_id, which is a part of the URL that its agent connects to", check=checkIdentifier)
    name: str = setting(says="the name of the service and of the agent, a part of the host that visitors use", check=checkLabel)
    tokenSha256: str = setting(says="the SHA-256 of its tunnel_token, in hexadecimal digits", check=checkDigest)


@frozen(kw_only=True)
class AgentSettings:
    """
    C{[[agentserver]]} of an agent: an agentserver, or an edge with C{[agentserver]}, for which this machine is a sandbox.
    """

    url: str = setting(says="http(s)://host[:port][/base] of the server", check=isHTTPURL)
    sandbox: str = setting(says="the sandbox_id", check=checkIdentifier)
    tokenFile: str = setting(says="a file that contains the tunnel_token and nothing else", secretFile=True)
    target: str = setting(
        "", "the local web server: a port, host:port or an endpoint string; empty is none, as in agents with a terminal only"
    )
    rewriteHost: str = setting(
        "", "the Host field sent to the local server, as the protocol carries none; empty is the host and port of target",
        check=optional(checkAuthority),
    )
    rewriteOrigin: bool = setting(
        False, "true puts that host into Origin and Referer as well, where they have the host of the visitor's URL"
    )
    terminal: bool = setting(
        False, "true lets the server open a terminal: a shell with the rights of the agent's user"
    )
    shell: str = setting("", "terminal: the path of the shell; empty is that of the user")
    heartbeatSeconds: float = setting(
        20.0, "seconds between the documents that describe this machine, and keep the tunnel alive; servers expect at most 20",
        check=atLeast(1, 3600),
    )
    caFile: str = setting("", "a PEM file with the only trusted roots; empty trusts those of the system")
    proxy: str = setting("", "as in [[edge]]", secret=True)
    insecure: bool = setting(False, "true allows the token to be sent to a server at http: on another machine")


SETTINGS = DialectSettings(
    edge={
        "agentserver": Table(EdgeSettings),
        "agentserver.sandbox": Table(
            SandboxSettings, many=True, unique={"id": lambda each: each.id, "name": lambda each: each.name}, live=True,
        ),
    },
    agent={
        "agentserver": Table(
            AgentSettings, many=True, unique={"url and sandbox": lambda each: (each.url, each.sandbox)},
        ),
    },
)

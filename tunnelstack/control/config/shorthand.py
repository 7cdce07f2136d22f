"""
What people type for the URL of an edge and for an endpoint to listen on, in the form that the records of a configuration have.

Both functions leave other text unchanged; the checks of the settings report it.
"""

from __future__ import annotations

import re

from tunnelstack.control.config.proxy_env import isThisMachine
from tunnelstack.settings.dialects import dialectPackages

WEBSOCKET = {"ws": "http", "wss": "https"}
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(:[0-9]{1,5})?(/.*)?")
PORT = re.compile(r":?([0-9]{1,5})")
LISTEN = re.compile(
    r"(?:tcp:)?(?P<host>\*|localhost|[0-9]+(?:\.[0-9]+){3}|\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]):(?P<port>[0-9]{1,5})"
)
PROXY_PREFIX = "haproxy:"


def edgeURL(text: str) -> str:
    """
    The URL of an edge, C{http(s)://host[:port][/base]}, of

     - the C{ws:} or C{wss:} URL that an edge prints for its agents;
     - a host with or without a port, which is C{https:}, or C{http:} for a name or an address of this machine.
    """
    if not SCHEME.match(text):
        host = HOST.fullmatch(text)
        if host is None:
            return text
        text = f"{'http' if isThisMachine(host[1].strip('[]').lower()) else 'https'}://{text}"
    scheme, _, rest = text.partition("://")
    secure = WEBSOCKET.get(scheme.lower())
    if secure is not None:
        text = f"{secure}://{rest}"
    for package in dialectPackages():
        path = package.defaults.agentPath
        if path and text.rstrip("/").endswith(path):
            return text.rstrip("/").removesuffix(path)
    return text


def isPort(text: str) -> bool:
    """
    @return: whether text is a port alone, C{8080} or C{:8080}.
    """
    return PORT.fullmatch(text) is not None


def listenEndpoint(text: str) -> str:
    """
    The endpoint string of C{8080}, C{:8080} or C{127.0.0.1:8080}, also after C{haproxy:}.
    """
    if text.startswith(PROXY_PREFIX):
        return PROXY_PREFIX + listenEndpoint(text.removeprefix(PROXY_PREFIX))
    port = PORT.fullmatch(text)
    if port is not None:
        return f"tcp:{port[1]}"
    found = LISTEN.fullmatch(text)
    if found is None:
        return text
    host = {"*": "", "localhost": "127.0.0.1"}.get(found["host"], found["host"].strip("[]"))
    interface = host.replace(":", "\\:")
    return f"tcp:{found['port']}" + (f":interface={interface}" if interface else "")


def loopbackEndpoint(text: str) -> str:
    """
    L{listenEndpoint}, but a port alone is one of 127.0.0.1: for listeners that do not authenticate their clients.
    """
    return listenEndpoint(f"127.0.0.1:{text.lstrip(':')}" if isPort(text) else text)


def listenEndpoints(texts: tuple[str, ...]) -> tuple[str, ...]:
    """
    L{listenEndpoint} of each.
    """
    return tuple(map(listenEndpoint, texts))

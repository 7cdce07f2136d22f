"""
The names and ports of new tunnels, as far as the rights of their owner allow them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator

from tunnelstack.dialect.jetty.registration import HTTP
from tunnelstack.dialect.jetty.tunnel_store import RESERVED
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.interfaces import IEdge
from tunnelstack.records import Principal, Service
from tunnelstack.settings.validators import checkLabel

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "iris", "jade", "lark", "maple", "onyx")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"

FREE_PORTS = range(20_000, 40_000)
"""Ports from which one is chosen for an owner who may use any."""

MOST_PORTS = 64
"""Ports that are tried until a free one is found."""

PORTS = re.compile(r"(\*)|([0-9]{1,5})(?:-([0-9]{1,5}))?")
WILDCARD = re.compile(r"[*?]")


def freeName(edge: IEdge, principal: Principal, protocol: str, isTaken: Callable[[str], bool]) -> str:
    """
    Choose a name for a tunnel.

    @param isTaken: returns whether a tunnel has a name.
    @raise Denied: there is none that the owner may use.
    """
    denied = Denied("taken", "every name that the token allows is in use")
    for name in candidates(principal, protocol):
        if _isLabel(name) and name not in RESERVED and not isTaken(name):
            try:
                edge.checkService(principal, Service(name=name, kind=protocol))
            except Denied as reason:
                denied = reason
            else:
                return name
    raise denied


def _isLabel(name: str) -> bool:
    try:
        checkLabel(name)
    except ConfigurationError:
        return False
    return True


def candidates(principal: Principal, protocol: str) -> Iterator[str]:
    """
    @return: names that the rights of an owner suggest, the best first.
    """
    globs = [right.removeprefix("http:") for right in principal.allow if right.startswith("http:")]
    plain = [glob for glob in globs if not WILDCARD.search(glob)]
    if protocol != HTTP or principal.agent in plain:
        yield principal.agent
    yield from plain
    yield from (filled(glob) for glob in globs if WILDCARD.search(glob))
    if protocol != HTTP:
        yield filled("*")


def filled(glob: str) -> str:
    """
    @return: a random name that matches a glob.
    """
    if glob == "*":
        return f"{secrets.choice(WORDS)}-{_letters(8)}"
    head, _, tail = glob.partition("*")
    name = f"{head}*{tail.replace('*', '')}" if "*" in glob else glob
    return "".join(_letters(8) if each == "*" else _letters(1) if each == "?" else each for each in name)


def _letters(count: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(count))


def freePort(edge: IEdge, principal: Principal, service: str, protocol: str, isTaken: Callable[[int], bool]) -> int:
    """
    Choose a public port for a tunnel.

    @param service: its name.
    @param isTaken: returns whether a tunnel has a port.
    @raise Denied: there is none that the owner may use.
    """
    denied = Denied("port-taken", f"every {protocol.upper()} port that the token allows has a tunnel")
    for port in _ports(principal, protocol):
        if not isTaken(port):
            try:
                edge.checkService(principal, Service(name=service, kind=protocol, port=port))
            except Denied as reason:
                denied = reason
            else:
                return port
    raise denied


def _ports(principal: Principal, protocol: str) -> Iterator[int]:
    for right in principal.allow:
        kind, _, text = right.partition(":")
        found = PORTS.fullmatch(text) if kind == protocol else None
        if found is not None:
            ports = FREE_PORTS if found[1] else range(int(found[2]), int(found[3] or found[2]) + 1)
            first = secrets.randbelow(len(ports)) if ports else 0
            yield from (ports[(first + step) % len(ports)] for step in range(min(len(ports), MOST_PORTS)))

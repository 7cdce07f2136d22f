"""
The rights of a credential: C{http:GLOB}, C{tcp:PORTS}, C{udp:PORTS}, C{stream:GLOB}, C{dial:GLOB}, C{terminal:GLOB}, C{ssh}.
What is not granted is not allowed.

In a glob C{*} stands for any characters and C{?} for one.  Ports are C{*}, a number, or two numbers with a hyphen between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from attrs import frozen

from tunnelstack.errors import ConfigurationError
from tunnelstack.records import Principal
from tunnelstack.settings.record import Record

HIGHEST_PORT = 65_535
EVERY_PORT = range(1, HIGHEST_PORT + 1)


@frozen(eq=False, repr=False)
class Permissions(Record):
    """
    The rights of one credential, parsed.

    @ivar http: globs of names that may be announced as web servers.
    @ivar stream: globs of names that may be announced as stream services.
    @ivar dial: globs of services and agents that may be dialled.
    @ivar terminal: globs of agents on which terminals may be opened.
    @ivar tcp: ports of the edge that may be used; C{EVERY_PORT} for any free port.
    @ivar udp: the same, for UDP.
    @ivar ssh: whether SSH may be offered.
    """

    http: tuple[str, ...] = ()
    stream: tuple[str, ...] = ()
    dial: tuple[str, ...] = ()
    terminal: tuple[str, ...] = ()
    tcp: tuple[range, ...] = ()
    udp: tuple[range, ...] = ()
    ssh: bool = False

    def mayServe(self, name: str) -> bool:
        """
        @return: whether the web server C{name} may be announced.
        """
        return any(matches(glob, name) for glob in self.http)

    def mayStream(self, name: str) -> bool:
        """
        @return: whether the stream service C{name} may be announced.
        """
        return any(matches(glob, name) for glob in self.stream)

    def mayDial(self, *names: str) -> bool:
        """
        @param names: all names of one service or agent.
        @return: whether it may be dialled.
        """
        return any(matches(glob, name) for glob in self.dial for name in names)

    def mayOpenTerminal(self, name: str) -> bool:
        """
        @return: whether a terminal may be opened on the agent C{name}.
        """
        return any(matches(glob, name) for glob in self.terminal)

    def mayUsePort(self, port: int) -> bool:
        """
        @return: whether the TCP port may be used.
        """
        return any(port in ports for ports in self.tcp)


def parsePermissions(allow: Iterable[str]) -> Permissions:
    """
    @param allow: rights as in a configuration file.
    @raise ConfigurationError: one of them is not a right; the message names it.
    """
    found: dict[str, list[str]] = {"http": [], "stream": [], "dial": [], "terminal": [], "tcp": [], "udp": []}
    ssh = False
    for right in allow:
        kind, _, what = right.partition(":")
        if right == "ssh":
            ssh = True
        elif kind in found and what:
            found[kind].append(what)
        else:
            raise ConfigurationError(
                f"'{right}' is not a right; rights are http:NAME, tcp:PORTS, udp:PORTS, stream:NAME, dial:NAME, terminal:NAME "
                "and ssh"
            )
    return Permissions(
        http=tuple(found["http"]), stream=tuple(found["stream"]), dial=tuple(found["dial"]), terminal=tuple(found["terminal"]),
        tcp=tuple(map(parsePorts, found["tcp"])), udp=tuple(map(parsePorts, found["udp"])), ssh=ssh,
    )


@lru_cache(maxsize=4096)
def _rights(allow: tuple[str, ...]) -> Permissions:
    return parsePermissions(allow)


def permissionsOf(principal: Principal) -> Permissions:
    """
    @raise ConfigurationError: the principal's rights cannot be read.
    """
    return _rights(principal.allow)


def parsePorts(text: str) -> range:
    """
    @param text: C{"*"}, C{"20000"} or C{"20000-20010"}.
    @raise ConfigurationError: it has none of these forms.
    """
    if text == "*":
        return EVERY_PORT
    low, hyphen, high = text.partition("-")
    ends = (low, high) if hyphen else (low, low)
    if all(end.isascii() and end.isdecimal() and len(end) <= 5 for end in ends):
        first, last = map(int, ends)
        if 0 < first <= last <= HIGHEST_PORT:
            return range(first, last + 1)
    raise ConfigurationError(f"'{text}' is not a range of ports: give a number from 1 to 65535, two with a hyphen, or *")


def matches(glob: str, name: str) -> bool:
    """
    @return: whether a name matches a glob.  The time is at most proportional to the product of their lengths, so that no glob
        can make it exponential.
    """
    return glob == "*" or _matchGlob(glob, name)


def _matchGlob(glob: Sequence[str], name: Sequence[str]) -> bool:
    # Each star matches as little as it can.  When the rest does not match, the last star matches one character more.
    at = position = 0
    star = resume = -1
    while position < len(name):
        if at < len(glob) and glob[at] == "*":
            star, resume, at = at, position, at + 1
        elif at < len(glob) and glob[at] in ("?", name[position]):
            at, position = at + 1, position + 1
        elif star >= 0:
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return all(character == "*" for character in glob[at:])

"""
Doors: how the agents of a dialect reach an edge.

An L{HTTPDoor} is a path of the public port.  A L{ListenerDoor} is a port of the dialect's own.  An L{OutboundDoor} dials agents
that listen.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IDoor, IExchangeServer, IOutboundAgents
from tunnelstack.settings.record import Record


@implementer(IDoor)
@frozen(kw_only=True, eq=False, repr=False)
class HTTPDoor(Record):
    """
    A path on the public port through which a dialect's agents come in.  It is found only on hosts that no route claims.

    @ivar path: the request path without its query, such as C{b"/_tunnel/1"}.
    @ivar server: the L{IExchangeServer<tunnelstack.interfaces.IExchangeServer>} of its requests.  It may take an exchange over
        (L{IServerExchange.onRequest<tunnelstack.interfaces.IServerExchange.onRequest>}).
    @ivar method: the only method; C{b""} for every method.
    @ivar prefix: the paths below C{path} belong to the door as well, by whole segments.
    """

    path: bytes
    server: IExchangeServer
    method: bytes = b""
    prefix: bool = False

    @property
    def description(self) -> str:
        return f"{self.method.decode() or 'every method'} of {self.path.decode()}"


@implementer(IDoor)
@frozen(kw_only=True, eq=False, repr=False)
class ListenerDoor(Record):
    """
    A port of the dialect's own.

    @ivar endpoint: the C{IStreamServerEndpoint} to listen on.
    @ivar factory: builds the protocol of each connection.
    @ivar description: where it listens.
    """

    endpoint: IStreamServerEndpoint
    factory: IProtocolFactory
    description: str


@implementer(IDoor)
@frozen(kw_only=True, eq=False, repr=False)
class OutboundDoor(Record):
    """
    Agents that listen, and are dialled by the edge.

    @ivar service: dials them; the edge starts and stops it.
    @ivar description: what it dials.
    """

    service: IOutboundAgents
    description: str


class DoorTable:
    """
    Finds the L{HTTPDoor} of a request: an exact path before a prefix, a longer prefix before a shorter one, and a door for one
    method before a door for all.

    @ivar paths: the exact ones.
    @ivar prefixes: what other paths of doors begin with; C{b""} if one covers everything.
    """

    def __init__(self, doors: Iterable[HTTPDoor] = ()) -> None:
        """
        @raise ConfigurationError: two doors claim the same requests.
        """
        self.paths: set[bytes] = set()
        self._exact: dict[tuple[bytes, bytes], HTTPDoor] = {}
        self.prefixes: tuple[bytes, ...] = ()
        self._prefixes: dict[tuple[bytes, bytes], HTTPDoor] = {}
        for door in doors:
            self.add(door)

    def add(self, door: HTTPDoor) -> None:
        """
        @raise ConfigurationError: another door claims the same requests.
        """
        path = (door.path.rstrip(b"/") or b"/") if door.prefix else door.path
        table = self._prefixes if door.prefix else self._exact
        if table.setdefault((path, door.method), door) is not door:
            raise ConfigurationError(f"two dialects claim {door.description} at this edge")
        if door.prefix:
            self.prefixes = (*self.prefixes, path if path != b"/" else b"")
        else:
            self.paths.add(path)

    def find(self, method: bytes, path: bytes) -> HTTPDoor | None:
        """
        @param path: without the query.
        """
        exact = self._exact
        found = exact.get((path, method)) or exact.get((path, b""))
        if found is not None or not self._prefixes:
            return found
        while True:
            found = self._prefixes.get((path, method)) or self._prefixes.get((path, b""))
            if found is not None or path in (b"", b"/"):
                return found
            path = path.rpartition(b"/")[0] or b"/"

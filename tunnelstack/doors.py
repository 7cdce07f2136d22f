"""
Doors: how the agents of a dialect reach an edge.

An L{HTTPDoor} is a path of the public port.  A L{ListenerDoor} is a port of the dialect's own.  An L{OutboundDoor} dials agents
that listen.  Nothing here imports Twisted at run time, so that policy and protocols can meet on neutral ground.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attrs import frozen

from tunnelstack.errors import ConfigurationError
from tunnelstack.wire.http1.head import RequestHead

if TYPE_CHECKING:
    from OpenSSL.crypto import X509
    from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint, ITCPTransport


@frozen(kw_only=True)
class TakenOverRequest:
    """
    A connection that was taken over at a door, with the request that led there.

    @ivar head: the request as received.
    @ivar octets: the head as octets, for a protocol that parses it itself.
    @ivar leftover: what was received after the head.
    @ivar transport: the connection.  The new owner replaces its protocol.
    @ivar certificate: the peer's verified certificate, or C{None}.
    """

    head: RequestHead
    octets: bytes
    leftover: bytes
    transport: ITCPTransport
    certificate: X509 | None = None


@frozen(kw_only=True)
class HTTPDoor:
    """
    A path on the public port through which a dialect's agents come in.  It is found only on hosts that no route claims.

    @ivar path: the request path without its query, such as C{b"/_tunnel/1"}.
    @ivar server: the L{IExchangeServer<tunnelstack.interfaces.IExchangeServer>} of its requests.  It may take an exchange over
        (L{IServerExchange.onRequest<tunnelstack.interfaces.IServerExchange.onRequest>}).
    @ivar method: the only method; C{b""} for every method.
    @ivar prefix: the paths below C{path} belong to the door as well, by whole segments.
    """

    path: bytes
    server: Any
    method: bytes = b""
    prefix: bool = False


@frozen(kw_only=True)
class ListenerDoor:
    """
    A port of the dialect's own.

    @ivar endpoint: the C{IStreamServerEndpoint} to listen on.
    @ivar factory: builds the protocol of each connection.
    @ivar description: where it listens, for logs and status.
    """

    endpoint: IStreamServerEndpoint
    factory: IProtocolFactory
    description: str


@frozen(kw_only=True)
class OutboundDoor:
    """
    Agents that listen, and are dialled by the edge.

    @ivar service: an C{IService} that the edge starts and stops.  Its C{report()} gives the state of each agent, as plain
        records that JSON can hold.
    @ivar description: what it dials, for logs.
    """

    service: Any
    description: str


Door = HTTPDoor | ListenerDoor | OutboundDoor


class DoorTable:
    """
    Finds the L{HTTPDoor} of a request: an exact path before a prefix, a longer prefix before a shorter one, and a door for one
    method before a door for all.
    """

    def __init__(self, doors: Iterable[HTTPDoor] = ()) -> None:
        """
        @raise ConfigurationError: two doors claim the same requests.
        """
        self._exact: dict[tuple[bytes, bytes], HTTPDoor] = {}
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
            method = door.method.decode() or "every method"
            raise ConfigurationError(f"two dialects claim {method} of {door.path.decode()} at this edge")

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

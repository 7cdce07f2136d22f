"""
ShellHub at an edge.  An edge that is started with C{--dev} accepts devices, though few have any: the dialect is loaded when the
first one comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tunnelstack.dialect.shellhub.defaults import developmentTables
from tunnelstack.doors import DoorTable, HTTPDoor
from tunnelstack.interfaces import (
    IAdminResources,
    IDeferredDialect,
    IDeviceKeys,
    IDialect,
    IEdge,
    IExchangeReceiver,
    IExchangeServer,
    IServerExchange,
)
from tunnelstack.settings.tables import Records
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.target import path_of

if TYPE_CHECKING:
    from twisted.conch.ssh.keys import Key

    from tunnelstack.dialect.shellhub.hub import ShellHubEdge

PATHS = (
    b"/agent/connection", b"/api/auth/ssh", b"/api/devices/auth", b"/healthcheck", b"/info", b"/ssh/connection",
    b"/ssh/revdial",
)
PREFIX = b"/api/sessions"
READ = b"/devices", b"/devices/sessions"
CHANGE = b"/devices/accept", b"/devices/reject", b"/devices/sessions/close"
"""The paths of the doors and of the administration of L{ShellHubEdge<tunnelstack.dialect.shellhub.hub.ShellHubEdge>}."""

KEPT = "devices.json", "signing.pem"
"""The files in the state folder of an edge to which devices have come."""


@implementer(IDeferredDialect, IAdminResources, IDeviceKeys, IExchangeServer)
class AwaitingEdge:
    """
    The dialect of an edge that no device has asked for anything, and that knows none.

    @ivar hub: what serves the first device and all others.  It is made when it is needed.
    """

    name = "shellhub"

    def __init__(self, edge: IEdge, tables: Records) -> None:
        self._edge = edge
        self._tables = tables
        self.getHandlers: Mapping[bytes, Callable[[], object]] = {path: partial(self._list, path) for path in READ}
        self.postHandlers: Mapping[bytes, Callable[[Mapping[str, Any]], object]] = {
            path: partial(self._change, path) for path in CHANGE
        }

    @property
    def hub(self) -> ShellHubEdge:
        return self._loaded[0]

    @cached_property
    def _loaded(self) -> tuple[ShellHubEdge, DoorTable]:
        from tunnelstack.dialect.shellhub.hub import makeHub

        hub = makeHub(self._edge, self._tables)
        return hub, DoorTable(hub.doors(self._edge))

    def load(self) -> None:
        self._loaded  # noqa: B018 - it is made when it is first read

    def doors(self, edge: IEdge) -> list[HTTPDoor]:
        return [*(HTTPDoor(path=path, server=self) for path in PATHS), HTTPDoor(path=PREFIX, prefix=True, server=self)]

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        """
        As in L{IExchangeServer}.
        """
        door = self._loaded[1].find(head.method, path_of(head.target))
        assert door is not None
        receiver: IExchangeReceiver = door.server.exchangeReceived(head, exchange)
        return receiver

    def keyFor(self, device: str) -> Deferred[Key] | None:
        """
        As in L{IDeviceKeys}.
        """
        return self.hub.keyFor(device) if "_loaded" in vars(self) else None

    def close(self) -> None:
        if "_loaded" in vars(self):
            self.hub.close()

    def _list(self, path: bytes) -> object:
        return self.hub.getHandlers[path]()

    def _change(self, path: bytes, request: Mapping[str, Any]) -> object:
        return self.hub.postHandlers[path](request)


def makeDialects(edge: IEdge, tables: Records) -> list[IDialect]:
    """
    Make the dialect from the tables of a configuration file.

    @raise ConfigurationError: a file that they name cannot be used.
    """
    kept = edge.state is not None and any(edge.state.path(name).exists() for name in KEPT)
    if tables == developmentTables() and not kept:
        return [AwaitingEdge(edge, tables)]
    from tunnelstack.dialect.shellhub.hub import makeHub

    return [makeHub(edge, tables)]

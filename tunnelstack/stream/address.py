"""
The ends of streams and tunnels as Twisted addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

from tunnelstack.records import Principal
from tunnelstack.settings.record import Record
from tunnelstack.wire.negotiation.base import NO_PARAMETERS


@implementer(IAddress)
@define(weakref_slot=False, eq=False, repr=False)
class StreamAddress(Record):
    """
    One end of a stream: the facts about a stream that a handler receives.  Treat it as immutable; it is not frozen because
    one is made for every stream, and C{frozen} would double its cost.

    @ivar key: the tunnel it came through (C{agent/service}, or the agent's name), C{""} if unknown.
    @ivar principal: the principal at the other end of the tunnel, or C{None}.
    @ivar dialect: the name of the dialect that is spoken.
    @ivar protocol: the stream protocol's name as negotiated, C{b""} before that.
    @ivar parameters: what the opener sent with the name.
    @ivar visitor: the Twisted address of the visitor on whose behalf the stream was opened, or C{None}.
    @ivar peer: the address of the session's other end, or C{None}.
    @ivar streamId: the stream's number in its session.
    """

    key: str = ""
    principal: Principal | None = None
    dialect: str = ""
    protocol: bytes = b""
    parameters: Mapping[str, Any] = NO_PARAMETERS
    visitor: IAddress | None = field(default=None)
    peer: IAddress | None = None
    streamId: int = 0

    @property
    def host(self) -> str:
        """
        The host of the session's other end, or C{""}, for protocols made for TCP; Conch's server reads it.
        """
        return str(getattr(self.peer, "host", ""))

    @property
    def port(self) -> int:
        """
        The port of the session's other end, or C{0}.
        """
        return int(getattr(self.peer, "port", 0))


@implementer(IAddress)
@frozen(kw_only=True, eq=False, repr=False)
class TunnelAddress(Record):
    """
    The public side of a tunnel.

    @ivar name: the service's name.
    @ivar host: the public host name (C{twisted.web} reads it).
    @ivar port: the public port.
    @ivar url: the public URL, or C{""} when the service has none.
    """

    name: str
    host: str = ""
    port: int = 0
    url: str = ""

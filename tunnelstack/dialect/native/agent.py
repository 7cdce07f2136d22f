"""
The native dialect at the agent: its session with one edge, and the events that the edge sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.dialect.native.dialler import NativeDialler, NativeLink, NotAnEdge, TokenRefused
from tunnelstack.dialect.native.protocol import NAME
from tunnelstack.interfaces import IAgentDialect, IAgentHost
from tunnelstack.version import VERSION
from tunnelstack.wire.jsonline import JSONObject
from tunnelstack.wire.printable_text import printable

REASON = 256
"""Characters of an edge's reason that are logged."""


class EdgeRecord(Protocol):
    """
    What this dialect reads of a record of C{[[edge]]}; the host reads the rest.
    """

    @property
    def url(self) -> str:
        """
        The URL of the edge.
        """


@implementer(IAgentDialect)
class NativeAgent:
    """
    An agent's relation to one edge.

    @ivar link: the session while it accepts work; else C{None}.
    """

    log = Logger()
    name = NAME
    credentialErrors = (TokenRefused,)
    protocolErrors = (NotAnEdge,)
    permanentErrors = (TokenRefused, NotAnEdge)

    def __init__(self, host: IAgentHost, edge: EdgeRecord) -> None:
        """
        @param edge: a record of C{[[edge]]}.
        @raise ConfigurationError: a file that it names cannot be used.
        """
        self.address = urlsplit(edge.url).netloc
        self.link: NativeLink | None = None
        self._host = host
        self._dialler = NativeDialler(
            host.clock, edge.url, host.token(edge), host.handlers, instance=host.instance,
            version=f"tunnelstack/{VERSION}", endpoint=host.edgeEndpoint(edge), limits=host.sessionLimits,
        )

    def dial(self) -> Deferred[NativeLink]:
        attempt: Deferred[NativeLink] = self._dialler.dial(self._eventReceived)
        return attempt

    def up(self, link: NativeLink) -> Deferred[Mapping[str, object]]:
        """
        @return: fires with the round trip time.
        """
        self.link = link
        measured = link.ping().addCallback(_pingMeasured, link)
        self._host.linked(link)
        return measured

    def retire(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            self._host.unlinked(link)

    def report(self) -> Mapping[str, object]:
        state: dict[str, object] = {"up": self.link is not None}
        if self.link is not None:
            session = self.link.session
            state |= {"streams": session.streams, "octets_in": session.octetsIn, "octets_out": session.octetsOut}
        return state

    # Events of the edge

    def _eventReceived(self, event: str, members: JSONObject) -> None:
        reason, code = printable(str(members.get("reason", "")), REASON), members.get("code")
        if event == "drain":
            self.log.info("{edge} is about to stop", status="session", edge=self.address)
        elif event == "ended" and code == "replaced":
            self._host.displaced(f"another process has replaced this one at {self.address}: {reason}")
        elif event == "ended":
            self.log.warn("{edge} ends the session: {reason}", edge=self.address, reason=reason, code=printable(str(code), 64))
        elif event == "limits":
            self._host.boundsChanged()
        elif event == "withdrawn":
            self._serviceWithdrawn(members.get("service"), reason)

    def _serviceWithdrawn(self, service: object, reason: str) -> None:
        match service:
            case {"kind": str(kind), "name": str(name)}:
                if self.link is not None:
                    self._host.revoked(self.link, kind, name, reason)


def _pingMeasured(seconds: float, link: NativeLink) -> Mapping[str, object]:
    return {"rtt": f"{seconds * 1000:.1f}ms"}


def makeDialects(host: IAgentHost, tables: object) -> list[IAgentDialect]:
    """
    @return: a dialect for each C{[[edge]]}.

    @raise ConfigurationError: a file cannot be used.
    """
    return [NativeAgent(host, edge) for edge in host.edges]

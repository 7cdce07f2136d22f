"""
An agent's side of one edge: a session is kept, everything offered is announced there, and what the edge tells is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from twisted.logger import Logger

from tunnelstack.agent.edge_endpoint import wayTo
from tunnelstack.agent.exit_policy import Outlook
from tunnelstack.agent.publications import Offers
from tunnelstack.agent.uplink import Uplink
from tunnelstack.control.config.records import AgentConfig, EdgeAddress
from tunnelstack.control.process.exit_status import CredentialRefused, NotNow, WrongProtocol
from tunnelstack.dialect.native.agent import CredentialRefused as TokenRefused
from tunnelstack.dialect.native.agent import NativeDialler, NativeLink, NotAnEdge
from tunnelstack.dialect.native.protocol import NAME
from tunnelstack.transport.tls import reasonOf
from tunnelstack.wire.yamux.limits import SessionLimits


class Edge:
    """
    One edge, seen from an agent.

    @ivar uplink: the L{Uplink} to it.
    @ivar link: the session, while it takes work; or C{None}.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        address: EdgeAddress,
        config: AgentConfig,
        handlers: Mapping[bytes, Any],
        offers: Offers,
        outlook: Outlook,
        *,
        linked: Callable[[NativeLink], object],
        random: Callable[[], float],
    ) -> None:
        """
        @param handlers: of streams, by the name of their protocol.
        @param offers: what is announced.
        @param outlook: is told what becomes of it.
        @param linked: called with each new session.
        @param random: a number from 0 to 1, for waits.
        @raise ConfigurationError: a file of the address cannot be used.
        """
        self.link: NativeLink | None = None
        self._shown = address.shown
        self._offers = offers
        self._outlook = outlook
        self._linked = linked
        self._said: type | None = None        # while it is down
        dialler = NativeDialler(
            reactor, address.url, address.token, handlers, instance=config.instance,
            version=f"tunnelstack/{version('tunnelstack')}", endpoint=wayTo(reactor, address).endpoint,
            limits=SessionLimits(keepalive=config.pingSeconds, keepalive_timeout=config.pingTimeoutSeconds),
        )
        self.uplink = Uplink(
            reactor, lambda: dialler.dial(self._told), self, cap=config.backoffSeconds, drainSeconds=config.drainSeconds,
            random=random,
        )
        outlook.expect()

    def retire(self) -> None:
        """
        Announce nothing any more.
        """
        link, self.link = self.link, None
        if link is not None:
            self._offers.lost(link)

    def report(self) -> dict[str, Any]:
        """
        Its state, for the log.
        """
        state: dict[str, Any] = {"edge": self._shown, "up": self.link is not None}
        if self.link is not None:
            session = self.link.session
            state |= {"streams": session.streams, "octets_in": session.octetsIn, "octets_out": session.octetsOut}
        return state

    # What the uplink tells

    def uplinkUp(self, uplink: Uplink, link: NativeLink) -> None:
        """
        There is a session.
        """
        self.link = link
        self._said = None
        self._outlook.up(self)
        link.ping().addCallbacks(self._measured, lambda lost: None, (link,))
        self._offers.announce(link)
        self._linked(link)

    def _measured(self, seconds: float, link: NativeLink) -> None:
        self.log.info(
            "up   edge={edge} dialect={dialect} rtt={rtt}", status="session", edge=self._shown, dialect=NAME,
            rtt=f"{seconds * 1000:.1f}ms", agent=link.agent, seconds=seconds,
        )

    def uplinkDown(self, uplink: Uplink, reason: BaseException) -> None:
        """
        It is gone.
        """
        self.retire()
        self._outlook.down(self)
        self.log.warn(
            "session with {edge} lost: {reason}; dialling again", edge=self._shown, reason=str(reason), dialect=NAME,
        )

    def uplinkFailed(self, uplink: Uplink, reason: BaseException, seconds: float) -> None:
        """
        An attempt failed; said once for each kind of reason.
        """
        if isinstance(reason, TokenRefused):
            self._outlook.hopeless(CredentialRefused(str(reason)))
        elif isinstance(reason, NotAnEdge):
            self._outlook.hopeless(WrongProtocol(str(reason)))
        if self._outlook.ending is None and self._said is not type(reason):
            self._said = type(reason)
            log = self.log.critical if isinstance(reason, (TokenRefused, NotAnEdge)) else self.log.warn
            log(
                "no session with {edge}: {reason}; trying again", edge=self._shown, reason=reasonOf(reason), seconds=seconds,
            )

    # What the edge tells

    def _told(self, event: str, members: Mapping[str, Any]) -> None:
        reason, code = str(members.get("reason", ""))[:256], members.get("code")
        if event == "drain":
            self.log.info("{edge} is about to stop", status="session", edge=self._shown)
        elif event == "ended" and code == "replaced":
            self._outlook.end(NotNow(f"another process took the place of this one at {self._shown}: {reason}"))
        elif event == "ended":
            self.log.warn("{edge} ends the session: {reason}", edge=self._shown, reason=reason, code=str(code))
        elif event == "withdrawn":
            self._withdrawn(members.get("service"), reason)

    def _withdrawn(self, service: Any, reason: str) -> None:
        match service:
            case {"kind": str(kind), "name": str(name)}:
                if self.link is not None:
                    self._offers.revoked(self.link, kind, name, reason)

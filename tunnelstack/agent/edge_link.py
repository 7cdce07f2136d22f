"""
An agent's side of one edge: a session is kept, everything offered is announced there, and what the edge tells is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from twisted.logger import Logger

from tunnelstack.agent.edge_endpoint import makeEdgeEndpoint
from tunnelstack.agent.exit_policy import ExitPolicy
from tunnelstack.agent.publications import Publications
from tunnelstack.agent.uplink import Uplink
from tunnelstack.control.config.records import AgentConfig, EdgeAddress
from tunnelstack.control.process.exit_status import CredentialRefused, TemporaryFailure, WrongProtocol
from tunnelstack.control.secret_files import TokenFile
from tunnelstack.dialect.native.agent import NativeDialler, NativeLink, NotAnEdge, TokenRefused
from tunnelstack.dialect.native.protocol import NAME
from tunnelstack.transport.tls import errorText, kindOf
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.yamux.limits import SessionLimits

REASON = 256
"""Characters of an edge's reason that are shown."""


class EdgeLink:
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
        publications: Publications,
        exitPolicy: ExitPolicy,
        *,
        linked: Callable[[NativeLink], object],
        random: Callable[[], float],
    ) -> None:
        """
        @param handlers: of streams, by the name of their protocol.
        @param publications: what is announced.
        @param exitPolicy: is told what becomes of it.
        @param linked: called with each new session.
        @param random: a number from 0 to 1, for waits.
        @raise ConfigurationError: a file of the address cannot be used.
        """
        self.link: NativeLink | None = None
        self._displayName = address.shown
        self._publications = publications
        self._exitPolicy = exitPolicy
        self._linked = linked
        self._lastFailure: object = None        # while it is down
        dialler = NativeDialler(
            reactor, address.url, TokenFile(address.tokenFile, address.token), handlers, instance=config.instance,
            version=f"tunnelstack/{version('tunnelstack')}", endpoint=makeEdgeEndpoint(reactor, address).endpoint,
            limits=SessionLimits(
                keepalive=config.pingSeconds, keepalive_timeout=config.pingTimeoutSeconds,
                session_octets=config.limits.sessionOctets,
            ),
        )
        self.uplink = Uplink(
            reactor, lambda: dialler.dial(self._eventReceived), self, maxBackoff=config.backoffSeconds,
            drainSeconds=config.drainSeconds,
            random=random,
        )
        exitPolicy.addServer()

    def stopPublishing(self) -> None:
        """
        Announce nothing any more.
        """
        link, self.link = self.link, None
        if link is not None:
            self._publications.linkLost(link)

    def report(self) -> dict[str, Any]:
        """
        Its state, for the log.
        """
        state: dict[str, Any] = {"edge": self._displayName, "up": self.link is not None}
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
        self._lastFailure = None
        self._exitPolicy.sessionUp(self)
        link.ping().addCallbacks(self._pingMeasured, lambda lost: None, (link,))
        self._publications.announce(link)
        self._linked(link)

    def _pingMeasured(self, seconds: float, link: NativeLink) -> None:
        self.log.info(
            "up   edge={edge} dialect={dialect} rtt={rtt}", status="session", edge=self._displayName, dialect=NAME,
            rtt=f"{seconds * 1000:.1f}ms", agent=link.agent, seconds=seconds,
        )

    def uplinkDown(self, uplink: Uplink, reason: BaseException) -> None:
        """
        It is gone.
        """
        self.stopPublishing()
        self._exitPolicy.sessionDown(self)
        self.log.warn(
            "session with {edge} lost: {reason}; dialling again", edge=self._displayName, reason=str(reason), dialect=NAME,
        )

    def uplinkFailed(self, uplink: Uplink, reason: BaseException, seconds: float) -> None:
        """
        An attempt failed; said once for each kind of reason.
        """
        if isinstance(reason, TokenRefused):
            self._exitPolicy.permanentFailure(CredentialRefused(str(reason)))
        elif isinstance(reason, NotAnEdge):
            self._exitPolicy.permanentFailure(WrongProtocol(str(reason)))
        if self._exitPolicy.fatalError is None and self._lastFailure != kindOf(reason):
            self._lastFailure = kindOf(reason)
            log = self.log.critical if isinstance(reason, (TokenRefused, NotAnEdge)) else self.log.warn
            log(
                "no session with {edge}: {reason}; trying again", edge=self._displayName,
                reason=errorText(reason), seconds=seconds,
            )

    # What the edge tells

    def _eventReceived(self, event: str, members: Mapping[str, Any]) -> None:
        reason, code = printable(str(members.get("reason", "")), REASON), members.get("code")
        if event == "drain":
            self.log.info("{edge} is about to stop", status="session", edge=self._displayName)
        elif event == "ended" and code == "replaced":
            self._exitPolicy.fail(
                TemporaryFailure(
                    f"another process took the place of this one at {self._displayName}: {reason}"
                )
            )
        elif event == "ended":
            self.log.warn(
                "{edge} ends the session: {reason}",
                edge=self._displayName,
                reason=reason,
                code=printable(str(code), 64),
            )
        elif event == "withdrawn":
            self._serviceWithdrawn(members.get("service"), reason)

    def _serviceWithdrawn(self, service: Any, reason: str) -> None:
        match service:
            case {"kind": str(kind), "name": str(name)}:
                if self.link is not None:
                    self._publications.revoked(self.link, kind, name, reason)

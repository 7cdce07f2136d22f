"""
The private side as one service: it keeps a session with each of its edges, publishes services there, and serves their streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from random import random
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, fail, inlineCallbacks
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.agent.local import probe
from tunnelstack.agent.publication import Publication
from tunnelstack.agent.requests import Heard
from tunnelstack.agent.serving import serve
from tunnelstack.agent.uplink import Uplink
from tunnelstack.agent.way import wayTo
from tunnelstack.control.config import AgentConfig, EdgeAddress
from tunnelstack.control.ending import CredentialRefused, Ending, GaveUp, NotNow, WrongProtocol
from tunnelstack.dialect.native import HTTP, NAME, RESERVED, TCP
from tunnelstack.dialect.native_agent import CredentialRefused as TokenRefused
from tunnelstack.dialect.native_agent import (
    DiallingServiceStreams,
    NativeDialler,
    NativeLink,
    NotAnEdge,
    ServiceStreams,
    TargetStreams,
)
from tunnelstack.errors import UsageError
from tunnelstack.handler.allowed import Allowed
from tunnelstack.handler.tcp import TCPHandler
from tunnelstack.interfaces import IStreamHandler
from tunnelstack.stream.address import TunnelAddress
from tunnelstack.stream.lost import OpenTimeout
from tunnelstack.terms import Service
from tunnelstack.transport.dial import hostEndpoint
from tunnelstack.wire.yamux.limits import SessionLimits

LINK_SECONDS = 30.0
"""Seconds that a dial through an edge waits for a session."""


class AgentService(MultiService):
    """
    An agent.

    @ivar config: the L{AgentConfig}.
    @ivar handlers: of streams, by the name of their protocol.
    @ivar publications: what is offered.
    @ivar heard: called with each L{Request<tunnelstack.agent.requests.Request>} that is over; to be set before the service is
        started, C{None} if nobody wants to know.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: AgentConfig,
        *,
        plugins: bool = True,
        random: Callable[[], float] = random,
    ) -> None:
        """
        @param plugins: serve the stream handlers that are installed on this machine as well.
        @param random: a number from 0 to 1, for waits.
        """
        super().__init__()
        self.config = config
        self.clock = reactor
        self.publications: list[Publication] = []
        self.heard: Heard | None = None
        self._random = random
        self._byName: dict[tuple[str, str], Publication] = {}
        self._links: dict[Uplink, NativeLink] = {}
        self.handlers: dict[bytes, Any] = {
            HTTP: ServiceStreams(("http",), self._find, self._host),
            TCP: TargetStreams(
                DiallingServiceStreams(("tcp", "stream", "ssh"), self._find, self._host), Allowed(config.targets),
                lambda host, port: TCPHandler(hostEndpoint(reactor, host, port), reactor),
            ),
        }
        if plugins:
            for handler in getPlugins(IStreamHandler):
                self.handle(handler.name, handler)
        limits = SessionLimits(keepalive=config.pingSeconds, keepalive_timeout=config.pingTimeoutSeconds)
        self._uplinks: dict[Uplink, EdgeAddress] = {}
        for edge in config.edges:
            self._addEdge(edge, limits)
        if config.devices:
            from tunnelstack.agent.device import DeviceService  # with Conch below it, which is slow to load

            for device in config.devices:
                DeviceService(reactor, device, config, random=random).setServiceParent(self)
        self._said: dict[Uplink, type] = {}           # what was said of an uplink that is down
        self._everUp = self._stopping = False
        self._patience: Any = None
        self._waiting: list[Deferred[NativeLink]] = []
        self._ended: list[Deferred[Ending]] = []
        self._ending: Ending | None = None
        self._closers: list[Callable[[], object]] = []

    def _addEdge(self, edge: EdgeAddress, limits: SessionLimits) -> None:
        way = wayTo(self.clock, edge)
        dialler = NativeDialler(
            self.clock, edge.url, edge.token, self.handlers, instance=self.config.instance,
            version=f"tunnelstack/{version('tunnelstack')}", limits=limits, endpoint=way.endpoint,
        )
        uplink = Uplink(
            self.clock, lambda: dialler.dial(partial(self._told, uplink)), self, cap=self.config.backoffSeconds,
            drainSeconds=self.config.drainSeconds, random=self._random,
        )
        self._uplinks[uplink] = edge

    # What is served

    def handle(self, name: bytes, handler: IProtocolFactory) -> None:
        """
        Serve streams of a protocol.

        @param name: the protocol's name, such as C{b"/demo/shout/1.0.0"}.
        @param handler: an C{IProtocolFactory}, or an L{IDiallingHandler<tunnelstack.interfaces.IDiallingHandler>}.
        @raise UsageError: a name that is tunnelstack's own.
        """
        if name.startswith(RESERVED):
            raise UsageError("names below /tunnelstack/ are tunnelstack's own", name=name)
        self.handlers[name] = handler
        for link in self._links.values():
            link.handle(name, handler)

    @property
    def streams(self) -> int:
        """
        How many streams are open, the control streams left out.
        """
        return sum(max(0, link.session.streams - 1) for link in self._links.values())

    def publish(self, service: Service, handler: Any, shown: str = "", *, optional: bool = False) -> Publication:
        """
        Offer a service at every edge, now and after every reconnection, until it is withdrawn.

        @param handler: who serves its streams: an C{IProtocolFactory}, whose C{buildProtocol} gets a
            L{StreamAddress<tunnelstack.stream.address.StreamAddress>} with the visitor's address, or an
            L{IDiallingHandler<tunnelstack.interfaces.IDiallingHandler>}.
        @param shown: what a status line says is behind it.
        @param optional: that the token does not allow it is no news.
        @raise UsageError: there is one of that kind and name.
        """
        key = service.kind, service.name
        if key in self._byName:
            raise UsageError("a service of this kind and name is published already", kind=service.kind, name=service.name)
        publication = Publication(
            service, handler, self.clock, shown=shown, optional=optional, forget=self._forget, random=self._random,
        )
        self._byName[key] = publication
        self.publications.append(publication)
        for link in self._links.values():
            publication.announce(link)
        return publication

    def _forget(self, publication: Publication) -> None:
        self.publications.remove(publication)
        del self._byName[publication.service.kind, publication.service.name]

    def _find(self, kind: str, name: str) -> Any:
        publication = self._byName.get((kind, name))
        return None if publication is None else publication.handler

    def _host(self, kind: str, name: str) -> TunnelAddress:
        return self._byName[kind, name].address

    def dial(self, to: str, purpose: str = "") -> IStreamClientEndpoint:
        """
        The way to somebody else's service, through an edge; a session is waited for.

        @param to: a service, C{agent/service}, or an agent's name.
        @param purpose: C{""} for the service itself, or the name of a stream protocol.
        """
        return _Dial(self, to, purpose)

    def whenLinked(self) -> Deferred[NativeLink]:
        """
        @return: fires with a session, as soon as there is one; fails with the L{Ending} if there will be none.
        """
        linked: Deferred[NativeLink] = Deferred(lambda cancelled: self._waiting.remove(cancelled))
        link = next(iter(self._links.values()), None)
        if link is not None:
            linked.callback(link)
        elif self._ending is not None:
            return fail(self._ending)
        else:
            self._waiting.append(linked)
        return linked

    # Starting and stopping

    def startService(self) -> None:
        """
        Publish what the configuration says, and dial.
        """
        super().startService()
        for config in self.config.services:
            served = serve(self.clock, config, self.handlers, self.heard)
            self._closers.append(served.close)
            self.publish(served.service, served.handler, served.shown)
            if served.endpoint is not None:
                probe(served.endpoint, self.clock).addCallback(self._probed, served.service, served.shown)
        self._wait()
        for uplink in self._uplinks:
            uplink.start()

    def _probed(self, why: str, service: Service, shown: str) -> None:
        if why:
            then = "visitors get 503 with an explanation" if service.kind == "http" else "connections are closed at once"
            where = shown.removeprefix("tcp:")
            if why == "nothing listens":
                self.log.warn("nothing listens on {target} yet; {then}", target=where, then=then, service=service.name)
            else:
                self.log.warn("{target}: {why}; {then}", target=where, why=why, then=then, service=service.name)

    @inlineCallbacks
    def stopService(self) -> Any:
        """
        Drain the sessions, for as long as the configuration says.
        """
        self._stopping = True
        self._stopWaiting()
        yield self._stopUplinks()
        for close in self._closers:
            close()
        yield super().stopService()

    def _stopUplinks(self) -> Deferred[Any]:
        """
        Announce nothing any more, and let what is under way end.
        """
        for link in self._links.values():
            for publication in self.publications:
                publication.lost(link)
        self._links.clear()
        return DeferredList([uplink.stop() for uplink in self._uplinks], consumeErrors=True)

    def report(self) -> None:
        """
        Write the state into the log.
        """
        for uplink, edge in self._uplinks.items():
            link = self._links.get(uplink)
            state: dict[str, Any] = {"edge": edge.shown, "up": link is not None}
            if link is not None:
                session = link.session
                state |= {"streams": session.streams, "octets_in": session.octetsIn, "octets_out": session.octetsOut}
            self.log.info("{report}", report=state, status="state")
        for publication in self.publications:
            grant, service = publication.grant, publication.service
            state = {"service": f"{service.kind}:{service.name}", "granted": grant is not None}
            self.log.info("{report}", report=state | {"url": grant.url if grant is not None else ""}, status="state")

    def whenEnded(self) -> Deferred[Ending]:
        """
        @return: fires with the L{Ending} that keeps the agent from going on.
        """
        ended: Deferred[Ending] = Deferred()
        if self._ending is not None:
            ended.callback(self._ending)
        else:
            self._ended.append(ended)
        return ended

    def _end(self, why: Ending) -> None:
        if self._ending is not None or self._stopping:
            return
        self._ending = why
        self._stopWaiting()
        self._stopUplinks()
        waiting, self._waiting = self._waiting, []
        for linked in waiting:
            linked.errback(why)
        ended, self._ended = self._ended, []
        for told in ended:
            told.callback(why)

    def _wait(self) -> None:
        """
        There is no session: not for longer than one is told to be patient.
        """
        if self.config.giveUpAfterSeconds and self._uplinks and not self._stopping and self._ending is None:
            self._patience = self.clock.callLater(self.config.giveUpAfterSeconds, self._giveUp)

    def _stopWaiting(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None and patience.active():
            patience.cancel()

    def _giveUp(self) -> None:
        self._end(GaveUp(f"no edge could be reached in {self.config.giveUpAfterSeconds:g} seconds"))

    # What uplinks tell

    def uplinkUp(self, uplink: Uplink, link: NativeLink) -> None:
        """
        From an uplink: there is a session.
        """
        self._links[uplink] = link
        self._everUp = True
        self._said.pop(uplink, None)
        self._stopWaiting()
        link.ping().addCallbacks(self._measured, lambda lost: None, (uplink, link))
        for publication in self.publications:
            publication.announce(link)
        waiting, self._waiting = self._waiting, []
        for linked in waiting:
            linked.callback(link)

    def _measured(self, seconds: float, uplink: Uplink, link: NativeLink) -> None:
        self.log.info(
            "up   edge={edge} dialect={dialect} rtt={rtt}", status="session", edge=self._uplinks[uplink].shown, dialect=NAME,
            rtt=f"{seconds * 1000:.1f}ms", agent=link.agent, seconds=seconds,
        )

    def uplinkDown(self, uplink: Uplink, reason: BaseException) -> None:
        """
        From an uplink: the session is gone.
        """
        self._unlink(uplink)
        self.log.warn(
            "session with {edge} lost: {reason}; dialling again", edge=self._uplinks[uplink].shown, reason=str(reason),
            dialect=NAME,
        )

    def _unlink(self, uplink: Uplink) -> None:
        link = self._links.pop(uplink, None)
        if link is not None:
            for publication in self.publications:
                publication.lost(link)
            if not self._links:
                self._wait()

    def uplinkFailed(self, uplink: Uplink, reason: BaseException, seconds: float) -> None:
        """
        From an uplink: an attempt failed.  The only edge that never took us, and never will as things are, is the end.
        """
        hopeless = len(self._uplinks) == 1 and not self._everUp
        if isinstance(reason, TokenRefused):
            if hopeless:
                self._end(CredentialRefused(str(reason)))
        elif isinstance(reason, NotAnEdge) and hopeless:
            self._end(WrongProtocol(str(reason)))
        if self._ending is None and self._said.get(uplink) is not type(reason):
            self._said[uplink] = type(reason)
            log = self.log.critical if isinstance(reason, (TokenRefused, NotAnEdge)) else self.log.warn
            log(
                "no session with {edge}: {reason}; trying again", edge=self._uplinks[uplink].shown, reason=str(reason),
                seconds=seconds,
            )

    def _told(self, uplink: Uplink, event: str, members: Mapping[str, Any]) -> None:
        """
        From the edge: an event.
        """
        edge, reason, code = self._uplinks[uplink].shown, str(members.get("reason", ""))[:256], members.get("code")
        if event == "drain":
            self.log.info("{edge} is about to stop", status="session", edge=edge)
        elif event == "ended" and code == "replaced":
            self._end(NotNow(f"another process took the place of this one at {edge}: {reason}"))
        elif event == "ended":
            self.log.warn("{edge} ends the session: {reason}", edge=edge, reason=reason, code=str(code))
        elif event == "withdrawn":
            self._withdrawn(uplink, members.get("service"), reason)

    def _withdrawn(self, uplink: Uplink, service: Any, reason: str) -> None:
        match service:
            case {"kind": str(kind), "name": str(name)}:
                publication = self._byName.get((kind, name))
                if publication is not None and uplink in self._links:
                    publication.revoked(self._links[uplink], reason)


@implementer(IStreamClientEndpoint)
class _Dial:
    """
    Dials through whichever session there is.
    """

    def __init__(self, agent: AgentService, to: str, purpose: str) -> None:
        self._agent = agent
        self._to = to
        self._purpose = purpose

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        As in L{IStreamClientEndpoint}; fails with L{Refused<tunnelstack.errors.Refused>} when the edge or the far agent says
        no.
        """
        linked = self._agent.whenLinked()
        linked.addTimeout(LINK_SECONDS, self._agent.clock, _noLink)
        return linked.addCallback(lambda link: link.dial(self._to, self._purpose).connect(protocolFactory))


def _noLink(result: Any, seconds: float) -> Any:
    if not isinstance(result, Failure):
        return result
    raise OpenTimeout(f"there was no session with an edge for {seconds:g} seconds")

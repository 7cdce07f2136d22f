"""
The state of an agent as its panel shows it: read from the agent when the panel is drawn, so that it is right while a session is
lost as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from attrs import frozen

from tunnelstack.agent.link import AgentLink
from tunnelstack.agent.publication import Publication
from tunnelstack.control.access_record import AccessRecord
from tunnelstack.interfaces import ILink, IReactor, IServiceLink
from tunnelstack.session.totals import SessionTotals

PING_SECONDS = 10.0
"""Seconds from one measurement of the round trip to the next."""


@frozen
class LinkState:
    """
    The session with an edge.

    @ivar edge: the address of the edge, as in log events.
    @ivar up: whether there is a session.
    @ivar rtt: the last round trip of this session, in seconds; C{None} if it is not known.
    @ivar retry: seconds until the next attempt to connect; C{None} if none is planned.
    @ivar dialling: an attempt is under way.
    """

    edge: str
    up: bool
    rtt: float | None = None
    retry: float | None = None
    dialling: bool = False


@frozen
class ServiceState:
    """
    A service.

    @ivar target: as status lines show it; C{""} if it is in this process.
    @ivar published: whether an edge publishes it.
    @ivar refused: the reason, if all connected edges have refused it finally; otherwise C{""}.
    """

    name: str
    target: str
    published: bool
    refused: str = ""


class IsAgent(Protocol):
    """
    What is read of an L{AgentService<tunnelstack.agent.service.AgentService>}.
    """

    clock: IReactor
    links: list[AgentLink]
    serviceLinks: list[IServiceLink]
    sessions: SessionTotals

    @property
    def publications(self) -> list[Publication]: ...

    @property
    def openRequests(self) -> Callable[[], Iterable[AccessRecord]]: ...


class AgentState:
    """
    Reads the state of one agent, and measures the round trips of its sessions.
    """

    def __init__(self, agent: IsAgent) -> None:
        self._agent = agent
        self._trips: dict[int, tuple[ILink, float]] = {}       # by the id of the link, with the link, which keeps the id
        self._pinged = float("-inf")

    def links(self) -> list[LinkState]:
        """
        @return: the session with each edge that the agent dials.
        """
        return [self._link(link) for link in self._agent.links]

    def _link(self, link: AgentLink) -> LinkState:
        uplink, now = link.uplink, self._agent.clock.seconds()
        address, at = str(link.dialect.address), uplink.nextAttempt
        if uplink.link is not None:
            _, rtt = self._trips.get(id(uplink.link), (None, None))
            return LinkState(address, True, rtt)
        return LinkState(address, False, None, None if at is None else max(0.0, at - now), uplink.isDialling)

    def services(self) -> list[ServiceState]:
        """
        @return: each service that has not been withdrawn, in the order of the configuration, without those that may be refused.
        """
        links = self._agent.serviceLinks
        states = [
            (each.optional, ServiceState(each.service.name, each.shown, each.grant is not None, each.refusal(links)))
            for each in self._agent.publications
        ]
        return [state for optional, state in states if not (optional and state.refused)]

    def openRequests(self) -> Iterable[AccessRecord]:
        """
        @return: the requests that have not ended, the oldest first.
        """
        return self._agent.openRequests()

    def octets(self) -> tuple[int, int]:
        """
        @return: the octets that all sessions have received and sent, those that are lost included.
        """
        return self._agent.sessions.octetsIn, self._agent.sessions.octetsOut

    def measure(self) -> None:
        """
        Measure the round trips, unless that was done less than L{PING_SECONDS} ago; to be called about once a second.
        """
        now = self._agent.clock.seconds()
        if now - self._pinged < PING_SECONDS:
            return
        self._pinged = now
        present = [link.uplink.link for link in self._agent.links if link.uplink.link is not None]
        self._trips = {id(link): self._trips[id(link)] for link in present if id(link) in self._trips}
        for link in present:
            link.session.ping().addCallbacks(self._measured, lambda failure: None, (link,))

    def _measured(self, seconds: float, link: ILink) -> None:
        self._trips[id(link)] = link, seconds

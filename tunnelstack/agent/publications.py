"""
The services that an agent publishes: each is announced on every session, and found by name when a stream is opened for it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from tunnelstack.agent.publication import Publication
from tunnelstack.errors import UsageError
from tunnelstack.interfaces import Handler, IServiceLink
from tunnelstack.records import Service
from tunnelstack.stream.address import TunnelAddress


class Publications:
    """
    An agent's publications, and the sessions on which they are announced.

    @ivar publications: those that have not been withdrawn.
    """

    def __init__(
        self, clock: IReactorTime, random: Callable[[], float], onRefused: Callable[[Publication], object]
    ) -> None:
        """
        @param random: gives a number from 0 to 1, which varies the delays.
        @param onRefused: called when an edge has refused a service finally.
        """
        self.publications: list[Publication] = []
        self._clock = clock
        self._random = random
        self._onRefused = onRefused
        self._byName: dict[tuple[str, str], Publication] = {}
        self._links: list[IServiceLink] = []

    def publish(self, service: Service, handler: Handler, shown: str = "", *, optional: bool = False) -> Publication:
        """
        As L{AgentService.publish<tunnelstack.agent.service.AgentService.publish>}.
        """
        if self.has(service):
            raise UsageError("a service of this kind and name is already published", kind=service.kind, name=service.name)
        publication = Publication(
            service, handler, self._clock, shown=shown, optional=optional, onWithdrawn=self._forget,
            onRefused=self._onRefused, random=self._random,
        )
        self._byName[service.kind, service.name] = publication
        self.publications.append(publication)
        for link in self._links:
            publication.announce(link)
        return publication

    def _forget(self, publication: Publication) -> None:
        self.publications.remove(publication)
        del self._byName[publication.service.kind, publication.service.name]

    # Finding publications

    def has(self, service: Service) -> bool:
        """
        Whether a service of the same kind and name is published.
        """
        return (service.kind, service.name) in self._byName

    def find(self, kind: str, name: str) -> Handler | None:
        """
        @return: the handler of a service's streams; C{None} if the service is not published.
        """
        publication = self._byName.get((kind, name))
        return None if publication is None else publication.handler

    def host(self, kind: str, name: str) -> TunnelAddress:
        """
        @return: the public address of a published service.
        """
        return self._byName[kind, name].address

    # Sessions come and go

    def announce(self, link: IServiceLink) -> None:
        """
        Announce all services to the edge of a new session.
        """
        self._links.append(link)
        for publication in self.publications:
            publication.announce(link)

    def linkLost(self, link: IServiceLink) -> None:
        """
        A session is lost, or draining.
        """
        self._links.remove(link)
        for publication in self.publications:
            publication.linkLost(link)

    def revoked(self, link: IServiceLink, kind: str, name: str, reason: str) -> None:
        """
        An edge has withdrawn a grant.
        """
        publication = self._byName.get((kind, name))
        if publication is not None:
            publication.revoked(link, reason)

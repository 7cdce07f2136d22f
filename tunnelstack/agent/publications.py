"""
What an agent offers: each service is announced on every session, and found again when a stream comes for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunnelstack.agent.publication import Publication
from tunnelstack.errors import UsageError
from tunnelstack.records import Service
from tunnelstack.stream.address import TunnelAddress


class Publications:
    """
    An agent's publications.

    @ivar publications: what is offered.
    """

    def __init__(self, clock: Any, random: Callable[[], float]) -> None:
        """
        @param random: a number from 0 to 1, for waits.
        """
        self.publications: list[Publication] = []
        self._clock = clock
        self._random = random
        self._byName: dict[tuple[str, str], Publication] = {}
        self._links: list[Any] = []

    def publish(self, service: Service, handler: Any, shown: str = "", *, optional: bool = False) -> Publication:
        """
        As L{AgentService.publish<tunnelstack.agent.service.AgentService.publish>}.
        """
        if self.has(service):
            raise UsageError("a service of this kind and name is published already", kind=service.kind, name=service.name)
        publication = Publication(
            service, handler, self._clock, shown=shown, optional=optional, onWithdrawn=self._forget, random=self._random,
        )
        self._byName[service.kind, service.name] = publication
        self.publications.append(publication)
        for link in self._links:
            publication.announce(link)
        return publication

    def _forget(self, publication: Publication) -> None:
        self.publications.remove(publication)
        del self._byName[publication.service.kind, publication.service.name]

    # Who serves

    def has(self, service: Service) -> bool:
        """
        Whether there is one of that kind and name.
        """
        return (service.kind, service.name) in self._byName

    def find(self, kind: str, name: str) -> Any:
        """
        @return: who serves the streams of a service, or C{None}.
        """
        publication = self._byName.get((kind, name))
        return None if publication is None else publication.handler

    def host(self, kind: str, name: str) -> TunnelAddress:
        """
        @return: the public side of a service that is there.
        """
        return self._byName[kind, name].address

    # Sessions come and go

    def announce(self, link: Any) -> None:
        """
        There is a session: ask its edge for everything.
        """
        self._links.append(link)
        for publication in self.publications:
            publication.announce(link)

    def linkLost(self, link: Any) -> None:
        """
        A session is gone, or takes no more work.
        """
        self._links.remove(link)
        for publication in self.publications:
            publication.linkLost(link)

    def revoked(self, link: Any, kind: str, name: str, reason: str) -> None:
        """
        An edge has taken back what it had granted.
        """
        publication = self._byName.get((kind, name))
        if publication is not None:
            publication.revoked(link, reason)

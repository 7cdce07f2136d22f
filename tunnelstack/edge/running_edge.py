"""
What the parts of an edge need of it: those that report on it, and those that belong to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from twisted.internet.interfaces import IAddress

from tunnelstack.control.config.records import EdgeConfig
from tunnelstack.control.registry import Registry
from tunnelstack.doors import OutboundDoor
from tunnelstack.edge.agents import Agents
from tunnelstack.edge.credentials import CredentialStore
from tunnelstack.edge.dialects import DialectSet
from tunnelstack.edge.last_reload import LastReload
from tunnelstack.edge.public.admission import Admission
from tunnelstack.edge.public.hosts import PublishedHosts
from tunnelstack.edge.public.server import PublicServerFactory
from tunnelstack.edge.round_trips import RoundTrips
from tunnelstack.exchange.piecewise_response import PiecewiseResponse
from tunnelstack.interfaces import IReactor, ITunnel
from tunnelstack.records import Grant
from tunnelstack.session.budget import MemoryBudget


class HasAddresses(Protocol):
    """
    A part that has addresses on which it listens.
    """

    @property
    def addresses(self) -> Sequence[IAddress]: ...


class HasMetrics(Protocol):
    """
    The part that has the metrics.
    """

    def response(self) -> PiecewiseResponse: ...


class HasHealth(Protocol):
    """
    The part that has the results of health checks.
    """

    @property
    def out(self) -> int: ...

    @property
    def results(self) -> Mapping[str, int]: ...

    def reasons(self, tunnel: ITunnel) -> Mapping[str, str]: ...


class RunningEdge(Protocol):
    """
    An edge, as its parts see it.
    """

    clock: IReactor
    config: EdgeConfig
    registry: Registry
    hosts: PublishedHosts
    agents: Agents
    credentials: CredentialStore | None
    dialects: DialectSet
    admission: Admission
    public: PublicServerFactory
    memoryBudget: MemoryBudget
    outboundDoors: list[OutboundDoor]
    startedAt: float
    lastReload: LastReload | None

    @property
    def roundTrips(self) -> RoundTrips: ...

    @property
    def health(self) -> HasHealth: ...

    @property
    def certificateExpiries(self) -> Mapping[str, float]: ...

    @property
    def admin(self) -> HasAddresses: ...

    @property
    def metrics(self) -> HasMetrics | None: ...

    @property
    def url(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def addresses(self) -> Sequence[IAddress]: ...

    def grantFor(self, name: str) -> Grant: ...

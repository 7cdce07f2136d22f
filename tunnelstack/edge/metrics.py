"""
The metrics of an edge, read from what its parts count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tunnelstack.control.metrics import families
from tunnelstack.control.metrics.counts import ExchangeCounts
from tunnelstack.control.metrics.extra import requireExtra
from tunnelstack.control.metrics.reactor_lag import ReactorLag
from tunnelstack.control.metrics.samples import Samples, exchanges, histogram, labelled, services, single
from tunnelstack.control.metrics.session_samples import budgetSamples, sessionSamples
from tunnelstack.edge.running_edge import RunningEdge
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.exchange.piecewise_response import PiecewiseResponse
from tunnelstack.interfaces import ISession, ITunnel
from tunnelstack.version import VERSION


class EdgeMetrics(ReactorLag):
    """
    The metrics of one edge.

    @ivar exchanges: counts the requests of visitors.
    """

    def __init__(self, edge: RunningEdge) -> None:
        """
        @raise ConfigurationError: the extra C{metrics} is not installed.
        """
        requireExtra()
        super().__init__(edge.clock)
        self._edge = edge
        self.exchanges = ExchangeCounts(FailureKind, perService=edge.config.metrics.perService)

    def response(self) -> PiecewiseResponse:
        """
        @return: the response to a scrape.
        """
        from tunnelstack.control.metrics.text_format import CONTENT_TYPE, SampleCollector  # of the extra

        return PiecewiseResponse(SampleCollector(self.read).pieces(), CONTENT_TYPE, self._edge.clock)

    def read(self) -> Iterator[Samples]:
        """
        @return: the samples of this moment.
        """
        edge = self._edge
        yield labelled(families.BUILD, [((VERSION,), 1)])
        yield single(families.READY, edge.state == "ready")
        yield from sessionSamples(edge.agents.sessions)
        yield from budgetSamples(edge.memoryBudget)
        yield from exchanges(self.exchanges)
        yield from self._agents()
        yield from self._visitors()
        yield labelled(families.CERTIFICATE, [((path,), expires) for path, expires in edge.certificateExpiries.items()])
        yield histogram(families.LAG, self.histogram)
        yield from services(self.exchanges)
        if self.exchanges.services is not None:
            yield from self._eachAgent()

    def _agents(self) -> Iterator[Samples]:
        edge, tunnels = self._edge, list(self._edge.registry)
        kinds = Counter(kind for kind, _ in edge.registry.held())
        yield single(families.AGENTS, len({tunnel.principal.agent for tunnel in tunnels}))
        yield labelled(families.SERVICES, [((kind,), count) for kind, count in sorted(kinds.items())])
        yield single(families.OUT_OF_SERVICE, edge.health.out)
        yield labelled(families.HEALTH_CHECKS, [((result,), count) for result, count in edge.health.results.items()])
        yield labelled(families.DENIALS, [((code,), count) for code, count in sorted(edge.agents.denials.items())])

    def _visitors(self) -> Iterator[Samples]:
        edge, admission = self._edge, self._edge.admission
        yield single(families.VISITORS, admission.connectionCount)
        yield single(families.VISITORS_LIMIT, admission.maxConnections)
        yield single(families.VISITORS_REFUSED, admission.refused)
        yield single(families.LISTENERS_PAUSED, admission.paused)
        yield single(families.UDP_FLOWS, edge.agents.udpPorts.flows)
        yield single(families.UDP_DROPPED, edge.agents.udpPorts.dropped)

    def _eachAgent(self) -> Iterator[Samples]:
        """
        The samples of each agent, which are made while they are read.
        """
        tunnels = self._edge.registry.byAgent()
        yield labelled(families.AGENT_SESSIONS, (((agent,), len(several)) for agent, several in tunnels.items()))
        yield labelled(families.AGENT_STREAMS, (
            ((agent,), sum(session.streams for session in _sessionsOf(several))) for agent, several in tunnels.items()
        ))  # fmt: skip
        yield labelled(families.AGENT_QUEUED, (
            ((agent,), sum(session.memory.waiting() for session in _sessionsOf(several))) for agent, several in tunnels.items()
        ))  # fmt: skip


def _sessionsOf(tunnels: list[ITunnel]) -> Iterator[ISession]:
    """
    The sessions of tunnels; some dialects have none.
    """
    for tunnel in tunnels:
        session = getattr(tunnel, "session", None)
        if session is not None:
            yield session

"""
The metrics of an agent, and the small HTTP server that they are read from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.agent.link import AgentLink
from tunnelstack.agent.publication import Publication
from tunnelstack.control.config.records import AgentConfig, AgentMetricsConfig
from tunnelstack.control.metrics import families
from tunnelstack.control.metrics.counts import ExchangeCounts
from tunnelstack.control.metrics.extra import requireExtra
from tunnelstack.control.metrics.reactor_lag import ReactorLag
from tunnelstack.control.metrics.samples import Samples, exchanges, histogram, labelled, services, single
from tunnelstack.control.metrics.session_samples import budgetSamples, sessionSamples
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.bounded_factory import BoundedHTTPFactory
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.exchange.piecewise_response import PiecewiseResponse
from tunnelstack.exchange.whole_message import WholeMessageServer, WholeRequest, WholeResponse, textResponse
from tunnelstack.interfaces import IReactor
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.session.totals import SessionTotals
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.transport.tls import loadCertificates
from tunnelstack.version import VERSION
from tunnelstack.wire.printable_text import quoted

MAX_CONNECTIONS = 16
"""Connections of scrapers at the same time."""

PATH = b"/metrics"


class MeasuredAgent(Protocol):
    """
    An agent, as its metrics see it.
    """

    clock: IReactor
    config: AgentConfig
    links: list[AgentLink]
    sessions: SessionTotals
    budget: MemoryBudget

    @property
    def publications(self) -> Sequence[Publication]: ...


def metricsEndpoint(reactor: IReactor, config: AgentMetricsConfig) -> IStreamServerEndpoint:
    """
    @return: where metrics are answered.
    @raise ConfigurationError: the endpoint string is invalid, or the extra C{metrics} is not installed.
    """
    requireExtra()
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, config.listen)
    except Exception as error:      # parsers of endpoint strings are plugins, and may raise any exception
        raise ConfigurationError(
            f"[metrics] listen: {quoted(config.listen)} is not a valid endpoint: {errorText(error)}"
        ) from None
    return endpoint


class AgentMetrics(ReactorLag):
    """
    The metrics of one agent.

    @ivar exchanges: counts the requests; called with the records of those that dialects serve themselves.
    @ivar addresses: where it listens.
    """

    log = Logger()

    def __init__(self, agent: MeasuredAgent) -> None:
        """
        @raise ConfigurationError: as from L{metricsEndpoint}.
        """
        super().__init__(agent.clock)
        self._agent = agent
        self._endpoint = metricsEndpoint(agent.clock, agent.config.metrics)
        self._port: IListeningPort | None = None
        self._expiries = certificateExpiries(agent.config)
        self.exchanges = ExchangeCounts(FailureKind, perService=agent.config.metrics.perService)

    @property
    def addresses(self) -> list[IAddress]:
        return [] if self._port is None else [self._port.getHost()]

    def startService(self) -> None:
        """
        Listen.  If that fails, it is logged, and the agent works without metrics.
        """
        super().startService()
        server = WholeMessageServer(self._respond, clock=self._agent.clock, bodyOctets=0)
        factory = BoundedHTTPFactory(server, self._agent.clock, MAX_CONNECTIONS)
        self._endpoint.listen(factory).addCallbacks(self._listening, self._notListening)

    def _listening(self, port: IListeningPort) -> None:
        if not self.running:
            port.stopListening()
            return
        self._port = port
        where = addressText(port.getHost())
        self.log.info("http://{where}{path}", where=where, path=PATH.decode(), status="metrics")

    def _notListening(self, failure: Failure) -> None:
        error: BaseException = failure.value or OSError()
        reason = error.socketError if isinstance(error, CannotListenError) else error
        self.log.error(
            "there are no metrics, because {listen} cannot be listened on: {reason}", listen=self._agent.config.metrics.listen,
            reason=errorText(reason),
        )

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        port, self._port = self._port, None
        return None if port is None else port.stopListening()

    def _respond(self, request: WholeRequest) -> WholeResponse | PiecewiseResponse:
        if request.path != PATH:
            return textResponse(404, "there is no such resource; the metrics are at /metrics")
        if request.head.method not in (b"GET", b"HEAD"):
            return textResponse(405, "use GET")
        return self.response()

    def response(self) -> PiecewiseResponse:
        """
        @return: the response to a scrape.
        """
        from tunnelstack.control.metrics.text_format import CONTENT_TYPE, SampleCollector  # of the extra

        return PiecewiseResponse(SampleCollector(self.read).pieces(), CONTENT_TYPE, self._agent.clock)

    def read(self) -> Iterator[Samples]:
        """
        @return: the samples of this moment.
        """
        agent = self._agent
        yield labelled(families.BUILD, [((VERSION,), 1)])
        yield from sessionSamples(agent.sessions)
        yield from budgetSamples(agent.budget)
        yield from exchanges(self.exchanges)
        yield from self._uplinks()
        granted = [publication.grant is not None for publication in agent.publications]
        yield single(families.PUBLISHED, sum(granted))
        yield single(families.UNPUBLISHED, len(granted) - sum(granted))
        yield labelled(families.CERTIFICATE, [((path,), expires) for path, expires in self._expiries.items()])
        yield histogram(families.LAG, self.histogram)
        yield from services(self.exchanges)

    def _uplinks(self) -> Iterator[Samples]:
        links = {link.dialect.address: link for link in self._agent.links}
        yield labelled(families.UPLINK_UP, [((edge,), link.uplink.link is not None) for edge, link in links.items()])
        yield labelled(families.RECONNECTS, [((edge,), max(0, link.sessions - 1)) for edge, link in links.items()])
        yield labelled(families.CONNECT_FAILURES, [((edge,), link.failures) for edge, link in links.items()])


def certificateExpiries(config: AgentConfig) -> dict[str, float]:
    """
    @return: when each certificate with which the agent authenticates expires, in seconds since 1970, by its file.
    """
    files = [edge.certificateFile for edge in config.edges if edge.certificateFile]
    return {path: loadCertificates(path)[0].to_cryptography().not_valid_after_utc.timestamp() for path in files}

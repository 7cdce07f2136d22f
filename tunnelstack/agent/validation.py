"""
Every mistake in the configuration of an agent that its records do not show: targets, folders, edges, and files that it names.

The same functions are called when an agent starts, so what is found here is what would keep it from starting.
"""

from __future__ import annotations

from collections.abc import Iterable

from tunnelstack.agent.bounds import AgentBounds
from tunnelstack.agent.edge_endpoint import makeEdgeEndpoint
from tunnelstack.agent.service_kinds import ServiceContext, buildService
from tunnelstack.control.config.records import DEFAULT_AGENT_LIMITS, AgentConfig, EdgeAddress, ServiceConfig
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.records import EMBEDDED


def agentMistakes(reactor: IReactor, config: AgentConfig, named: bool = True) -> list[str]:
    """
    @param named: whether sentences begin with the name of the service or edge.
    @return: a sentence for each mistake.
    """
    return serviceMistakes(reactor, config.services, named) + otherMistakes(reactor, config, named)


def serviceMistakes(reactor: IReactor, services: Iterable[ServiceConfig], named: bool = True) -> list[str]:
    """
    As L{agentMistakes}, of services.
    """
    found = [(f"service {each.name}: " if named else "", _serviceMistake(reactor, each)) for each in services]
    return [part + sentence for part, sentence in found if sentence]


def otherMistakes(reactor: IReactor, config: AgentConfig, named: bool = True) -> list[str]:
    """
    As L{agentMistakes}, of anything else.
    """
    edges = [(f"edge {each.shown}: " if named else "", _edgeMistake(reactor, each)) for each in config.edges]
    others = [("", _observationMistake(reactor, config))]
    return [part + sentence for part, sentence in edges + others if sentence]


def _serviceMistake(reactor: IReactor, service: ServiceConfig) -> str:
    """
    @return: why the service can never be served; C{""} if nothing is wrong.
    """
    try:
        if service.kind == "ssh" and service.target == EMBEDDED:
            _checkEmbedded(service)
        else:
            buildService(ServiceContext(reactor, {}, AgentBounds(DEFAULT_AGENT_LIMITS)), service).close()
    except ConfigurationError as wrong:
        return str(wrong)
    return ""


def _observationMistake(reactor: IReactor, config: AgentConfig) -> str:
    """
    @return: what is wrong with metrics, the inspector or tracing; C{""} if nothing is.
    """
    try:
        if config.metrics.listen:
            from tunnelstack.agent.metrics import metricsEndpoint  # as below: most agents have none

            metricsEndpoint(reactor, config.metrics)
        if config.inspect.enabled:
            from tunnelstack.agent.inspector.service import checkInspector

            checkInspector(reactor, config.inspect)
        if config.tracing.enabled:
            from tunnelstack.control.tracing.service import checkTracing

            checkTracing(config.tracing)
    except ConfigurationError as wrong:
        return str(wrong)
    return ""


def _checkEmbedded(service: ServiceConfig) -> None:
    """
    @raise ConfigurationError: a file cannot be used.
    """
    from tunnelstack.agent.ssh_server import (
        checkEmbeddedServer,  # imported here because it loads Conch, which is slow
    )

    checkEmbeddedServer(
        service.hostKeysFile, authorizedKeysFile=service.authorizedKeysFile, passwordsFile=service.passwordsFile
    )


def _edgeMistake(reactor: IReactor, edge: EdgeAddress) -> str:
    try:
        makeEdgeEndpoint(reactor, edge)
    except ConfigurationError as wrong:
        return str(wrong)
    return ""

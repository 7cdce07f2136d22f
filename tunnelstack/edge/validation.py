"""
Every mistake in the configuration of an edge that its records do not show: endpoints, and files that it names.

The same functions are called when an edge starts, so what is found here is what would keep it from starting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tunnelstack.control.auth.token_store import TokenStore
from tunnelstack.control.config.records import EdgeConfig, ListenerConfig
from tunnelstack.edge.admin import adminEndpoint, adminToken
from tunnelstack.edge.listeners import NO_ENDPOINT, makeListener
from tunnelstack.edge.ssh.service import checkGateway, gatewayEndpoint
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.state_dir import StateDirectory


def listenMistakes(reactor: IReactor, config: EdgeConfig) -> list[str]:
    """
    @return: a sentence for each mistake in the endpoints where visitors and agents connect.
    """
    listeners = [*(ListenerConfig(endpoint=text) for text in config.listen), *config.listeners]
    if not listeners:
        return [NO_ENDPOINT]
    found = [_mistake("listen", partial(makeListener, reactor, listener)) for listener in listeners]
    return list(filter(None, found))


def otherMistakes(reactor: IReactor, config: EdgeConfig) -> list[str]:
    """
    @return: a sentence for each mistake in anything else.
    """
    return [sentence for part, check in _checks(reactor, config) if (sentence := _mistake(part, check))]


def _checks(reactor: IReactor, config: EdgeConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    """
    @return: a name for each part of the configuration, and a function that raises L{ConfigurationError} if it is wrong.
    """
    if config.h2c and not config.http2:
        yield "", _noHTTP2
    yield "", partial(adminEndpoint, reactor, config.admin)
    yield "admin", partial(adminToken, config.admin)
    for text in config.ssh.listen:
        yield "", partial(gatewayEndpoint, reactor, text)
    yield "", partial(checkGateway, config.ssh)
    if config.metrics.enabled:
        from tunnelstack.control.metrics.extra import requireExtra  # as below: most edges have none

        yield "", requireExtra
    if config.tracing.enabled:
        from tunnelstack.control.tracing.service import checkTracing

        yield "tracing", partial(checkTracing, config.tracing)
    for route in config.routes:
        from tunnelstack.edge.public.access_policy import usersOf

        yield f"route {route.host}", partial(usersOf, route)
    for checker in config.checkers:
        from tunnelstack.control.auth.checkers import parseChecker

        yield "", partial(parseChecker, checker.auth)
    if config.stateDirectory:
        yield "", TokenStore(StateDirectory(Path(config.stateDirectory))).read


def _noHTTP2() -> None:
    raise ConfigurationError("h2c of [edge] accepts HTTP/2, which http2 = false does not")


def _mistake(part: str, check: Callable[[], object]) -> str:
    """
    @return: what is wrong, after the name of the part; C{""} if nothing is.
    """
    try:
        check()
    except ConfigurationError as wrong:
        return f"{part}: {wrong}" if part else str(wrong)
    return ""

"""
The protocol between an agent and a local web server, and the pool of connections for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.agent.target import Target
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import IExchange, IExchangeReceiver, IReactor
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.transport.http2.alpn import ALPN_HTTP1, ALPN_HTTP2
from tunnelstack.wire.http1.head import HeadLimits

if TYPE_CHECKING:
    from tunnelstack.exchange.http2_pool import HTTP2ExchangePool
    from tunnelstack.transport.http2.connection import HTTP2Connection

ALWAYS, NEVER = "always", "never"

Explain = Callable[[Failure], str]
"""Gives a sentence for the visitor about a failure to connect."""


class OriginPool(Protocol):
    """
    Carries exchanges to a local web server, such as an L{ExchangePool}.
    """

    def exchange(self, receiver: IExchangeReceiver) -> IExchange:
        """
        Begin an exchange.
        """

    def configure(self, timeouts: Timeouts, limits: HeadLimits) -> None:
        """
        Use other settings for the exchanges that begin from now on.
        """

    def drain(self) -> Deferred[None]:
        """
        Begin no more exchanges.

        @return: fires when the last one has ended.
        """

    def close(self) -> None:
        """
        Close all connections at once.
        """


def originPool(
    reactor: IReactor, target: Target, http2: str, explain: Explain, budget: MemoryBudget | None = None
) -> OriginPool:
    """
    @param http2: C{always}, C{never} or C{auto}.
    @param budget: limits what connections of HTTP/2 hold, with the sessions of the process.
    @raise ConfigurationError: the target is of another protocol than C{http2}, or cannot be used.
    """
    if target.h2c and http2 == NEVER:
        raise ConfigurationError(f"http2 is never, but {target.text} is HTTP/2")
    if http2 == ALWAYS or target.h2c:
        return _http2Pool(reactor, target, explain, budget)
    if target.secure and http2 != NEVER:
        return _negotiatedPool(reactor, target, explain, budget)
    return _http1Pool(reactor, target.endpoint(reactor), explain)


def _http1Pool(reactor: IReactor, endpoint: IStreamClientEndpoint, explain: Explain) -> ExchangePool:
    # Every connection of the pool belongs to a stream, so the bound of streams is that of connections.
    return ExchangePool(endpoint, clock=reactor, explain=explain, maxConnections=sys.maxsize)


def _http2Pool(reactor: IReactor, target: Target, explain: Explain, budget: MemoryBudget | None) -> HTTP2ExchangePool:
    from tunnelstack.exchange.http2_pool import HTTP2ExchangePool  # loads h2, which is slow
    from tunnelstack.session.http2_memory import HTTP2ConnectionMemory

    def connected(connection: HTTP2Connection) -> None:
        if budget is not None:
            HTTP2ConnectionMemory(connection, target.shown).join(budget)

    return HTTP2ExchangePool(
        target.endpoint(reactor, (ALPN_HTTP2,)), clock=reactor, scheme=b"https" if target.secure else b"http",
        explain=explain, maxWaiting=sys.maxsize, connected=connected,
    )


def _negotiatedPool(reactor: IReactor, target: Target, explain: Explain, budget: MemoryBudget | None) -> OriginPool:
    from tunnelstack.exchange.negotiated_pool import NegotiatedPool

    return NegotiatedPool(
        target.endpoint(reactor, (ALPN_HTTP2, ALPN_HTTP1)),
        _http1Pool(reactor, target.endpoint(reactor, (ALPN_HTTP1,)), explain), _http2Pool(reactor, target, explain, budget),
        clock=reactor, explain=explain,
    )

"""
The edge's client of an agent's HTTPS API.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.errors import Unavailable
from tunnelstack.exchange.fetch import FetchedResponse, NoResponse, fetch
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.transport.error_text import errorText
from tunnelstack.wire.http1.head import DEFAULT_LIMITS, Fields, RequestHead
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.godoxy_api import (
    ANSWER_OCTETS,
    API_PATH,
    INFO_PATH,
    NAME_CHARACTERS,
    RUNTIMES,
    AgentInfo,
    BadAnswer,
    HealthResult,
    decode_health_untrusted,
    decode_info_untrusted,
    health_target,
)

CONNECTIONS = 8
"""Connections to the API of one agent."""

IDLE_SECONDS = 1.0
"""Seconds that a connection is kept for further requests: the next examination begins with a handshake of its own, so that it
notices other certificates."""

DETAIL_CHARACTERS = 200
"""Characters of an unexpected answer that are shown."""

NOT_FOUND = 404


class UnexpectedStatus(Unavailable):
    """
    The API has answered with another status.
    """


class AgentAPI:
    """
    The API of one agent.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, clock: IReactorTime, seconds: float, host: str) -> None:
        """
        @param endpoint: connects to the agent by TLS, for HTTP.
        @param seconds: for each request, the handshake included.
        @param host: the C{Host} of the requests.
        """
        self._clock = clock
        self._seconds = seconds
        self._fields: Fields = [(b"Host", host.encode()), (b"Accept-Encoding", b"identity")]
        self._pool = ExchangePool(
            endpoint, clock=clock, timeouts=Timeouts(first=seconds, connect=seconds), idleSeconds=IDLE_SECONDS,
            maxConnections=CONNECTIONS, explain=lambda failure: errorText(failure.value),
        )  # fmt: skip

    def configure(self, seconds: float) -> None:
        """
        Give so many seconds to each request from now on.
        """
        self._seconds = seconds
        self._pool.configure(Timeouts(first=seconds, connect=seconds), DEFAULT_LIMITS)

    async def info(self) -> tuple[AgentInfo, bool]:
        """
        @return: what the agent reports of itself, and whether it is recent enough to have streams.
        @raise Unavailable: it does not answer, or with an error.
        @raise BadAnswer: its answer cannot be read.
        """
        response = await self._get(INFO_PATH.encode())
        if response.status == 200:
            return decode_info_untrusted(response.body), True
        if response.status >= 500:
            raise UnexpectedStatus(f"the agent answers {response.status} to a request for its state: {_excerpt(response)}")
        info = AgentInfo(
            name=await self._text("name"), version=await self._text("version"), runtime=await self._text("runtime", RUNTIMES[0])
        )
        if info.runtime not in RUNTIMES:
            raise BadAnswer("the agent reports a runtime that is not known", runtime=info.runtime)
        return info, False

    async def health(self, scheme: str, host: str, path: str = "") -> HealthResult:
        """
        @param scheme: C{http}, C{https}, C{h2c}, C{tcp} or C{udp}.
        @param host: with its port.
        @return: what the agent has found there; an answer with an error is a service that is not healthy.
        @raise Unavailable: the agent does not answer.
        @raise BadAnswer: its answer cannot be read.
        """
        response = await self._get(health_target(scheme, host, path, self._seconds), 2 * self._seconds)
        if response.status != 200:
            return HealthResult(healthy=False, detail=f"HTTP {response.status} {_excerpt(response)}")
        return decode_health_untrusted(response.body)

    def close(self) -> None:
        """
        Close the connections.  Requests under way fail.
        """
        self._pool.close()

    async def _text(self, what: str, default: str = "") -> str:
        """
        What agents before C{/info} report as plain text.

        @param default: for an agent that answers 404.
        """
        response = await self._get(f"{API_PATH}/{what}".encode())
        if response.status == NOT_FOUND and default:
            return default
        if response.status != 200:
            raise UnexpectedStatus(f"the agent answers {response.status} to a request for its {what}: {_excerpt(response)}")
        return printable(response.body.decode("utf-8", "replace").strip(), NAME_CHARACTERS)

    async def _get(self, target: bytes, seconds: float = 0.0) -> FetchedResponse:
        head = RequestHead(b"GET", target, list(self._fields))
        answer = fetch(self._pool.exchange, head, bodyOctets=ANSWER_OCTETS)
        return await answer.addTimeout(seconds or self._seconds, self._clock, _timedOut)


def _timedOut(result: FetchedResponse | Failure, seconds: float) -> FetchedResponse:
    """
    @raise NoResponse: instead of the error of a request that was cancelled.
    """
    if isinstance(result, Failure):
        raise NoResponse(f"the agent has not answered within {seconds:g} seconds")
    return result


def _excerpt(response: FetchedResponse) -> str:
    return printable(response.body.decode("utf-8", "replace").strip(), DETAIL_CHARACTERS)

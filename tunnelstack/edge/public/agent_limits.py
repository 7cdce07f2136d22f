"""
How many requests and octets the edge forwards for each agent.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from tunnelstack.control.auth.tokens import IToken
from tunnelstack.control.config.records import Limits
from tunnelstack.edge.public.rate import Bucket, Rate
from tunnelstack.records import Principal
from tunnelstack.settings.record import Record

MAX_REMEMBERED_AGENTS = 65_536
"""Agents whose limits are remembered; when there are more, all are counted anew."""


@frozen(eq=False, repr=False)
class AgentRateLimit(Record):
    """
    The limits of one agent: of requests and of octets.
    """

    rate: Rate | None
    buckets: tuple[Bucket, ...]


class AgentRateLimits:
    """
    The limits of each agent: those of its credential, or else those of the configuration.

    What was counted stays counted when the configuration is reloaded, and when the agent uses another credential with the same
    limits.
    """

    def __init__(self, limits: Limits, record: Callable[[str], IToken | None]) -> None:
        """
        @param record: gives the record of a credential by its identifier.  A
            L{TokenRecord<tunnelstack.control.config.records.TokenRecord>} may have limits; records of other kinds have none.
        """
        self._record = record
        self._limitsByRate: dict[tuple[str, float, int], AgentRateLimit] = {}        # by agent, requests and octets
        self.configure(limits)

    def configure(self, limits: Limits) -> None:
        """
        Change the limits of agents whose credentials have none.
        """
        self._limits = limits
        self._checked: dict[tuple[str, str], tuple[IToken | None, AgentRateLimit | None]] = {}    # with its record

    def find(self, principal: Principal) -> AgentRateLimit | None:
        """
        @return: C{None} for an agent without limits.
        """
        record = self._record(principal.token)
        key = principal.agent, principal.token
        known = self._checked.get(key)
        if known is not None and known[0] is record:
            return known[1]
        if max(len(self._checked), len(self._limitsByRate)) >= MAX_REMEMBERED_AGENTS:
            self._checked.clear()
            self._limitsByRate.clear()
        rateLimit = self._limitOf(principal.agent, record)
        self._checked[key] = (record, rateLimit)
        return rateLimit

    def _limitOf(self, agent: str, record: IToken | None) -> AgentRateLimit | None:
        perSecond = getattr(record, "requestsPerSecond", 0) or self._limits.agentRequestsPerSecond
        octets = getattr(record, "octetsPerSecond", 0) or self._limits.agentOctetsPerSecond
        if not (perSecond or octets):
            return None
        key = agent, perSecond, octets
        rateLimit = self._limitsByRate.get(key)
        if rateLimit is None:
            rateLimit = self._limitsByRate[key] = AgentRateLimit(
                Rate(perSecond) if perSecond else None, (Bucket(octets),) if octets else ()
            )
        return rateLimit

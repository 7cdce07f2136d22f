"""
What the exchanges of an agent may take: what its edges announce, as far as its own C{[limits]} allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import define, evolve, field

from tunnelstack.control.config.records import AgentLimits
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS, ExchangeBounds
from tunnelstack.settings.record import Record
from tunnelstack.settings.setting import keyOf

CEILINGS = ("headOctets", "headFields", "responseHeadOctets", "responseHeadFields", "idleSeconds")
"""The bounds that C{[limits]} of an agent can make smaller, besides that of streams, which is each session's own."""

REQUEST_BOUNDS = ("headOctets", "headFields", "idleSeconds")
"""Those among them that an operator of the edge expects to be in force for visitors."""


@define(eq=False, repr=False)
class AgentBounds(Record):
    """
    The bounds of all exchanges of one agent.  Services are shared by the sessions with all edges, so the largest bound that an
    edge announces is in force; an edge that announces less keeps to that itself.

    @ivar limits: C{[limits]} of the agent.
    @ivar bounds: what is in force.
    """

    limits: AgentLimits
    _largest: ExchangeBounds = field(default=DEFAULT_BOUNDS, init=False)
    bounds: ExchangeBounds = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.bounds = self._limited()

    def announced(self, each: Iterable[ExchangeBounds]) -> None:
        """
        @param each: what every edge has announced to which there is a session.  If there is none, the last bounds stay.
        """
        largest: ExchangeBounds | None = None
        for announced in each:
            largest = announced if largest is None else largest.atLeast(announced)
        if largest is not None:
            self._largest = largest
            self.bounds = self._limited()

    def configure(self, limits: AgentLimits) -> None:
        """
        Use other C{[limits]}.
        """
        self.limits = limits
        self.bounds = self._limited()

    def _limited(self) -> ExchangeBounds:
        announced = self._largest
        lower: dict[str, Any] = {
            name: min(getattr(announced, name), getattr(self.limits, name)) for name in CEILINGS
        }
        return evolve(announced, **lower)

    def shortfalls(self, announced: ExchangeBounds) -> Iterator[str]:
        """
        @return: a sentence for each bound of requests that this agent's configuration makes smaller than the edge's.
        """
        for name in REQUEST_BOUNDS:
            theirs, ours = getattr(announced, name), getattr(self.limits, name)
            if ours < theirs:
                yield f"{keyOf(name)} is {theirs:.10g} at the edge and {ours:.10g} in [limits] of this agent, which is in force"

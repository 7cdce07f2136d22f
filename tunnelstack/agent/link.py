"""
An agent's link with one edge: it keeps a session there in the edge's dialect, and logs what happens to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tunnelstack.agent.exit_policy import ExitPolicy
from tunnelstack.agent.uplink import Uplink
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.process.exit_status import CredentialRefused, WrongProtocol
from tunnelstack.interfaces import IAgentDialect, IBackoff, ILink
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.session.totals import SessionTotals
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.tls import kindOf


class AgentLink:
    """
    Keeps a session with one edge.

    @ivar dialect: the L{IAgentDialect}.
    @ivar uplink: the L{Uplink} that dials.
    @ivar sessions: how many sessions there have been.
    @ivar failures: how many attempts to connect have failed.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, dialect: IAgentDialect, config: AgentConfig, policy: ExitPolicy, budget: MemoryBudget,
        random: Callable[[], float], totals: SessionTotals,
    ) -> None:
        """
        @param policy: decides when the agent gives up.
        @param budget: limits the memory that the sessions of this process hold together.
        @param totals: counts what they carry.
        """
        self.dialect = dialect
        self._policy = policy
        self._budget = budget
        self._totals = totals
        self.sessions = self.failures = 0
        self._reported: object = None    # the kind of failure that was logged last, while there is no session
        self.uplink = Uplink(
            clock, dialect.dial, self, maxBackoff=config.backoffSeconds, drainSeconds=config.drainSeconds, random=random,
            backoff=IBackoff(dialect) if IBackoff.providedBy(dialect) else None,
        )
        policy.addServer()

    def uplinkUp(self, uplink: Uplink, link: ILink) -> None:
        """
        A session has been established.
        """
        self._reported = None
        self.sessions += 1
        self._totals.watch(link.session)
        self._budget.join(link.session)
        self._policy.sessionUp(self)
        self.dialect.up(link).addCallbacks(self._logUp, lambda lost: None)

    def _logUp(self, facts: Mapping[str, object]) -> None:
        shown = "".join(f" {name}={{{name}}}" for name in facts)
        self.log.info(
            "up   edge={edge} dialect={dialect}" + shown, status="session", edge=self.dialect.address,
            dialect=self.dialect.name, **facts,
        )

    def uplinkDown(self, uplink: Uplink, reason: BaseException) -> None:
        """
        The session is lost.
        """
        self.dialect.retire()
        self._policy.sessionDown(self)
        self.log.warn(
            "session with {edge} lost: {reason}; reconnecting", edge=self.dialect.address, reason=errorText(reason),
            dialect=self.dialect.name,
        )

    def uplinkFailed(self, uplink: Uplink, reason: BaseException, seconds: float) -> None:
        """
        An attempt failed.  Only the first of several failures of one kind is logged.
        """
        self.failures += 1
        dialect = self.dialect
        if isinstance(reason, dialect.credentialErrors):
            self._policy.permanentFailure(CredentialRefused(str(reason)))
        elif isinstance(reason, dialect.protocolErrors):
            self._policy.permanentFailure(WrongProtocol(str(reason)))
        if self._policy.fatalError is None and self._reported != kindOf(reason):
            self._reported = kindOf(reason)
            log = self.log.critical if isinstance(reason, dialect.permanentErrors) else self.log.warn
            log(
                "no session with {edge}: {reason}; retrying", edge=dialect.address, reason=errorText(reason),
                seconds=seconds, dialect=dialect.name,
            )

    def report(self) -> Mapping[str, object]:
        """
        @return: the state of the link, for the log.
        """
        return {"edge": self.dialect.address, "dialect": self.dialect.name, **self.dialect.report()}

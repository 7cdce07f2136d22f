"""
Which agents an edge accepts, for both carriers.

An agent is an agent of the edge under the name of its credential: what the credential may do, and whether it still exists, is
checked when the agent arrives.  Agents of one tunnel share it if their credential has C{share}.
"""

from __future__ import annotations

from functools import partial
from secrets import token_hex
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.dialect.jetty.addresses import Addresses
from tunnelstack.dialect.jetty.registration import Acceptance, Registration, RegistrationRefused
from tunnelstack.dialect.jetty.settings import REPLACE, WEBSOCKET, EdgeSettings
from tunnelstack.dialect.jetty.tunnel_store import StoredTunnel, TunnelStore
from tunnelstack.errors import Denied
from tunnelstack.interfaces import IEdge, ITunnel
from tunnelstack.records import Grant, Service
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty import (
    DRAINING,
    FORBIDDEN,
    NO_SUCH_TUNNEL,
    TOO_MANY_AGENTS,
    VERIFY_REJECTED,
    GRPCHint,
)
from tunnelstack.wire.records.jetty_rules import upstream_of

MOST_AGENTS = 64
"""Agents that may serve one tunnel at the same time."""

CODES = {
    "revoked": VERIFY_REJECTED, "expired": VERIFY_REJECTED, "stopping": DRAINING, "limit": TOO_MANY_AGENTS,
    "taken": TOO_MANY_AGENTS,
}  # fmt: skip
"""The codes of this system for those of the edge; FORBIDDEN for all others."""


@frozen
class ConnectedAgent:
    """
    An agent that is connected.

    """

    tunnel: ITunnel
    acceptance: Acceptance


class EdgeRegistrar:
    """
    As L{IRegistrar<tunnelstack.dialect.jetty.registration.IRegistrar>}.
    """

    log = Logger()

    def __init__(self, edge: IEdge, store: TunnelStore, addresses: Addresses, settings: EdgeSettings) -> None:
        self._edge = edge
        self._store = store
        self._addresses = addresses
        self._settings = settings
        self._agents: dict[str, list[ConnectedAgent]] = {}       # by the identifier of their tunnel
        store.watch(self._removed)

    def agentsOf(self, identifier: str) -> int:
        """
        @return: how many agents serve a tunnel.
        """
        return len(self._agents.get(identifier, ()))

    def transportsOf(self, identifier: str) -> list[str]:
        """
        @return: the carriers of the agents that serve a tunnel.
        """
        return sorted({each.acceptance.transport for each in self._agents.get(identifier, ())})

    # Who registers

    def verify(self, registration: Registration) -> Deferred[Acceptance]:
        if self._edge.stopping:
            return fail(RegistrationRefused(DRAINING))
        tunnel = self._store.find(registration.tunnelId)
        if tunnel is None:
            return fail(RegistrationRefused(NO_SUCH_TUNNEL))
        if not self._store.hasToken(tunnel.id, registration.agentToken):
            return fail(RegistrationRefused(VERIFY_REJECTED))
        return succeed(self._acceptance(tunnel, registration))

    def _acceptance(self, tunnel: StoredTunnel, registration: Registration) -> Acceptance:
        assert tunnel.principal is not None       # it was stored together with the token
        addresses = self._addresses
        process = registration.instance or token_hex(8)
        mayChange = registration.transport == WEBSOCKET and registration.capabilities is not None
        hint = addresses.grpcURL(tunnel.id) if mayChange else ""
        return Acceptance(
            tunnelId=tunnel.id, subdomain=tunnel.subdomain, publicURL=addresses.publicURL(tunnel), edgeId=addresses.edgeId,
            sessionId=token_hex(16), protocol=tunnel.protocol, principal=tunnel.principal,
            instance=tunnel.id if self._settings.agents == REPLACE else f"{tunnel.id}-{process}-{registration.transport}",
            process=registration.instance, transport=registration.transport, grpc=GRPCHint(url=hint) if hint else None,
            upstreamOf=partial(self._upstreamOf, tunnel.id),
        )

    def _upstreamOf(self, identifier: str, head: RequestHead) -> tuple[str, int] | None:
        rules = self._store.rulesOf(identifier)
        return upstream_of(rules, head.target, head.fields) if rules else None

    # Who has arrived

    def arrived(self, tunnel: ITunnel, acceptance: Acceptance) -> Deferred[object]:
        agents = self._agents.get(acceptance.tunnelId, [])
        if len(agents) >= MOST_AGENTS:
            return fail(RegistrationRefused(TOO_MANY_AGENTS))
        try:
            self._edge.arrived(tunnel)
        except Denied as denied:
            return fail(self._refusal(denied))
        former = self._former(agents, acceptance)
        for each in former:                 # they finish what they do, and the new one holds the name alone
            self._edge.withdraw(each.tunnel, self._service(each.acceptance))
        published: Deferred[Any] = self._edge.announce(tunnel, self._service(acceptance))
        return published.addCallbacks(self._published, self._notPublished, (tunnel, acceptance, former), {}, (former,))

    @staticmethod
    def _former(agents: list[ConnectedAgent], acceptance: Acceptance) -> list[ConnectedAgent]:
        """
        @return: the connections of the same process by another carrier.
        """
        return [
            each for each in agents
            if acceptance.process and each.acceptance.process == acceptance.process
            and each.acceptance.transport != acceptance.transport
        ]  # fmt: skip

    def _service(self, acceptance: Acceptance) -> Service:
        stored = self._store.find(acceptance.tunnelId)
        return Service(name=acceptance.subdomain, kind=acceptance.protocol, port=stored.port if stored is not None else 0)

    def _published(self, grant: Grant, tunnel: ITunnel, acceptance: Acceptance, former: list[ConnectedAgent]) -> None:
        agent = ConnectedAgent(tunnel, acceptance)
        self._agents.setdefault(acceptance.tunnelId, []).append(agent)
        tunnel.whenLost().addCallback(lambda reason: self._lost(agent))
        for each in former:
            each.tunnel.drain()

    def _notPublished(self, failure: Failure, former: list[ConnectedAgent]) -> Failure:
        for each in former:
            self._edge.announce(each.tunnel, self._service(each.acceptance)).addErrback(lambda lost: None)
        if isinstance(failure.value, Denied):
            return Failure(self._refusal(failure.value))
        return failure

    def _lost(self, agent: ConnectedAgent) -> None:
        identifier = agent.acceptance.tunnelId
        agents = self._agents[identifier]
        agents.remove(agent)
        if not agents:
            del self._agents[identifier]

    def _refusal(self, denied: Denied) -> RegistrationRefused:
        if denied.code == "port-taken":
            sentence = f"{denied.sentence} by another program on the edge's machine or by another service; free it there"
            self.log.warn("a tunnel is refused: {reason}", reason=printable(sentence))
            return RegistrationRefused(FORBIDDEN, sentence)
        code = CODES.get(denied.code, FORBIDDEN)
        # A stock agent recognizes the sentence of the first code only.
        return RegistrationRefused(code, "" if code == VERIFY_REJECTED else denied.sentence)

    # What an operator or the owner removes

    def _removed(self, stored: StoredTunnel) -> None:
        for each in list(self._agents.get(stored.id, ())):
            each.tunnel.abort(RegistrationRefused(NO_SUCH_TUNNEL, "the tunnel was removed"))

"""
What agents may have of the edge: who is let in, which names and ports they hold, whom they may dial.  Dialects ask here, and
are not known by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, fail, inlineCallbacks, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.control.auth.name_ownership import NameOwnership
from tunnelstack.control.auth.permissions import permissionsOf
from tunnelstack.control.registry import Registry
from tunnelstack.edge.public.ports import Ports
from tunnelstack.errors import Denied
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts
from tunnelstack.interfaces import IAuthenticator, IEdge
from tunnelstack.records import (
    Claim,
    Grant,
    Principal,
    Purpose,
    Service,
    SSHPurpose,
    StreamPurpose,
    TCPPurpose,
)
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.wire.yamux.limits import SessionLimits

MAX_SERVICES = 256
"""Names that one session may hold."""

SSH = "ssh"
"""The purpose of who dials an agent's SSH server, and the kind of a service that is one."""

TCP = "tcp:"
"""What a purpose begins with that is a host and a port which the agent can reach."""

UNNAMED_KINDS = ("tcp", SSH)
"""Kinds of services whose rights say nothing of names."""

ALIVE_SECONDS = 5.0
"""Seconds within which the holder of a name must answer a ping, when another process of its agent asks for it."""


@implementer(IEdge)
class Agents:
    """
    The edge, as dialects see it.

    @ivar registry: who is there.
    @ivar ports: the TCP ports of services.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        registry: Registry,
        ports: Ports,
        authenticator: IAuthenticator,
        *,
        grantFor: Any,
        sessionLimits: SessionLimits,
        owners: NameOwnership,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        state: StateDirectory | None = None,
        authority: str = "",
        sshAddress: Callable[[], str] = lambda: "",
        known: Callable[[Principal], bool] | None = None,
        budget: MemoryBudget | None = None,
    ) -> None:
        """
        @param grantFor: of a service's name, the L{Grant} of its public host.
        @param budget: what the sessions of agents may hold together; without one there is no bound.
        @param owners: whose the names are that are not granted by name.
        @param timeouts: as in L{IEdge}.
        @param state: as in L{IEdge}.
        @param authority: as in L{IEdge}.
        @param sshAddress: as in L{IEdge}.
        @param known: whether somebody who was let in would be let in now.
        """
        self.clock = clock
        self.registry = registry
        self.ports = ports
        self.authenticator = authenticator
        self.sessionLimits = sessionLimits
        self.timeouts = timeouts
        self.state = state
        self.authority = authority
        self.sshAddress = sshAddress
        self.stopping = False
        self._grantFor = grantFor
        self._owners = owners
        self._known = known or (lambda principal: True)
        self._budget = budget
        self._connectedAt: dict[int, float] = {}            # by the id of a tunnel
        registry.watch(self._nameChanged)

    def authenticate(self, claim: Claim) -> Deferred[Principal]:
        """
        As in L{IAuthenticator}.
        """
        asked: Deferred[Principal] = maybeDeferred(self.authenticator.authenticate, claim)
        return asked

    # Coming and going

    def arrived(self, tunnel: Any) -> None:
        """
        As in L{IEdge}.
        """
        if self.stopping:
            raise Denied("stopping", "this edge is about to stop")
        if not (tunnel.principal.realm or self._known(tunnel.principal)):    # taken back since it was shown
            raise Denied("revoked", "the credential was revoked")
        permissionsOf(tunnel.principal)            # a principal whose rights cannot be read gets no further
        for old in self.registry.add(tunnel):
            self._log("replaced", old, "the same process is here again")
            old.abort(Denied("replaced", "this agent has connected again"))
        self._log("connected", tunnel)
        self._connectedAt[id(tunnel)] = self.clock.seconds()
        session = getattr(tunnel, "session", None)
        if self._budget is not None and session is not None:
            self._budget.join(session)
        tunnel.whenLost().addCallback(self._lost, tunnel)

    def connectedAt(self, tunnel: Any) -> float | None:
        """
        When a tunnel arrived, in seconds of the clock.
        """
        return self._connectedAt.get(id(tunnel))

    def _lost(self, reason: Any, tunnel: Any) -> Any:
        self._connectedAt.pop(id(tunnel), None)
        if self.registry.hasTunnel(tunnel):
            self.registry.remove(tunnel)
            self._log("gone", tunnel, str(reason))
        return reason

    def _log(self, what: str, tunnel: Any, reason: str = "") -> None:
        self.log.info(
            "{agent} " + what + (": {reason}" if reason else " by {dialect}"), agent=tunnel.principal.agent,
            dialect=tunnel.dialect, instance=tunnel.instance, token=tunnel.principal.token, reason=reason, status="agent",
        )

    def _nameChanged(self, kind: str, name: str, held: bool) -> None:
        """
        From the registry.
        """
        if kind == "tcp" and not held:
            self.ports.close(name).addErrback(self._notClosed)

    def _notClosed(self, failure: Failure) -> None:
        self.log.failure("a port could not be closed", failure=failure)

    # Names

    def announce(self, tunnel: Any, service: Service) -> Deferred[Grant]:
        """
        As in L{IEdge}.
        """
        try:
            self._checkAllowed(tunnel, service)
        except Denied:
            return fail()
        holder = self.registry.conflictingHolder(service.kind, service.name, tunnel)
        if holder is not None and holder.principal.agent == tunnel.principal.agent:
            return self._probeHolder(holder).addCallback(lambda _: self._publish(tunnel, service))
        return self._publish(tunnel, service)

    def _checkAllowed(self, tunnel: Any, service: Service) -> None:
        """
        @raise Denied: the token does not allow it, or the session has enough.
        """
        rights, name = permissionsOf(tunnel.principal), service.name
        if self.stopping:
            raise Denied("stopping", "this edge is about to stop")
        allowed = {"http": rights.mayServe(name), "stream": rights.mayStream(name), "tcp": bool(rights.tcp), SSH: rights.ssh}
        if not allowed.get(service.kind, False):
            right = {SSH: SSH, "tcp": "tcp:PORTS"}.get(service.kind, f"{service.kind}:{name}")
            self._deny(tunnel, service, right)
        if service.kind in UNNAMED_KINDS:
            if not self._owners.mayUse(tunnel.principal, name):
                self._deny(tunnel, service, f"the name {name}, which is not free")
            if self.registry.hasAgent(name) and name != tunnel.principal.agent:
                raise Denied("taken", f"{name} is the name of another agent", name=name)
        if len(self.registry.names(tunnel)) >= MAX_SERVICES:
            raise Denied("limit", f"one session holds at most {MAX_SERVICES} names")

    def _deny(self, tunnel: Any, service: Service, right: str) -> NoReturn:
        self.log.warn(
            "agent {agent} may not announce {kind} {service}", agent=tunnel.principal.agent, kind=service.kind,
            service=service.name, token=tunnel.principal.token,
        )
        raise Denied("not-allowed", f"the token does not allow {right}")

    def _probeHolder(self, holder: Any) -> Deferred[Any]:
        """
        See whether the holder of a name is alive; one that is not has lost it.
        """
        asked: Deferred[Any] = maybeDeferred(holder.ping).addTimeout(ALIVE_SECONDS, self.clock)

        def silent(failure: Failure) -> None:
            if self.registry.hasTunnel(holder):
                self.registry.remove(holder)
                self._log("dropped", holder, "it does not answer, and another process of it is here")
                holder.abort(Denied("replaced", "this agent did not answer, and another process of it took its names"))

        return asked.addErrback(silent)

    @inlineCallbacks
    def _publish(self, tunnel: Any, service: Service) -> Any:
        kind, name, agent = service.kind, service.name, tunnel.principal.agent
        new = self.registry.claim(kind, name, tunnel)
        if kind != "tcp":
            grant = self._grantFor(name) if kind == "http" else Grant()
        else:
            try:
                port = yield self.ports.open(agent, name, service.port, permissionsOf(tunnel.principal).tcp)
            except Denied:
                if new:
                    self.registry.withdraw(kind, name, tunnel)
                raise
            grant = Grant(host=self._grantFor(name).host, port=port)
            if not self.registry.isHeld(name, kind):          # it has gone in the meantime
                yield self.ports.close(name)
        if new:
            self.log.info(
                "{service} of agent {agent} at {where}", service=name, agent=agent, kind=kind, status="service",
                where=grant.url or (f"port {grant.port}" if grant.port else "this edge, to be dialled"),
            )
        return grant

    def withdraw(self, tunnel: Any, service: Service) -> Deferred[None]:
        """
        As in L{IEdge}.
        """
        self.registry.withdraw(service.kind, service.name, tunnel)
        return succeed(None)

    # Dialling

    def reach(self, principal: Principal, to: str, purpose: str) -> tuple[Any, Purpose]:
        """
        As in L{IEdge}.
        """
        rights = permissionsOf(principal)
        if purpose == SSH:
            tunnel = self._sshHolder(to)
            full = f"{tunnel.principal.agent}/{to.rpartition('/')[2]}" if tunnel is not None else to
            if not rights.mayDial(to, full):
                raise Denied("not-allowed", f"the token does not allow dial:{to}")
            return self.sshTarget(to)
        if purpose.startswith(TCP):
            host, _, port = purpose.removeprefix(TCP).rpartition(":")
            if not host:
                raise Denied("malformed", f"say {TCP}HOST:PORT, not {purpose[:64]!r}")
            return self._agentTunnel(rights, to), TCPPurpose(host=host.removeprefix("[").removesuffix("]"), port=_port(port))
        if purpose:
            return self._protocolTunnel(rights, to, purpose)
        agent, _, port = to.rpartition(":")
        if agent:
            return self._agentTunnel(rights, agent, to), TCPPurpose(host="127.0.0.1", port=_port(port))
        name = to.rpartition("/")[2]
        tunnel = self.registry.pick(to, "stream") or self.registry.pick(to, "tcp")
        full = f"{tunnel.principal.agent}/{name}" if tunnel is not None else to
        if not rights.mayDial(to, name, full):
            raise Denied("not-allowed", f"the token does not allow dial:{to}")
        if tunnel is None:
            known = self.registry.isKnown(to, "stream") or self.registry.isKnown(to, "tcp")
            raise Denied("absent" if known else "unknown", f"{to} is not there" if known else f"there is no {to} to be dialled")
        return tunnel, TCPPurpose(service=name)

    def sshTarget(self, to: str) -> tuple[Any, Purpose]:
        """
        The way to an SSH server, for whoever may go there.

        @param to: the name under which it is offered, C{agent/service}, or an agent's or device's own name.
        @return: a tunnel, and what is to be asked of it.
        @raise Denied: nobody of that name is there.
        """
        tunnel = self._sshHolder(to)
        if tunnel is not None:
            return tunnel, TCPPurpose(service=to.rpartition("/")[2])
        tunnel = self.registry.agent(to)
        if tunnel is None:
            raise Denied("absent", f"{to} is not there")
        offered = [name for kind, name in self.registry.names(tunnel) if kind == SSH]
        return tunnel, TCPPurpose(service=offered[0]) if offered else SSHPurpose()

    def _sshHolder(self, to: str) -> Any:
        """
        Who offers an SSH server under a name, unless that is the name of another agent, which comes first.
        """
        tunnel = self.registry.pick(to, SSH) if self.registry.isHeld(to, SSH) else None
        theirs = tunnel is not None and self.registry.hasAgent(to) and tunnel.principal.agent != to
        return None if theirs else tunnel

    def _agentTunnel(self, rights: Any, agent: str, *names: str) -> Any:
        """
        The tunnel of an agent, for who may dial all of it (or one of C{names}).
        """
        if not rights.mayDial(agent, *names):
            raise Denied("not-allowed", f"the token does not allow dial:{agent}")
        tunnel = self.registry.agent(agent)
        if tunnel is None:
            raise Denied("absent", f"{agent} is not there")
        return tunnel

    def _protocolTunnel(self, rights: Any, to: str, purpose: str) -> tuple[Any, Purpose]:
        """
        A developer's own protocol, of an agent or of whoever holds a name.
        """
        if not (purpose.startswith("/") and purpose.isascii() and purpose.isprintable()) or purpose.startswith("/tunnelstack/"):
            raise Denied("unsupported", f"this edge cannot dial for the purpose {purpose[:64]!r}")
        if not rights.mayDial(to, to + purpose):
            raise Denied("not-allowed", f"the token does not allow dial:{to}")
        tunnel = self.registry.agent(to) or self.registry.pick(to, "stream") or self.registry.pick(to, "http")
        if tunnel is None:
            raise Denied("absent", f"{to} is not there")
        return tunnel, StreamPurpose(purpose.encode())


def _port(text: str) -> int:
    """
    @raise Denied: it is none.
    """
    port = int(text) if text.isdecimal() and len(text) <= 5 else 0
    if not 0 < port < 65_536:
        raise Denied("malformed", f"{text[:16]!r} is no port")
    return port

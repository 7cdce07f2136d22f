"""
The edge as dialects see it (L{IEdge<tunnelstack.interfaces.IEdge>}): it authenticates agents, publishes their services and
finds the tunnel for a dialler.  It names no dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred, fail, inlineCallbacks, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.control.auth.name_ownership import NameOwnership
from tunnelstack.control.auth.permissions import Permissions, permissionsOf
from tunnelstack.control.registry import Registry
from tunnelstack.edge.presences import Presences
from tunnelstack.edge.public.hosts import PublishedHosts
from tunnelstack.edge.public.port_leases import PORT_KINDS
from tunnelstack.edge.public.ports import Ports
from tunnelstack.edge.public.udp_ports import UDPPorts
from tunnelstack.errors import Denied, Refused
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS, ExchangeBounds
from tunnelstack.interfaces import IAuthenticator, IEdge, IReactor, ISession, ITunnel
from tunnelstack.records import (
    Claim,
    Grant,
    Principal,
    Purpose,
    Service,
    SSHPurpose,
    StreamPurpose,
    TCPPurpose,
    TerminalPurpose,
)
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.session.totals import SessionTotals
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.wire.printable_text import quoted
from tunnelstack.wire.yamux.limits import SessionLimits

T = TypeVar("T")

MAX_SERVICES = 256
"""Names that one session may hold."""

SSH = "ssh"
"""The purpose of a dialler that connects to an agent's SSH server, and the kind of such a service."""

TERMINAL = "terminal"
"""The purpose of a dialler that opens a terminal on an agent."""

TCP = "tcp:"
"""The prefix of a purpose that is C{tcp:HOST:PORT}, an address which the agent can reach."""

UNNAMED_KINDS = (*PORT_KINDS, SSH)
"""Kinds of services that are granted without a name: the name is checked by L{NameOwnership}."""

ALIVE_SECONDS = 5.0
"""Seconds within which the holder of a name must answer a ping, when another process of its agent requests it."""


@implementer(IEdge)
class Agents:
    """
    The edge as dialects see it.

    @ivar registry: the connected tunnels and the names they hold.
    @ivar ports: the TCP ports of services.
    @ivar udpPorts: the UDP ports of services.
    @ivar sessions: the sessions of agents.
    @ivar presences: the numbers and times of sessions, and those that have ended lately.
    @ivar denials: how many requests of agents were denied, by code; C{"refused"} is a credential that was not accepted.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactor,
        registry: Registry,
        ports: Ports,
        udpPorts: UDPPorts,
        authenticator: IAuthenticator,
        *,
        grantFor: Callable[[str], Grant],
        sessionLimits: SessionLimits,
        owners: NameOwnership,
        hosts: PublishedHosts | None = None,
        bounds: ExchangeBounds = DEFAULT_BOUNDS,
        state: StateDirectory | None = None,
        authority: str = "",
        sshAddress: Callable[[], str] = lambda: "",
        known: Callable[[Principal], bool] | None = None,
        budget: MemoryBudget | None = None,
    ) -> None:
        """
        The parameters that are not listed are as in L{IEdge}.

        @param grantFor: gives the L{Grant} with the public host of a web service, by its name.
        @param budget: the memory that all sessions of agents share; C{None} for no bound.
        @param owners: decides which credential may use a name that is not granted by name.
        @param hosts: the hosts that dialects publish.
        @param known: whether a principal would still be authenticated now.
        """
        self.clock = clock
        self.registry = registry
        self.ports = ports
        self.udpPorts = udpPorts
        self._leases = {"tcp": ports.leases, "udp": udpPorts.leases}
        self.authenticator = authenticator
        self.sessionLimits = sessionLimits
        self.bounds = bounds
        self.state = state
        self.authority = authority
        self.sshAddress = sshAddress
        self.stopping = False
        self._grantFor = grantFor
        self._owners = owners
        self._hosts = hosts or PublishedHosts()
        self._known = known or (lambda principal: True)
        self._budget = budget
        self.sessions = SessionTotals()
        self.denials: dict[str, int] = {}
        self.presences = Presences(clock)
        self._boundsWatchers: list[Callable[[ExchangeBounds], object]] = []
        registry.watch(self._nameChanged)

    def authenticate(self, claim: Claim) -> Deferred[Principal]:
        """
        As in L{IAuthenticator}.
        """
        authenticated: Deferred[Principal] = maybeDeferred(self.authenticator.authenticate, claim)
        return authenticated.addErrback(self._countDenial)

    # Bounds

    def watchBounds(self, watcher: Callable[[ExchangeBounds], object]) -> None:
        """
        As in L{IEdge}.
        """
        self._boundsWatchers.append(watcher)

    def setBounds(self, bounds: ExchangeBounds) -> None:
        """
        Let exchanges take this from now on.
        """
        if bounds != self.bounds:
            self.bounds = bounds
            for watcher in self._boundsWatchers:
                watcher(bounds)

    # Tunnels

    def arrived(self, tunnel: ITunnel) -> None:
        """
        As in L{IEdge}.
        """
        try:
            self._verifyArrival(tunnel)
        except Refused as reason:
            self._denied(reason)
            raise
        self._add(tunnel)

    def _verifyArrival(self, tunnel: ITunnel) -> None:
        """
        @raise Denied: the tunnel cannot be used.
        """
        if self.stopping:
            raise Denied("stopping", "this edge is about to stop")
        # The credential may have been revoked between the authentication and now.
        if not (tunnel.principal.realm or self._known(tunnel.principal)):
            raise Denied("revoked", "the credential was revoked")
        permissionsOf(tunnel.principal)            # raises Denied if the rights are malformed
        present = self.registry.agent(tunnel.principal.agent)
        if present is not None and present.principal.realm != tunnel.principal.realm:
            raise Denied("taken", f"{tunnel.principal.agent} is the name of an agent of another system")

    def _add(self, tunnel: ITunnel) -> None:
        for old in self.registry.add(tunnel):
            self._ended("replaced", old, "the same process has connected again")
            old.abort(Denied("replaced", "this agent has connected again"))
        self._log("connected", tunnel)
        self.presences.arrived(tunnel)
        session: ISession | None = getattr(tunnel, "session", None)
        if session is not None:
            self.sessions.join(session)
        if self._budget is not None and session is not None:
            self._budget.join(session)
        tunnel.whenLost().addCallback(self._lost, tunnel, session)

    def portOf(self, kind: str, name: str) -> int:
        """
        @param kind: C{"tcp"} or C{"udp"}.
        @return: the port of a service; C{0} if it has none.
        """
        return self._leases[kind].port(name)

    def _lost(self, reason: T, tunnel: ITunnel, session: ISession | None) -> T:
        if session is not None:
            self.sessions.leave(session)
        if self.registry.hasTunnel(tunnel):
            self._remove("disconnected", tunnel, str(reason))
        self.presences.ended(tunnel, str(reason))
        return reason

    def _remove(self, what: str, tunnel: ITunnel, reason: str) -> None:
        self.registry.remove(tunnel)
        self._ended(what, tunnel, reason)

    def _ended(self, what: str, tunnel: ITunnel, reason: str) -> None:
        """
        A tunnel is not in the registry any more.
        """
        self._log(what, tunnel, reason)
        self.presences.ended(tunnel, reason)

    # On request of an operator

    def _session(self, number: int) -> ITunnel:
        tunnel = self.presences.find(number)
        if tunnel is None:
            raise Denied("unknown", f"there is no session {number}, or it has ended")
        return tunnel

    def drain(self, number: int) -> None:
        """
        Send a tunnel no more work, and let it end when the work under way is finished.

        @param number: of a L{Presence<tunnelstack.edge.presences.Presence>}.
        @raise Denied: C{unknown}: there is no such session.
        """
        tunnel = self._session(number)
        self._log("drains", tunnel, "an operator has requested it")
        tunnel.drain().addErrback(lambda failure: self.log.failure("a session could not be drained", failure=failure))

    def disconnect(self, number: int) -> None:
        """
        End a tunnel at once.  Its names are free at once; its agent may connect again.

        @param number: of a L{Presence<tunnelstack.edge.presences.Presence>}.
        @raise Denied: C{unknown}: there is no such session.
        """
        tunnel = self._session(number)
        self._remove("disconnected", tunnel, "an operator has requested it")
        tunnel.abort("an operator has disconnected this agent")

    def _log(self, what: str, tunnel: ITunnel, reason: str = "") -> None:
        self.log.info(
            "{agent} " + what + (": {reason}" if reason else " by {dialect}"), agent=tunnel.principal.agent,
            dialect=tunnel.dialect, instance=tunnel.instance, token=tunnel.principal.token, reason=reason, status="agent",
        )

    def _nameChanged(self, kind: str, name: str, held: bool) -> None:
        """
        Called by the registry when a name becomes held or free.
        """
        if kind in PORT_KINDS and not held:
            self._leases[kind].close(name).addErrback(self._notClosed)

    def _notClosed(self, failure: Failure) -> None:
        self.log.failure("a port could not be closed", failure=failure)

    # Names

    def announce(self, tunnel: ITunnel, service: Service) -> Deferred[Grant]:
        """
        As in L{IEdge}.
        """
        return self._announce(tunnel, service).addErrback(self._countDenial)

    def _announce(self, tunnel: ITunnel, service: Service) -> Deferred[Grant]:
        try:
            self._checkAllowed(tunnel, service)
        except Denied:
            return fail()
        holder = self.registry.conflictingHolder(service.kind, service.name, tunnel)
        if holder is not None and holder.principal.agent == tunnel.principal.agent:
            return self._probeHolder(holder).addCallback(lambda _: self._publish(tunnel, service))
        return self._publish(tunnel, service)

    def _countDenial(self, failure: Failure) -> Failure:
        if isinstance(failure.value, Refused):
            self._denied(failure.value)
        return failure

    def _denied(self, reason: Refused) -> None:
        code = reason.code or "refused"
        self.denials[code] = self.denials.get(code, 0) + 1

    def _checkAllowed(self, tunnel: ITunnel, service: Service) -> None:
        """
        @raise Denied: the token does not allow the service, the name belongs to another agent, or the session holds
            L{MAX_SERVICES} names.
        """
        self._checkRights(tunnel.principal, service)
        if len(self.registry.names(tunnel)) >= MAX_SERVICES:
            raise Denied("limit", f"one session holds at most {MAX_SERVICES} names")

    def checkService(self, principal: Principal, service: Service) -> None:
        """
        As in L{IEdge}.
        """
        self._checkRights(principal, service)
        rights = permissionsOf(principal)
        ports = {"tcp": rights.tcp, "udp": rights.udp}.get(service.kind, ())
        if service.port and not any(service.port in allowed for allowed in ports):
            raise Denied("not-allowed", f"the token does not allow {service.kind}:{service.port}", port=service.port)
        if self.registry.foreignHolder(service.name, principal.agent) is not None:
            raise Denied("taken", f"{service.name} is held by another agent", name=service.name)
        if service.port:
            self._leases[service.kind].check(service.name, service.port)

    def _checkRights(self, principal: Principal, service: Service) -> None:
        """
        @raise Denied: the rights do not include the service, or the name belongs to another agent.
        """
        rights, name = permissionsOf(principal), service.name
        if self.stopping:
            raise Denied("stopping", "this edge is about to stop")
        if not _includes(rights, service.kind, name):
            right = {SSH: SSH, "tcp": "tcp:PORTS", "udp": "udp:PORTS"}.get(service.kind, f"{service.kind}:{name}")
            self._deny(principal, service, right)
        if service.kind in UNNAMED_KINDS:
            if not self._owners.mayUse(principal, name):
                self._deny(principal, service, f"the name {name}, which is reserved or belongs to another credential")
            if self.registry.hasAgent(name) and name != principal.agent:
                raise Denied("taken", f"{name} is the name of another agent", name=name)

    def _deny(self, principal: Principal, service: Service, right: str) -> NoReturn:
        self.log.warn(
            "agent {agent} may not announce {kind} {service}", agent=principal.agent, kind=service.kind,
            service=service.name, token=principal.token,
        )
        raise Denied("not-allowed", f"the token does not allow {right}")

    def _probeHolder(self, holder: ITunnel) -> Deferred[object]:
        """
        Ping the holder of a name.  A holder that does not answer within L{ALIVE_SECONDS} is dropped: its connection is dead,
        and it would keep the name until the session times out.
        """
        pong: Deferred[object] = maybeDeferred(holder.ping).addTimeout(ALIVE_SECONDS, self.clock)

        def drop(failure: Failure) -> None:
            if self.registry.hasTunnel(holder):
                self._remove("dropped", holder, "it did not answer, and another process of the same agent requested its name")
                holder.abort(Denied("replaced", "this process did not answer, and another process of the agent took its names"))

        return pong.addErrback(drop)

    def _publish(self, tunnel: ITunnel, service: Service) -> Deferred[Grant]:
        try:
            new = self.registry.claim(service.kind, service.name, tunnel)
        except Denied:
            return fail()
        if service.kind in PORT_KINDS:
            granted: Deferred[Grant] = self._publishAtPort(tunnel, service, new)
            return granted
        grant = self._grantFor(service.name) if service.kind == "http" else Grant()
        if new:
            self._logPublished(tunnel, service, grant)
        return succeed(grant)

    @inlineCallbacks
    def _publishAtPort(self, tunnel: ITunnel, service: Service, new: bool) -> Generator[Deferred[Any], Any, Grant]:
        kind, name, agent = service.kind, service.name, tunnel.principal.agent
        try:
            rights = permissionsOf(tunnel.principal)
            allowed = rights.tcp if kind == "tcp" else rights.udp
            port = yield self._leases[kind].open(agent, name, service.port, allowed, service.address)
        except Denied:
            if new:
                self.registry.withdraw(kind, name, tunnel)
            raise
        grant = Grant(host=self._grantFor(name).host, port=port)
        if not self.registry.isHeld(name, kind):              # the tunnel was lost while the port was being opened
            yield self._leases[kind].close(name)
        if new:
            self._logPublished(tunnel, service, grant)
        return grant

    def _logPublished(self, tunnel: ITunnel, service: Service, grant: Grant) -> None:
        self.log.info(
            "{service} of agent {agent} at {where}", service=service.name, agent=tunnel.principal.agent, kind=service.kind,
            status="service", where=grant.url or (f"port {grant.port}" if grant.port else "this edge, for diallers"),
        )

    def withdraw(self, tunnel: ITunnel, service: Service) -> Deferred[None]:
        """
        As in L{IEdge}.
        """
        self.registry.withdraw(service.kind, service.name, tunnel)
        return succeed(None)

    def addressOf(self, name: str) -> Grant:
        """
        As in L{IEdge}.
        """
        return self._grantFor(name)

    def expect(self, principal: Principal, service: Service) -> None:
        """
        As in L{IEdge}.
        """
        self.registry.remembered.expect((service.kind, service.name), principal)

    def expectNoMore(self, principal: Principal, service: Service) -> None:
        """
        As in L{IEdge}.
        """
        if not self.registry.isHeld(service.name, service.kind):
            self.registry.remembered.forget((service.kind, service.name), principal.agent)

    def publishHost(self, host: str, agent: str) -> None:
        """
        As in L{IEdge}.
        """
        self._hosts.publish(host, agent)

    def withdrawHost(self, host: str) -> None:
        """
        As in L{IEdge}.
        """
        self._hosts.withdraw(host)

    # Dialling

    def reach(self, principal: Principal, to: str, purpose: str) -> tuple[ITunnel, Purpose]:
        """
        As in L{IEdge}.
        """
        try:
            return self._reach(principal, to, purpose)
        except Refused as reason:
            self._denied(reason)
            raise

    def _reach(self, principal: Principal, to: str, purpose: str) -> tuple[ITunnel, Purpose]:
        rights = permissionsOf(principal)
        if purpose == SSH:
            tunnel = self._sshHolder(to)
            full = f"{tunnel.principal.agent}/{to.rpartition('/')[2]}" if tunnel is not None else to
            if not rights.mayDial(to, full):
                raise Denied("not-allowed", f"the token does not allow dial:{to}")
            return self.sshTarget(to)
        if purpose == TERMINAL:
            return self._terminalTunnel(rights, to), TerminalPurpose()
        if purpose.startswith(TCP):
            host, _, port = purpose.removeprefix(TCP).rpartition(":")
            if not host:
                raise Denied("malformed", f"the purpose must be {TCP}HOST:PORT, not {quoted(purpose[:64])}")
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
            if known:
                raise Denied("absent", f"{to} is not connected")
            raise Denied("unknown", f"no service {to} can be dialled at this edge")
        return tunnel, TCPPurpose(service=name)

    def sshTarget(self, to: str) -> tuple[ITunnel, Purpose]:
        """
        Find an SSH server.  The caller has checked the permission.

        @param to: the name of an SSH service, C{agent/service}, or the name of an agent or device.
        @return: the tunnel, and the purpose to request from it.
        @raise Denied: no agent of that name is connected.
        """
        tunnel = self._sshHolder(to)
        if tunnel is not None:
            return tunnel, TCPPurpose(service=to.rpartition("/")[2])
        tunnel = self.registry.agent(to)
        if tunnel is None:
            raise Denied("absent", f"{to} is not connected")
        offered = [name for kind, name in self.registry.names(tunnel) if kind == SSH]
        return tunnel, TCPPurpose(service=offered[0]) if offered else SSHPurpose()

    def _sshHolder(self, to: str) -> ITunnel | None:
        """
        The tunnel that offers an SSH service under a name; C{None} if the name is that of another agent, which has precedence.
        """
        tunnel = self.registry.pick(to, SSH) if self.registry.isHeld(to, SSH) else None
        shadowed = tunnel is not None and self.registry.hasAgent(to) and tunnel.principal.agent != to
        return None if shadowed else tunnel

    def _agentTunnel(self, rights: Permissions, agent: str, *names: str) -> ITunnel:
        """
        The tunnel of an agent, if the dialler's rights include the agent or one of C{names}.
        """
        if not rights.mayDial(agent, *names):
            raise Denied("not-allowed", f"the token does not allow dial:{agent}")
        tunnel = self.registry.agent(agent)
        if tunnel is None:
            raise Denied("absent", f"{agent} is not connected")
        return tunnel

    def _terminalTunnel(self, rights: Permissions, agent: str) -> ITunnel:
        if not rights.mayOpenTerminal(agent):
            raise Denied("not-allowed", f"the token does not allow terminal:{agent}")
        tunnel = self.registry.agent(agent)
        if tunnel is None:
            raise Denied("absent", f"{agent} is not connected")
        return tunnel

    def _protocolTunnel(self, rights: Permissions, to: str, purpose: str) -> tuple[ITunnel, Purpose]:
        """
        The tunnel for an application's own stream protocol: of an agent, or of the holder of a name.
        """
        if not (purpose.startswith("/") and purpose.isascii() and purpose.isprintable()) or purpose.startswith("/tunnelstack/"):
            raise Denied("unsupported", f"this edge cannot dial for the purpose {quoted(purpose[:64])}")
        if not rights.mayDial(to, to + purpose):
            raise Denied("not-allowed", f"the token does not allow dial:{to}")
        tunnel = self.registry.agent(to) or self.registry.pick(to, "stream") or self.registry.pick(to, "http")
        if tunnel is None:
            raise Denied("absent", f"{to} is not connected")
        return tunnel, StreamPurpose(purpose.encode())


def _includes(rights: Permissions, kind: str, name: str) -> bool:
    """
    @return: whether a service of that kind and name may be announced.
    """
    if kind == "http":
        return rights.mayServe(name)
    if kind == "stream":
        return rights.mayStream(name)
    return {"tcp": bool(rights.tcp), "udp": bool(rights.udp), SSH: rights.ssh}.get(kind, False)


def _port(text: str) -> int:
    """
    @raise Denied: the text is not a port number.
    """
    port = int(text) if text.isdecimal() and len(text) <= 5 else 0
    if not 0 < port < 65_536:
        raise Denied("malformed", f"{quoted(text[:16])} is not a port number")
    return port

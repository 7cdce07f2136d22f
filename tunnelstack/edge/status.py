"""
The state of an edge as records that JSON can encode.

The figures are read on request, from counters that the edge keeps anyway, so that status costs nothing on the data path.  Long
lists are read in L{Steps<tunnelstack.edge.slices.Steps>}.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from tunnelstack.control.metrics.counts import CLASSES
from tunnelstack.edge.list_query import ALL, ListQuery
from tunnelstack.edge.public.port_leases import PORT_KINDS
from tunnelstack.edge.running_edge import RunningEdge
from tunnelstack.edge.slices import STEP, Steps, toEnd
from tunnelstack.interfaces import ISession, ITunnel
from tunnelstack.transport.peers import addressText
from tunnelstack.version import VERSION

Record = dict[str, Any]


def statusOf(edge: RunningEdge) -> Record:
    """
    The state and the totals of an edge.
    """
    return toEnd(statusSteps(edge))


def statusSteps(edge: RunningEdge) -> Steps[Record]:
    """
    As L{statusOf}.
    """
    agents, services, streams = set(), 0, 0
    octetsIn = octetsOut = 0
    tunnels = list(edge.registry)
    for number, tunnel in enumerate(tunnels):
        if not number % STEP:
            yield
        agents.add(tunnel.principal.agent)
        session = sessionOf(tunnel)
        if session is not None:
            streams += session.streams
            octetsIn += session.octetsIn
            octetsOut += session.octetsOut
    services = len(edge.registry.held())
    yield
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "state": edge.state,
        "uptime_seconds": round(edge.clock.seconds() - edge.startedAt, 3),
        "url": edge.url,
        "domain": edge.config.domain,
        "listening": [addressText(address) for address in edge.addresses],
        "admin": [addressText(address) for address in edge.admin.addresses],
        "agents": len(agents),
        "sessions": len(tunnels),
        "services": services,
        "out_of_service": edge.health.out,
        "streams": streams,
        "visitors": len(edge.public.connections) + edge.agents.ports.connections,
        "udp_flows": edge.agents.udpPorts.flows,
        "udp_dropped": edge.agents.udpPorts.dropped,
        "octets_in": octetsIn,
        "octets_out": octetsOut,
        "totals": _totals(edge),
        "denials": dict(sorted(edge.agents.denials.items())),
        "limits": _limits(edge),
        "certificates": [{"file": path, "expires": expires} for path, expires in sorted(edge.certificateExpiries.items())],
        "drain_seconds": edge.config.drainSeconds,
        "reload": _reload(edge),
        "samples": edge.config.samples.requests,
    }


def _totals(edge: RunningEdge) -> Record:
    """
    Figures that only grow.
    """
    sessions, site = edge.agents.sessions, edge.public.site
    totals: Record = {
        "octets_in": sessions.octetsIn, "octets_out": sessions.octetsOut, "streams": sessions.streamsOpened,
        "sessions": sessions.joined, "sessions_lost": sessions.lost, "visitors_refused": edge.admission.refused,
        "streams_reset": edge.memoryBudget.streamsReset, "udp_dropped": edge.agents.udpPorts.dropped,
    }  # fmt: skip
    if site.counts is not None:
        site.counts.fold()
        totals |= {
            "requests": sum(site.counts.byClass), "requests_by_class": dict(zip(CLASSES, site.counts.byClass, strict=True)),
            "requests_failed": {kind: count for kind, count in site.counts.failures.items() if count},
        }  # fmt: skip
    return totals


def _limits(edge: RunningEdge) -> list[Record]:
    """
    What is used of each limit of the whole edge.
    """
    limits, admission = edge.config.limits, edge.admission
    return [
        {"key": "visitors", "used": admission.connectionCount, "most": admission.maxConnections, "unit": "",
         "full": admission.paused},
        {"key": "process_octets", "used": edge.memoryBudget.held, "most": edge.memoryBudget.limit, "unit": "octets",
         "full": edge.memoryBudget.held > edge.memoryBudget.limit},
        {"key": "udp_flows", "used": edge.agents.udpPorts.flows, "most": limits.udpFlows, "unit": "",
         "full": edge.agents.udpPorts.flows >= limits.udpFlows},
    ]  # fmt: skip


def _reload(edge: RunningEdge) -> Record | None:
    """
    The last time that the configuration was read again.
    """
    last = edge.lastReload
    if last is None:
        return None
    return {"seconds": round(edge.clock.seconds() - last.at, 3), "changed": list(last.changed), "error": last.error}


# Agents


def agentsOf(edge: RunningEdge) -> list[Record]:
    """
    One record for each session, sorted by agent.
    """
    agents: list[Record] = toEnd(agentSteps(edge, ALL))["agents"]
    return agents


def agentSteps(edge: RunningEdge, query: ListQuery) -> Steps[Record]:
    """
    The sessions that a query asks for, how many match it, the agents that the edge dials, and the sessions that have ended
    lately.
    """
    found: list[ITunnel] = []
    for number, tunnel in enumerate(sorted(edge.registry, key=lambda tunnel: tunnel.principal.agent)):
        if not number % STEP:
            yield
        if not query.text or query.matches(_agentWords(edge, tunnel)):
            found.append(tunnel)
    agents = []
    for number, tunnel in enumerate(query.part(found)):
        if not number % STEP:
            yield
        agents.append(_agent(edge, tunnel))
    outbound = [record for record in outboundAgentsOf(edge) if query.matches((record["agent"], record["address"]))]
    return {"agents": agents, "count": len(found), "outbound": outbound, "left": leftOf(edge)}


def _agentWords(edge: RunningEdge, tunnel: ITunnel) -> Iterator[str]:
    session, principal = sessionOf(tunnel), tunnel.principal
    yield from (principal.agent, tunnel.dialect, tunnel.instance, principal.token, "up" if tunnel.healthy else "draining")
    if session is not None:
        yield addressText(session.address.peer)
    yield from (f"{kind}:{name}" for kind, name in edge.registry.names(tunnel))


def outboundAgentsOf(edge: RunningEdge) -> list[Record]:
    """
    One record for each agent that the edge dials.
    """
    return [{"door": door.description, **agent} for door in edge.outboundDoors for agent in door.service.report()]


def leftOf(edge: RunningEdge) -> list[Record]:
    """
    One record for each session that has ended lately, the newest first.
    """
    now = edge.clock.seconds()
    return [
        {"agent": left.agent, "dialect": left.dialect, "session": left.number, "seconds": round(left.at - left.since, 3),
         "ago": round(now - left.at, 3), "reason": left.reason}
        for left in reversed(edge.agents.presences.left)
    ]  # fmt: skip


def _agent(edge: RunningEdge, tunnel: ITunnel) -> Record:
    session, present = sessionOf(tunnel), edge.agents.presences.of(tunnel)
    trip = None if present is None else edge.roundTrips.of(present.number)
    return {
        "agent": tunnel.principal.agent,
        "session": None if present is None else present.number,
        "instance": tunnel.instance,
        "dialect": tunnel.dialect,
        "version": getattr(tunnel, "version", ""),
        "peer": addressText(session.address.peer) if session is not None else "",
        "credential": tunnel.principal.token,
        "share": tunnel.principal.share,
        "healthy": tunnel.healthy,
        "seconds": None if present is None else round(edge.clock.seconds() - present.since, 3),
        "round_trip": None if trip is None else round(trip, 6),
        "services": [f"{kind}:{name}" for kind, name in edge.registry.names(tunnel)],
        "out_of_service": dict(edge.health.reasons(tunnel)),
        "in_flight": tunnel.inFlight,
        "streams": 0 if session is None else session.streams,
        "octets_in": 0 if session is None else session.octetsIn,
        "octets_out": 0 if session is None else session.octetsOut,
    }


def sessionOf(tunnel: ITunnel) -> ISession | None:
    """
    @return: the session of a tunnel; C{None} if its dialect has no sessions.
    """
    session: ISession | None = getattr(tunnel, "session", None)
    return session


# Public addresses


def routesOf(edge: RunningEdge) -> list[Record]:
    """
    One record for each public address: the routes of the configuration, then the hosts that dialects have published, then the
    services of agents.
    """
    routes: list[Record] = toEnd(routeSteps(edge, ALL))["routes"]
    return routes


def routeSteps(edge: RunningEdge, query: ListQuery) -> Steps[Record]:
    """
    The public addresses that a query asks for, and how many match it.
    """
    found: list[Record] = []
    for number, record in enumerate(_routes(edge)):
        if not number % STEP:
            yield
        if query.matches((record["kind"], record["public"], record["to"], *record["agents"])):
            found.append(record)
    return {"routes": list(query.part(found)), "count": len(found)}


def _routes(edge: RunningEdge) -> Iterator[Record]:
    for route in edge.config.routes:
        public = route.host + (route.path if route.path != "/" else "")
        yield _route(edge, "http", public, route.to, configured=True)
    for host, agent in list(edge.hosts):
        yield _routeRecord(edge, "http", host, agent, f"{agent}:0", False, edge.registry.tunnels(agent))
    for kind, name in sorted(edge.registry.held()):
        yield _route(edge, kind, _public(edge, kind, name), name, configured=False)


def _route(edge: RunningEdge, kind: str, public: str, to: str, *, configured: bool) -> Record:
    return _routeRecord(edge, kind, public, to, to, configured, edge.registry.holders(kind, to))


def _routeRecord(
    edge: RunningEdge, kind: str, public: str, to: str, key: str, configured: bool, holders: Sequence[ITunnel]
) -> Record:
    """
    @param key: as of L{Registry.pick<tunnelstack.control.registry.Registry.pick>}.
    """
    name = key.rpartition("/")[2]
    failing = kind == "http" and edge.health.out
    out = {tunnel.principal.agent for tunnel in holders if name in edge.health.reasons(tunnel)} if failing else set()
    usable = any(tunnel.healthy and tunnel.principal.agent not in out for tunnel in holders)
    lately = not holders and edge.registry.isKnown(key, kind)
    return {
        "kind": kind, "public": public, "to": to, "configured": configured,
        "agents": sorted({tunnel.principal.agent for tunnel in holders}),
        "out_of_service": sorted(out),
        "state": "up" if usable else "failing" if out else "draining" if holders else "away" if lately else "down",
    }  # fmt: skip


def _public(edge: RunningEdge, kind: str, name: str) -> str:
    if kind == "http":
        return edge.grantFor(name).url
    if kind in PORT_KINDS:
        return f"{kind}:{edge.config.domain}:{edge.agents.portOf(kind, name)}"
    return f"tunnel:{name}"

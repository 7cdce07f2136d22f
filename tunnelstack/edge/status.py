"""
The state of an edge as records that JSON can encode.

The figures are read on request, from counters that the edge keeps anyway, so that status costs nothing on the data path.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

from tunnelstack.edge.public.port_leases import PORT_KINDS
from tunnelstack.edge.running_edge import RunningEdge
from tunnelstack.interfaces import ITunnel
from tunnelstack.transport.peers import addressText

Record = dict[str, Any]


def statusOf(edge: RunningEdge) -> Record:
    """
    The state and the totals of an edge.
    """
    tunnels = list(edge.registry)
    sessions = [session for tunnel in tunnels if (session := _session(tunnel)) is not None]
    return {
        "version": version("tunnelstack"),
        "pid": os.getpid(),
        "state": edge.state,
        "uptime_seconds": round(edge.clock.seconds() - edge.startedAt, 3),
        "url": edge.url,
        "domain": edge.config.domain,
        "listening": [addressText(address) for address in edge.addresses],
        "admin": [addressText(address) for address in edge.admin.addresses],
        "agents": len({tunnel.principal.agent for tunnel in tunnels}),
        "sessions": len(tunnels),
        "services": len({pair for tunnel in tunnels for pair in edge.registry.names(tunnel)}),
        "out_of_service": edge.health.out,
        "streams": sum(session.streams for session in sessions),
        "visitors": len(edge.public.connections) + edge.agents.ports.connections,
        "udp_flows": edge.agents.udpPorts.flows,
        "udp_dropped": edge.agents.udpPorts.dropped,
        "octets_in": sum(session.octetsIn for session in sessions),
        "octets_out": sum(session.octetsOut for session in sessions),
    }


def agentsOf(edge: RunningEdge) -> list[Record]:
    """
    One record for each session, sorted by agent.
    """
    return [_agent(edge, tunnel) for tunnel in sorted(edge.registry, key=lambda tunnel: tunnel.principal.agent)]


def outboundAgentsOf(edge: RunningEdge) -> list[Record]:
    """
    One record for each agent that the edge dials.
    """
    return [{"door": door.description, **agent} for door in edge.outboundDoors for agent in door.service.report()]


def _agent(edge: RunningEdge, tunnel: ITunnel) -> Record:
    session, since = _session(tunnel), edge.agents.connectedAt(tunnel)
    return {
        "agent": tunnel.principal.agent,
        "instance": tunnel.instance,
        "dialect": tunnel.dialect,
        "version": getattr(tunnel, "version", ""),
        "peer": addressText(session.address.peer) if session is not None else "",
        "credential": tunnel.principal.token,
        "share": tunnel.principal.share,
        "healthy": tunnel.healthy,
        "seconds": None if since is None else round(edge.clock.seconds() - since, 3),
        "services": [f"{kind}:{name}" for kind, name in edge.registry.names(tunnel)],
        "out_of_service": dict(edge.health.reasons(tunnel)),
        "in_flight": tunnel.inFlight,
        "streams": 0 if session is None else session.streams,
        "octets_in": 0 if session is None else session.octetsIn,
        "octets_out": 0 if session is None else session.octetsOut,
    }


def routesOf(edge: RunningEdge) -> list[Record]:
    """
    One record for each public address: the routes of the configuration, then the hosts that dialects have published, then the
    services of agents.
    """
    configured = [
        {"kind": "http", "public": route.host + (route.path if route.path != "/" else ""), "to": route.to, "configured": True,
         "agents": _holders(edge, "http", route.to), "out_of_service": _leftOut(edge, "http", route.to)}
        for route in edge.config.routes
    ]  # fmt: skip
    published = [
        {"kind": "http", "public": host, "to": agent, "configured": False,
         "agents": [agent] if edge.registry.hasAgent(agent) else [], "out_of_service": _leftOut(edge, "http", f"{agent}:0")}
        for host, agent in edge.hosts
    ]  # fmt: skip
    held = sorted({pair for tunnel in edge.registry for pair in edge.registry.names(tunnel)})
    return configured + published + [
        {"kind": kind, "public": _public(edge, kind, name), "to": name, "configured": False,
         "agents": _holders(edge, kind, name), "out_of_service": _leftOut(edge, kind, name)}
        for kind, name in held
    ]  # fmt: skip


def _public(edge: RunningEdge, kind: str, name: str) -> str:
    if kind == "http":
        return edge.grantFor(name).url
    if kind in PORT_KINDS:
        return f"{kind}:{edge.config.domain}:{edge.agents.portOf(kind, name)}"
    return f"tunnel:{name}"


def _holders(edge: RunningEdge, kind: str, key: str) -> list[str]:
    agent, _, name = key.rpartition("/")
    return sorted(
        {
            tunnel.principal.agent for tunnel in edge.registry
            if (kind, name) in edge.registry.names(tunnel) and agent in ("", tunnel.principal.agent)
        }
    )  # fmt: skip


def _leftOut(edge: RunningEdge, kind: str, key: str) -> list[str]:
    """
    The agents that get no requests for a key, because their health checks failed.
    """
    if kind != "http" or not edge.health.out:
        return []
    return sorted({
        tunnel.principal.agent for tunnel in edge.registry
        if edge.registry.holds(tunnel, key) and key.rpartition("/")[2] in edge.health.reasons(tunnel)
    })  # fmt: skip


def streamsOf(edge: RunningEdge) -> list[Record]:
    """
    One record for each stream of each session.
    """
    return [
        {
            "agent": tunnel.principal.agent,
            "stream": stream.streamId,
            "protocol": stream.address.protocol.decode("latin-1"),
            "service": str(stream.address.parameters.get("service", "")),
            "queued": getattr(stream, "queued", 0),     # one that is a connection of its own leaves its queue to TCP
        }
        for tunnel in sorted(edge.registry, key=lambda tunnel: tunnel.principal.agent)
        if (session := _session(tunnel)) is not None
        for stream in session.transports()
    ]


def _session(tunnel: ITunnel) -> Any:
    """
    The session of a tunnel; C{None} if its dialect has no sessions.
    """
    return getattr(tunnel, "session", None)

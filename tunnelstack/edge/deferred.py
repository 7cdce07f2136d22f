"""
The modules that an edge for development loads when they are needed, if ever.

Such an edge starts earlier and is smaller.  Other edges load them when they start: a process that has changed its root
directory or its user may not be able to load modules later.
"""

from __future__ import annotations

from importlib import import_module

DEFERRED = (
    "tomllib",                                         # another edge with the same state folder, when it starts
    "tunnelstack.control.config.reader",               # tokens that "tunnelstack token" makes
    "tunnelstack.control.config.reload",               # a reload
    "tunnelstack.edge.administration",                 # a request to the administration
    "tunnelstack.edge.health_probe",                   # a configuration with health checks
    "tunnelstack.edge.public.access_policy",           # a configuration with routes
    "tunnelstack.edge.public.udp_flows",               # an agent with a UDP service
    "tunnelstack.edge.round_trips",                    # a list of agents
    "tunnelstack.edge.service_page",                   # a browser at the edge's own host
    "tunnelstack.edge.status",                         # SIGUSR2
    "tunnelstack.stream.datagrams",                    # a datagram to a UDP service
)
"""With all that they import."""


def loadDeferred() -> None:
    """
    Load all of them now.
    """
    for name in DEFERRED:
        import_module(name)

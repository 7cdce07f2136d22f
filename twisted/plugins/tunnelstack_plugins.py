"""
The Twisted plugins of tunnelstack: two services and two reactors for C{twistd}, and the parsers of C{tunnel:} endpoint strings.

Every program that looks for Twisted plugins imports this module, so it imports nothing that is slow to load.
"""

from __future__ import annotations

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

from tunnelstack.endpoint_parsers import TunnelClientParser, TunnelServerParser

tunnelEdge = ServiceMaker(
    "tunnelstack edge",
    "tunnelstack.edge.options",
    "The public side of tunnels: accepts visitors and agents.",
    "tunnel-edge",
)

tunnelAgent = ServiceMaker(
    "tunnelstack agent",
    "tunnelstack.agent.options",
    "The private side of tunnels: publishes local servers through an edge.",
    "tunnel-agent",
)

busyPollReactor = Reactor(
    "busypoll",
    "tunnelstack.reactor.busypoll",
    "epoll(4), polling briefly before it blocks.",
)

uvloopReactor = Reactor(
    "uvloop",
    "tunnelstack.reactor.uvloop",
    "asyncio with the event loop of uvloop.",
)

tunnelServer = TunnelServerParser()
tunnelClient = TunnelClientParser()

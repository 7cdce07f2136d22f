"""
What tunnelstack adds to Twisted: two services and two reactors for C{twistd}, and the C{tunnel:} endpoints.

Every C{twistd} and every C{serverFromString} on the machine loads this file, so it imports only the standard library and what
is loaded already.
"""

from __future__ import annotations

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

from tunnelstack.endpoint_parsers import TunnelClientParser, TunnelServerParser

tunnelEdge = ServiceMaker(
    "tunnelstack edge",
    "tunnelstack.edge.options",
    "The public side of tunnels: visitors and agents come in here.",
    "tunnel-edge",
)

tunnelAgent = ServiceMaker(
    "tunnelstack agent",
    "tunnelstack.agent.options",
    "The private side of tunnels: publishes what runs here through an edge.",
    "tunnel-agent",
)

busyPollReactor = Reactor(
    "busypoll",
    "tunnelstack.reactor.busypoll",
    "epoll(4), which looks a little longer before it goes to sleep.",
)

uvloopReactor = Reactor(
    "uvloop",
    "tunnelstack.reactor.uvloop",
    "asyncio on uvloop's event loop.",
)

tunnelServer = TunnelServerParser()
tunnelClient = TunnelClientParser()

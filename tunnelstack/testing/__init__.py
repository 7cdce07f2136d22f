"""
Tools for tests of everything above a transport: connections in memory, with virtual time.

L{Wire} connects two L{MemoryTransport}s, and L{sessionPair} puts two sessions on it.  L{EdgeAndAgent} runs an edge and an agent
on a L{Network} without sockets; a L{Caller} is a visitor.  Nothing is delivered until the test calls for it.
"""

from __future__ import annotations

from tunnelstack.testing._network import Network
from tunnelstack.testing._services import Caller, EdgeAndAgent
from tunnelstack.testing._sessions import sessionPair
from tunnelstack.testing._transport import MemoryTransport
from tunnelstack.testing._wire import CAPACITY, ROUNDS, Wire

__all__ = ["CAPACITY", "ROUNDS", "Caller", "EdgeAndAgent", "MemoryTransport", "Network", "Wire", "sessionPair"]

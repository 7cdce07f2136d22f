"""
What a test of anything above a transport needs: a wire whose octets are moved by hand, in virtual time.

L{Wire} holds two L{MemoryTransport}s back to back, and L{sessionPair} puts two sessions on it.  L{EdgeAndAgent} is a whole edge
and a whole agent on a L{Network} that has no sockets; a L{Caller} visits them.  Nothing arrives until the test says so.
"""

from __future__ import annotations

from tunnelstack.testing._network import Network
from tunnelstack.testing._services import Caller, EdgeAndAgent
from tunnelstack.testing._sessions import sessionPair
from tunnelstack.testing._transport import MemoryTransport
from tunnelstack.testing._wire import CAPACITY, ROUNDS, Wire

__all__ = ["CAPACITY", "ROUNDS", "Caller", "EdgeAndAgent", "MemoryTransport", "Network", "Wire", "sessionPair"]

"""
The wrapper that Twisted's client endpoints put around a protocol, to notice that it is connected: left in place, it is called
with all that ever arrives.
"""

from __future__ import annotations

from twisted.internet.interfaces import IProtocol, ITransport


def leaveWrapper(transport: ITransport, protocol: IProtocol) -> None:
    """
    Let a transport call a protocol directly from now on.  The wrapper has no further work once it has called C{connectionMade}
    of the protocol, which is where to call this.

    @param transport: of the protocol.  Nothing changes if it does not call the protocol through such a wrapper.
    """
    name = "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol"     # the former is that of TLS
    if getattr(getattr(transport, name, None), "_wrappedProtocol", None) is protocol:
        setattr(transport, name, protocol)

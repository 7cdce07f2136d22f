"""
A transport that changes its protocol, with the octets that the former protocol received and did not need.

Assigning C{transport.protocol}, as Twisted does, is not enough: an optimistic negotiation still has to consume its answer when
the application's protocol already writes, and octets that are given back must not be overtaken by later ones.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IProtocol


class SwitchableTransport(Protocol):
    """
    A transport whose protocol can be replaced.

    @ivar protocol: the present protocol, an C{IProtocol}.  If it has a method C{replaceProtocol}, it stays in the path, and
        passes on to the next protocol what it does not consume itself.
    """

    protocol: Any

    def redeliver(self, leftover: bytes) -> None:
        """
        Deliver, before anything that is yet to arrive, octets that a former protocol received and did not need.  While the
        application does not read, or others wait already, they wait before all those.
        """


def handOver(transport: SwitchableTransport, protocol: IProtocol, leftover: bytes = b"") -> None:
    """
    Give a transport to another protocol.

    @param leftover: octets of the peer that the present protocol received and that belong to the next one.
    """
    replaceProtocol = getattr(transport.protocol, "replaceProtocol", None)
    if replaceProtocol is None:
        transport.protocol = protocol
    else:
        replaceProtocol(protocol)
    protocol.makeConnection(transport)        # type: ignore[arg-type]
    if leftover:
        transport.redeliver(leftover)

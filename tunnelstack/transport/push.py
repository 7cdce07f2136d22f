"""
To hand the network at once what was written, as far as it takes it.

Twisted's transports send on the next turn of the reactor, after another look at every descriptor.  A session writes once a
turn, when everything is collected; there is nothing to wait for, and half of a round trip to win.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ITCPTransport, IWriteDescriptor


def undelayed(transport: Any) -> None:
    """
    Ask TCP to send small segments at once: who collects before he writes has nothing to wait for.
    """
    if ITCPTransport.providedBy(transport):
        transport.setTcpNoDelay(True)


def nothing() -> None:
    """
    For transports that cannot be hurried.
    """


def pusher(transport: Any) -> Callable[[], object]:
    """
    @param transport: any transport; one with a C{pusher} method of its own is asked for what lies below it.
    @return: call it after a write.  What fails then is met again, and told, when the reactor sends the rest.
    """
    below = getattr(transport, "pusher", None)
    if below is not None:
        push: Callable[[], object] = below()
        return push
    if not IWriteDescriptor.providedBy(transport):
        return nothing

    descriptor: Any = transport

    def hurry() -> None:
        if descriptor.connected and not descriptor.disconnecting and not descriptor.disconnected:
            descriptor.doWrite()

    return hurry

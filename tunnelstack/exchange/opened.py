"""
How the receiver of a response learns that a connection was opened for its exchange.
"""

from __future__ import annotations

from tunnelstack.interfaces import IExchangeReceiver


def reportOpened(receiver: IExchangeReceiver) -> None:
    """
    There is a new connection for an exchange that began without one: call C{connectionOpened} of its receiver, if it has that.
    It is looked for only now, because most exchanges find a connection.
    """
    opened = getattr(receiver, "connectionOpened", None)
    if opened is not None:
        opened()

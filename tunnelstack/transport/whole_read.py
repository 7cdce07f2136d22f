"""
What TLS has received, in one piece.

A record of TLS has 16 KiB, and Twisted delivers each by itself, although one read of the network has many.  Whoever has work to
do for each delivery takes the others with the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL.SSL import Error
from twisted.protocols.tls import BufferingTLSTransport

RECORD = 16 * 1024
"""Octets in a record that is full."""


def wholeRead(transport: object) -> Callable[[bytes], bytes] | None:
    """
    @return: given the octets of the first record, gives them and those of all records that have arrived; C{None} if the
        transport is not TLS over a connection of Twisted's.
    """
    return _taker(transport) if isinstance(transport, BufferingTLSTransport) else None


def _taker(tls: Any) -> Callable[[bytes], bytes]:
    def take(first: bytes) -> bytes:
        if len(first) < RECORD:               # hardly ever is there another
            return first
        receive, pieces = tls._tlsConnection.recv, [first]
        try:
            while True:
                pieces.append(receive(RECORD))
        except Error:                         # there are no more; an end or a fault is what Twisted meets again
            return b"".join(pieces)

    return take

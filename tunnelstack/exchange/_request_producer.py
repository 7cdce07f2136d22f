"""
What writes the request of an exchange on the client's side.

The usual exchange, over HTTP/1.1, checks its producer itself, which spares it a call for each request.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IProducer, IPushProducer

from tunnelstack.errors import UsageError


def requestProducer(producer: IProducer, streaming: bool, registered: IPushProducer | None) -> IPushProducer:
    """
    Check what was given to C{registerProducer}.

    @param registered: the producer that the exchange has already.
    @return: C{producer}.
    @raise UsageError: it is a pull producer.
    @raise RuntimeError: another one is registered, as in Twisted's transports.
    """
    if not streaming:
        raise UsageError("requests are written by push producers")
    if registered is not None:
        raise RuntimeError(f"cannot register {producer!r}: {registered!r} was never unregistered")
    return cast(IPushProducer, producer)

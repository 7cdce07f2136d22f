"""
What a carrier of exchanges can do, and how long its phases may take.
"""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Traits:
    """
    What the carrier of an exchange can do; read before the head is sent.

    @ivar streamed: a request's body goes out as it comes.
    @ivar largestBody: octets of the largest request body where it is not streamed.
    @ivar trailers: fields behind a body arrive.
    @ivar informational: interim responses arrive, and so does C{Expect: 100-continue}.
    @ivar upgrade: a C{101} turns both directions into raw octets.
    @ivar halfClose: one raw direction can end before the other.
    """

    streamed: bool = True
    largestBody: int = 10 * 1024 * 1024
    trailers: bool = True
    informational: bool = True
    upgrade: bool = True
    halfClose: bool = True


STREAMED = Traits()
"""HTTP/1.1 over a stream or a connection: everything."""


@frozen(kw_only=True)
class Timeouts:
    """
    How long each phase may take, in seconds.

    @ivar head: from a head's first octet to its last.
    @ivar first: from the end of a request to the head of its response, or to an interim response, which starts it again.
    @ivar interim: from the first interim response after the end of a request to the final one.
    @ivar idle: without an octet, in a body of known length or between requests.
    @ivar connect: until there is a connection.
    @ivar ending: for the other direction, once the peer has ended one, to bring something.
    """

    head: float = 10.0
    first: float = 60.0
    interim: float = 600.0
    idle: float = 300.0
    connect: float = 30.0
    ending: float = 30.0


DEFAULT_TIMEOUTS = Timeouts()

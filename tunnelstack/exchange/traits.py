"""
What a carrier of exchanges can do, and how long the phases of an exchange may take.
"""

from __future__ import annotations

from attrs import frozen

from tunnelstack.settings.record import Record


@frozen(kw_only=True, eq=False, repr=False)
class Traits(Record):
    """
    What the carrier of an exchange can do; read before the head is sent.

    @ivar streamed: the body of a request is sent as it is written, and not only when it is complete.
    @ivar largestBody: if it is not streamed, the octets of the largest request body.
    @ivar repeated: several header fields of one name stay several, and each keeps its value.
    @ivar binary: values of header fields may have octets that are not UTF-8.
    @ivar trailers: trailer fields are carried.
    @ivar informational: interim responses and C{Expect: 100-continue} are carried.
    @ivar upgrade: after a C{101} both directions are raw octets.
    @ivar halfClose: one raw direction can end before the other.
    """

    streamed: bool = True
    largestBody: int = 10 * 1024 * 1024
    repeated: bool = True
    binary: bool = True
    trailers: bool = True
    informational: bool = True
    upgrade: bool = True
    halfClose: bool = True


STREAMED = Traits()
"""Of HTTP/1.1 over a stream or a connection, which can do everything."""


@frozen(kw_only=True, eq=False, repr=False)
class Timeouts(Record):
    """
    How long each phase of an exchange may take, in seconds.

    @ivar head: from the first octet of a head to its last.
    @ivar first: from the end of a request to the head of its response.  An interim response starts it again.
    @ivar interim: from the first interim response after the end of a request to the final one.
    @ivar idle: without an octet, in a body of known length or between requests.
    @ivar connect: until a connection is made.
    @ivar ending: without an octet in one raw direction, after the peer has ended the other.
    """

    head: float = 10.0
    first: float = 60.0
    interim: float = 600.0
    idle: float = 300.0
    connect: float = 30.0
    ending: float = 30.0


DEFAULT_TIMEOUTS = Timeouts()

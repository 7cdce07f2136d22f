"""
Frozen records that every module may use.

A I{claim} is what a peer states about itself when it connects, a I{principal} is its authenticated identity, a I{purpose} is
what a new stream is for.  Nothing here imports Twisted at run time, so that policy and protocols can share these records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import Factory, field, frozen

from tunnelstack.settings.record import Record
from tunnelstack.wire.http1.head import RequestHead

if TYPE_CHECKING:
    from OpenSSL.crypto import X509
    from twisted.internet.interfaces import ITCPTransport


@frozen(kw_only=True, eq=False, repr=False)
class Claim(Record):
    """
    What a peer that connects states about itself, as a door received it.

    @ivar dialect: the dialect of the door.
    @ivar path: the request target, without its query; C{b""} where there is none.
    @ivar fields: header fields in order, as received.
    @ivar certificate: the peer's X.509 certificate as verified by TLS, or C{None}.
    @ivar address: the Twisted address the peer dialled from.
    @ivar token: the bearer token, or C{None}; never shown.
    """

    dialect: str
    path: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    certificate: X509 | None = field(default=None, repr=False)
    address: object = None
    token: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class Principal:
    """
    The authenticated identity of a peer.

    @ivar agent: the agent's name: the first half of the keys it may hold.
    @ivar allow: what was granted, as L{tunnelstack.control.auth.permissions} reads it (C{http:laptop-*},
        C{tcp:20000-20010}, C{ssh}).
    @ivar share: several instances of the agent may hold the same name, in turns.
    @ivar token: the public identifier of the token that was shown (never its secret), or C{""}.
    @ivar realm: whose rules it is under, where its dialect keeps its own accounts of agents; C{""} for an agent with a
        credential of the edge.
    """

    agent: str
    allow: tuple[str, ...] = ()
    share: bool = False
    token: str = ""
    realm: str = ""


EMBEDDED = "embedded"
"""The target that stands for the agent's own SSH server."""

KINDS = ("http", "tcp", "udp", "stream", "ssh")
"""What a service may be."""


@frozen(kw_only=True)
class Service:
    """
    What an agent offers, and requests an edge to publish.

    @ivar name: the service's name, one agent's on an edge; the agent may offer several kinds under it.
    @ivar kind: C{"http"} (web requests for a host), C{"tcp"} or C{"udp"} (a port of the edge), C{"stream"} (to be dialled
        through the edge) or C{"ssh"} (an SSH server, to be dialled or reached by the edge's SSH gateway).
    @ivar port: kinds tcp and udp: the requested public port; C{0} is any that is allowed.
    @ivar address: kinds tcp and udp: the address of the edge on which the port is opened; C{""} for that of the configuration.
    @ivar perVisitor: kind http: a stream for each visitor's connection, whose address is then the visitor's own; otherwise
        streams are kept and serve any visitor.
    """

    name: str
    kind: str = "http"
    port: int = 0
    address: str = ""
    perVisitor: bool = False


@frozen(kw_only=True, eq=False, repr=False)
class Grant(Record):
    """
    How the public reaches a service.

    @ivar url: where, as one clicks on it; C{""} for what has none.
    @ivar host: the public host name.
    @ivar port: the public port; C{0} for what has none.
    """

    url: str = ""
    host: str = ""
    port: int = 0


@frozen(eq=False, repr=False)
class HTTPPurpose(Record):
    """
    A stream for HTTP/1.1 exchanges with a web server on the far side.

    @ivar service: the name the agent announced; or else
    @ivar host: the host and
    @ivar port: the port the agent shall dial.
    """

    service: str = ""
    host: str = ""
    port: int = 0


@frozen(eq=False, repr=False)
class TCPPurpose(Record):
    """
    A stream joined to a TCP connection on the far side (fields as in L{HTTPPurpose}).
    """

    service: str = ""
    host: str = ""
    port: int = 0


@frozen(eq=False, repr=False)
class UDPPurpose(Record):
    """
    A stream of length-prefixed datagrams to a UDP port on the far side (fields as in L{HTTPPurpose}).
    """

    service: str = ""
    host: str = ""
    port: int = 0


@frozen(eq=False, repr=False)
class SSHPurpose(Record):
    """
    A stream to the agent's SSH server; C{id} names the session where the dialect has names for them.
    """

    id: str = ""


@frozen(eq=False, repr=False)
class StreamPurpose(Record):
    """
    A stream of a developer's own protocol.

    @ivar name: the stream protocol's name, such as C{b"/demo/shout/1.0.0"}.
    @ivar parameters: a JSON object for the far side's handler.
    """

    name: bytes
    parameters: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class TerminalPurpose(Record):
    """
    A stream of terminal messages, as in L{tunnelstack.wire.terminal}, to a program with a terminal on the far side.
    """


Purpose = HTTPPurpose | TCPPurpose | UDPPurpose | SSHPurpose | StreamPurpose | TerminalPurpose


@frozen(kw_only=True, eq=False, repr=False)
class Visitor(Record):
    """
    On whose behalf a stream is opened, as it is sent to the far side.

    @ivar address: the visitor's Twisted address, or C{None}.
    @ivar scheme: C{"http"}, C{"https"}, C{"tcp"} or C{"udp"}.
    @ivar trace: the request's or connection's identifier, which is in the logs of both sides.
    """

    address: object = None
    scheme: str = ""
    trace: str = ""


@frozen(kw_only=True, eq=False, repr=False)
class TakenOverRequest(Record):
    """
    A connection that was taken over at a door, with the request that led there.

    @ivar head: the request as received.
    @ivar leftover: what was received after the head.
    @ivar transport: the connection.  The new owner replaces its protocol.
    @ivar certificate: the peer's verified certificate, or C{None}.
    """

    head: RequestHead
    leftover: bytes
    transport: ITCPTransport
    certificate: X509 | None = None

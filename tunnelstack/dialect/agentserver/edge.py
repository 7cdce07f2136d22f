"""
agentserver at the edge: the door of its agents, the registry of sandboxes, and what it adds to the administration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.agentserver.sandbox_store import Sandbox, SandboxStore
from tunnelstack.dialect.agentserver.settings import EdgeSettings
from tunnelstack.dialect.agentserver.tunnel import NAME, DocumentReceived, SandboxTunnel
from tunnelstack.dialect.http_entry import HTTPEntry, OneProtocol, upgradeToWebSocket
from tunnelstack.doors import HTTPDoor
from tunnelstack.errors import Denied, Refused
from tunnelstack.exchange.whole_message import TEXT, WholeResponse
from tunnelstack.interfaces import IAdminResources, IDoor, IEdge, IReloadableDialect, IServerExchange
from tunnelstack.records import Grant, Service
from tunnelstack.settings.tables import DialectTables, Records
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.target import path_of, percent_encoded
from tunnelstack.wire.jsonline import JSONObject
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.agentserver import PING, PONG, TUNNEL_PATH, MachineDocument

LIMITS = WebSocketLimits(keepalive=PING, keepaliveTimeout=PONG, pongOnly=True, closeFrame=False)
"""A genuine server sends no Close frame either."""

PARAMETERS = 16
"""Parameters of the longest query that is read."""

Record = dict[str, Any]


class AgentRefused(Refused):
    """
    An agent is not accepted.

    @ivar status: of the response, whose body is the message.
    """

    def __init__(self, status: int, text: str, reason: str = "") -> None:
        """
        @param reason: for the log; C{""} for C{text}.
        """
        super().__init__(text)
        self.status = status
        self.reason = reason or text


def _ignore(tunnel: SandboxTunnel, document: MachineDocument) -> None:
    """
    The default for documents: the tunnel keeps them.
    """


@implementer(IReloadableDialect, IAdminResources)
class AgentserverEdge:
    """
    The dialect of one edge.

    @ivar sandboxes: the L{SandboxStore}.
    @ivar tunnels: the connected agents, by the id of their sandbox; a new one replaces the former.
    """

    name = NAME
    log = Logger()

    def __init__(
        self, sandboxes: SandboxStore, settings: EdgeSettings | None = None, documentReceived: DocumentReceived = _ignore
    ) -> None:
        """
        @param documentReceived: called with a tunnel and each document in which its agent describes the machine.
        """
        self.sandboxes = sandboxes
        self.tunnels: dict[str, SandboxTunnel] = {}
        self._settings = settings or EdgeSettings()
        self._documentReceived = documentReceived
        self._edge: IEdge
        sandboxes.watch(self._revoked)
        self.getHandlers: Mapping[bytes, Callable[[], object]] = {b"/sandboxes": self._list}
        self.postHandlers: Mapping[bytes, Callable[[JSONObject], object]] = {
            b"/sandboxes/add": self._add, b"/sandboxes/revoke": self._revoke,
        }

    def doors(self, edge: IEdge) -> list[IDoor]:
        self._edge = edge
        entry = HTTPEntry(edge.clock, self._authenticate, self._enter, self._refuse)
        return [HTTPDoor(path=TUNNEL_PATH.encode(), prefix=True, server=entry)]

    def close(self) -> None:
        """
        Nothing is kept but the sandboxes, which are written when they change.
        """

    def prepareReload(self, tables: DialectTables) -> Callable[[], object]:
        return self.sandboxes.prepare(tables.get(NAME, {}).get("agentserver.sandbox", ()))

    # The door

    def _authenticate(self, head: RequestHead, exchange: IServerExchange) -> Sandbox:
        """
        @raise AgentRefused: the request names no sandbox, or not with its token.
        """
        path, _, query = head.target.partition(b"?")
        below = path.removeprefix(TUNNEL_PATH.encode()).strip(b"/")
        if b"/" in below:
            raise AgentRefused(404, "404 page not found")
        identifier, token = unquote(below.decode("latin-1")), _tokenOf(query)
        if not identifier or not token:
            raise AgentRefused(400, "missing parameters")
        if self._edge.stopping:
            raise AgentRefused(503, "this edge is about to stop")
        sandbox = self.sandboxes.authenticate(identifier, token)
        if sandbox is None:
            raise AgentRefused(401, "unauthorized", f"the token is not that of the sandbox {printable(identifier, 64)}")
        return sandbox

    def _enter(self, sandbox: Sandbox, exchange: IServerExchange) -> None:
        edge = self._edge
        tunnel = SandboxTunnel(
            sandbox, exchange.peer, self._settings, self._documentReceived, clock=edge.clock, limits=edge.sessionLimits,
            bounds=edge.bounds,
        )
        arrived = tunnel.session.whenUp().addCallback(lambda _: self._arrive(tunnel))
        arrived.addErrback(self._notTaken, tunnel)
        upgradeToWebSocket(exchange, OneProtocol(tunnel.session), clock=edge.clock, limits=LIMITS)

    def _arrive(self, tunnel: SandboxTunnel) -> Deferred[Grant]:
        """
        @raise Denied: the edge does not take the agent.
        """
        sandbox = tunnel.sandbox
        self._edge.arrived(tunnel)            # which aborts the former tunnel of the sandbox
        self.tunnels[sandbox.id] = tunnel
        tunnel.whenLost().addCallback(self._lost, tunnel)
        published: Deferred[Grant] = self._edge.announce(tunnel, Service(name=sandbox.name))
        return published

    def _notTaken(self, failure: Failure, tunnel: SandboxTunnel) -> None:
        self.log.warn(
            "agent of sandbox {sandbox} refused: {reason}", sandbox=tunnel.sandbox.name,
            reason=errorText(failure),
        )
        tunnel.abort("the agent was refused")

    def _lost(self, reason: object, tunnel: SandboxTunnel) -> None:
        if self.tunnels.get(tunnel.sandbox.id) is tunnel:
            del self.tunnels[tunnel.sandbox.id]

    def _refuse(self, failure: Failure, exchange: IServerExchange) -> WholeResponse:
        refused = failure.value
        if not isinstance(refused, AgentRefused):
            self.log.failure("an agent could not be authenticated", failure=failure)
            refused = AgentRefused(500, "internal error")
        path = percent_encoded(path_of(exchange.head.target)).decode("ascii")       # without the query, which has the token
        self.log.warn(
            "an agent at {peer} is refused at {path}: {reason}", peer=addressText(exchange.peer), path=printable(path, 256),
            reason=refused.reason,
        )
        fields = ((b"X-Content-Type-Options", b"nosniff"),)
        return WholeResponse(refused.status, f"{refused}\n".encode(), TEXT, fields)

    # Revocation

    def _revoked(self, identifier: str) -> None:
        tunnel = self.tunnels.get(identifier)
        if tunnel is not None:
            tunnel.abort(Denied("revoked", "the sandbox was revoked"))

    # Administration

    def _list(self) -> Record:
        return {"sandboxes": [self._record(sandbox) for sandbox in self.sandboxes.sandboxes]}

    def _add(self, asked: JSONObject) -> Record:
        name = _text(asked, "name")
        if not name:
            raise Denied("malformed", 'the request must name a sandbox: {"name": "demo"}')
        sandbox, token = self.sandboxes.add(name, _text(asked, "id"), _text(asked, "token_sha256"))
        return {"sandbox": self._record(sandbox), "token": token}

    def _revoke(self, asked: JSONObject) -> Record:
        which = _text(asked, "sandbox")
        if not which:
            raise Denied("malformed", 'the request must name a sandbox: {"sandbox": "ID or NAME"}')
        return {"sandbox": self._record(self.sandboxes.revoke(which))}

    def _record(self, sandbox: Sandbox) -> Record:
        tunnel = self.tunnels.get(sandbox.id)
        document = None if tunnel is None else tunnel.document
        return {
            "id": sandbox.id,
            "name": sandbox.name,
            "configured": sandbox.configured,
            "connected": tunnel is not None,
            "hostname": "" if document is None else document.hostname,
            "os": "" if document is None else document.os,
            "agent_version": "" if document is None else document.agent_version,
        }


def _tokenOf(query: bytes) -> str:
    """
    @return: the first C{token} of a query; C{""} if there is none.
    """
    try:
        parameters = parse_qs(query.decode("latin-1"), max_num_fields=PARAMETERS)
    except ValueError:                        # there are too many
        return ""
    return parameters.get("token", [""])[0]


def _text(asked: JSONObject, member: str) -> str:
    """
    @raise Denied: the member is not text.
    """
    value = asked.get(member, "")
    if not isinstance(value, str):
        raise Denied("malformed", f"{member} must be text")
    return value


def makeDialects(edge: IEdge, tables: Records) -> list[IReloadableDialect]:
    """
    Make the dialect from the tables of a configuration file.

    @raise ConfigurationError: the file of sandboxes cannot be used.
    """
    settings = tables.get("agentserver", (EdgeSettings(),))[0]
    return [AgentserverEdge(SandboxStore(edge.state, tables.get("agentserver.sandbox", ())), settings)]

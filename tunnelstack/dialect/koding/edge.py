"""
koding/tunnel at the edge: clients come in by C{CONNECT}, are known by their identifiers, and serve the virtual hosts and ports
of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.http_entry import HTTPEntry, switchProtocol
from tunnelstack.dialect.koding.control_server import ControlListener, ServerControlStream
from tunnelstack.dialect.koding.host_store import Host, HostStore, Port, digestOf
from tunnelstack.dialect.koding.settings import EdgeSettings, HostSettings, PortSettings
from tunnelstack.dialect.koding.states import ClientState, ClientStates
from tunnelstack.dialect.koding.tunnel import ClientTunnel
from tunnelstack.doors import HTTPDoor
from tunnelstack.errors import Denied, Refused, TunnelError, UsageError
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.whole_message import TEXT, WholeResponse
from tunnelstack.interfaces import IAdminResources, IEdge, IReloadableDialect, IServerExchange
from tunnelstack.records import Principal, Service
from tunnelstack.session.announced import AnnouncingSession
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.settings.files import readFile
from tunnelstack.settings.tables import DialectTables, Records
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.jsonline import JSONObject
from tunnelstack.wire.records.koding import (
    BANNER,
    CONTROL_PATH,
    MAX_IDENTIFIER_OCTETS,
    NOT_CONNECT,
    identifier_of,
    no_hijacking,
    unknown_identifier,
)

NAME = "koding"

REALM = "koding"
"""The realm of the principals of clients: their credentials are hosts of this dialect."""

Record = dict[str, object]


class ClientRefused(Refused):
    """
    A request is refused.

    @ivar response: what it is answered.
    """

    def __init__(self, response: WholeResponse, sentence: str) -> None:
        super().__init__(sentence)
        self.response = response


def refusal(status: int, body: bytes) -> WholeResponse:
    """
    A refusal with the fields that Go's C{http.Error} sends.
    """
    return WholeResponse(status, body, TEXT, ((b"X-Content-Type-Options", b"nosniff"),))


@implementer(IReloadableDialect, IAdminResources)
class KodingEdge:
    """
    The dialect of one edge.

    @ivar hosts: the virtual hosts, which may be changed while the edge runs.
    @ivar states: the states of the clients.  Watch them, or wait for one::

        edge.states.watch(print)
        edge.states.when("koding.app.example.net", ClientState.CONNECTED).addCallback(welcome)
    """

    name = NAME
    log = Logger()
    edge: IEdge

    def __init__(self, hosts: HostStore, settings: EdgeSettings | None = None) -> None:
        self.hosts = hosts
        self.states = ClientStates()
        self._settings = settings or EdgeSettings()
        self._tunnels: dict[str, ClientTunnel] = {}          # by the name of the client
        self._published: dict[str, str] = {}
        self._opened: dict[str, dict[Port, Service]] = {}    # by client: the requested ports
        self.getHandlers: Mapping[bytes, Callable[[], Record]] = {b"/koding/hosts": self._list}
        self.postHandlers: Mapping[bytes, Callable[[JSONObject], Record]] = {
            b"/koding/hosts/add": self._add,
            b"/koding/hosts/revoke": lambda asked: {"host": self._hostRecord(hosts.revoke(_text(asked, "host")))},
            b"/koding/ports/open": lambda asked: {"port": self._portRecord(hosts.open(*_port(asked)))},
            b"/koding/ports/close": self._closePort,
        }
        hosts.watch(self._update)

    def doors(self, edge: IEdge) -> list[HTTPDoor]:
        """
        As in L{IDialect}.
        """
        self.edge = edge
        edge.watchBounds(self._boundsChanged)
        self._update()
        server = HTTPEntry(edge.clock, self._authenticate, self._enter, self._refuse)
        return [HTTPDoor(path=path, server=server) for path in (CONTROL_PATH, CONTROL_PATH.rstrip(b"/"))]

    def _boundsChanged(self, bounds: ExchangeBounds) -> None:
        for tunnel in self._tunnels.values():
            tunnel.configure(bounds)

    def close(self) -> None:
        """
        As in L{IDialect}; changes are kept at once.
        """

    def prepareReload(self, tables: DialectTables) -> Callable[[], object]:
        """
        As in L{IReloadableDialect}.
        """
        return partial(self.hosts.configure, *configured(tables.get(NAME, {})))

    def find(self, client: str) -> ClientTunnel | None:
        """
        @return: the tunnel of a client; C{None} if it is not connected.
        """
        return self._tunnels.get(client)

    # Clients arrive

    def _authenticate(self, head: RequestHead, exchange: IServerExchange) -> str:
        """
        @return: the name of the client.
        @raise ClientRefused: not here, not so, or not this one.
        """
        if head.method != b"CONNECT":
            raise ClientRefused(refusal(405, NOT_CONNECT), "the request is not a CONNECT")
        identifier = identifier_of(head)
        client = self.hosts.clientOf(identifier) if len(identifier) <= MAX_IDENTIFIER_OCTETS else None
        if client is None:
            body = unknown_identifier(identifier[:MAX_IDENTIFIER_OCTETS])
            raise ClientRefused(refusal(502, body), "no host has its identifier")
        if self.edge.stopping:
            raise ClientRefused(refusal(503, b"this edge is about to stop\n"), "this edge is about to stop")
        return client

    def _refuse(self, failure: Failure, exchange: IServerExchange) -> WholeResponse:
        refused = failure.value
        if not isinstance(refused, ClientRefused):
            raise refused or UsageError("a failure without a reason")
        self.log.warn(
            "a client at {peer} is refused: {reason}", peer=addressText(exchange.peer), reason=str(refused), dialect=NAME
        )
        if identifier_of(exchange.head):
            self.states.change("", ClientState.CLOSED, refused)
        return refused.response

    def _enter(self, client: str, exchange: IServerExchange) -> None:
        principal = Principal(agent=client, realm=REALM, allow=("tcp:*",))
        below = YamuxSession(
            False, clock=self.edge.clock, limits=self.edge.sessionLimits,
            address=StreamAddress(key=client, principal=principal, dialect=NAME, peer=exchange.peer),
        )
        entry = _ClientEntry(self, principal, below, exchange.peer, self._settings.openSeconds)
        try:
            switchProtocol(exchange, below, BANNER)
        except UsageError:
            entry.stop()
            body = no_hijacking(type(exchange).__name__)
            raise ClientRefused(refusal(502, body), "its connection cannot be taken over") from None

    def arrived(self, tunnel: ClientTunnel) -> None:
        """
        A client has shaken hands.

        @raise Denied: it is not accepted.
        """
        client = tunnel.principal.agent
        if not self.hosts.digestOfClient(client):
            raise Denied("revoked", "the last host of the client was revoked")
        self.edge.arrived(tunnel)                   # which aborts the one that was there
        self._tunnels[client] = tunnel
        self._opened[client] = {}
        self.states.change(client, ClientState.CONNECTED)
        self._openPorts(client, tunnel)

    def left(self, tunnel: ClientTunnel, reason: BaseException | None) -> None:
        """
        A client is gone, and was not replaced by a connection of its own.
        """
        client = tunnel.principal.agent
        if self._tunnels.get(client) is tunnel:
            del self._tunnels[client]
            del self._opened[client]
            self.states.change(client, ClientState.CLOSED, reason)
            if not self.hosts.digestOfClient(client):
                self.states.forget(client)

    # Hosts and ports

    def _update(self) -> None:
        """
        From the hosts: they have changed.
        """
        wanted = {host.host: host.client for host in self.hosts.hosts}
        for host in self._published.keys() - wanted.keys():
            self.edge.withdrawHost(host)
            del self._published[host]
        for host, client in wanted.items():
            if self._published.get(host) != client:
                self._publish(host, client)
        present = list(self._tunnels.items())
        for client, tunnel in present:
            self._closePorts(client, tunnel)       # of all clients first: a port may go from one to another
            if client not in wanted.values():
                tunnel.abort(Denied("revoked", "the last host of the client was revoked"))
        for client, tunnel in present:
            self._openPorts(client, tunnel)

    def _publish(self, host: str, client: str) -> None:
        try:
            self.edge.publishHost(host, client)
        except Denied as denied:
            self.log.error("{host} cannot be published: {reason}", host=host, reason=denied.sentence)
        else:
            self._published[host] = client

    def _closePorts(self, client: str, tunnel: ClientTunnel) -> None:
        """
        Close the ports that a client has lost.
        """
        opened, wanted = self._opened[client], self.hosts.portsOf(client)
        for port in [port for port in opened if port not in wanted]:
            service = opened.pop(port)
            self.edge.withdraw(tunnel, service)
            tunnel.ports.pop(service.name, None)

    def _openPorts(self, client: str, tunnel: ClientTunnel) -> None:
        """
        Open the ports that a client has got.
        """
        opened = self._opened[client]
        for port in self.hosts.portsOf(client):
            if port not in opened:
                name = f"{client}-{port.port}" + (f"-{port.address}" if port.address else "")
                opened[port] = service = Service(name=name, kind="tcp", port=port.port, address=port.address)
                tunnel.ports[name] = port.port
                self.edge.announce(tunnel, service).addErrback(self._portFailed, client, tunnel, port)

    def _portFailed(self, failure: Failure, client: str, tunnel: ClientTunnel, port: Port) -> None:
        if self._tunnels.get(client) is tunnel:
            self._opened[client].pop(port, None)          # tried again after the next change
            self.log.error(
                "port {port} for {client} cannot be opened: {reason}", port=port.port, client=client,
                reason=errorText(failure),
            )

    # Administration

    def _list(self) -> Record:
        return {
            "hosts": [self._hostRecord(host) for host in self.hosts.hosts],
            "ports": [self._portRecord(port) for port in self.hosts.ports],
        }

    def _hostRecord(self, host: Host) -> Record:
        return {
            "host": host.host, "client": host.client, "identifier_sha256": host.digest, "configured": host.configured,
            "connected": host.client in self._tunnels,
        }

    def _portRecord(self, port: Port) -> Record:
        host = self.hosts.find(port.host)
        return {
            "port": port.port, "address": port.address, "host": port.host, "client": host.client if host is not None else "",
            "configured": port.configured,
        }

    def _add(self, asked: JSONObject) -> Record:
        identifier = _text(asked, "identifier").encode("utf-8")
        if len(identifier) > MAX_IDENTIFIER_OCTETS:
            raise Denied("malformed", f"the identifier has more than {MAX_IDENTIFIER_OCTETS} octets")
        return {"host": self._hostRecord(self.hosts.add(_text(asked, "host").lower(), digestOf(identifier)))}

    def _closePort(self, asked: JSONObject) -> Record:
        return {"port": self._portRecord(self.hosts.close(_number(asked), str(asked.get("address") or "")))}


class _ClientEntry:
    """
    One client, from its request to the end of its session.
    """

    def __init__(
        self, dialect: KodingEdge, principal: Principal, below: YamuxSession, peer: IAddress, seconds: float
    ) -> None:
        """
        @param below: the session, which is not connected yet.
        """
        self._dialect = dialect
        self._edge = dialect.edge
        self._peer = peer
        self._reason: BaseException | None = None
        self._control = ServerControlStream(self._connected, self._controlEnded)
        self.session = session = AnnouncingSession(below, self._control.announce, self._edge.clock, seconds=seconds)
        self._listener = ControlListener(self._control, self._edge.clock, seconds, self._drop)
        session.listener.listen(self._listener)
        self.tunnel = ClientTunnel(
            session, self._control, principal, dialect=NAME, instance=dialect.hosts.digestOfClient(principal.agent)[:12],
            clock=self._edge.clock, bounds=self._edge.bounds,
        )
        session.whenLost().addCallback(self._lost)

    def stop(self) -> None:
        """
        Wait for no control stream.
        """
        self._listener.stop()

    def _connected(self) -> None:
        """
        The control stream is up.
        """
        self.stop()
        try:
            self._dialect.arrived(self.tunnel)
        except TunnelError as denied:
            self._drop(denied)

    def _controlEnded(self, reason: BaseException | None) -> None:
        """
        The client has ended the session, or has broken the rules.
        """
        if reason is not None:
            self._drop(reason)
        else:
            self.tunnel.leave()

    def _drop(self, reason: BaseException) -> None:
        self._reason = reason
        self._dialect.log.warn(
            "client {client} at {peer} dropped: {reason}", client=self.tunnel.key, peer=addressText(self._peer),
            reason=str(reason), dialect=NAME,
        )
        self.tunnel.leave()

    def _lost(self, reason: object) -> None:
        self.stop()
        self._dialect.left(self.tunnel, self._reason)


def _text(asked: JSONObject, name: str) -> str:
    value = asked.get(name)
    if not (isinstance(value, str) and value):
        raise Denied("malformed", f'the request must have "{name}" with a text')
    return value


def _number(asked: JSONObject) -> int:
    value = asked.get("port")
    if type(value) is not int:
        raise Denied("malformed", 'the request must have "port" with a number')
    return value


def _port(asked: JSONObject) -> tuple[int, str, str]:
    return _number(asked), _text(asked, "host").lower(), str(asked.get("address") or "")


def configured(tables: Records) -> tuple[list[Host], list[Port]]:
    """
    @param tables: the tables of the dialect.
    @return: the hosts and ports of a configuration file.
    @raise ConfigurationError: a file that they name cannot be read.
    """
    hosts: Iterable[HostSettings] = tables.get("koding.host", ())
    ports: Iterable[PortSettings] = tables.get("koding.port", ())
    return (
        [Host(host=host.host, digest=_digest(host), configured=True) for host in hosts],
        [Port(port=port.port, host=port.host, address=port.address, configured=True) for port in ports],
    )


def _digest(host: HostSettings) -> str:
    if host.identifierSha256:
        return host.identifierSha256.lower()
    return digestOf(readFile(host.identifierFile).strip().encode("utf-8"))


def makeDialects(edge: IEdge, tables: Records) -> list[IReloadableDialect]:
    """
    Make the dialect from the tables of a configuration file.

    @raise ConfigurationError: a file that they name cannot be used.
    """
    settings: EdgeSettings = tables.get(NAME, (EdgeSettings(),))[0]
    hosts, ports = configured(tables)
    return [KodingEdge(HostStore(edge.state, hosts, ports), settings)]

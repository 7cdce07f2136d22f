"""
An edge with the dialect, without sockets and in virtual time, and requests to its API.
"""

from __future__ import annotations

import json
from typing import Any, cast
from unittest.mock import Mock

from attrs import frozen
from twisted.internet.address import IPv4Address

from tunnelstack.control.auth.tokens import NewToken, newToken
from tunnelstack.control.config.records import EdgeConfig, TokenRecord
from tunnelstack.dialect.jetty.edge import JettyEdge
from tunnelstack.dialect.jetty.settings import EdgeSettings, RolloutSettings
from tunnelstack.dialect.jetty.tunnel_store import TunnelStore
from tunnelstack.dialect.native.edge import NativeDialect
from tunnelstack.edge.service import EdgeService
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.testing import Caller, Network

PORT = 8080

NOW = 1_800_000_000.0


@frozen
class Answer:
    """
    A response of the API.
    """

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        return self.json["data"]


class UDPNetwork(Network):
    """
    A network whose UDP ports can be opened and closed, and no more.
    """

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> Any:
        return Mock(stopListening=lambda: None, getHost=lambda: IPv4Address("UDP", "127.0.0.1", port))


class Place:
    """
    An edge, where tokens of these agents are accepted: C{laptop} may have any name and some ports, C{desk} only one name.

    @ivar time: what the dialect takes for the time, in seconds since 1970.
    """

    RIGHTS = {
        "laptop": ("http:*", "tcp:2000-2009", "udp:2000-2009"), "desk": ("http:desk",), "team": ("http:team-*", "http:team"),
        "www": ("http:www", "http:web"),
    }  # fmt: skip

    def __init__(
        self, settings: EdgeSettings | None = None, *, state: StateDirectory | None = None, percent: int = 100,
        secret: str = "", cut: int | None = None, share: tuple[str, ...] = (), network: Network | None = None,
        tokens: dict[str, NewToken] | None = None, **config: Any,
    ) -> None:
        """
        @param share: the agents whose processes may share a name.
        @param tokens: of another place, which this one accepts as well.
        """
        self.network = network or UDPNetwork(cut)
        self.time = NOW
        self.tokens = tokens or {name: newToken() for name in self.RIGHTS}
        self.records = tuple(
            TokenRecord(name=name, tokenSha256=new.tokenSha256, allow=self.RIGHTS[name], id=new.id, share=name in share)
            for name, new in self.tokens.items()
        )  # fmt: skip
        self.store = TunnelStore(state, self.network, lambda: self.time)
        self.dialect = JettyEdge(self.store, settings, RolloutSettings(grpcPercent=percent), secret)
        self.config = EdgeConfig(listen=(f"tcp:{PORT}",), tokens=self.records, **config)
        self.edge = EdgeService(cast(IReactor, self.network), self.config, dialects=[self.dialect, NativeDialect()])
        self.edge.startService()
        self.network.settle()

    @property
    def bridge(self) -> Any:
        return self.dialect.bridge

    def visit(self, octets: bytes) -> Caller:
        caller = Caller()
        self.network.join(caller, self.network.ports[PORT].factory, IPv4Address("TCP", "127.0.0.1", PORT))
        caller.transport.write(octets)
        self.network.settle()
        return caller

    def send(
        self, method: str, path: str, body: Any = None, *, agent: str = "laptop", token: str | None = None,
        host: str = "localhost", fields: tuple[str, ...] = (),
    ) -> Answer:
        """
        Send a request to the API as the stock agent does.

        @param body: octets, or what JSON can hold.
        @param token: instead of that of C{agent}; C{""} sends none.
        """
        octets = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        shown = self.tokens[agent].token if token is None else token
        lines = [
            f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept: application/json", "User-Agent: jetty-client/1.0", *fields,
            *([f"Authorization: Bearer {shown}"] if shown else []), "Connection: close",
            *([f"Content-Length: {len(octets)}", "Content-Type: application/json"] if octets else []),
        ]  # fmt: skip
        got = self.visit(("\r\n".join(lines) + "\r\n\r\n").encode() + octets).got
        return answerOf(got)

    def create(self, port: int = 3000, *, agent: str = "laptop", **members: Any) -> Any:
        """
        Create a tunnel.

        @return: what the API answers of it.
        """
        answer = self.send("POST", "/api/tunnels", {"local_host": "127.0.0.1", "local_port": port, **members}, agent=agent)
        assert answer.status == 201, answer
        return answer.data

    def stop(self) -> None:
        done = self.edge.stopService()
        self.network.passTime(40)
        assert done is None or done.called


def answerOf(octets: bytes) -> Answer:
    """
    @return: the response that a connection received.
    """
    head, _, body = octets.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(status.split()[1]), fields, body)

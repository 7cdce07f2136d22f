"""
An edge with sandboxes, and agents whose every octet a test chooses, without sockets and in virtual time.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory

from tests.promises.streams import HalfCollect
from tunnelstack.control.config.records import EdgeConfig, TokenRecord
from tunnelstack.dialect.agentserver.edge import AgentserverEdge
from tunnelstack.dialect.agentserver.sandbox_store import SandboxStore
from tunnelstack.dialect.agentserver.settings import EdgeSettings, SandboxSettings
from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.dialect.native.edge import NativeDialect
from tunnelstack.edge.service import EdgeService
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.testing import Caller, Network
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.wire.negotiation.typed_head import TypedHead, TypedHeadReader, encode_typed_head
from tunnelstack.wire.records.agentserver import (
    CONTROL,
    HTTP,
    RequestMetadata,
    ResponseMetadata,
    decode_request_metadata_untrusted,
    encode_response_metadata,
)

PORT = 8080
TOKEN = "tok-1"
HEARTBEAT = b'{"agent_version":"agentsdk/1.0","hostname":"h1","os":"linux"}'


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def sandbox(identifier: str = "sbx-1", name: str = "demo", token: str = TOKEN) -> SandboxSettings:
    return SandboxSettings(id=identifier, name=name, tokenSha256=digest(token))


class Proxy:
    """
    An edge that accepts agents of sandboxes.

    @ivar documents: what agents have reported, with the names of their sandboxes.
    """

    def __init__(
        self, *sandboxes: SandboxSettings, cut: int | None = None, state: StateDirectory | None = None,
        settings: EdgeSettings | None = None, tokens: tuple[TokenRecord, ...] = (), **config: Any,
    ) -> None:
        self.network = Network(cut)
        self.documents: list[tuple[str, Any]] = []
        self.store = SandboxStore(state, sandboxes or (sandbox(),))
        self.dialect = AgentserverEdge(
            self.store, settings, lambda tunnel, document: self.documents.append((tunnel.sandbox.name, document))
        )
        self.edge = EdgeService(
            self.network, EdgeConfig(listen=(f"tcp:{PORT}",), tokens=tokens, **config),
            dialects=[self.dialect, NativeDialect()],
        )
        self.edge.startService()
        self.settle()

    def settle(self) -> None:
        self.network.settle()

    def visit(self, octets: bytes) -> Caller:
        caller = Caller()
        self.network.join(caller, self.network.ports[PORT].factory, IPv4Address("TCP", "127.0.0.1", PORT))
        caller.transport.write(octets)
        self.settle()
        return caller

    def get(self, path: str = "/", host: str = "demo.localhost", *fields: str) -> Caller:
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *fields]
        return self.visit(("\r\n".join(lines) + "\r\n\r\n").encode())

    def post(self, body: bytes, *fields: str, path: str = "/echo") -> Caller:
        lines = [f"POST {path} HTTP/1.1", "Host: demo.localhost", *fields, f"Content-Length: {len(body)}"]
        return self.visit(("\r\n".join(lines) + "\r\n\r\n").encode() + body)

    def stop(self) -> None:
        done = self.edge.stopService()
        self.network.passTime(40)
        assert done is None or done.called


class Stream(HalfCollect):
    """
    A stream that the edge has opened to an agent.
    """

    transport: Any

    @property
    def head(self) -> TypedHead:
        reader = TypedHeadReader()
        reader.feed(self.got)
        head = reader.next_head()
        assert head is not None, self.got
        return head

    @property
    def request(self) -> RequestMetadata:
        assert self.head.kind == HTTP
        return decode_request_metadata_untrusted(self.head.metadata)

    @property
    def body(self) -> bytes:
        """
        What followed the head.
        """
        return self.got[5 + len(self.head.metadata):]

    def answer(self, body: bytes = b"", status: int = 200, kind: int = HTTP, end: bool = True, **headers: str) -> None:
        metadata = ResponseMetadata(status, {name.replace("_", "-"): value for name, value in headers.items()})
        self.transport.write(encode_typed_head(kind, encode_response_metadata(metadata)))
        if body:
            self.transport.write(body)
        if end:
            self.transport.loseConnection()


class Agent:
    """
    An agent whose octets the test chooses.

    @ivar streams: those that the edge has opened.
    @ivar refused: why there is no session.
    """

    def __init__(self, proxy: Proxy, identifier: str = "sbx-1", token: str = TOKEN, **settings: Any) -> None:
        self.proxy = proxy
        self.streams: list[Stream] = []
        self.refused: Any = None
        self.lost: list[Any] = []
        self.session = YamuxSession(True, clock=proxy.network)
        self.session.listener.listen(_Accepting(self))
        self.session.whenLost().addCallback(self.lost.append)
        self.web = WebSocketClientEndpoint(
            proxy.network, f"http://localhost:{PORT}/api/tunnel/{identifier}?token={token}", **settings
        )

    def connect(self) -> Agent:
        self.web.connect(OneProtocol(self.session)).addErrback(self._refused)
        self.proxy.settle()
        return self

    def _refused(self, failure: Any) -> None:
        self.refused = failure.value

    def open(self, octets: bytes, end: bool = False) -> Stream:
        """
        Open a stream, and send octets on it.
        """
        opened: list[Any] = []
        factory = Factory.forProtocol(Stream)
        factory.noisy = False
        self.session.connector.connect(factory).addCallback(opened.append)
        opened[0].transport.write(octets)
        if end:
            opened[0].transport.loseWriteConnection()
        self.proxy.settle()
        stream: Stream = opened[0]
        return stream

    def report(self, document: bytes = HEARTBEAT) -> Stream:
        """
        Send a document on a control stream.
        """
        return self.open(encode_typed_head(CONTROL) + document, end=True)


class _Accepting(Factory):
    noisy = False

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def buildProtocol(self, address: object) -> Stream:
        self._agent.streams.append(Stream())
        return self._agent.streams[-1]

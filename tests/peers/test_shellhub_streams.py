"""
ShellHub's Go code with our sessions, negotiations and records, in both roles and versions, below any dialect.
"""

from __future__ import annotations

from time import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, gatherResults, inlineCallbacks, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.peers._go import GoError
from tests.peers._ours import Collect, Echo, factoryOf, ours
from tests.peers._shellhub import GREETING, Agents, Server
from tests.transport.rawpeer import requestHead
from tunnelstack.errors import Unavailable
from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.negotiation.endpoint import NegotiatingEndpoint
from tunnelstack.negotiation.errors import NegotiationRefused
from tunnelstack.negotiation.http_request import HTTPRequestFactory, requestEndpoint
from tunnelstack.negotiation.multistream import MultistreamFactory
from tunnelstack.session.revdial.dialler import STREAM_LIMITS, PickUpTable, RevdialDialler
from tunnelstack.session.revdial.listener import RevdialListener
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.server import upgrade
from tunnelstack.transport.websocket.settings import DEFAULT_LIMITS
from tunnelstack.wire.negotiation.base import NegotiationSequence
from tunnelstack.wire.negotiation.multistream.initiator import MultistreamInitiator
from tunnelstack.wire.records import shellhub, shellhub_v1
from tunnelstack.wire.records.shellhub import (
    DIAL_FAILED,
    HTTP_PROXY,
    SSH_CLOSE,
    SSH_OPEN,
    HTTPProxy,
    SSHClose,
    SSHOpen,
    asked,
    asking,
    decode_target_untrusted,
    name_of,
)
from tunnelstack.wire.revdial import pick_up_url, read_pick_up_untrusted


class Session(Echo):
    """
    Greets as SSH does, and echoes.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.write(GREETING)
        super().connectionMade()

    def close(self) -> None:
        """
        End it, as the peer's end would.
        """
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class Device:
    """
    What a device is asked for, in the words of version 2.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.handlers = {SSH_OPEN: self.factory(self.opened), SSH_CLOSE: self.factory(self.closed), HTTP_PROXY: Proxy()}

    def factory(self, build: Any) -> Factory:
        factory: Any = Factory()
        factory.noisy = False
        factory.buildProtocol = build
        return factory

    def opened(self, address: Any) -> Protocol:
        session = Session()
        self.sessions[decode_target_untrusted(SSH_OPEN, address.parameters).session] = session  # type: ignore[union-attr]
        return session

    def closed(self, address: Any) -> Protocol:
        target = decode_target_untrusted(SSH_CLOSE, address.parameters)
        self.sessions.pop(target.session).close()  # type: ignore[union-attr]
        return Closing()


class Closing(Protocol):
    """
    Has nothing to say.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.loseConnection()


@implementer(IDiallingHandler)
class Proxy:
    """
    Reaches port 8080, where there is an echo, and no other.
    """

    def connect(self, address: Any) -> Deferred[Any]:
        target = decode_target_untrusted(HTTP_PROXY, address.parameters)
        assert isinstance(target, HTTPProxy)
        return succeed(Echo()) if target.port == 8080 else fail(Unavailable(DIAL_FAILED))


class GoServerTests(TestCase):
    """
    Our device, with the Go server.
    """

    timeout = 120

    @inlineCallbacks
    def join(self, version: int) -> Any:
        self.server = yield Server.start(self)
        said = yield Agents.start(self).authorize(self.server.url)
        self.uid = said.uid
        self.device = Device()
        if version == 1:
            session: Any = RevdialListener(self.reach, clock=reactor)
            path, limits = shellhub_v1.CONNECTION, STREAM_LIMITS
            factory: Any = HTTPRequestFactory(self.device.handlers, lambda head: shellhub_v1.stream_request(head, time()))
            self.addCleanup(session.abort)
        else:
            session, path, limits = ours(self, False), shellhub.CONNECTION, DEFAULT_LIMITS
            factory = MultistreamFactory(self.device.handlers, follow=asked)
        yield session.listener.listen(factory)
        headers = [("Authorization", f"Bearer {said.token}")]
        there = WebSocketClientEndpoint(reactor, self.server.url + path, headers=headers, limits=limits)
        yield there.connect(factoryOf(session))
        yield self.server.awaitDevice(self.uid)

    def reach(self, path: str) -> Any:
        return WebSocketClientEndpoint(reactor, pick_up_url(self.server.url, path), limits=STREAM_LIMITS)

    @inlineCallbacks
    def sessions(self, version: int) -> Any:
        yield self.join(version)
        conns = yield gatherResults([self.server.endpointTo(self.uid, "open", session=f"s{number}") for number in range(6)])
        for number, conn in enumerate(conns):
            self.assertEqual((yield conn.read(len(GREETING))), GREETING)
            yield conn.write(b"%d" % number)
        for number, conn in enumerate(conns):
            self.assertEqual((yield conn.read(1)), b"%d" % number)
        self.assertEqual(set(self.device.sessions), {f"s{number}" for number in range(6)})
        closing = yield self.server.endpointTo(self.uid, "close", session="s3")
        self.assertEqual((yield conns[3].readToEnd()), (b"", "EOF" if version == 2 else "Gone"))
        yield closing.readToEnd()
        yield conns[4].write(b"still")
        self.assertEqual((yield conns[4].read(5)), b"still")

    def test_sessionsOpenAndCloseInVersion1(self) -> Any:
        return self.sessions(1)

    def test_sessionsOpenAndCloseInVersion2(self) -> Any:
        return self.sessions(2)

    @inlineCallbacks
    def proxy(self, version: int) -> Any:
        """
        Nothing stands between our answer and the target's octets, which bug B5 would show.
        """
        yield self.join(version)
        conn = yield self.server.endpointTo(self.uid, "proxy", request="r", host="127.0.0.1", port=8080)
        sent, got = yield gatherResults([conn.send(300_000), conn.receive(300_000)])
        self.assertEqual(sent["sha256"], got["sha256"])
        error = yield self.assertFailure(
            self.server.endpointTo(self.uid, "proxy", request="r", host="127.0.0.1", port=81), GoError
        )
        self.assertEqual(error.kind, "Refused")
        self.assertIn(DIAL_FAILED if version == 2 else shellhub_v1.CONNECT_FAILED, str(error))

    def test_proxyStreamsReachLocalServersInVersion1(self) -> Any:
        return self.proxy(1)

    def test_proxyStreamsReachLocalServersInVersion2(self) -> Any:
        return self.proxy(2)


class Door(Protocol):
    """
    The edge's three paths, by hand.
    """

    def __init__(self, case: GoAgentTests) -> None:
        self.case = case
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if not end:
            return
        target = head.split(b" ")[1].decode()
        factory: Any = self.case.pickUps.take(*read_pick_up_untrusted(target))
        if not target.startswith(shellhub_v1.PICK_UP):
            factory = factoryOf(self.case.session)
        limits = DEFAULT_LIMITS if target == shellhub.CONNECTION else STREAM_LIMITS
        protocol = upgrade(self.transport, requestHead(head + end), factory, clock=reactor, limits=limits)
        if rest:
            protocol.dataReceived(rest)


class GoAgentTests(TestCase):
    """
    Our edge, with Go agents.
    """

    timeout = 120

    @inlineCallbacks
    def join(self, version: int) -> Any:
        self.version = version
        self.pickUps = PickUpTable()
        if version == 1:
            self.session: Any = RevdialDialler(self.pickUps, shellhub_v1.PICK_UP, clock=reactor)
            self.addCleanup(self.session.abort)
        else:
            self.session = ours(self, True)
        doors: Any = Factory()
        doors.noisy = False
        doors.buildProtocol = lambda address: Door(self)
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(doors)
        self.addCleanup(port.stopListening)
        self.agents = Agents.start(self)
        self.agent = yield self.agents.connect(f"http://127.0.0.1:{port.getHost().port}", "token", version)

    def dial(self, target: Any, protocol: Any) -> Deferred[Any]:
        if self.version == 1:
            refusal = shellhub_v1.refusal if isinstance(target, HTTPProxy) else None
            endpoint = requestEndpoint(
                self.session.connector, name_of(target), shellhub_v1.encode_ask(target), refusal=refusal
            )
        else:
            endpoint = NegotiatingEndpoint(
                self.session.connector, lambda: NegotiationSequence(MultistreamInitiator(name_of(target)), asking(target))
            )
        return endpoint.connect(factoryOf(protocol))

    @inlineCallbacks
    def sessions(self, version: int) -> Any:
        yield self.join(version)
        ends: list[Any] = [Collect() for _ in range(6)]
        yield gatherResults([self.dial(SSHOpen(f"s{number}"), end) for number, end in enumerate(ends)])
        for end in ends:
            yield end.whenCount(len(GREETING))
        for number, end in enumerate(ends):
            end.transport.write(b"%d" % number)
        for number, end in enumerate(ends):
            yield end.whenCount(len(GREETING) + 1)
            self.assertEqual(end.octets, GREETING + b"%d" % number)
        state = yield self.agent.state()
        self.assertEqual(set(state["sessions"]), {f"s{number}" for number in range(6)})
        closing = Collect()
        # The genuine agent ends its direction and has nothing to say, so an edge waits for the end alone.
        self.dial(SSHClose("s3"), closing).addErrback(lambda failure: None)
        yield (ends[3].whenReadEnded() if version == 2 else ends[3].whenLost())
        ends[4].transport.write(b"still")
        yield ends[4].whenCount(len(GREETING) + 6)

    def test_sessionsOpenAndCloseInVersion1(self) -> Any:
        return self.sessions(1)

    def test_sessionsOpenAndCloseInVersion2(self) -> Any:
        return self.sessions(2)

    @inlineCallbacks
    def proxy(self, version: int) -> Any:
        yield self.join(version)
        port = yield self.agents.echo(b"first")
        end: Any = Collect()
        yield self.dial(HTTPProxy("127.0.0.1", port, "r"), end)
        end.transport.write(b"second")
        yield end.whenCount(11)
        self.assertEqual(end.octets, b"firstsecond")
        refused = yield self.assertFailure(self.dial(HTTPProxy("127.0.0.1", 1, "r"), Collect()), NegotiationRefused)
        self.assertIn(DIAL_FAILED if version == 2 else shellhub_v1.CONNECT_FAILED, str(refused))

    def test_proxyStreamsReachLocalServersInVersion1(self) -> Any:
        return self.proxy(1)

    def test_proxyStreamsReachLocalServersInVersion2(self) -> Any:
        return self.proxy(2)

"""
The recorded session, replayed to both of our roles at every split.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.agentserver.support import digest
from tests.exchange.doubles import Recorder, Server, Talker
from tests.promises.streams import Collect
from tests.wire.vectors_agentserver import HEARTBEAT, A, S, said
from tunnelstack.dialect.agentserver.heads import encodeResponse, requestHead
from tunnelstack.dialect.agentserver.heartbeat import Heartbeat
from tunnelstack.dialect.agentserver.sandbox_store import Sandbox
from tunnelstack.dialect.agentserver.settings import EdgeSettings
from tunnelstack.dialect.agentserver.terminal_streams import TerminalStreams
from tunnelstack.dialect.agentserver.tunnel import SandboxTunnel
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.error_page import errorPage
from tunnelstack.exchange.stream_server import StreamServerProtocol
from tunnelstack.handler.terminal import TerminalProgram
from tunnelstack.negotiation.typed_head import TypedHeadFactory
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.testing import Wire
from tunnelstack.wire.negotiation.typed_head import METADATA
from tunnelstack.wire.records.agentserver import (
    HTTP_NAME,
    NAMES,
    TERMINAL_NAME,
    RequestMetadata,
    decode_request_metadata_untrusted,
)
from tunnelstack.wire.terminal import WindowSize
from tunnelstack.wire.yamux.limits import SessionLimits


def splits(octets: bytes) -> list[list[bytes]]:
    ways = [[octets], [octets[at : at + 1] for at in range(len(octets))]]
    return ways + [[octets[:at], octets[at:]] for at in range(1, len(octets))]


def deliver(wire: Wire, talker: Talker, pieces: list[bytes]) -> None:
    for piece in pieces:
        talker.say(piece)
        wire.settle()


class ServerTests(SynchronousTestCase):
    """
    What the agent sent, to our server role.
    """

    def test_theTranscriptIsReadAtEverySplit(self) -> None:
        for pieces in splits(said(A)):
            clock = Clock()
            wire, talker = Wire(clock), Talker()
            documents: list[Any] = []
            tunnel = SandboxTunnel(
                Sandbox(id="sbx-1", name="demo", tokenSha256=digest("tok-1")), None, EdgeSettings(),
                lambda _, document: documents.append(document), clock=clock, limits=SessionLimits(), bounds=ExchangeBounds(),
            )
            wire.connect(talker, tunnel.session)
            get, post = Recorder(), Recorder()
            tunnel.openHTTPStream(RequestMetadata("GET", "/hello?x=1", {"Accept": "*/*", "X-A": "<&>"}), b"", get)
            tunnel.openHTTPStream(RequestMetadata("POST", "/echo", {"Content-Type": "application/json"}), b'{"a":1}', post)
            tunnel.openTerminal(Factory.forProtocol(Collect))
            wire.settle()
            deliver(wire, talker, pieces)
            self.assertEqual([document.hostname for document in documents], ["h1"])
            self.assertEqual((get.heads[0].status, get.heads[0].field(b"content-type")), (200, b"text/plain"))
            self.assertEqual((get.body, get.trailers, get.failure), (b"ok:", [], None))
            self.assertEqual((post.heads, post.failure, tunnel.session.streams), ([], None, 2))


class AgentTests(SynchronousTestCase):
    """
    What the server sent, to our agent role.
    """

    def test_theTranscriptIsReadAtEverySplit(self) -> None:
        for pieces in splits(said(S)):
            clock = Clock()
            wire, talker = Wire(clock), Talker()
            server, sizes, typed = Server(), [], []  # type: ignore[var-annotated]

            class Program(TerminalProgram):
                def resize(self, size: WindowSize, sizes: list[WindowSize] = sizes) -> None:
                    sizes.append(size)

                def write(self, octets: bytes, typed: list[bytes] = typed) -> None:
                    typed.append(octets)

            terminal = TerminalStreams(lambda program, size: program.makeConnection(_Process()))  # type: ignore[arg-type]
            terminal.program = Program(lambda octets: None, lambda: None)
            terminal.program.makeConnection(_Process())  # type: ignore[arg-type]
            session = YamuxSession(True, clock=clock)
            session.listener.listen(TypedHeadFactory({HTTP_NAME: _Web(server, clock), TERMINAL_NAME: terminal}, NAMES))
            wire.connect(talker, session)
            Heartbeat(clock, session, lambda: HEARTBEAT, 20.0)
            wire.settle()
            deliver(wire, talker, pieces)
            asked = [(head.method, body.body, body.failure) for head, _, body in server.asked]
            self.assertEqual(asked, [(b"GET", b"", None), (b"POST", b'{"a":1}', None)])
            self.assertEqual((b"".join(typed), sizes), (b"ls\r", [WindowSize(80, 24)]))
            self.assertIn(HEARTBEAT, talker.heard)


class _Process:
    pid = 0

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    pauseProducing = resumeProducing = unregisterProducer


class _Web(Factory):
    noisy = False

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server, self._clock = server, clock

    def buildProtocol(self, address: Any) -> Any:
        head = requestHead(decode_request_metadata_untrusted(address.parameters[METADATA]))
        return StreamServerProtocol(
            self._server, head, head.framing, encodeResponse, clock=self._clock, pages=errorPage  # type: ignore[arg-type]
        )

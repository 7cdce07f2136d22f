"""
The tunnel to the agent of one sandbox.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint

from tunnelstack.dialect.agentserver.documents import DocumentStreams
from tunnelstack.dialect.agentserver.heads import ResponseReader, requestMetadata
from tunnelstack.dialect.agentserver.sandbox_store import Sandbox
from tunnelstack.dialect.agentserver.settings import EdgeSettings
from tunnelstack.dialect.agentserver.terminal_endpoint import TerminalEndpoint
from tunnelstack.dialect.session_tunnel import SessionTunnel
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.stream_client import ONE_STREAM, HeldBodies, StreamClientExchange
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.negotiation.typed_head import TypedHeadFactory, typedHeadEndpoint
from tunnelstack.records import HTTPPurpose, Principal, Purpose, TerminalPurpose, Visitor
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import UnsupportedPurpose
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.negotiation.typed_head import TypedHead
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.agentserver import (
    CONTROL,
    CONTROL_NAME,
    HTTP,
    HTTP_NAME,
    METADATA_LIMIT,
    MachineDocument,
    RequestMetadata,
    encode_request_metadata,
)
from tunnelstack.wire.yamux.limits import SessionLimits

NAME = "agentserver"

DocumentReceived = Callable[["SandboxTunnel", MachineDocument], object]


class SandboxTunnel(SessionTunnel[YamuxSession]):
    """
    A tunnel to one sandbox.  Each exchange has a stream of its own.

    @ivar sandbox: the L{Sandbox}.
    @ivar document: what the agent reported last of its machine; C{None} before it has reported anything.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        peer: object,
        settings: EdgeSettings,
        received: DocumentReceived,
        *,
        clock: IReactorTime,
        limits: SessionLimits,
        bounds: ExchangeBounds,
    ) -> None:
        """
        @param peer: the address of the agent.
        @param received: called with each document that the agent sends.
        @param limits: of sessions.
        """
        principal = Principal(agent=sandbox.name, allow=(f"http:{sandbox.name}",), realm=NAME)
        session = YamuxSession(
            False, clock=clock, limits=evolve(limits, keepalive=0.0),
            address=StreamAddress(key=sandbox.name, principal=principal, dialect=NAME, peer=peer),  # type: ignore[arg-type]
        )
        super().__init__(
            session, principal, dialect=NAME, instance=sandbox.id, endpointFor=self._open, clock=clock, bounds=bounds,
        )
        self.sandbox = sandbox
        self.document: MachineDocument | None = None
        self._received = received
        self._traits = evolve(ONE_STREAM, largestBody=settings.bodyOctets, repeated=False, binary=False)
        self._chunkedOctets = settings.chunkedOctets
        self._bodies = HeldBodies()
        documents = DocumentStreams(sandbox.name, self._documentReceived)
        session.listener.listen(TypedHeadFactory({CONTROL_NAME: documents}, {CONTROL: CONTROL_NAME}, limit=METADATA_LIMIT))

    @property
    def version(self) -> str:
        """
        The version that the agent reports.
        """
        return "" if self.document is None else printable(self.document.agent_version, 64)

    def _documentReceived(self, document: MachineDocument) -> None:
        self.document = document
        self._received(self, document)

    # Exchanges

    def exchange(self, purpose: HTTPPurpose, receiver: IExchangeReceiver, visitor: Visitor | None = None) -> IExchange:
        if purpose.host or purpose.port:
            raise UnsupportedPurpose("agents of agentserver have one web server", host=purpose.host, port=purpose.port)
        return self._exchange(receiver, lambda head, body: self._streamEndpoint(requestMetadata(head, body)))

    def openHTTPStream(self, metadata: RequestMetadata, body: bytes, receiver: IExchangeReceiver) -> IExchange:
        """
        Send a request with its whole body, and with these metadata except for the length of the body.

        @param receiver: receives the response.
        @raise Busy: the tunnel is about to close.
        """
        known = evolve(metadata, body_len=len(body))
        exchange = self._exchange(receiver, lambda head, length: self._streamEndpoint(known))
        exchange.sendHead(RequestHead(metadata.method.encode(), metadata.path.encode(), [], framing=Framing(len(body))))
        exchange.write(body)
        exchange.end()
        return exchange

    def _exchange(
        self, receiver: IExchangeReceiver, endpointFor: Callable[[RequestHead, int], IStreamClientEndpoint]
    ) -> StreamClientExchange:
        self.refuseIfDraining()
        return StreamClientExchange(
            receiver, endpointFor, ResponseReader(), clock=self._clock, timeouts=self._bounds.timeouts, traits=self._traits,
            largestCollected=self._chunkedOctets, bodies=self._bodies, explain=self._explain,
        )

    def _streamEndpoint(self, metadata: RequestMetadata) -> IStreamClientEndpoint:
        head = TypedHead(HTTP, encode_request_metadata(metadata))
        return typedHeadEndpoint(self.session.connector, HTTP_NAME, head)

    # Terminals

    def openTerminal(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a terminal.  Its transport carries terminal messages, as in L{tunnelstack.wire.terminal}.
        """
        return self.endpointFor(TerminalPurpose()).connect(factory)

    def _open(self, purpose: Purpose, visitor: Visitor | None, wait: bool) -> IStreamClientEndpoint:
        """
        Agents accept no stream and reject none, so there is nothing to wait for.
        """
        if isinstance(purpose, TerminalPurpose):
            return TerminalEndpoint(self.session.connector, self._clock)
        raise UnsupportedPurpose(f"the dialect {NAME} cannot carry this", purpose=type(purpose).__name__)

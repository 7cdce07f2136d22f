"""
The interfaces between the floors, and between tunnelstack and its extensions.

Where Twisted has an interface, that one is used: a transport is an C{ITransport}, a way to connect is an
C{IStreamClientEndpoint}, a place to listen is an C{IStreamServerEndpoint}, an application is an C{IProtocolFactory}.  The
interfaces below are those that Twisted does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorCore,
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUDP,
    IReactorUNIX,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface

from tunnelstack.errors import TunnelError
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import Traits
from tunnelstack.records import (
    Claim,
    Grant,
    HTTPPurpose,
    Principal,
    Purpose,
    Service,
    TakenOverRequest,
    UDPPurpose,
    Visitor,
)
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.settings.tables import DialectTables
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionLost
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import RequestHead, ResponseHead
from tunnelstack.wire.yamux.limits import SessionLimits

if TYPE_CHECKING:
    from tunnelstack.wire.grpc import CallResult


class IReactor(
    IReactorCore, IReactorTime, IReactorTCP, IReactorUDP, IReactorUNIX, IReactorProcess, IReactorThreads,
    IReactorPluggableNameResolver,
):
    """
    A reactor, with all that edges and agents use of it.  Parts that only wait take an C{IReactorTime}.
    """


class IProcessService(IService, Interface):
    """
    The service that a process runs.
    """

    drainSeconds: float = Attribute("Seconds that work in progress may take when the service is stopped.")

    def whenReady() -> Deferred[Any]:
        """
        @return: a L{Deferred} that fires once the service works; it never fires if it cannot be started.
        """

    def whenFailed() -> Deferred[Any]:
        """
        @return: a L{Deferred} that fires, with the error as its result, when the service cannot work any more.
        """


class IStreamOwner(Interface):
    """
    The session of a stream, as the stream's transport sees it.
    """

    full: bool = Attribute("Whether the session's own transport takes no more, so that producers must pause.")

    sharedTimer = Attribute("L{SharedTimer<tunnelstack.transport.shared_timer.SharedTimer>}: ends with the session.")

    high: int = Attribute("The octets in a stream's send queue above which its producer must pause.")
    paused: int = Attribute("The number of streams whose applications do not read.  The streams count it.")
    eager: bool = Attribute("Whether C{flushEarly} would send something now.")

    def streamReady(stream: Any) -> None:
        """
        The stream has octets or an end to send: schedule it, and flush at the end of this reactor turn.
        """

    def acknowledge(streamId: int, octets: int) -> None:
        """
        The application has consumed C{octets} of the stream: give the peer credit for as many.
        """

    def reset(streamId: int) -> None:
        """
        End both directions of the stream at once.
        """

    def stopReading(stream: Any, discarded: int) -> None:
        """
        The application has closed the stream and does not read it any more.  C{discarded} octets that were delivered to the
        transport stay unread.  The session absorbs what the peer still sends, within a bound.

        This is not called if only our end is left to be sent.
        """

    def streamLost(stream: Any, reason: Failure) -> None:
        """
        The stream has ended: call C{stream.reportLost(reason)} on a later turn of the reactor.
        """

    def callNextTurn(call: Callable[..., object], *arguments: object) -> None:
        """
        Call C{call} on a later turn of the reactor, so that it does not run inside a call that a protocol makes.
        """

    def flushEarly() -> None:
        """
        The caller has finished writing for this turn.  If several streams are queued, flush now instead of at the end of the
        reactor turn, so that the peer can begin with what they have sent.
        """

    def waitForCapacity(stream: Any) -> None:
        """
        The stream's producer was paused because the session is full.  Call C{stream.resumeProducer()}, in turns with the other
        streams, once it is not full any more.
        """


class IHTTP2Receiver(Interface):
    """
    Receives the message of the peer on one stream of HTTP/2: the request on a server's side, the response on a client's side.

    The calls are, in this order: any number of C{informational}, C{headersReceived}, any number of C{dataReceived}, C{ended},
    and C{closed} when our direction has ended as well.  C{failed} can come instead of any of them, and is the last call then.
    None of them is made from inside a call to the stream.
    """

    def informational(fields: Sequence[tuple[bytes, bytes]]) -> None:
        """
        The head of an interim response.
        """

    def headersReceived(fields: Sequence[tuple[bytes, bytes]], ended: bool) -> None:
        """
        The head of the message: pseudo-fields first, names in lower case, and well-formed.

        @param ended: there is neither a body nor trailers; C{ended} is called as well.
        """

    def dataReceived(octets: bytes) -> None:
        """
        A piece of the body.
        """

    def ended(trailers: Sequence[tuple[bytes, bytes]]) -> None:
        """
        The message is complete.
        """

    def closed() -> None:
        """
        Both directions have ended.
        """

    def failed(reason: Exception) -> None:
        """
        The stream was reset, or the connection is lost.  C{reason} is an
        L{HTTP2StreamFailed<tunnelstack.transport.http2.errors.HTTP2StreamFailed>}.
        """


class ICallReceiver(Interface):
    """
    Receives what the peer sends in one call of gRPC.  None of the methods is called from inside a call to the
    L{GRPCCall<tunnelstack.transport.grpc_call.GRPCCall>}.
    """

    def answered(fields: Sequence[tuple[bytes, bytes]]) -> None:
        """
        At a client: the server has accepted the call.

        @param fields: its metadata, and other fields of the head.
        """

    def messageReceived(message: bytes) -> None:
        """
        A message, without its prefix.
        """

    def halfClosed() -> None:
        """
        At a server: the client sends no more messages.
        """

    def ended(result: CallResult, reason: Exception | None) -> None:
        """
        The call is over.  This is the last call, and it is not made when this side has ended or reset the call itself.

        @param reason: why the stream failed, an
            L{HTTP2StreamFailed<tunnelstack.transport.http2.errors.HTTP2StreamFailed>} or a
            L{BadCall<tunnelstack.wire.grpc.BadCall>}; C{None} if the result is the server's.
        """


class IRecordTransport(Interface):
    """
    A transport that can keep the boundaries of records.
    """

    def writeRecord(octets: bytes) -> None:
        """
        Send C{octets} alone in one frame or message, as soon as there is credit for all of them.

        @raise UsageError: the record is empty or larger than a frame may be.
        """


class IDatagramTransport(Interface):
    """
    A way to send datagrams to one peer: each arrives whole, or not at all.  Nothing waits: a datagram that cannot be sent at
    once is dropped and counted.
    """

    longest = Attribute("C{int}: octets of the longest datagram that is sent.")
    dropped = Attribute("C{int}: datagrams that were written or that arrived, and were dropped.")

    def write(datagram: bytes) -> None:
        """
        Send a datagram; one that is longer than L{longest} is dropped, and where the carrier cannot carry it an empty one too.
        """

    def loseConnection() -> None:
        """
        Close, and notify the peer.  Nothing is delivered after it.
        """

    def abortConnection() -> None:
        """
        Close without a word to the peer.
        """

    def getHost() -> IAddress:
        """
        The address on this side.
        """

    def getPeer() -> IAddress:
        """
        The address on the other side.
        """


class IDatagramProtocol(Interface):
    """
    What an L{IDatagramTransport} delivers to.
    """

    def makeConnection(transport: IDatagramTransport) -> None:
        """
        The transport is ready; called once, before anything else.
        """

    def datagramReceived(datagram: bytes) -> None:
        """
        A datagram of the peer.
        """

    def connectionLost(reason: Failure) -> None:
        """
        The last call.  C{ConnectionDone} if either side closed.
        """


class IDatagramFactory(Interface):
    """
    What builds the application of each peer, as an C{IProtocolFactory} does for connections.
    """

    def buildProtocol(address: IAddress | None) -> IDatagramProtocol | None:
        """
        @param address: of the peer; C{None} if it is not known.
        @return: an L{IDatagramProtocol}; C{None} closes the peer's transport.
        """


class IDatagramClientEndpoint(Interface):
    """
    A way to reach a peer by datagrams, as an C{IStreamClientEndpoint} is one by streams.
    """

    def connect(factory: IDatagramFactory) -> Deferred[IDatagramProtocol]:
        """
        @param factory: builds the application once there is a transport for it.
        @return: a C{Deferred} of the application, which can be cancelled; it fails with C{NoProtocol} if there is none.
        """


class IImmediateConnector(Interface):
    """
    An C{IStreamClientEndpoint} of a session that can open a stream without waiting for anything.
    """

    def connectNow(protocolFactory: IProtocolFactory) -> IProtocol | None:
        """
        Like C{connect}, without a C{Deferred}: for callers that open many streams.  It raises what C{connect} would fail with.

        @return: the protocol once the opening is queued; C{None}: not now.  Then C{connect} waits for a slot, or fails because
            the session is lost.
        """


class ISession(Interface):
    """
    Many streams to one peer.
    """

    connector: IStreamClientEndpoint = Attribute(
        "Opens a stream. C{connect()} fires when the opening is queued, and fails with C{SessionLost}, C{TooManyStreams} or "
        "C{OpenTimeout}."
    )
    address: StreamAddress = Attribute("What the addresses of its streams contain of the peer.")
    listener: IStreamServerEndpoint = Attribute(
        "Accepts the peer's streams, one factory at a time; streams opened before there is one wait, within a bound."
    )
    streams: int = Attribute("How many streams are open.")
    streamsOpened: int = Attribute("How many streams have been opened, by both sides.")
    octetsIn: int = Attribute("Octets of payload received.")
    octetsOut: int = Attribute("Octets of payload sent.")
    held: int = Attribute("Octets of payload that arrived and that applications have not read yet.")
    memory = Attribute(
        "The L{BudgetMember<tunnelstack.session.budget.BudgetMember>} that reports to the budget of the process what is held."
    )

    def ping() -> Deferred[float]:
        """
        @return: a C{Deferred} of the round trip in seconds; it fails with C{SessionLost}.
        """

    def goAway(reason: int = 0) -> None:
        """
        Open no more streams, and request the same of the peer.  Open streams continue.
        """

    def drain() -> Deferred[None]:
        """
        As C{goAway}, and close the carrier after the last stream has ended.

        @return: a C{Deferred} that fires when the carrier is closed or the session is lost.  There is no time-out.
        """

    def abort() -> None:
        """
        Close the session and its carrier at once.
        """

    def whenUp() -> Deferred[Any]:
        """
        @return: a C{Deferred} that fires with the session once it is connected.
        """

    def whenGoingAway() -> Deferred[None]:
        """
        @return: a C{Deferred} that fires when the peer has announced that it accepts no more streams, or when the session is
            lost: streams that are kept for later use are to be closed, so that the peer does not wait for them.
        """

    def whenLost() -> Deferred[SessionLost]:
        """
        @return: a C{Deferred} that fires with the reason, as a result and not as an error, when the session is lost.
        """

    def lostReason() -> SessionLost | None:
        """
        @return: the reason why no stream can be opened any more; C{None} if streams can be opened.
        """

    def transports() -> Sequence[Any]:
        """
        @return: the transports of the streams that are open.
        """


class IStreamHandler(IProtocolFactory):
    """
    Serves the streams of one protocol.

    C{buildProtocol} is called with a L{StreamAddress<tunnelstack.stream.address.StreamAddress>}; C{None} refuses the stream.
    A handler that is installed as a plugin (with C{IPlugin}) is found by every agent of the machine.
    """

    name: bytes = Attribute("The protocol's name, such as C{b'/demo/shout/1.0.0'}.")


class IDiallingHandler(Interface):
    """
    A handler that connects to something before the stream is accepted or refused.
    """

    def connect(address: StreamAddress) -> Deferred[Any]:
        """
        @param address: of the stream.
        @return: a C{Deferred} of the protocol for the stream; the result C{None} or a failure refuses the stream.
        """


Handler = IProtocolFactory | IDiallingHandler
"""What serves streams: it builds a protocol at once, or connects first."""


class IExchangeReceiver(Interface):
    """
    Receives one message of an HTTP exchange: the request on a server's side, the response on a client's side.

    The calls are, in this order: any number of C{informational}, C{headReceived} (responses only), any number of
    C{bodyReceived}, and C{ended}.  C{failed} can come instead of any of them, and is the last call then.

    A request that offers another protocol has no body, and C{ended} is called as for any other.  If it is answered by a C{101},
    C{bodyReceived} is called with the raw octets after that, and C{ended} once more when there are no more of them.
    """

    def informational(head: ResponseHead) -> None:
        """
        An interim response (1xx but 101).
        """

    def headReceived(head: ResponseHead) -> None:
        """
        The final head.  After a C{101} both directions are raw octets: C{bodyReceived} is called with those of the peer, and
        C{IExchange.write} sends those of this side.
        """

    def bodyReceived(octets: bytes) -> None:
        """
        A piece of the body.
        """

    def ended(trailers: Iterable[tuple[bytes, bytes]]) -> None:
        """
        The message is complete.
        """

    def failed(reason: ExchangeFailed) -> None:
        """
        The exchange has failed.
        """


class IWholeResponseReceiver(IExchangeReceiver):
    """
    A receiver of responses that can receive a whole response by one call.
    """

    def responseReceived(head: ResponseHead, octets: bytes) -> None:
        """
        Called with a response that arrived in one piece, instead of C{headReceived}, C{bodyReceived} and C{ended}.
        """


class IExchange(Interface):
    """
    One HTTP request and its response, independent of the protocol that carries them.

    A client sends the request by these methods, a server (L{IServerExchange}) the response.  An exchange is a consumer of
    what is sent and a producer of what is received.
    """

    traits: Traits = Attribute("What the carrier can do.  Read it before the head is sent.")

    def sendHead(head: Any) -> None:
        """
        Send the head, once: a client sends a L{RequestHead}, a server a L{ResponseHead}.

        @raise UsageError: it was sent before.
        """

    def write(octets: bytes) -> None:
        """
        Send a piece of the body.

        @raise UsageError: the body is longer than its Content-Length.
        """

    def end(trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        End the message.  If the body is shorter than its Content-Length, the exchange fails.
        """

    def cancel(kind: FailureKind) -> None:
        """
        Cancel the exchange.  The receiver is not called any more.
        """

    def registerProducer(producer: Any, streaming: bool) -> None:
        """
        Register the producer of the body, as in C{IConsumer}.
        """

    def unregisterProducer() -> None:
        """
        Unregister the producer, as in C{IConsumer}.
        """

    def pauseProducing() -> None:
        """
        Do not call the receiver until L{resumeProducing} is called.  The peer stops when its credit is used up.
        """

    def resumeProducing() -> None:
        """
        Call the receiver again.
        """


class IResponseExchange(IExchange):
    """
    The response to a request that was received.
    """

    trace: str = Attribute("The request's identifier, which error pages and logs show; C{''} until it has one.")

    def informational(head: ResponseHead) -> None:
        """
        Send an interim response (1xx but 101).
        """

    def respond(head: ResponseHead, octets: bytes) -> None:
        """
        Send a whole response.  The head contains the length of its body.

        @raise UsageError: as from C{sendHead} and C{write}.
        """


class IServerExchange(IResponseExchange):
    """
    An HTTP request that was received and has to be answered.
    """

    head: RequestHead = Attribute("The request's head as received.")
    host: bytes = Attribute("The host that the request is for; C{b''} if it names none.")
    peer = Attribute("The Twisted address that the request came from.")
    transport = Attribute("The transport that the request arrived on; not to be written to.")
    certificate = Attribute("The peer's verified X.509 certificate, or C{None}.")
    framing: Framing = Attribute("The framing of the message, according to its head.")
    context = Attribute("For the server of the request, which may store anything here.")
    status: int = Attribute("The status of the response; C{0} before the response begins.")
    octets: int = Attribute("Octets of the response's body that were written.")
    finished: bool = Attribute("Nothing more is written.")

    def onRequest() -> TakenOverRequest:
        """
        Take over the connection instead of answering.

        @return: the request and its connection.
        @raise UsageError: the carrier cannot hand its connection over (HTTP/2), the request has an unread body, or the response
            has begun.
        """


class IExchangeServer(Interface):
    """
    Answers HTTP requests, independent of the protocol that carries them.
    """

    def exchangeReceived(head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        """
        Serve a request, now or later.

        @param head: of the request; no field of it concerns one connection only.
        @param exchange: to answer on.
        @return: the receiver of the request's body (C{bodyReceived}, C{ended}, C{failed}).
        """


class ITunnel(Interface):
    """
    A way to one agent.
    """

    key: str = Attribute("The name under which the registry finds it.")
    principal: Principal = Attribute("The agent.")
    dialect: str = Attribute("The dialect's name.")
    instance: str = Attribute("The random name of the agent's process; C{''} if the dialect has none.")
    healthy: bool = Attribute("Whether it accepts more work.")
    inFlight: int = Attribute("The number of exchanges and streams under way.")

    def endpointFor(purpose: Purpose, visitor: Visitor | None = None, *, wait: bool = False) -> IStreamClientEndpoint:
        """
        @param wait: connecting waits until the agent has accepted the stream, if the dialect can report that.
        @raise UnsupportedPurpose: the dialect cannot carry it.
        """

    def datagramEndpointFor(purpose: UDPPurpose, visitor: Visitor | None = None) -> IDatagramClientEndpoint:
        """
        Make an endpoint whose datagrams reach what the purpose names.

        @param visitor: as in C{endpointFor}.
        @raise UnsupportedPurpose: the dialect cannot carry it.
        """

    def exchange(purpose: HTTPPurpose, receiver: IExchangeReceiver, visitor: Visitor | None = None) -> IExchange:
        """
        Begin an exchange with the agent.

        @raise UnsupportedPurpose: the dialect cannot carry it.
        @raise Busy: the agent accepts no more at the moment.
        """

    def ping() -> Deferred[float]:
        """
        @return: a C{Deferred} of the round trip in seconds; it fails if the tunnel is lost.
        """

    def drain() -> Deferred[Any]:
        """
        Accept no more work.

        @return: a C{Deferred} that fires when the work under way is finished.
        """

    def abort(reason: TunnelError | str) -> None:
        """
        Close the tunnel at once.

        @param reason: for the agent, if the dialect can send it.
        """

    def whenLost() -> Deferred[Any]:
        """
        @return: a C{Deferred} that fires when the tunnel is lost.
        """


class IEdge(Interface):
    """
    An edge, as its dialects see it.  The edge decides what is allowed; a dialect reports which agent requests what.
    """

    clock: IReactor = Attribute("The reactor, for all time-outs and for connections to agents that listen.")
    sessionLimits: SessionLimits = Attribute("The limits of each agent's session.")
    stopping: bool = Attribute("Whether the edge stops, and accepts no more agents.")
    bounds: ExchangeBounds = Attribute("The bounds of exchanges with agents.")
    state: StateDirectory | None = Attribute("The folder for files that outlive the process, or C{None}.")
    authority: str = Attribute("The host, with its port if that is not implied, by which agents know the edge.")

    def watchBounds(watcher: Callable[[ExchangeBounds], object]) -> None:
        """
        Call C{watcher} with the new L{bounds} whenever they change.
        """

    def sshAddress() -> str:
        """
        @return: C{host:port} of the SSH gateway; C{""} if there is none.
        """

    def authenticate(claim: Claim) -> Deferred[Principal]:
        """
        As in L{IAuthenticator}.
        """

    def arrived(tunnel: ITunnel) -> None:
        """
        Register the tunnel of an agent that has connected.  It is removed when it is lost.  An older tunnel of the same agent
        and instance is aborted.

        @raise Denied: the edge does not accept the agent.
        """

    def announce(tunnel: ITunnel, service: Service) -> Deferred[Grant]:
        """
        Publish a service of an agent.

        @return: a C{Deferred} of the L{Grant<tunnelstack.records.Grant>}; it fails with L{Denied<tunnelstack.errors.Denied>}.
        """

    def withdraw(tunnel: ITunnel, service: Service) -> Deferred[None]:
        """
        Stop publishing a service.

        @return: a C{Deferred} that fires when visitors can no longer reach it.
        """

    def checkService(principal: Principal, service: Service) -> None:
        """
        Check whether an agent could announce a service now, and announce nothing.

        @raise Denied: its rights do not allow that, the name belongs to another agent, or the port is taken.
        """

    def addressOf(name: str) -> Grant:
        """
        @return: the public address of the web service C{name}, whether or not it is published.
        """

    def expect(principal: Principal, service: Service) -> None:
        """
        Expect an agent, connected or not, to publish a service: a request for it while the agent is not connected is answered
        with 503, as for a service that was published before, and not with 404.
        """

    def expectNoMore(principal: Principal, service: Service) -> None:
        """
        Do not expect it any more.  An agent that publishes it goes on.
        """

    def publishHost(host: str, agent: str) -> None:
        """
        Publish a host name for an agent, connected or not: requests for it open an exchange on the agent's tunnel for an
        L{HTTPPurpose <tunnelstack.records.HTTPPurpose>} without a service and without a port.  A host that was published for
        another agent is moved.  Routes of the configuration precede it.

        @param host: in lower case, without a port.
        @raise Denied: it is an address, or a host that the edge needs itself.
        """

    def withdrawHost(host: str) -> None:
        """
        Stop publishing a host name.
        """

    def reach(principal: Principal, to: str, purpose: str) -> tuple[ITunnel, Purpose]:
        """
        Find the tunnel for a dialler.

        @param principal: the dialler.
        @param to: a service, C{agent/service}, an agent's name, or C{agent:port} for a port that the agent can reach.
        @param purpose: C{""} for the service itself, C{"ssh"} for the agent's SSH server, C{"terminal"} for a terminal on
            it, or the name of a stream protocol.
        @return: the tunnel, and the purpose of the stream to open on it.
        @raise Denied: there is none, or the dialler has no right to it.
        """


class IDoor(Interface):
    """
    A way by which agents of a dialect connect to an edge, see L{tunnelstack.doors}.
    """

    description: str = Attribute("Where it is, for logs and status.")


class IOutboundAgents(IService, Interface):
    """
    The agents that an edge dials, because they listen.
    """

    def report() -> Iterable[Mapping[str, object]]:
        """
        @return: a record of each agent, as JSON can hold it: C{agent} (its name), C{address} (where it is dialled), C{state}
            (a word, such as C{up} or C{down}), C{reason} (of the last failure; C{""} if there is none), and further
            members of the dialect.
        """


class IDialect(Interface):
    """
    How the agents of one system use an edge.  A dialect may provide L{IAdminResources} and L{IDeviceKeys} as well.
    """

    name: str = Attribute("The dialect in logs and status.")

    def doors(edge: IEdge) -> Iterable[IDoor]:
        """
        @return: the L{doors<tunnelstack.doors>} through which its agents connect to the edge.
        """

    def close() -> None:
        """
        The edge has stopped: write what has to be kept.
        """


class IDeferredDialect(IDialect):
    """
    A dialect that can wait with most of its modules until an agent comes.
    """

    def load() -> None:
        """
        Load them now.

        @raise ConfigurationError: a file that the dialect needs cannot be used.
        """


class IReloadableDialect(IDialect):
    """
    A dialect some of whose tables may change while the edge runs: those with C{live} in its settings.
    """

    def prepareReload(tables: DialectTables) -> Callable[[], object]:
        """
        Check new tables, and change nothing yet.

        @param tables: the tables of all dialects.
        @return: a function that applies them.
        @raise ConfigurationError: they cannot be used.
        """


class IAgentHost(Interface):
    """
    An agent, as its dialects see it.
    """

    clock: IReactor = Attribute("The reactor.")
    random: Callable[[], float] = Attribute("Returns a number from 0 to 1, which varies waits.")
    edges: Sequence[Any] = Attribute("The records of C{[[edge]]}, for the native dialect.")
    sessionLimits: SessionLimits = Attribute("The limits of sessions with edges.")
    instance: str = Attribute("The random name of this process.")
    handlers: Mapping[bytes, Handler] = Attribute("Handlers by the names of their stream protocols.")

    def edgeEndpoint(address: Any, alpn: Sequence[bytes] = ()) -> IStreamClientEndpoint:
        """
        Make an endpoint to an edge: with its URL, its proxy and the certificates that are configured.

        @param address: a record with C{url}, C{caFile}, C{proxy} and C{insecure}, or one of L{edges}.
        @param alpn: the protocols that an edge at C{https:} is offered, the best first.
        @return: an endpoint, TLS included.
        @raise ConfigurationError: a file or the proxy's URL cannot be used.
        """

    def target(text: str) -> IStreamClientEndpoint:
        """
        @param text: a port, C{host:port} or an endpoint string.
        @raise ConfigurationError: it is none of these.
        """

    def embeddedSSH(
        hostKeysFile: str, authorizedKeysFile: str, passwordsFile: str, users: Sequence[str],
        externalCheck: Callable[[str, Any], Deferred[bool]] | None,
    ) -> IDiallingHandler:
        """
        @param hostKeysFile: C{""} for the file in the state folder.
        @param externalCheck: called with a user's name and a C{twisted.conch.ssh.keys.Key} that the file does not have; returns
            a C{Deferred} of whether the key is authorized.
        @return: an SSH server of this process.
        @raise ConfigurationError: a file cannot be used, or no one could log in.
        """

    def statePath(name: str) -> Path:
        """
        @return: where a file is kept in the state folder.
        """

    def readSecret(path: str) -> str:
        """
        @return: the one word that a file contains.
        @raise ConfigurationError: the file cannot be read, or contains anything else.
        """

    def token(edge: Any) -> Callable[[], str]:
        """
        @param edge: a record with C{token} and C{tokenFile}.
        @return: a function that returns the credential, as it is in the file at the time of the call.
        """

    def linked(link: IServiceLink) -> None:
        """
        A session is up on which services can be announced.
        """

    def boundsChanged() -> None:
        """
        The C{bounds} of a link have changed: its edge has announced others.
        """

    def unlinked(link: IServiceLink) -> None:
        """
        The session takes no more announcements.
        """

    def revoked(link: IServiceLink, kind: str, name: str, reason: str) -> None:
        """
        The edge has withdrawn a service.
        """

    def exchangeEnded(service: str, exchange: IServerExchange, seconds: float) -> None:
        """
        Record an HTTP exchange that was served and has ended, in the access log and on the panel.

        @param service: what it is called there.
        @param seconds: from the request's head to the end of the response.
        """

    def displaced(reason: str) -> None:
        """
        Another process has taken the place of this one: the agent ends.
        """


class ILink(Interface):
    """
    A session of an agent with an edge.
    """

    session: ISession = Attribute("The session.")
    bounds: ExchangeBounds = Attribute("The bounds of exchanges that the edge has announced.")

    def whenLost() -> Deferred[Any]:
        """
        @return: a C{Deferred} that fires with the reason, as a result and not as an error, once the session is lost.
        """

    def drain() -> Deferred[Any]:
        """
        Accept no more work, let the work under way finish, and close the session.

        @return: a C{Deferred} that fires when the session is closed.
        """

    def abort(reason: str) -> None:
        """
        Close the session at once.
        """


class IServiceLink(ILink):
    """
    A session at which services can be announced, and through which services of other agents can be dialled.
    """

    def announce(service: Service) -> Deferred[Grant]:
        """
        Request that the edge publishes a service.

        @return: a C{Deferred} of the grant; it fails with L{Denied<tunnelstack.errors.Denied>}, or with
            L{Unavailable<tunnelstack.errors.Unavailable>} if the session is lost.
        """

    def withdraw(service: Service) -> Deferred[Any]:
        """
        Request that the edge no longer publishes a service.

        @return: a C{Deferred} that fires when the edge has confirmed it; it fails as that of L{announce} does.
        """

    def handle(name: bytes, handler: Handler) -> None:
        """
        Serve streams of a protocol's name, which the edge opens from now on.
        """

    def dial(to: str, purpose: str = "") -> IStreamClientEndpoint:
        """
        @param to: a service, C{agent/service}, or an agent's name.
        @param purpose: C{""} for the service itself, or the name of a stream protocol.
        @return: an endpoint that connects to a service of another agent, through the edge.
        """


class IAgentDialect(Interface):
    """
    How an agent connects to one edge of one system.  The agent calls L{dial}, and calls it again when the session is lost.
    """

    name: str = Attribute("The dialect in logs, with its version.")
    address: str = Attribute("The edge in logs.")
    credentialErrors: tuple[type[Exception], ...] = Attribute("They mean that the edge does not accept our credential.")
    protocolErrors: tuple[type[Exception], ...] = Attribute("They mean that the peer is not an edge of this system.")
    permanentErrors: tuple[type[Exception], ...] = Attribute("They do not pass unless a person changes something.")

    def dial() -> Deferred[Any]:
        """
        Make one attempt.

        @return: a C{Deferred} of an L{ILink}.
        """

    def up(link: Any) -> Deferred[Mapping[str, Any]]:
        """
        There is a session.

        @param link: the result of L{dial}.
        @return: a C{Deferred} of what the log reports of the session; it may fail if the session is lost.
        """

    def retire() -> None:
        """
        The session is lost, or takes no more work.
        """

    def report() -> Mapping[str, Any]:
        """
        @return: the state of the session, as JSON can hold it.
        """


class IClosableDialect(Interface):
    """
    What outlives the sessions of an agent, such as a program.  An L{IAgentDialect} may provide it.
    """

    def close() -> Deferred[Any] | None:
        """
        The agent has stopped, and its sessions are closed: end it.

        @return: C{None}, or a C{Deferred} that the end of the agent waits for, within a bound.
        """


class IBackoff(Interface):
    """
    How long an agent waits between attempts to connect, if its system prescribes that.  An L{IAgentDialect} may provide it.
    """

    def connected() -> None:
        """
        There is a session: the next wait is the first one again.
        """

    def nextWait() -> float:
        """
        An attempt failed, or a session was lost.

        @return: seconds to wait before the next attempt.
        """


class IListeningService(IService, Interface):
    """
    What an agent listens with, in systems whose edges dial the agents.  The agent starts it, and drains it before it is
    stopped.
    """

    description: str = Attribute("Where it listens, for logs.")
    session: ISession = Attribute("Its streams, whose memory counts for that of the agent.")

    def whenListening() -> Deferred[None]:
        """
        @return: a C{Deferred} that fires once it listens; it fails with C{CannotListenError} if it cannot.
        """

    def prepareReload() -> Callable[[], object]:
        """
        The configuration is read again: read the files that it names, such as certificates, and change nothing yet.

        @return: a function that uses them from now on.
        @raise ConfigurationError: one cannot be used.
        """

    def drain() -> Deferred[Any]:
        """
        Accept no more connections.

        @return: a C{Deferred} that fires when the work under way is finished.
        """

    def report() -> Mapping[str, Any]:
        """
        @return: its state, as JSON can hold it.
        """


class IAdminResources(Interface):
    """
    Resources that a dialect adds to the administration of an edge.
    """

    getHandlers: Mapping[bytes, Callable[[], Any]] = Attribute("Functions that return what JSON can hold, by their paths.")
    postHandlers: Mapping[bytes, Callable[[Mapping[str, Any]], Any]] = Attribute(
        "Functions of a JSON object, by their paths, which return what JSON can hold, or a C{Deferred} of it, or raise "
        "L{Denied<tunnelstack.errors.Denied>}."
    )


class IDeviceKeys(Interface):
    """
    Keys with which the SSH gateway of an edge logs in to devices.  Their dialect makes the devices accept them.
    """

    def keyFor(device: str) -> Deferred[Any] | None:
        """
        @param device: the device's name on the edge.
        @return: a C{Deferred} of a private C{twisted.conch.ssh.keys.Key}; C{None} for a device of another dialect.
        """


class ISubcommand(Interface):
    """
    What L{ICommand} and L{IAgentCommand} have in common.  A dialect lists its subcommands of both kinds in C{COMMANDS} of its
    module C{commands}.
    """

    name: str = Attribute("What is typed.")
    usage: str = Attribute("The name with its arguments, for the list of subcommands.")
    summary: str = Attribute("What it does, in a few words.")
    helpText: str = Attribute("The text of C{--help}.")
    optFlags: Sequence[Sequence[str | None]] = Attribute(
        "Its own options without a value, as in L{Options<twisted.python.usage.Options>}: rows of long name, letter or "
        "C{None}, and description."
    )
    optParameters: Sequence[Sequence[str | None]] = Attribute(
        "Its own options with a value: rows of long name, letter or C{None}, default or C{None}, and description."
    )


class ICommand(ISubcommand):
    """
    A subcommand of C{tunnelstack} that sends requests to a running edge.  It has C{--json} and C{--admin} beside its own
    options.
    """

    def parse(options: Mapping[str, Any], arguments: Sequence[str]) -> object:
        """
        @param options: the value of each option by its long name.
        @param arguments: the words that are not options.
        @return: what L{run} takes.
        @raise UsageError: of C{twisted.python.usage}; they are wrong.
        """

    def run(parsed: Any, admin: Callable[..., Any]) -> tuple[object, str | tuple[Sequence[object], Iterable[Sequence[object]]]]:
        """
        @param parsed: from L{parse}.
        @param admin: called with a method, a path, and for C{POST} an object; gives the object that the edge answered.
        @return: an object for C{--json}; and for people text, or a tuple of headings and rows.
        """


class IAgentCommand(ISubcommand):
    """
    A subcommand of C{tunnel-agent}: it takes from the command line what the dialect's tables have in a file.

    It has C{--config} (edges, services and dialects of the file are not used), C{--give-up-after}, C{--access-log} and
    C{--log-format} beside its own options; the kit adds them to C{helpText}.
    """

    def parse(options: Mapping[str, Any], arguments: Sequence[str]) -> Mapping[str, tuple[object, ...]]:
        """
        @param options: the value of each of its own options by its long name.  C{edge}, C{name}, C{token-file} and C{ca-file}
            are those of the environment (C{TUNNELSTACK_EDGE}, ...) where the command line has none; C{edge} is a sound URL.
        @param arguments: the words that are not options.
        @return: the records of each of its tables, as C{makeDialects} takes them.
        @raise UsageError: of C{twisted.python.usage}; they are wrong.
        @raise ConfigurationError: a record cannot be made of them.
        """


class IAuthenticator(Interface):
    """
    Authenticates agents.
    """

    def authenticate(claim: Claim) -> Deferred[Principal]:
        """
        @return: a C{Deferred} of the agent; it fails with L{Refused<tunnelstack.errors.Refused>}.  The sentence of a
            L{Denied<tunnelstack.errors.Denied>} is sent to the agent.
        """

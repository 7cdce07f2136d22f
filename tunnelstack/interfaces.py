"""
Every promise between the floors, and between tunnelstack and those who extend it.  No code.

Where Twisted has a word we use it: a transport is an C{ITransport}, a way to reach something is an C{IStreamClientEndpoint},
a way to be reached is an C{IStreamServerEndpoint}, an application is an C{IProtocolFactory}.  The interfaces below are the
ones that Twisted does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocolFactory,
    IReactorCore,
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUDP,
    IReactorUNIX,
)
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface

from tunnelstack.records import TakenOverRequest
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import RequestHead, ResponseHead


class IReactor(
    IReactorCore, IReactorTime, IReactorTCP, IReactorUDP, IReactorUNIX, IReactorProcess, IReactorThreads,
    IReactorPluggableNameResolver,
):
    """
    A reactor, with all that edges and agents use of it.  Parts that only wait take an C{IReactorTime}.
    """


class IProcessService(IService):
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
    All that a stream transport knows of the session it belongs to (floor 2 toward floor 1b).
    """

    full = Attribute("C{True} while the session's own transport takes no more: producers are to pause.")

    sharedTimer = Attribute("L{SharedTimer<tunnelstack.transport.shared_timer.SharedTimer>}: ends with the session.")

    high = Attribute("C{int}: octets queued on a stream above which its producer is to pause.")
    paused = Attribute("C{int}: streams whose applications do not read; the streams count it.")

    def streamReady(stream):
        """
        The stream has octets or an end to send: give it its turns, and flush once this reactor turn is over.
        """

    def acknowledge(streamId, octets):
        """
        The application consumed C{octets} of the stream: the peer may send as much again.
        """

    def reset(streamId):
        """
        End the stream at once, both directions; the session forgets it.
        """

    def stopReading(stream, discarded):
        """
        The application has closed the stream and reads no more of it; C{discarded} octets that were delivered to the
        transport go unread.  The session absorbs what still comes, within bounds.

        Not called where all that is left of the stream is our end, which the owner is about to send.
        """

    def streamLost(stream, reason):
        """
        The stream is over for its application: call C{stream.reportLost(reason)} on a later turn.
        """

    def callNextTurn(call, *arguments):
        """
        Call C{call} on a later turn of the reactor, never from inside a call that an application's protocol is making.
        """

    def flushEarly():
        """
        The caller has finished writing for this turn.  If several streams are queued, flush now instead of at the end of the
        reactor turn, so that the peer can begin with what they have sent.
        """

    def waitForCapacity(stream):
        """
        The stream's producer was paused because the session is full: call C{stream.resumeProducer()} in turn once it is not.
        """


class IRecordTransport(Interface):
    """
    A transport that can keep the boundaries of what is written.
    """

    def writeRecord(octets):
        """
        Send C{octets} alone in one frame (or message), neither split nor joined with others, waiting for credit for all of it.

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
        Close, and tell the peer.  Nothing is delivered after it.
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

    def buildProtocol(address: IAddress) -> IDatagramProtocol | None:
        """
        @param address: of the peer.
        @return: an L{IDatagramProtocol}; C{None} closes the peer's transport.
        """


class ISession(Interface):
    """
    Many streams to one peer.
    """

    connector = Attribute(
        "L{IStreamClientEndpoint<twisted.internet.interfaces.IStreamClientEndpoint>}: opens a stream. C{connect()} fires when "
        "the opening is queued, and fails with C{SessionLost}, C{TooManyStreams} or C{OpenTimeout}."
    )
    address = Attribute(
        "L{StreamAddress<tunnelstack.stream.address.StreamAddress>}: what the addresses of its streams contain of the peer."
    )
    listener = Attribute(
        "L{IStreamServerEndpoint<twisted.internet.interfaces.IStreamServerEndpoint>}: takes the peer's streams, one factory at "
        "a time; streams opened before there is one wait, within a bound."
    )
    streams = Attribute("C{int}: how many streams are open.")
    octetsIn = Attribute("C{int}: octets of payload received.")
    octetsOut = Attribute("C{int}: octets of payload sent.")
    held = Attribute("C{int}: octets of payload that arrived and that applications have not read yet.")
    memory = Attribute(
        "The L{BudgetMember<tunnelstack.session.budget.BudgetMember>} that reports to the budget of the process what is held."
    )

    def ping():
        """
        @return: a L{Deferred<twisted.internet.defer.Deferred>} that fires with the round trip in seconds, or fails with
            C{SessionLost}.
        """

    def goAway(reason=0):
        """
        Open no more streams, and ask the peer not to; open streams go on.
        """

    def drain():
        """
        As C{goAway}, and close the carrier once the last stream is done.

        @return: a L{Deferred<twisted.internet.defer.Deferred>} that fires with C{None} then, or when the session is lost; there
            is no deadline in it.
        """

    def abort():
        """
        Drop the session and its carrier at once.
        """

    def whenUp():
        """
        @return: a L{Deferred<twisted.internet.defer.Deferred>} that fires with the session once it is connected.
        """

    def whenLost():
        """
        @return: a L{Deferred<twisted.internet.defer.Deferred>} that fires with the C{SessionLost} that gives the reason, as a
            result and not as an error, once the session is gone.
        """

    def lostReason():
        """
        @return: the C{SessionLost} that gives the reason why no stream can be opened any more, or C{None}.
        """

    def transports():
        """
        @return: a list of the transports of the streams that are open now.
        """


class INegotiation(Interface):
    """
    What one stream is for, agreed in octets.  Pure: no Twisted in it.
    """

    name = Attribute("C{bytes}: what an initiator proposes; C{b''} where that is not known, or nothing is.")
    release = Attribute("L{Release<tunnelstack.wire.negotiation.base.Release>}: when the application's octets may follow.")

    def data_to_send():
        """
        @return: a list of octets to write now, in order; empty when there is nothing to say.
        """

    def receive_data(octets):
        """
        Called with no octets at the beginning, to hear what is settled without the peer; never again after C{Agreed} or
        C{Rejected}.

        @return: a list of at most one event: C{Agreed}, C{Rejected} or C{Proposed}; empty while it is undecided.
        @raise PeerError: the peer broke the rules; the stream is to be reset.
        """

    def receive_eof():
        """
        The peer ended its direction.

        @return: events, as from C{receive_data}.
        """

    def accept(parameters=None):
        """
        Answer what was C{Proposed} with yes.

        @return: events, as from C{receive_data}.
        """

    def reject(reason):
        """
        Answer what was C{Proposed} with no.

        @return: events, as from C{receive_data}; none where the peer may propose something else.
        """

    def begin(now):
        """
        The stream is there: time runs.

        @return: as C{next_deadline}.
        """

    def next_deadline():
        """
        @return: when C{expire} wants to be called, in seconds of the caller's clock, or C{None}.
        """

    def expire(now):
        """
        Time has passed.

        @return: events, as from C{receive_data}.
        @raise PeerError: it is too late.
        """


class IStreamHandler(IProtocolFactory):
    """
    What serves streams of one protocol name: an C{IProtocolFactory} with a name.

    C{buildProtocol} is called with a L{StreamAddress<tunnelstack.stream.address.StreamAddress>}; C{None} refuses the stream.
    Installed as a plugin (with C{IPlugin}) it is found by every agent of the machine.
    """

    name = Attribute("C{bytes}: the protocol's name, such as C{b'/demo/shout/1.0.0'}.")


class IDiallingHandler(Interface):
    """
    A handler that must reach something first and answers the opener only then.
    """

    def connect(address):
        """
        @param address: the L{StreamAddress<tunnelstack.stream.address.StreamAddress>} of the stream.
        @return: a C{Deferred} of the C{IProtocol} for the stream; a failure refuses it.
        """


class IExchangeReceiver(Interface):
    """
    Receives one message of an HTTP exchange: the request on the serving side, the response on the client's side.

    The calls are, in this order: any number of C{informational}, C{headReceived} (responses only), any number of
    C{bodyReceived}, and C{ended}.  C{failed} can come instead of any of them, and is the last call then.
    """

    def informational(head: ResponseHead) -> None:
        """
        An interim response (1xx but 101).
        """

    def headReceived(head: ResponseHead) -> None:
        """
        The final head.  After a C{101} both directions are raw octets: C{bodyReceived} carries what the far side sends, and
        C{IExchange.write} what this side sends.
        """

    def bodyReceived(octets: bytes) -> None:
        """
        Some of the body.
        """

    def ended(trailers: Iterable[tuple[bytes, bytes]]) -> None:
        """
        The message is whole.
        """

    def failed(reason: Any) -> None:
        """
        The exchange broke.

        @param reason: an L{ExchangeFailed<tunnelstack.exchange.errors.ExchangeFailed>}.
        """


class IWholeResponseReceiver(IExchangeReceiver):
    """
    A receiver of responses that prefers one call to three.
    """

    def responseReceived(head: ResponseHead, octets: bytes) -> None:
        """
        A response that arrived at once; called instead of C{headReceived}, C{bodyReceived} and C{ended}.
        """


class IExchange(Interface):
    """
    One HTTP request and its response, whatever carries it; a consumer of the one and a producer of the other.

    On the client's side the request is sent here; on the serving side (L{IServerExchange}) the response.
    """

    traits = Attribute("L{Traits<tunnelstack.exchange.traits.Traits>}: what this carrier can do; read before the head is sent.")

    def sendHead(head):
        """
        Send the head, once: a L{RequestHead<tunnelstack.wire.http1.head.RequestHead>} on the client's side, a
        L{ResponseHead<tunnelstack.wire.http1.head.ResponseHead>} on the serving side.

        @raise UsageError: it was sent before.
        """

    def write(octets: bytes) -> None:
        """
        Send some of the body.

        @raise UsageError: the body is longer than the head says.
        """

    def end(trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        The message is whole.  If the body is shorter than the head says, the exchange breaks.
        """

    def cancel(kind):
        """
        Give the exchange up: the receiver is called no more.

        @param kind: why, a member of L{FailureKind<tunnelstack.exchange.errors.FailureKind>}.
        """

    def registerProducer(producer, streaming: bool) -> None:
        """
        Register what writes the body, as in C{IConsumer}.
        """

    def unregisterProducer() -> None:
        """
        Nothing writes the body any more, as in C{IConsumer}.
        """

    def pauseProducing() -> None:
        """
        Call the receiver no more for now; the far side is stopped by its credit.
        """

    def resumeProducing() -> None:
        """
        Go on.
        """


class IServerExchange(IExchange):
    """
    One HTTP request that was received, to be answered.
    """

    head: RequestHead = Attribute("The request's head as received.")
    host: bytes = Attribute("The host that the request is for; C{b''} if it names none.")
    peer = Attribute("The Twisted address that the request came from.")
    transport = Attribute("The transport that the request arrived on; not to be written to.")
    certificate = Attribute("The peer's verified X.509 certificate, or C{None}.")
    framing: Framing = Attribute("What the head says of the message.")
    trace: str = Attribute("The request's identifier, which error pages and logs show; C{''} until it has one.")
    context = Attribute("What the server of the request keeps with it.")
    status: int = Attribute("The status of the response; C{0} before the response begins.")
    octets: int = Attribute("Octets of the response's body that were written.")
    finished: bool = Attribute("Nothing more is written.")

    def informational(head: ResponseHead) -> None:
        """
        Send an interim response (1xx but 101).
        """

    def respond(head: ResponseHead, octets: bytes) -> None:
        """
        Send a whole response; the head names the length of its body.

        @raise UsageError: as from C{sendHead} and C{write}.
        """

    def onRequest() -> TakenOverRequest:
        """
        Own the connection instead of answering, at a door.

        @return: the request and its connection.
        @raise UsageError: the carrier cannot hand its connection over (HTTP/2), the request has an unread body, or the response
            has begun.
        """


class IExchangeServer(Interface):
    """
    What answers HTTP exchanges on the serving side, and knows no carrier.
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
    A way to one agent, as the registry keeps it.
    """

    key = Attribute("C{str}: the name it is found by.")
    principal = Attribute("L{Principal<tunnelstack.records.Principal>}: who holds it.")
    dialect = Attribute("C{str}: the dialect's name.")
    instance = Attribute("C{str}: the agent process's own random name; C{''} where the dialect has none.")
    healthy = Attribute("C{bool}: fit for new work.")
    inFlight = Attribute("C{int}: exchanges and streams under way.")

    def endpointFor(purpose, visitor=None, *, wait=False):
        """
        @param purpose: a record of L{tunnelstack.records}.
        @param visitor: a L{Visitor<tunnelstack.records.Visitor>}, or C{None}.
        @param wait: connecting waits for the far side to accept the stream, where the dialect can report that.
        @return: an C{IStreamClientEndpoint}.
        @raise UnsupportedPurpose: the dialect cannot carry it.
        """

    def exchange(purpose, receiver, visitor=None):
        """
        @return: an L{IExchange} toward the agent.
        @raise UnsupportedPurpose: the dialect cannot carry it.
        @raise Busy: it takes no more now.
        """

    def ping():
        """
        @return: a C{Deferred} of the round trip in seconds; it fails when there is none any more.
        """

    def drain():
        """
        Take no more work.

        @return: a C{Deferred} that fires when the last of it is done.
        """

    def abort(reason):
        """
        Drop it at once.
        """

    def whenLost():
        """
        @return: a C{Deferred} that fires once it is gone.
        """


class IEdge(Interface):
    """
    What a dialect may ask of the edge that its doors stand in.  Policy is the edge's; a dialect only says who asks for what.
    """

    clock = Attribute("C{IReactorTime}: of everything that waits.")
    sessionLimits = Attribute("L{SessionLimits<tunnelstack.wire.yamux.limits.SessionLimits>}: of each agent's session.")
    stopping = Attribute("C{bool}: no agent is let in any more.")
    timeouts = Attribute("L{Timeouts<tunnelstack.exchange.traits.Timeouts>}: of the exchanges that agents are asked for.")
    state = Attribute(
        "L{StateDirectory<tunnelstack.settings.state_dir.StateDirectory>}: where to keep what outlives the process, or C{None}."
    )
    authority = Attribute("C{str}: the host, with its port if that is not implied, by which agents know the edge.")

    def sshAddress():
        """
        @return: C{host:port} of the SSH gateway; C{""} if there is none.
        """

    def authenticate(claim):
        """
        As in L{IAuthenticator}.
        """

    def arrived(tunnel):
        """
        An agent is there: its L{ITunnel} can be found from now on, and is forgotten by itself when it is lost.  An older tunnel
        of the same agent and instance is aborted.

        @raise Denied: it cannot be taken.
        """

    def announce(tunnel, service):
        """
        Publish what an agent offers.

        @param service: a L{Service<tunnelstack.records.Service>}.
        @return: a C{Deferred} of the L{Grant<tunnelstack.records.Grant>}; it fails with L{Denied<tunnelstack.errors.Denied>}.
        """

    def withdraw(tunnel, service):
        """
        Publish it no more.

        @return: a C{Deferred} that fires when the public can no longer reach it.
        """

    def publishHost(host, agent):
        """
        Publish a host name for an agent, connected or not: requests for it ask the agent's tunnel for an L{HTTPPurpose
        <tunnelstack.records.HTTPPurpose>} without a service and without a port.  A host that was published for another agent
        is moved.  Routes of the configuration precede it.

        @param host: in lower case, without a port.
        @raise Denied: it is an address, or a host that the edge needs itself.
        """

    def withdrawHost(host):
        """
        Publish it no more.
        """

    def reach(principal, to, purpose):
        """
        Find the way for somebody who dials.

        @param principal: who dials.
        @param to: a service, C{agent/service}, an agent's name, or C{agent:port} for a port of what the agent reaches, as text.
        @param purpose: C{""} for the service itself, C{"ssh"} for the agent's SSH server, or the name of a stream protocol.
        @return: the L{ITunnel} and the purpose to ask it for.
        @raise Denied: there is none, or it is not theirs.
        """


class IDoor(Interface):
    """
    A way by which agents of a dialect connect to an edge, see L{tunnelstack.doors}.
    """

    description: str = Attribute("Where it is, for logs and status.")


class IOutboundAgents(IService):
    """
    The agents that an edge dials, because they listen.
    """

    def report() -> Iterable[Mapping[str, object]]:
        """
        @return: the state of each agent, as JSON can hold it.
        """


class IDialect(Interface):
    """
    One system's way of doing all this at an edge: data and composition.  A dialect may provide L{IAdminResources} and
    L{IDeviceKeys} as well.
    """

    name = Attribute("C{str}: in logs and status.")

    def doors(edge: IEdge) -> Iterable[IDoor]:
        """
        @return: the L{doors<tunnelstack.doors>} through which its agents connect to the edge.
        """

    def close():
        """
        The edge has stopped: write what is to be kept.
        """


class IReloadableDialect(IDialect):
    """
    A dialect some of whose tables may change while the edge runs: those with C{live} in its settings.
    """

    def prepareReload(tables):
        """
        Check new tables, and change nothing yet.

        @param tables: the tables of all dialects, by the name of the dialect and of the table.
        @return: a function without arguments that applies them.
        @raise ConfigurationError: they cannot be used.
        """


class IAgentHost(Interface):
    """
    What a dialect may ask of the agent that it is part of.
    """

    clock = Attribute("The reactor.")
    random = Attribute("A function that gives a number from 0 to 1, for waits.")
    edges = Attribute("The records of C{[[edge]]}, for the native dialect.")
    sessionLimits = Attribute("L{SessionLimits<tunnelstack.wire.yamux.limits.SessionLimits>}: of sessions with edges.")
    instance = Attribute("C{str}: the random name of this process.")
    handlers = Attribute("A mapping from names of stream protocols to handlers.")

    def edgeEndpoint(address):
        """
        How to reach an edge: by its URL, through a proxy, with the certificates that are configured.

        @param address: a record with C{url}, C{caFile}, C{proxy} and C{insecure}, or one of L{edges}.
        @return: an C{IStreamClientEndpoint}, TLS included.
        @raise ConfigurationError: a file or the proxy's URL cannot be used.
        """

    def target(text):
        """
        @param text: a port, C{host:port} or an endpoint string.
        @return: an C{IStreamClientEndpoint}.
        @raise ConfigurationError: it is none of these.
        """

    def embeddedSSH(hostKeysFile, authorizedKeysFile, passwordsFile, users, elsewhere):
        """
        @param hostKeysFile: C{""} for the file in the state folder.
        @param elsewhere: called with a user's name and a key that the file does not have; gives a C{bool}, or a C{Deferred} of
            one.
        @return: an L{IDiallingHandler} that is an SSH server of this process.
        @raise ConfigurationError: a file cannot be used, or no one could log in.
        """

    def statePath(name):
        """
        @return: where a file is kept in the state folder.
        """

    def readSecret(path):
        """
        @return: the one word that a file holds.
        @raise ConfigurationError: it cannot be read, or holds anything else.
        """

    def token(edge):
        """
        @param edge: a record with C{token} and C{tokenFile}.
        @return: a function that gives the credential, as the file holds it when it is called.
        """

    def linked(link):
        """
        A session is up that services can be announced on.
        """

    def unlinked(link):
        """
        It takes no more announcements.
        """

    def revoked(link, kind, name, reason):
        """
        The edge has withdrawn a service.
        """

    def displaced(reason):
        """
        Another process has taken the place of this one: end.
        """


class IAgentDialect(Interface):
    """
    How an agent of one system meets one edge.  The agent dials, and dials again when the session is lost.
    """

    name = Attribute("C{str}: the dialect in logs, with its version.")
    address = Attribute("C{str}: the edge in logs.")
    credentialErrors = Attribute("Exceptions that mean that the edge does not accept our credential.")
    protocolErrors = Attribute("Exceptions that mean that the peer is not an edge of this system.")
    permanentErrors = Attribute("Exceptions that do not pass unless a person changes something.")

    def dial():
        """
        Make one attempt.

        @return: a C{Deferred} of a link, with C{whenLost()}, C{drain()} and C{abort(reason)}.
        """

    def up(link):
        """
        There is a session.

        @return: a C{Deferred} of a mapping: what the log says of the session; it may fail if the session is lost.
        """

    def retire():
        """
        The session is lost, or takes no more work.
        """

    def report():
        """
        @return: the state of the session, as a mapping that JSON can hold.
        """


class IAdminResources(Interface):
    """
    What a dialect adds to the administration of an edge.
    """

    getHandlers = Attribute("A mapping from paths to functions that give what JSON is made of.")
    postHandlers = Attribute(
        "A mapping from paths to functions of a JSON object, which give what JSON is made of, or a C{Deferred} of it, or raise "
        "L{Denied<tunnelstack.errors.Denied>}."
    )


class IDeviceKeys(Interface):
    """
    Keys with which the SSH gateway of an edge logs in at devices, which their dialect makes them accept.
    """

    def keyFor(device):
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
    A subcommand of C{tunnelstack} that asks a running edge.  It has C{--json} and C{--admin} beside its own options.
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

    It has C{--config} (of the file, only C{[agent]} and C{[limits]} are used), C{--give-up-after}, C{--access-log} and
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
    Says who somebody is.
    """

    def authenticate(claim):
        """
        @param claim: a L{Claim<tunnelstack.records.Claim>}.
        @return: a C{Deferred} of a L{Principal<tunnelstack.records.Principal>}; it fails with C{Refused}; the sentence of a
            C{Denied} is sent to the agent.
        """

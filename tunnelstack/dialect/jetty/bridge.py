"""
The part of Jetty's control plane, the Bridge, that its agents need: the HTTP API under C{/api} of the edge.

Agents show a token of the edge.  Its rights decide which names and ports their tunnels have.  Nobody has an account here, so
there is no login.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hmac import compare_digest

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.dialect.http_entry import bearerToken
from tunnelstack.dialect.jetty.addresses import Addresses
from tunnelstack.dialect.jetty.names import freeName, freePort
from tunnelstack.dialect.jetty.registration import HTTP, NAME
from tunnelstack.dialect.jetty.sample_log import MOST_OF_TUNNEL, KeptSample, kept
from tunnelstack.dialect.jetty.settings import EdgeSettings
from tunnelstack.dialect.jetty.tunnel_store import StoredTunnel, TunnelStore
from tunnelstack.doors import HTTPDoor
from tunnelstack.errors import Denied, Refused
from tunnelstack.exchange.sample_store import SampleStore
from tunnelstack.exchange.whole_message import JSON, WholeMessageServer, WholeRequest, WholeResponse
from tunnelstack.interfaces import IEdge
from tunnelstack.records import Claim, Principal, Service
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.http1.head import values
from tunnelstack.wire.jsonline import encode
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty_bridge import (
    AUTH_POLL,
    AUTH_SESSION,
    BODY,
    BOOTSTRAP,
    EDGE_SECRET,
    REGIONS,
    RESERVED,
    SAMPLES,
    TELEMETRY,
    TUNNELS,
    VERIFY,
    BadBody,
    CreateTunnel,
    EdgeRegion,
    Heartbeat,
    read_attach_untrusted,
    read_create_untrusted,
    read_failure_untrusted,
    read_heartbeat_untrusted,
    read_log_untrusted,
    read_sample_untrusted,
    read_verify_untrusted,
    tunnel_members,
)

STATUS = {"not-allowed": 403, "unknown": 404, "stopping": 503}
"""The status of a refusal by its code; 422 of all others."""

HINTS = {
    "not-allowed": "ask the operator of the edge for a token with this right",
    "taken": "choose another subdomain",
    "limit": "delete a tunnel that you no longer need",
    "port-taken": "ask the operator of the edge for a token with further ports",
}
"""What can be done about a refusal, by its code."""

NO_LOGIN = "this edge has no accounts to log in to"
NO_LOGIN_HINT = "the operator of the edge creates a token with: tunnelstack token new NAME --allow http:NAME"

REPORTED_SECONDS = 60.0
"""Seconds between two lines of the log about agents that report that they cannot connect; anyone can send such a report."""

Handler = Callable[[WholeRequest, Sequence[str], Principal], WholeResponse]


@frozen
class Activity:
    """
    What the agents of a tunnel report of themselves.

    @ivar seen: when the last heartbeat arrived, in seconds since 1970; C{0.0} if none did.
    """

    seen: float = 0.0
    requests: int = 0
    octetsIn: int = 0
    octetsOut: int = 0


class Bridge:
    """
    The API of one edge.

    @ivar activity: by the identifier of the tunnel.
    @ivar samples: the requests that agents report.
    """

    log = Logger()

    def __init__(
        self, edge: IEdge, store: TunnelStore, addresses: Addresses, settings: EdgeSettings, secret: str,
        agentsOf: Callable[[str], int],
    ) -> None:
        """
        @param secret: of other edges; C{""} if they cannot verify anything here.
        @param agentsOf: returns how many agents serve a tunnel, by its identifier.
        """
        self.activity: dict[str, Activity] = {}
        self.samples: SampleStore[KeptSample] = SampleStore(MOST_OF_TUNNEL)
        self._edge = edge
        self._store = store
        self._addresses = addresses
        self._settings = settings
        self._secret = secret
        self._agentsOf = agentsOf
        self._now = store.now
        self._reportedAt = -REPORTED_SECONDS
        self._unreported = 0
        store.watch(self._forget)
        self._collection: Mapping[bytes, Handler] = {b"GET": self._list, b"POST": self._create}
        self._member: Mapping[bytes, Handler] = {b"GET": self._show, b"DELETE": self._delete}
        self._actions: Mapping[str, Handler] = {
            "attach": self._attach, "heartbeat": self._heartbeat, "request-log": self._log, "request-samples": self._sample,
        }

    def doors(self) -> list[HTTPDoor]:
        """
        @return: a door for each part of the API.
        """
        parts: dict[str, Callable[[WholeRequest], object]] = {
            TUNNELS: self._tunnels, SAMPLES: self._samples, RESERVED: self._reserved, REGIONS: self._regions,
            BOOTSTRAP: self._regions, AUTH_SESSION: self._noLogin, AUTH_POLL: self._noLogin, TELEMETRY: self._telemetry,
            VERIFY: self._verify,
        }
        return [
            HTTPDoor(path=path.encode(), prefix=path in (TUNNELS, SAMPLES), server=WholeMessageServer(
                respond, clock=self._edge.clock, bodyOctets=BODY, refuse=refusal,
            ))
            for path, respond in parts.items()
        ]  # fmt: skip

    # Who asks

    def _authenticated(self, request: WholeRequest, handler: Handler, names: Sequence[str] = ()) -> Deferred[WholeResponse]:
        """
        Answer a request with a bearer token.

        @param names: the identifiers in its path.
        """
        fields = request.head.fields
        claim = Claim(
            dialect=NAME, path=request.path, fields=tuple(fields), address=request.exchange.peer, token=bearerToken(fields),
            certificate=request.exchange.certificate,
        )
        answered = self._edge.authenticate(claim).addCallback(lambda principal: handler(request, names, principal))
        return answered.addErrback(self._refused, request)

    def _refused(self, failure: Failure, request: WholeRequest) -> WholeResponse:
        reason = failure.value
        if isinstance(reason, BadBody):
            return refusal(422 if reason.member else 400, str(reason))
        if isinstance(reason, _NoTunnel):
            return refusal(404, str(reason))
        if isinstance(reason, Denied) and reason.code != "expired":
            return refusal(STATUS.get(reason.code, 422), reason.sentence, HINTS.get(reason.code, ""))
        if not isinstance(reason, Refused):
            return failure                # type: ignore[return-value]
        self.log.warn(
            "an agent at {peer} is refused at {path}: {reason}", peer=addressText(request.exchange.peer),
            path=printable(request.path.decode("latin-1"), 128), reason=str(reason),
        )
        sentence = reason.sentence if isinstance(reason, Denied) else "the token is not accepted"
        return refusal(401, sentence, "create a token with: tunnelstack token new NAME --allow http:NAME")

    # Tunnels

    def _tunnels(self, request: WholeRequest) -> object:
        names = _below(request, TUNNELS)
        handlers = self._collection if not names else self._member if len(names) == 1 else {}
        if len(names) == 2 and names[1] in self._actions:
            handlers = {b"POST": self._actions[names[1]]}
        if not handlers:
            return refusal(404, "there is no such resource")
        handler = handlers.get(request.head.method)
        if handler is None:
            return refusal(405, "the method is not allowed", fields=((b"Allow", b", ".join(handlers)),))
        return self._authenticated(request, handler, names)

    def _list(self, request: WholeRequest, names: Sequence[str], principal: Principal) -> WholeResponse:
        return answer([self._members(each) for each in self._store.of(principal.agent)])

    def _show(self, request: WholeRequest, names: Sequence[str], principal: Principal) -> WholeResponse:
        return answer(self._members(self._mine(names[0], principal)))

    def _create(self, request: WholeRequest, names: Sequence[str], principal: Principal) -> WholeResponse:
        asked = read_create_untrusted(request.body)
        tunnel = self._named(asked, principal) if asked.subdomain else self._unnamed(asked, principal)
        target = f"{asked.local_host}:{asked.local_port}"
        expires = self._now() + asked.expires_in if asked.expires_in else 0.0
        return self._issue(
            tunnel, principal, status=201, localTarget=target, server=asked.server, rules=asked.routing_rules, expires=expires
        )

    def _named(self, asked: CreateTunnel, principal: Principal) -> StoredTunnel:
        """
        @return: a tunnel of the name that is requested: a new one, or the owner's own if no agent serves it.
        @raise Denied: the name is in use, or the rights of the token do not allow it.
        """
        name, tunnel = asked.subdomain, self._store.named(asked.subdomain)
        if tunnel is not None and tunnel.owner != principal.agent:
            raise Denied("taken", f"the name {name} belongs to another credential")
        if tunnel is not None and self._agentsOf(tunnel.id):
            raise Denied("taken", f"the name {name} is in use by your tunnel to {printable(tunnel.localTarget, 64)}")
        if tunnel is not None and tunnel.protocol != asked.protocol:
            raise Denied("taken", f"the name {name} belongs to your tunnel for {tunnel.protocol}")
        self._edge.checkService(principal, Service(name=name, kind=asked.protocol))
        return tunnel or self._new(name, asked.protocol, principal)

    def _unnamed(self, asked: CreateTunnel, principal: Principal) -> StoredTunnel:
        """
        @return: a new tunnel of a name that is free, or else one of the owner's own that no agent serves.
        @raise Denied: the rights of the token allow none.
        """
        store, protocol = self._store, asked.protocol
        try:
            name = freeName(self._edge, principal, protocol, lambda each: store.named(each) is not None)
            return self._new(name, protocol, principal)
        except Denied:
            mine = (each for each in store.of(principal.agent) if each.protocol == protocol and not self._agentsOf(each.id))
            unused = next(mine, None)
            if unused is None:
                raise
            return self._named(evolve(asked, subdomain=unused.subdomain), principal)

    def _new(self, name: str, protocol: str, principal: Principal) -> StoredTunnel:
        """
        @raise Denied: there is no port, or no room.
        """
        port = 0 if protocol == HTTP else self._freePort(name, protocol, principal)
        return self._store.add(name, principal.agent, protocol, port=port)

    def _freePort(self, name: str, protocol: str, principal: Principal) -> int:
        taken = {each.port for each in self._store.tunnels if each.protocol == protocol}
        return freePort(self._edge, principal, name, protocol, taken.__contains__)

    def _attach(self, request: WholeRequest, names: Sequence[str], principal: Principal) -> WholeResponse:
        asked = read_attach_untrusted(request.body)
        tunnel = self._mine(names[0], principal)
        self._edge.checkService(principal, Service(name=tunnel.subdomain, kind=tunnel.protocol, port=tunnel.port))
        return self._issue(
            tunnel, principal, localTarget=f"{asked.local_host}:{asked.local_port}", server=asked.server or tunnel.server,
            rules=tunnel.rules if asked.routing_rules is None else asked.routing_rules,
        )

    def _issue(self, tunnel: StoredTunnel, principal: Principal, status: int = 200, **changes: object) -> WholeResponse:
        """
        Answer with a tunnel and a new token for its agents.
        """
        if tunnel.protocol != HTTP and not tunnel.port:
            changes["port"] = self._freePort(tunnel.subdomain, tunnel.protocol, principal)
        attached, token = self._store.attach(tunnel, principal, **changes)
        return answer(self._members(attached, token), status)

    def _delete(self, request: WholeRequest, names: Sequence[str], principal: Principal) -> WholeResponse:
        self._store.remove(self._mine(names[0], principal).id)
        return WholeResponse(204)

    def _heartbeat(self, request: WholeRequest, names: Sequence[str], principal: Principal) -> WholeResponse:
        beat = read_heartbeat_untrusted(request.body)
        tunnel = self._mine(names[0], principal)
        self._count(tunnel, beat)
        return answer(self._members(tunnel))

    def _count(self, tunnel: StoredTunnel, beat: Heartbeat) -> None:
        known = self.activity.get(tunnel.id, Activity())
        self.activity[tunnel.id] = Activity(
            self._now(), known.requests + beat.requests, known.octetsIn + beat.bytes_in, known.octetsOut + beat.bytes_out
        )

    def _log(self, request: WholeRequest, names: Sequence[str], principal: Principal) -> WholeResponse:
        """
        Accept the line, and keep nothing of it: the edge has a log of its own.
        """
        read_log_untrusted(request.body)
        self._mine(names[0], principal)
        return answer(None, 201)

    def _sample(self, request: WholeRequest, names: Sequence[str], principal: Principal) -> WholeResponse:
        reported = read_sample_untrusted(request.body)
        sample = kept(self._mine(names[0], principal).id, reported, self._now())
        self.samples.add(sample.tunnelId, sample, sample.octets, sample.id)
        return answer({"id": sample.id}, 201)

    def _mine(self, identifier: str, principal: Principal) -> StoredTunnel:
        """
        @raise _NoTunnel: there is no such tunnel, or it belongs to somebody else.
        """
        tunnel = self._store.find(identifier)
        if tunnel is None or tunnel.owner != principal.agent:
            raise _NoTunnel("there is no such tunnel")
        return tunnel

    def _members(self, tunnel: StoredTunnel, token: str = "") -> dict[str, object]:
        return tunnel_members(self._addresses.describe(tunnel, bool(self._agentsOf(tunnel.id)), token))

    def _forget(self, tunnel: StoredTunnel) -> None:
        self.activity.pop(tunnel.id, None)
        self.samples.forget(tunnel.id)

    # The rest

    def _samples(self, request: WholeRequest) -> object:
        names = _below(request, SAMPLES)
        if len(names) != 1:
            return refusal(404, "there is no such resource")

        def show(request: WholeRequest, names: Sequence[str], principal: Principal) -> WholeResponse:
            sample = self.samples.find(names[0])
            if sample is None:
                raise _NoTunnel("there is no such sample")
            self._mine(sample.tunnelId, principal)
            return answer(_sampleMembers(sample))

        return self._authenticated(request, show, names) if request.head.method == b"GET" else notAllowed(b"GET")

    def _reserved(self, request: WholeRequest) -> object:
        def show(request: WholeRequest, names: Sequence[str], principal: Principal) -> WholeResponse:
            mine = [{"subdomain": each.subdomain, "tunnel_id": each.id} for each in self._store.of(principal.agent)]
            return WholeResponse(200, encode({"data": mine, "meta": {}}), JSON)

        return self._authenticated(request, show) if request.head.method == b"GET" else notAllowed(b"GET")

    def _regions(self, request: WholeRequest) -> WholeResponse:
        """
        What an agent has to know before it has a token: where this edge is.
        """
        if request.head.method != b"GET":
            return notAllowed(b"GET")
        region = EdgeRegion(url=self._addresses.websocketURL, region=self._settings.region or self._addresses.edgeId)
        edges = [{"url": region.url, "region": region.region, "location": region.location}] if region.url else []
        return WholeResponse(200, encode({"edges": edges}), JSON)

    def _noLogin(self, request: WholeRequest) -> WholeResponse:
        return refusal(404, NO_LOGIN, NO_LOGIN_HINT)

    def _telemetry(self, request: WholeRequest) -> WholeResponse:
        """
        Log that an agent could not connect, once a minute at most.
        """
        if request.head.method != b"POST":
            return notAllowed(b"POST")
        try:
            failure = read_failure_untrusted(request.body)
        except BadBody as bad:
            return refusal(422, str(bad))
        now = self._edge.clock.seconds()
        if now - self._reportedAt < REPORTED_SECONDS:
            self._unreported += 1
            return WholeResponse(204)
        self.log.info(
            "an agent at {peer} reports that it cannot connect: {reason}", peer=addressText(request.exchange.peer),
            reason=printable(failure.reason, 200) or "no reason", http=failure.http_status,
            client=printable(failure.client, 64), others=self._unreported,
        )
        self._reportedAt, self._unreported = now, 0
        return WholeResponse(204)

    def _verify(self, request: WholeRequest) -> WholeResponse:
        """
        Tell another edge whether an agent has the token of a tunnel.
        """
        shown = values(request.head.fields, EDGE_SECRET)
        if not self._secret or len(shown) != 1 or not compare_digest(shown[0], self._secret.encode()):
            return refusal(401, "the secret of the edge is not accepted")
        try:
            asked = read_verify_untrusted(request.body)
        except BadBody as bad:
            return refusal(422, str(bad))
        tunnel = self._store.find(asked.tunnel_id)
        if tunnel is None or not self._store.hasToken(asked.tunnel_id, asked.agent_token):
            return WholeResponse(403, encode({"valid": False}), JSON)
        return WholeResponse(200, encode({
            "valid": True, "tunnel_id": tunnel.id, "subdomain": tunnel.subdomain, "protocol": tunnel.protocol,
            "public_url": self._addresses.publicURL(tunnel), "assigned_port": tunnel.port,
        }), JSON)  # fmt: skip


class _NoTunnel(Exception):
    """
    What the path of a request names does not exist, or belongs to somebody else.
    """


def _below(request: WholeRequest, path: str) -> list[str]:
    """
    @return: the segments of the request's path after C{path}.
    """
    return [each for each in request.path.decode("latin-1").removeprefix(path).split("/") if each]


def _sampleMembers(found: KeptSample) -> dict[str, object]:
    sample = found.sample
    return {
        "id": found.id, "tunnel_id": found.tunnelId, "method": sample.method, "path": sample.path,
        "query": sample.query or None, "status": sample.status, "bytes_in": sample.bytes_in,
        "bytes_out": sample.bytes_out, "headers": dict(sample.headers),
    }  # fmt: skip


def answer(data: object, status: int = 200) -> WholeResponse:
    """
    @return: a response with C{data}.
    """
    return WholeResponse(status, encode({"data": data}), JSON)


def refusal(status: int, message: str, hint: str = "", fields: tuple[tuple[bytes, bytes], ...] = ()) -> WholeResponse:
    """
    @return: a response with an error.
    """
    return WholeResponse(status, encode({"message": message, "hint": hint or None}), JSON, fields)


def notAllowed(*methods: bytes) -> WholeResponse:
    """
    @param methods: those that are.
    """
    return refusal(405, "the method is not allowed", fields=((b"Allow", b", ".join(methods)),))

"""
An agent and an edge of Jetty on grpcio, with the messages of C{tunnel.proto}.  Both run in threads: what a test calls here may
wait, so it is called by C{deferToThread}.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from attrs import define, field

from tests.peers._grpc import grpc
from tunnelstack.wire.protobuf import decode_message_untrusted, encode_message
from tunnelstack.wire.records.jetty_grpc import (
    CAPABILITIES,
    DATA,
    DEFAULT_LIMITS,
    FORWARD_HTTP_PATH,
    HEADERS,
    REGISTER_PATH,
    SERVICE,
    TRAILERS,
    Drain,
    Header,
    HTTPChunk,
    LaneDemand,
    Limits,
    Ping,
    Pong,
    RegisterRequest,
    RegisterResponse,
    RequestHead,
    ResponseHead,
)

WAIT = 60.0
"""Seconds that anything may take."""

PIECE = 32 * 1024


def decoder(record: type[Any]) -> Callable[[bytes], Any]:
    return lambda octets: decode_message_untrusted(record, octets)


@define
class Answer:
    """
    What an application answers.

    @ivar body: in pieces.
    """

    status: int = 200
    headers: list[tuple[str, bytes]] = field(factory=list)
    body: Any = ()
    length: int | None = None
    trailers: list[tuple[str, bytes]] = field(factory=list)
    interim: list[int] = field(factory=list)


def headers(pairs: list[tuple[str, bytes]]) -> tuple[Header, ...]:
    return tuple(Header(name=name, value=value) for name, value in pairs)


class Outgoing:
    """
    The messages of one direction of a call, which end with C{None}.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()
        self.send = self._queue.put

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._queue.get, None)


class Agent:
    """
    An agent on grpcio.

    @ivar answer: the first message of the edge.
    @ivar statuses: how its lanes have ended.
    @ivar served: requests per lane.
    @ivar cancelled: how many requests the edge has given up.
    """

    def __init__(self, port: int, tunnel: str, token: str, app: Callable[[RequestHead, Iterator[bytes]], Answer]) -> None:
        """
        @param app: called in a thread of the lane with each request and its body.
        """
        self.answer: RegisterResponse | None = None
        self.statuses: list[str] = []
        self.served: list[int] = []
        self.cancelled = 0
        self.reuse = True
        self._app = app
        self._tunnel, self._token = tunnel, token
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)])
        self._open = self._channel.stream_stream(
            FORWARD_HTTP_PATH.decode(), request_serializer=encode_message, response_deserializer=decoder(HTTPChunk)
        )
        self._control = Outgoing()
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()

    def register(self, lanes: int = 4, capabilities: tuple[str, ...] = CAPABILITIES) -> RegisterResponse:
        """
        Register, and open lanes.
        """
        call = self._channel.stream_stream(
            REGISTER_PATH.decode(), request_serializer=encode_message, response_deserializer=decoder(RegisterResponse)
        )
        self._control.send(RegisterRequest(
            tunnel_id=self._tunnel, agent_token=self._token, protocol_version=1, capabilities=capabilities,
            instance_id=f"i{id(self)}",
        ))  # fmt: skip
        self.registered = call(iter(self._control), metadata=[("jetty-tunnel-id", self._tunnel)])
        self.answer = next(self.registered)
        self._start(self._obey)
        for _ in range(lanes):
            self.openLane()
        return self.answer

    def registerUnary(self) -> RegisterResponse:
        """
        As a client whose C{Register} is unary.
        """
        call = self._channel.unary_unary(
            REGISTER_PATH.decode(), request_serializer=encode_message, response_deserializer=decoder(RegisterResponse)
        )
        request = RegisterRequest(tunnel_id=self._tunnel, agent_token=self._token)
        self.answer = answer = call(request, timeout=WAIT)
        return answer

    def openLane(self) -> None:
        self._start(self._lane)

    def _start(self, run: Callable[[], object]) -> None:
        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _obey(self) -> None:
        try:
            for response in self.registered:
                control = response.control
                if isinstance(control, Ping):
                    self._control.send(RegisterRequest(control=Pong(nonce=control.nonce)))
                elif isinstance(control, LaneDemand):
                    for _ in range(control.count):
                        self.openLane()
        except grpc.RpcError:
            pass

    def drain(self) -> None:
        self._control.send(RegisterRequest(control=Drain(grace_ms=1000)))

    def _lane(self) -> None:
        assert self.answer is not None
        out = Outgoing()
        call = self._open(iter(out), metadata=[("jetty-session-id", self.answer.session_id)])
        count = 0
        try:
            chunks = iter(call)
            for chunk in chunks:
                assert chunk.type == HEADERS, chunk
                count += 1
                self._serve(call, out, chunk, chunks)
                if not self.reuse:
                    break
        except grpc.RpcError:
            if count:
                with self._changed:
                    self.cancelled += call.code() is grpc.StatusCode.CANCELLED
                    self._changed.notify_all()
        out.end()
        try:
            for _ in call:
                pass
        except grpc.RpcError:
            pass
        with self._changed:
            self.statuses.append(call.code().name)
            self.served.append(count)
            self._changed.notify_all()

    def _serve(self, call: Any, out: Outgoing, first: HTTPChunk, chunks: Iterator[HTTPChunk]) -> None:
        ended = [first.end]

        def body() -> Iterator[bytes]:
            while not ended[0]:
                chunk = next(chunks, HTTPChunk(end=True))       # the edge does not want the rest
                ended[0] = chunk.end
                if chunk.type == DATA and chunk.data:
                    yield chunk.data

        answer = self._app(first.request, body())
        for status in answer.interim:
            out.send(HTTPChunk(request_id=first.request_id, type=HEADERS, response=ResponseHead(status=status)))
        head = ResponseHead(status=answer.status, headers=headers(answer.headers), content_length=answer.length)
        out.send(HTTPChunk(request_id=first.request_id, type=HEADERS, response=head))
        for piece in answer.body:
            if not call.is_active():          # the edge has given up
                break
            out.send(HTTPChunk(type=DATA, data=piece))
        if answer.trailers:
            out.send(HTTPChunk(type=TRAILERS, trailers=headers(answer.trailers), end=True))
        else:
            out.send(HTTPChunk(type=DATA, end=True))
        for _ in body():
            pass

    def awaitState(self, condition: Callable[[], bool]) -> bool:
        """
        Wait until something holds of the lanes that have ended.
        """
        with self._changed:
            return self._changed.wait_for(condition, WAIT)

    def close(self) -> None:
        self._control.end()
        self._channel.close()
        for thread in self._threads:
            thread.join(WAIT)


class Lane:
    """
    A lane of an agent, at an edge on grpcio.
    """

    def __init__(self, chunks: Iterator[HTTPChunk], context: Any) -> None:
        self.out = Outgoing()
        self.context = context
        self._chunks = chunks

    def receive(self) -> HTTPChunk | None:
        """
        @return: the next chunk; C{None} if the agent has half-closed.
        """
        return next(self._chunks, None)

    def exchange(self, head: RequestHead, body: Any = (), *, end: bool = False) -> list[HTTPChunk]:
        """
        Send a request; its body is sent while the response arrives.

        @return: the chunks of the response.
        """
        self.out.send(HTTPChunk(request_id="r1", type=HEADERS, request=head, end=end))
        if not end:
            threading.Thread(target=self._sendBody, args=(body,), daemon=True).start()
        found: list[HTTPChunk] = []
        while not found or not found[-1].end:
            chunk = self.receive()
            if chunk is None:
                break
            found.append(chunk)
        return found

    def _sendBody(self, body: Any) -> None:
        for piece in body:
            self.out.send(HTTPChunk(type=DATA, data=piece))
        self.out.send(HTTPChunk(type=DATA, end=True))


class Edge:
    """
    An edge on grpcio.

    @ivar port: where it listens, without TLS.
    @ivar registrations: the first messages of agents, with their metadata.
    @ivar told: the other messages.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS, workers: int = 64) -> None:
        self.limits = limits
        self.registrations: list[tuple[RegisterRequest, dict[str, Any]]] = []
        self.told: queue.Queue[RegisterRequest] = queue.Queue()
        self.control = Outgoing()
        self.lanes: queue.Queue[Lane] = queue.Queue()
        self._all: list[Lane] = []
        self._stopped = False
        self.refuse: tuple[Any, str] | None = None
        self._server = grpc.server(ThreadPoolExecutor(workers), options=[
            ("grpc.so_reuseport", 0), ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_ping_strikes", 0),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
        ])  # fmt: skip
        handlers = {
            "Register": self._handler(self._register, RegisterRequest), "ForwardHTTP": self._handler(self._forward, HTTPChunk),
        }  # fmt: skip
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _handler(self, serve: Any, record: type[Any]) -> Any:
        return grpc.stream_stream_rpc_method_handler(
            serve, request_deserializer=decoder(record), response_serializer=encode_message
        )

    def _register(self, requests: Iterator[RegisterRequest], context: Any) -> Iterator[RegisterResponse]:
        first = next(requests)
        self.registrations.append((first, dict(context.invocation_metadata())))
        if self.refuse is not None:
            context.abort(*self.refuse)
        yield RegisterResponse(
            session_id="5e55", tunnel_id=first.tunnel_id, subdomain="demo", public_url="https://demo.example", edge_id="e",
            protocol_version=1, capabilities=first.capabilities, limits=self.limits,
        )  # fmt: skip
        threading.Thread(target=self._hear, args=(requests,), daemon=True).start()
        yield from self.control

    def _hear(self, requests: Iterator[RegisterRequest]) -> None:
        try:
            for request in requests:
                self.told.put(request)
        except Exception:
            return

    def _forward(self, chunks: Iterator[HTTPChunk], context: Any) -> Iterator[HTTPChunk]:
        assert dict(context.invocation_metadata())["jetty-session-id"] == "5e55"
        context.send_initial_metadata(())
        lane = Lane(chunks, context)
        self._all.append(lane)
        if self._stopped:                     # it came while the server was being stopped
            return
        self.lanes.put(lane)
        yield from lane.out

    def lane(self) -> Lane:
        """
        @return: a lane that the agent has opened.
        """
        return self.lanes.get(timeout=WAIT)

    def exchange(self, head: RequestHead, body: Any, *, end: bool) -> list[HTTPChunk]:
        """
        As L{Lane.exchange}, on a lane that is idle.
        """
        lane = self.lane()
        chunks = lane.exchange(head, body, end=end)
        self.lanes.put(lane)
        return chunks

    def stop(self) -> None:
        self._stopped = True
        stopping = self._server.stop(0)
        for _ in range(len(self.registrations) + 1):         # for each call of Register
            self.control.end()
        for lane in list(self._all):
            lane.out.end()
        stopping.wait(10)

"""
A gRPC service of octets, and a client of it, on grpcio; C{tests/peers/go/grpc} has the same two on grpc-go.

The service C{tunnelstack.test.Calls} has one method of each of the four kinds, and C{Hang}, which sends one message and waits
until its caller gives up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

from twisted.trial.unittest import SkipTest

try:
    import grpc
except ImportError as missing:                # the dev extra has it; an interpreter may have no wheel of it
    grpc, MISSING = None, str(missing)
else:
    MISSING = ""

SERVICE = "tunnelstack.test.Calls"
LARGEST = 1 << 26


def requireGRPC() -> None:
    """
    @raise SkipTest: grpcio is missing, and nobody requires the peers.
    """
    if grpc is not None:
        return
    if os.environ.get("TUNNELSTACK_REQUIRE_PEERS") == "1":
        raise AssertionError(MISSING)
    raise SkipTest(MISSING)


def pattern(number: int, size: int) -> bytes:
    """
    The octets of one message of a stream.
    """
    start = number % 256
    period = bytes((index * 7 + start) % 256 for index in range(256))
    return (period * (size // 256 + 1))[:size]


class Service:
    """
    A running service.

    @ivar port: where it listens, without TLS.
    @ivar cancelled: how many calls of C{Hang} were cancelled.
    @ivar sent: the metadata of the last call.
    """

    def __init__(self, workers: int = 64) -> None:
        self.cancelled = 0
        self.sent: dict[str, Any] = {}
        self._gone = threading.Condition()
        self._server = grpc.server(
            ThreadPoolExecutor(workers), options=[("grpc.max_receive_message_length", LARGEST), ("grpc.so_reuseport", 0)],
        )
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "ClientStream": grpc.stream_unary_rpc_method_handler(self._clientStream),
            "ServerStream": grpc.unary_stream_rpc_method_handler(self._serverStream),
            "Bidi": grpc.stream_stream_rpc_method_handler(self._bidi),
            "Hang": grpc.unary_stream_rpc_method_handler(self._hang),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait(30)

    def _begin(self, context: Any) -> None:
        self.sent = dict(context.invocation_metadata())
        if "x-sent" in self.sent:
            context.send_initial_metadata((("x-received", self.sent["x-sent"]),))

    def _unary(self, message: bytes, context: Any) -> bytes:
        self._begin(context)
        if message.startswith(b"fail:"):
            context.set_trailing_metadata((("x-reason", "asked for"),))
            context.abort(grpc.StatusCode.NOT_FOUND, message[5:].decode())
        if message == b"deadline":
            message = b"%d" % int(context.time_remaining() * 1000)
        context.set_trailing_metadata((("x-sum", sha256(message).hexdigest()),))
        return message

    def _clientStream(self, messages: Iterator[bytes], context: Any) -> bytes:
        self._begin(context)
        total, count = sha256(), 0
        for message in messages:
            total.update(message)
            count += 1
        return f"{count} {total.hexdigest()}".encode()

    def _serverStream(self, message: bytes, context: Any) -> Iterator[bytes]:
        self._begin(context)
        count, size = map(int, message.split())
        for number in range(count):
            yield pattern(number, size)

    def _bidi(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self._begin(context)
        yield from messages

    def _hang(self, message: bytes, context: Any) -> Iterator[bytes]:
        over = threading.Event()

        def ended() -> None:        # counts by itself: a call that is cancelled in time never comes back from the C{yield}
            over.set()
            with self._gone:
                self.cancelled += 1
                self._gone.notify_all()

        context.add_callback(ended)
        yield message
        over.wait(60)

    def awaitCancelled(self, count: int, seconds: float = 20) -> bool:
        """
        @return: whether so many calls were cancelled in time.
        """
        with self._gone:
            return self._gone.wait_for(lambda: self.cancelled >= count, seconds)


class Client:
    """
    A channel to the service.
    """

    def __init__(self, address: str, authority: str, root: bytes | None = None) -> None:
        """
        @param root: the authority of the certificate, as PEM; C{None} for no TLS.
        """
        options = [
            ("grpc.default_authority", authority), ("grpc.max_receive_message_length", LARGEST), ("grpc.enable_http_proxy", 0),
        ]
        if root is None:
            self.channel = grpc.insecure_channel(address, options)
        else:
            options.append(("grpc.ssl_target_name_override", authority))
            self.channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(root), options)
        self.unary = self.channel.unary_unary(f"/{SERVICE}/Unary")
        self.clientStream = self.channel.stream_unary(f"/{SERVICE}/ClientStream")
        self.serverStream = self.channel.unary_stream(f"/{SERVICE}/ServerStream")
        self.bidi = self.channel.stream_stream(f"/{SERVICE}/Bidi")
        self.hang = self.channel.unary_stream(f"/{SERVICE}/Hang")

    def close(self) -> None:
        self.channel.close()

    def many(self, count: int, text: Callable[[int], bytes] = b"call %d".__mod__) -> list[Any]:
        """
        So many unary calls at once.

        @return: the answers.
        """
        calls = [self.unary.future(text(number), timeout=120) for number in range(count)]
        return [call.result() for call in calls]

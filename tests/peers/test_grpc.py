"""
gRPC through a whole edge and agent: services on grpcio and grpc-go, called by both client libraries through the public port.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.peers._go import program
from tests.peers._grpc import Client, Service, grpc, pattern, requireGRPC
from tests.system.house import DOMAIN, House, memory

SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"
CALLS = 1000 if SOAK else 200
BULK = (1024 if SOAK else 64) << 20
MESSAGE = 256 * 1024
GROWTH = 48 << 20
"""Octets by which a process may grow while a stream of any length passes."""


class GoProgram:
    """
    The program of tests/peers/go/grpc, without a reactor.
    """

    def __init__(self) -> None:
        life = "1800s" if SOAK else "300s"
        self._process = subprocess.Popen(
            [str(program("grpc")), "-life", life], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self._number = 0

    def call(self, do: str, **parameters: Any) -> dict[str, Any]:
        """
        One command, and its answer.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._number += 1
        self._process.stdin.write(json.dumps({"id": self._number, "do": do, **parameters}) + "\n")
        self._process.stdin.flush()
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def close(self) -> None:
        self._process.kill()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class GRPCCase(SynchronousTestCase):
    """
    One edge and agent for all of these tests, with a service on grpcio.
    """

    house: House
    service: Service

    @classmethod
    def setUpClass(cls) -> None:
        requireGRPC()
        cls.house = House(f"http2_streams = {CALLS}\nsession_streams = {2 * CALLS + 100}\n", edge="h2c = true\n")
        cls.service = Service()
        cls.publish("python", cls.service.port)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.service.stop()
        for agent in cls.house.agents:
            agent.drop()
        cls.house.close()

    @classmethod
    def publish(cls, name: str, port: int) -> None:
        cls.house.startAgent({name: port}, 'http2 = "always"\n')

    def address(self, scheme: str = "https") -> str:
        return f"127.0.0.1:{self.house.ports[scheme]}"

    def client(self, name: str = "python", scheme: str = "https") -> Client:
        root = (self.house.folder / "root.pem").read_bytes() if scheme == "https" else None
        client = Client(self.address(scheme), f"{name}.{DOMAIN}", root)
        self.addCleanup(client.close)
        return client


class Calls:
    """
    The four kinds of call by grpcio; each subclass has another service.
    """

    name = "python"
    client: Any

    def test_aUnaryCallIsAnswered(self: Any) -> None:
        for scheme in ("https", "http"):
            answer, call = self.client(self.name, scheme).unary.with_call(b"hello", metadata=[("x-sent", "yes")], timeout=30)
            self.assertEqual(answer, b"hello")
            self.assertEqual(dict(call.initial_metadata())["x-received"], "yes")
            self.assertEqual(dict(call.trailing_metadata())["x-sum"], sha256(b"hello").hexdigest())

    def test_aFailureHasItsStatusAndTrailers(self: Any) -> None:
        with self.assertRaises(grpc.RpcError) as raised:
            self.client(self.name).unary(b"fail:no such thing", timeout=30)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)
        self.assertEqual(raised.exception.details(), "no such thing")
        self.assertEqual(dict(raised.exception.trailing_metadata())["x-reason"], "asked for")

    def test_anUnknownMethodIsUnimplemented(self: Any) -> None:
        with self.assertRaises(grpc.RpcError) as raised:
            self.client(self.name).channel.unary_unary("/tunnelstack.test.Calls/Other")(b"", timeout=30)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_theDeadlineArrives(self: Any) -> None:
        left = int(self.client(self.name).unary(b"deadline", timeout=30))
        self.assertGreater(left, 20_000)
        self.assertLessEqual(left, 30_000)

    def test_aDeadlineThatPasses(self: Any) -> None:
        with self.assertRaises(grpc.RpcError) as raised:
            list(self.client(self.name).hang(b"x", timeout=0.5))
        self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertTrue(self.awaitCancelled())

    def test_aStreamOfTheClientArrives(self: Any) -> None:
        messages = [pattern(number, 1000) for number in range(50)]
        answer = self.client(self.name).clientStream(iter(messages), timeout=30)
        self.assertEqual(answer.decode(), f"50 {sha256(b''.join(messages)).hexdigest()}")

    def test_anEmptyStreamArrives(self: Any) -> None:
        self.assertEqual(self.client(self.name).clientStream(iter(()), timeout=30).partition(b" ")[0], b"0")
        self.assertEqual(list(self.client(self.name).serverStream(b"0 0", timeout=30)), [])

    def test_aStreamOfTheServerArrives(self: Any) -> None:
        messages = list(self.client(self.name).serverStream(b"50 1000", timeout=30))
        self.assertEqual(messages, [pattern(number, 1000) for number in range(50)])

    def test_bothStreamsPassAtOnce(self: Any) -> None:
        """
        Each message comes back before the next is sent.
        """
        turn = threading.Semaphore(1)

        def send() -> Iterator[bytes]:
            for number in range(30):
                if not turn.acquire(timeout=30):
                    return
                yield pattern(number, 100)

        count = 0
        for message in self.client(self.name).bidi(send(), timeout=60):
            self.assertEqual(message, pattern(count, 100))
            count += 1
            turn.release()
        self.assertEqual(count, 30)

    def test_aCancelledCallEndsAtTheService(self: Any) -> None:
        call = self.client(self.name).hang(b"x", timeout=60)
        self.assertEqual(next(call), b"x")
        call.cancel()
        self.assertTrue(self.awaitCancelled())

    def test_manyCallsAreAnsweredAtOnce(self: Any) -> None:
        answers = self.client(self.name).many(CALLS)
        self.assertEqual(answers, [b"call %d" % number for number in range(CALLS)])


class PythonServiceTests(Calls, GRPCCase):
    """
    grpcio at both ends.
    """

    def awaitCancelled(self) -> bool:
        return self.service.awaitCancelled(1)

    def test_largeStreamsTakeNoMemory(self) -> None:
        count = BULK // MESSAGE
        client = self.client()
        list(client.serverStream(b"40 %d" % MESSAGE, timeout=60))
        processes = {"edge": self.house.edge, "agent": self.house.agents[1]}
        before = {name: memory(program.process.pid) for name, program in processes.items()}
        received = 0
        for number, message in enumerate(client.serverStream(b"%d %d" % (count, MESSAGE), timeout=600)):
            self.assertEqual(message, pattern(number, MESSAGE))
            received += 1
        self.assertEqual(received, count)
        total = sha256()
        for number in range(count):
            total.update(pattern(number, MESSAGE))
        answer = client.clientStream((pattern(number, MESSAGE) for number in range(count)), timeout=600)
        self.assertEqual(answer.decode(), f"{count} {total.hexdigest()}")
        for name, program_ in processes.items():
            self.assertLess(memory(program_.process.pid) - before[name], GROWTH, name)

    def test_aServiceThatIsNotThere(self) -> None:
        with self.assertRaises(grpc.RpcError) as raised:
            self.client("nobody").unary(b"hello", timeout=30)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNIMPLEMENTED)    # what gRPC makes of 404

    def test_aServerThatHasGone(self) -> None:
        gone = Service()
        self.publish("gone", gone.port)
        client = self.client("gone")
        self.assertEqual(client.unary(b"hello", timeout=30), b"hello")
        gone.stop()
        with self.assertRaises(grpc.RpcError) as raised:
            client.unary(b"hello", timeout=30)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)


class GoServiceTests(Calls, GRPCCase):
    """
    A service on grpc-go, with 100 streams a connection.
    """

    name = "golang"
    go: GoProgram

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.go = GoProgram()
        cls.publish(cls.name, cls.go.call("serve", count=100)["port"])

    @classmethod
    def tearDownClass(cls) -> None:
        cls.go.close()
        super().tearDownClass()

    def awaitCancelled(self) -> bool:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.go.call("cancelled")["count"]:
                return True
            time.sleep(0.02)
        return False


class GoClientTests(GRPCCase):
    """
    grpc-go as the client, of both services.
    """

    go: GoProgram

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.go = GoProgram()
        cls.publish("golang", cls.go.call("serve", count=100)["port"])

    @classmethod
    def tearDownClass(cls) -> None:
        cls.go.close()
        super().tearDownClass()

    def columns(self) -> Iterator[tuple[str, str]]:
        """
        Each service, with and without TLS; the program is connected to it.
        """
        for name in ("python", "golang"):
            for scheme in ("https", "http"):
                root = str(self.house.folder / "root.pem") if scheme == "https" else ""
                self.go.call("dial", address=self.address(scheme), authority=f"{name}.{DOMAIN}", root=root)
                yield name, scheme

    def test_fourKindsOfCallAreAnswered(self) -> None:
        for column in self.columns():
            said = self.go.call("unary", text="hello", seconds=30)
            self.assertTrue(said["ok"], (column, said))
            self.assertEqual((said["text"], said["header"]), ("hello", ["yes"]), column)
            self.assertEqual(said["trailer"], [sha256(b"hello").hexdigest()], column)
            said = self.go.call("client_stream", count=50, size=1000, seconds=30)
            self.assertEqual((said["ok"], said["text"]), (True, said["sum"]), column)
            said = self.go.call("server_stream", count=50, size=1000, seconds=30)
            self.assertEqual((said["ok"], said["count"], said["good"]), (True, 50, True), column)
            said = self.go.call("bidi", count=30, size=1000, seconds=30)
            self.assertTrue(said["ok"], (column, said))

    def test_failuresArrive(self) -> None:
        for column in self.columns():
            said = self.go.call("unary", text="fail:no such thing", seconds=30)
            found = said["kind"], said["error"], said["reason"]
            self.assertEqual(found, ("NotFound", "no such thing", ["asked for"]), column)

    def test_deadlinesArrive(self) -> None:
        for column in self.columns():
            left = int(self.go.call("unary", text="deadline", seconds=30)["text"])
            self.assertTrue(20_000 < left <= 30_000, (column, left))

    def test_aCallIsCancelled(self) -> None:
        for column in self.columns():
            said = self.go.call("hang", seconds=30)
            self.assertEqual(said.get("code"), "Canceled", (column, said))
        self.assertTrue(self.service.awaitCancelled(2))

    def test_manyCallsAreAnsweredAtOnce(self) -> None:
        for column in self.columns():
            said = self.go.call("many", count=CALLS, seconds=120)
            self.assertEqual((said["ok"], said.get("good")), (True, CALLS), (column, said))

"""
Processes that come, go, are killed and are told wrong things: what the others do, and with which code each ends.

It takes about a minute: dozens of processes are started, and a WebSocket that was broken off waits 5 seconds for its peer.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.system.stage import PATIENCE, Hello, Program, Stage, until

HANG = PATIENCE
"""Seconds that no request takes."""


class Load:
    """
    Visitors who ask one page after the other, each on a new connection, until they are told to stop.

    @ivar seen: of each request, when it was answered, how long that took, and the status (0: the connection was cut).
    """

    def __init__(self, stage: Stage, name: str, visitors: int = 4) -> None:
        self._stage = stage
        self._name = name
        self._over = threading.Event()
        self.seen: list[tuple[float, float, int]] = []
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(visitors)]
        for thread in self._threads:
            thread.start()
        stage.addCleanup(self.stop)

    def _ask(self) -> None:
        while not self._over.wait(0.01):
            began = time.monotonic()
            try:
                status = self._stage.visit(self._name, "/slow", seconds=HANG).status
            except (OSError, http.client.HTTPException):
                status = 0
            now = time.monotonic()
            self.seen.append((now, now - began, status))

    def statuses(self, after: float) -> list[int]:
        """
        @return: those of the requests that began after this moment.
        """
        return [status for end, took, status in list(self.seen) if end - took > after]

    def succeeds(self, after: float) -> None:
        """
        Wait until a request that began after this moment succeeds.
        """
        until(lambda: 200 in self.statuses(after), lambda: self.seen[-10:])

    def stop(self) -> None:
        """
        No more visits.
        """
        self._over.set()
        for thread in self._threads:
            thread.join(HANG + 1)


class Slow(Hello):
    """
    Takes its time, so that some requests are always under way.  Head and body leave in one write, and so travel in one segment
    and one frame: whoever is killed on the way, no visitor gets half of them, and an answer that is cut short is a fault.
    """

    wbufsize = -1

    def do_GET(self) -> None:
        time.sleep(0.05)
        self.answer(b"slowly\n")


class RestartTests(Stage):
    """
    Under load.
    """

    def judge(self, load: Load, *, cut: bool) -> None:
        """
        What must hold for all that happened.

        @param cut: the edge itself was gone, so that there may have been nobody to answer.
        """
        load.stop()
        self.assertLess(max(took for _, took, _ in load.seen), HANG)
        statuses = {status for _, _, status in load.seen}
        self.assertEqual(statuses - {200, 502, 503} - ({0, 404} if cut else set()), set(), statuses)

    def test_theAgentIsKilledAndStartedAgain(self) -> None:
        self.startEdge()
        origin = str(self.origin(Slow))
        agent = self.startAgent("http", origin, "--name", "myapp")
        load = Load(self, "myapp")
        load.succeeds(time.monotonic())
        for _ in range(2):
            agent.tell(signal.SIGKILL)
            agent.ends()
            agent = self.startAgent("http", origin, "--name", "myapp")
            agent.hears("^myapp ")
            back = time.monotonic()
            load.succeeds(back)
            self.assertEqual(set(load.statuses(back)), {200}, "whoever comes after it has said so is served")
        self.judge(load, cut=False)
        self.assertEqual(agent.end(), 0)

    def test_theAgentIsReplacedWhileItDrains(self) -> None:
        """
        One that is told to end finishes what it began: nobody sees anything but answers and 503.
        """
        self.startEdge()
        origin = str(self.origin(Slow))
        agent = self.startAgent("http", origin, "--name", "myapp")
        load = Load(self, "myapp")
        load.succeeds(time.monotonic())
        self.assertEqual(agent.end(), 0, agent.said())
        self.startAgent("http", origin, "--name", "myapp").hears("^myapp ")
        load.succeeds(time.monotonic())
        self.judge(load, cut=False)
        self.assertEqual({status for _, _, status in load.seen}, {200, 503})

    def test_theEdgeIsKilledAndStartedAgain(self) -> None:
        edge = self.startEdge()
        agent = self.startAgent("http", str(self.origin(Slow)), "--name", "myapp")
        load = Load(self, "myapp")
        load.succeeds(time.monotonic())
        edge.tell(signal.SIGKILL)
        edge.ends()
        edge = self.startEdge(port=self.port)
        agent.hears("^session +up ", times=2)
        agent.hears("^myapp ", times=2)
        load.succeeds(time.monotonic())
        self.judge(load, cut=True)
        self.assertEqual(edge.end(), 0, edge.said())

    def test_theOriginIsKilledAndStartedAgain(self) -> None:
        self.startEdge()
        port = self.origin(Slow)
        self.startAgent("http", str(port), "--name", "myapp").hears("^myapp ")
        load = Load(self, "myapp")
        load.succeeds(time.monotonic())
        self.stopOrigin()
        until(lambda: any(status == 503 for _, _, status in load.seen))
        self.origin(Slow, port)
        load.succeeds(time.monotonic())
        self.judge(load, cut=False)


class DrainTests(Stage):
    """
    SIGTERM with work under way.
    """

    def setUp(self) -> None:
        super().setUp()
        self.begun, self.release = threading.Event(), threading.Event()
        self.addCleanup(self.release.set)
        test = self

        class Held(BaseHTTPRequestHandler):
            """
            Answers half, and the rest when the test says so.
            """

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "8")
                self.end_headers()
                self.wfile.write(b"half")
                test.begun.set()
                test.release.wait(60)
                self.wfile.write(b"half")

            def log_message(self, format: str, *arguments: Any) -> None:
                """
                Say nothing.
                """

        self.held = Held

    def underWay(self, drain: float = 30) -> tuple[Program, Program, http.client.HTTPResponse]:
        """
        @param drain: seconds that the programs wait for what is under way when they end.
        """
        started = self.startEdge("--drain", str(drain))
        settings = self.home / "agent.toml"
        settings.write_text(f"[agent]\ndrain_seconds = {drain}\n")
        agent = self.startAgent("--config", str(settings), "http", str(self.origin(self.held)), "--name", "myapp")
        agent.hears("^myapp ")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.addCleanup(connection.close)
        connection.request("GET", "/", headers={"Host": "myapp.localhost"})
        response = connection.getresponse()
        self.assertTrue(self.begun.wait(30))
        return started, agent, response

    def test_theAgentFinishesWhatItBegan(self) -> None:
        edge, agent, response = self.underWay()
        agent.tell(signal.SIGTERM)
        agent.hears("^stopping ")
        self.assertEqual(self.sees("myapp", 503).status, 503)
        self.release.set()
        self.assertEqual(response.read(), b"halfhalf")
        self.assertEqual(agent.ends(), 0, agent.said())

    def test_theEdgeFinishesWhatItBegan(self) -> None:
        edge, agent, response = self.underWay()
        edge.tell(signal.SIGTERM)
        edge.hears("^stopping ")
        self.release.set()
        self.assertEqual(response.read(), b"halfhalf")
        self.assertEqual(edge.ends(), 0, edge.said())

    def test_aSecondSignalEndsAtOnce(self) -> None:
        for chosen in (0, 1):
            program = self.underWay(drain=600)[chosen]
            program.tell(signal.SIGTERM)
            program.hears("^stopping ")
            self.assertIsNone(program.process.poll())
            program.tell(signal.SIGTERM)
            self.assertEqual(program.ends(), 0, program.said())
            self.assertNotIn("Traceback", program.said())

    def test_theDrainHasADeadline(self) -> None:
        edge, agent, response = self.underWay(drain=0.5)
        edge.tell(signal.SIGTERM)
        self.assertEqual(edge.ends(), 0, edge.said())
        self.assertRaises((OSError, http.client.HTTPException), response.read)


class RefusalTests(Stage):
    """
    Wrong things said at the start: one sentence, and a code.
    """

    def fails(self, program: Program, code: int, sentence: str) -> None:
        self.assertEqual(program.ends(), code, program.said())
        self.assertRegex("\n".join([*program.out, *(line for line in program.err if not line.startswith("{"))]), sentence)
        self.assertNotIn("Traceback", program.said())

    def agent(self, *arguments: str, **environ: str) -> Program:
        return self.program("tunnel-agent", *arguments, **environ)

    def test_aWrongTokenEndsWith77(self) -> None:
        self.startEdge()
        agent = self.agent(
            "--edge", f"http://localhost:{self.port}", "http", "3000", TUNNELSTACK_TOKEN="ts_0000_" + "x" * 43
        )
        refused = f"the edge at http://localhost:{self.port} refuses the token: The token is unknown to this edge"
        self.fails(agent, 77, rf"(?m)^error +{refused}\.$")

    def test_nothingLeftToPublishEndsWith77(self) -> None:
        """
        The kind of M4: a refusal that cannot change ends a process that has nothing else to do.
        """
        self.startEdge()
        made = self.program("tunnelstack", "token", "new", "narrow", "--allow", "http:mine")
        self.assertEqual(made.ends(), 0, made.said())
        token = next(word for line in made.out for word in line.split() if word.startswith("ts_"))
        environ = {"TUNNELSTACK_EDGE": f"http://localhost:{self.port}", "TUNNELSTACK_TOKEN": token}
        agent = self.agent("http", "3000", "--name", "other", **environ)
        self.fails(agent, 77, "(?m)^error +other is not published: the token does not allow http:other$")
        path = self.home / "agent.toml"
        path.write_text("".join(f'[[service]]\nname = "{name}"\ntarget = "3000"\n' for name in ("other", "another")))
        agent = self.agent("--config", str(path), "start", **environ)
        self.fails(agent, 77, "(?m)^error +nothing is left to publish: the token does not allow http:another$")
        path.write_text("".join(f'[[service]]\nname = "{name}"\ntarget = "3000"\n' for name in ("other", "mine")))
        agent = self.agent("--config", str(path), "start", **environ)
        agent.hears("^mine ")
        agent.hears("^error +the edge does not publish other: the token does not allow http:other$")
        self.assertIsNone(agent.process.poll())
        self.assertEqual(agent.end(), 0)

    def test_aDeviceThatItsOnlyServerRefusesIs77(self) -> None:
        """
        One that only waits to be accepted is not refused.
        """
        ours, another = (f"00000000-0000-4000-0000-00000000000{digit}" for digit in "ab")
        (self.home / "edge.toml").write_text(
            f'[shellhub]\npolicy = "pending"\n[[tenant]]\nid = "{ours}"\nnamespace = "lab"\n'
        )
        self.startEdge("--config", str(self.home / "edge.toml"))
        path = self.home / "device.toml"
        for tenant in (ours, another):
            path.write_text(f'[[shellhub]]\nurl = "http://127.0.0.1:{self.port}"\ntenant = "{tenant}"\nssh = ""\n')
            agent = self.agent("--config", str(path), "start")
            if tenant == ours:
                agent.hears(r"^warning +no session with 127\.0\.0\.1:\d+: the device lab\.\S+ is not accepted yet")
                self.assertIsNone(agent.process.poll())
                self.assertEqual(agent.end(), 0, agent.said())
            else:
                self.fails(agent, 77, r"(?m)^error +the server at http://127\.0\.0\.1:\d+ rejects this device")

    def test_aWrongTokenLaterIsTriedAgain(self) -> None:
        """
        An agent that was let in once does not end when the edge comes back with other tokens.
        """
        edge = self.startEdge()
        token = self.home / ".local" / "state" / "tunnelstack" / "dev.token"
        address, secret = f"http://localhost:{self.port}", token.read_text().strip()
        (self.home / "agent.toml").write_text(
            f'[agent]\nbackoff_seconds = 0.5\n[[service]]\nname = "myapp"\ntarget = "{self.origin()}"\n'
        )
        agent = self.agent("--edge", address, "--config", "agent.toml", "start", TUNNELSTACK_TOKEN=secret)
        agent.hears("^myapp ")
        edge.end()
        token.unlink()
        self.startEdge(port=self.port)
        agent.hears("^error +no session with .* refuses the token.*; retrying")
        self.assertIsNone(agent.process.poll())

    def test_anAgentThatGivesUpEndsWith69(self) -> None:
        self.startEdge().end()
        edge = f"http://localhost:{self.port}"
        agent = self.agent("--dev", "--edge", edge, "http", "3000", "--give-up-after", "1")
        self.fails(agent, 69, "no session with an edge within 1 seconds")

    def test_anotherWebServerEndsWith76(self) -> None:
        port = self.origin()
        agent = self.agent("--edge", f"http://localhost:{port}", "http", "3000", TUNNELSTACK_TOKEN="t")
        self.fails(agent, 76, f"the server at http://localhost:{port} is not an edge")

    def test_aServerThatIsNotHTTPEndsWith76(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=self.speakSSH, args=(server,), daemon=True)
            thread.start()
            edge = f"http://localhost:{server.getsockname()[1]}"
            agent = self.agent("--edge", edge, "http", "3000", TUNNELSTACK_TOKEN="t")
            self.fails(agent, 76, f"the server at {edge} is not an edge")
            thread.join(PATIENCE)

    def speakSSH(self, server: socket.socket) -> None:
        near, _ = server.accept()
        with near, contextlib.suppress(ConnectionError):
            near.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            near.recv(65536)

    def test_aHostThatIsNotThere(self) -> None:
        agent = self.agent(
            "--edge", "https://edge.invalid", "http", "3000", "--give-up-after", "1", TUNNELSTACK_TOKEN="t"
        )
        self.fails(agent, 69, "no session with an edge within 1 seconds")

    def test_aMissingTokenEndsWith78(self) -> None:
        agent = self.agent("--edge", "https://tunnels.example.net", "http", "3000")
        self.fails(agent, 78, "no token for https://tunnels.example.net is configured: set TUNNELSTACK_TOKEN")

    def test_aMissingEdgeEndsWith78(self) -> None:
        self.fails(self.agent("--dev", "http", "3000"), 78, "no edge is configured")

    def test_aTokenAsAnArgumentEndsWith64(self) -> None:
        for arguments in (("--token", "x"), ("--edge", "https://ts_0000_x@a.net"), ("--token=ts_0000_x",)):
            agent = self.agent(*arguments, "http", "3000")
            self.fails(agent, 64, "a credential must not be an argument")

    def test_wrongUsageEndsWith64(self) -> None:
        for arguments in (
            (), ("htpp", "3000"), ("http",), ("http", "1", "2"), ("start", "3000"), ("--what", "http", "1"),
            ("serve", ".", "--remote-port", "3"), ("tcp", "1", "--remote-port", "many"),
        ):  # fmt: skip
            self.fails(self.agent("--dev", *arguments), 64, "tunnel-agent --help")
        for arguments in (("what",), ("--port", "x"), ("--port", "1", "--listen", "tcp:2")):
            self.fails(self.program("tunnel-edge", *arguments), 64, "tunnel-edge --help")

    def test_theSameValueIs64AsAnOptionAnd78AsAVariable(self) -> None:
        """
        The kind: a value is checked by one function, wherever it comes from; the exit code depends on who gave it.
        """
        for option, variable, value, sentence in (
            ("--port", "TUNNELSTACK_PORT", "99999", "must be a port from 0 to 65535"),
            ("--domain", "TUNNELSTACK_DOMAIN", "not a name", "must be a host name"),
            ("--log-format", "TUNNELSTACK_LOG_FORMAT", "xml", "must be one of "),
        ):  # fmt: skip
            self.fails(self.program("tunnel-edge", option, value), 64, f"tunnel-edge: {option} {sentence}")
            self.fails(self.program("tunnel-edge", **{variable: value}), 78, f"tunnel-edge: {variable} {sentence}")
        token = {"TUNNELSTACK_TOKEN": "t", "TUNNELSTACK_EDGE": "https://a.net"}
        for option, variable, value, sentence in (
            ("--edge", "TUNNELSTACK_EDGE", "ftp://a.net", "must be a URL such as"),
            ("--name", "TUNNELSTACK_NAME", "Not A Name", "must be a name of up to 63 letters"),
            ("--give-up-after", "TUNNELSTACK_GIVE_UP_AFTER", "soon", "must be a number of seconds"),
        ):  # fmt: skip
            typed = self.agent("http", "3000", option, value, **token)
            self.fails(typed, 64, f"tunnel-agent: {option} {sentence}")
            self.fails(self.agent("http", "3000", **{**token, variable: value}), 78, f"tunnel-agent: {variable} {sentence}")

    def test_aTargetThatCannotBeUsedIs64OnTheCommandLineAnd78InAFile(self) -> None:
        token = {"TUNNELSTACK_TOKEN": "t", "TUNNELSTACK_EDGE": "https://a.net"}
        self.fails(self.agent("tcp", "localhost", **token), 64, "it has no port")
        (self.home / "agent.toml").write_text('[[service]]\nname = "a"\nkind = "tcp"\ntarget = "localhost"\n')
        self.fails(self.agent("--config", "agent.toml", "start", **token), 78, "agent.toml: service a: .*it has no port")
        (self.home / "identifier").write_text("1234")
        koding = ("koding", "--identifier-file", "identifier", "--edge")
        self.fails(self.agent(*koding, "https://a.net", "http", "localhost/a"), 64, "leave out the path")
        self.fails(self.agent(*koding, "http://a.net", "http", "3000"), 64, "unencrypted.*--insecure")

    def test_aWrongConfigurationEndsWith78(self) -> None:
        (self.home / "edge.toml").write_text("[edge]\nlisten = []\ndomian = 'a.net'\n")
        edge = self.program("tunnel-edge", "--config", "edge.toml")
        self.fails(edge, 78, r"^tunnel-edge: edge\.toml:3: \[edge\] has no key domian; did you mean domain\?$")
        for arguments, sentence in (
            (("--listen", "nonsense"), "'nonsense' is not a valid endpoint"),
            (("--listen", "tcp:no-such-service"), "is not a valid endpoint"),
        ):
            self.fails(self.program("tunnel-edge", *arguments), 64, sentence)
            self.fails(self.program("tunnel-edge", TUNNELSTACK_LISTEN=arguments[1]), 78, sentence)

    def test_aTakenPortEndsWith75(self) -> None:
        self.startEdge()
        edge = self.program("tunnel-edge", "--dev", "--port", str(self.port))
        self.fails(edge, 75, rf"(?m)^error +port {self.port} is taken by .*tunnel-edge, process \d+")


class GarbageTests(Stage):
    """
    Peers that speak nonsense disturb nobody else.
    """

    def say(self, octets: bytes) -> bytes:
        """
        @return: all that comes back.
        """
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
            connection.sendall(octets)
            heard = b""
            try:
                while piece := connection.recv(65536):
                    heard += piece
            except ConnectionError:
                pass
        return heard

    def test_strangersAreAnsweredAndOthersGoOn(self) -> None:
        edge = self.startEdge()
        self.startAgent("http", str(self.origin()), "--name", "myapp").hears("^myapp ")
        kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.addCleanup(kept.close)
        for octets, status in (
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n", b" 400 "),
            (b"GET / HTTP/1.1\r\n\r\n", b" 400 "),
            (b"GET / HTTP/3.0\r\nHost: myapp.localhost\r\n\r\n", b" 505 "),
            (b"GET / HTTP/1.1\r\nHost: myapp.localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b" 400 "),
            (b"GET / HTTP/1.1\r\nHost: myapp.localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b" 431 "),
            (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n", b" 501 "),
        ):
            self.assertIn(status, self.say(octets).partition(b"\r\n")[0], octets[:60])
            kept.request("GET", "/", headers={"Host": "myapp.localhost"})
            self.assertEqual(kept.getresponse().read(), b"GET /\n")
        self.assertNotIn("Traceback", edge.said())

    def test_anAgentThatSpeaksNonsenseAfterTheUpgrade(self) -> None:
        edge = self.startEdge()
        self.startAgent("http", str(self.origin()), "--name", "myapp").hears("^myapp ")
        state = (self.home / ".local" / "state" / "tunnelstack" / "dev.toml").read_text()
        token = state.partition('token = "')[2].partition('"')[0]
        upgrade = (
            f"GET /_tunnel/1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Protocol: tunnelstack.v1\r\n\r\n"
        ).encode()
        for garbage in (
            b"\xff" * 100,                                           # no WebSocket frame
            b"\x82\x8c\x00\x00\x00\x00" + b"\xff" * 12,              # no yamux frame in it
        ):
            self.assertIn(b" 101 ", self.say(upgrade + garbage).partition(b"\r\n")[0])
            self.assertEqual(self.visit("myapp").status, 200)
        self.assertNotIn("Traceback", edge.said())
        self.assertNotIn(token, edge.said())

    def test_aDoorRefusesAgentsWithoutAToken(self) -> None:
        self.startEdge()
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n"
        answer = self.say(b"GET /_tunnel/1 HTTP/1.1\r\nHost: localhost\r\n" + upgrade)
        self.assertIn(b" 401 ", answer.partition(b"\r\n")[0])
        self.assertIn(b"WWW-Authenticate: Bearer", answer)

"""
What people publish, with the programs they start: each from the command line to the visitor and back.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.request

from twisted.trial.unittest import SkipTest
from websockets.sync.client import connect

from tests.ports import freePort
from tests.system.stage import ROOT, Stage, until
from tunnelstack.control.auth.tokens import newToken

NAME_SERVER = """
from twisted.internet import reactor
from twisted.names import authority, dns, server

class Zone(authority.FileAuthority):
    def loadFile(self, filename):
        soa = dns.Record_SOA(mname=b"ns.example", rname=b"who.example")
        self.soa, self.records = (b"example", soa), {b"example": [soa], b"www.example": [dns.Record_A("192.0.2.7")]}

port = reactor.listenUDP(0, dns.DNSDatagramProtocol(server.DNSServerFactory([Zone(None)])), "127.0.0.1")
print("listening", port.getHost().port, flush=True)
reactor.run()
"""

RESOLVER = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.names import client

def show(found):
    print(*found)
    reactor.stop()

asked = [client.Resolver(servers=[("127.0.0.1", int(sys.argv[1]))]).getHostByName("www.example") for _ in range(20)]
gatherResults(asked).addCallbacks(show, lambda failure: (failure.printTraceback(), reactor.stop()))
reactor.run()
"""


def answer(server: socket.socket, octets: bytes) -> bytes:
    """
    Hear the next visitor out, and only then answer.  An agent that looked whether anybody is there has gone again at once.

    @return: what was heard.
    """
    server.settimeout(30)
    while True:
        near, _ = server.accept()
        near.settimeout(30)
        with near, contextlib.suppress(ConnectionResetError):
            heard = near.makefile("rb").read()
            near.sendall(octets)
            return heard


def acceptData(server: socket.socket) -> tuple[socket.socket, bytes]:
    """
    Accept the next connection that sends data.

    @return: the connection, and what was received first.
    """
    server.settimeout(30)
    while True:
        connection, _ = server.accept()
        connection.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            if received := connection.recv(1024):
                return connection, received
        connection.close()


class AgentTests(Stage):
    """
    C{tunnel-agent}.
    """

    def test_aWebServerIsPublished(self) -> None:
        self.startEdge()
        port = self.origin()
        agent = self.startAgent("http", str(port), "--name", "myapp")
        agent.hears(rf"^myapp +http://myapp\.localhost:{self.port} -> tcp:localhost:{port}$")
        self.assertEqual(self.visit("myapp", "/a?b=c").body, b"GET /a?b=c\n")
        body = bytes(range(256)) * 4096
        self.assertEqual(self.visit("myapp", method="POST", body=body).body, body)

    def test_theApexOfADevelopmentEdgeShowsALinkToIt(self) -> None:
        self.startEdge()
        agent = self.startAgent("http", str(self.origin()), "--name", "myapp")
        agent.hears("^myapp +http")
        url = f"http://localhost:{self.port}/"
        with urllib.request.urlopen(url, timeout=30) as page:
            self.assertIn(f'<a href="http://myapp.localhost:{self.port}/">myapp</a>', page.read().decode())
        asked = urllib.request.Request(url, headers={"Accept": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as page:
            self.assertEqual([each["name"] for each in json.load(page)["services"]], ["myapp"])

    def test_aFolderIsPublished(self) -> None:
        self.startEdge()
        public = self.home / "public"
        public.mkdir()
        (public / "hello.txt").write_text("hello\n")
        agent = self.startAgent("serve", str(public), "--name", "files")
        agent.hears(r"^files +http://files\.localhost")
        self.assertEqual(self.visit("files", "/hello.txt").body, b"hello\n")
        self.assertEqual(self.visit("files", "/../secret").status, 404)

    def test_aTCPServerGetsAPortOfTheEdge(self) -> None:
        self.startEdge()
        with socket.create_server(("127.0.0.1", 0)) as server:
            agent = self.startAgent("tcp", f"127.0.0.1:{server.getsockname()[1]}", "--name", "db")
            port = int(agent.hears(r"^db +tcp:.*:(\d+) -> tcp:127\.0\.0\.1:\d+$")[1])
            with socket.create_connection(("127.0.0.1", port), 30) as visitor:
                visitor.sendall(b"question")
                visitor.shutdown(socket.SHUT_WR)
                self.assertEqual(answer(server, b"answer"), b"question")
                self.assertEqual(visitor.makefile("rb").read(), b"answer")

    def test_aUDPServerGetsAPortOfTheEdge(self) -> None:
        """
        A name server of Twisted, asked by a resolver of Twisted.
        """
        self.startEdge()
        server = self.program("python", "-c", NAME_SERVER)
        local = int(server.hears(r"^listening (\d+)$")[1])
        agent = self.startAgent("udp", f"127.0.0.1:{local}", "--name", "dns")
        port = int(agent.hears(rf"^dns +udp:.*:(\d+) -> udp:127\.0\.0\.1:{local}$")[1])
        asked = subprocess.run([*self.command("python"), "-c", RESOLVER, str(port)], capture_output=True, text=True, timeout=60)
        self.assertEqual(asked.stdout.split(), ["192.0.2.7"] * 20, asked.stderr)

    def test_aFileMayHaveSeveralServices(self) -> None:
        self.startEdge()
        port = self.origin()
        (self.home / "agent.toml").write_text(
            f'[[service]]\nname = "one"\ntarget = "{port}"\n'
            f'[[service]]\nname = "two"\ntarget = "tcp:127.0.0.1:{port}"\nrewrite_host = "inner.example"\n'
        )
        agent = self.startAgent("--config", "agent.toml", "start")
        for name in ("one", "two"):
            agent.hears(rf"^{name} +http://{name}\.localhost")
            self.assertEqual(self.visit(name).status, 200)

    def test_anOriginThatIsDownAndComesBack(self) -> None:
        self.startEdge()
        port = self.origin()
        self.stopOrigin()
        agent = self.startAgent("http", str(port), "--name", "myapp")
        agent.hears(rf"^warning +nothing listens on localhost:{port} yet; visitors get 503 with an explanation$")
        page = self.sees("myapp", 503)
        self.assertIn(f"Nothing listens on localhost:{port} yet.".encode(), page.body)
        self.origin(port=port)
        self.assertEqual(self.visit("myapp").status, 200)

    def test_bothRunUnderTwistd(self) -> None:
        """
        Both halves, as twistd runs them.
        """
        edge = self.program("twistd", "-n", "--pidfile=", "tunnel-edge", "--dev", "--port", "0")
        self.port = int(edge.hears(r"ready +http://localhost:(\d+)")[1])
        agent = self.program(
            "twistd", "-n", "--pidfile=", "tunnel-agent", "--dev", "http", str(self.origin()), "--name", "myapp"
        )
        agent.hears(r"http://myapp\.localhost")
        self.assertEqual(self.visit("myapp").status, 200)
        for program in (agent, edge):
            program.end()
            self.assertNotIn("Traceback", program.said())


class EndpointTests(Stage):
    """
    C{tunnel:} where an endpoint is wanted: programs that know nothing of tunnels.
    """

    def test_twistdWebListensThroughATunnel(self) -> None:
        self.startEdge()
        (self.home / "hello.txt").write_text("hello\n")
        web = self.program("twistd", "-n", "--pidfile=", "web", "--path", ".", "--listen", "tunnel:site")
        page = self.sees("site", 200, "/hello.txt")
        self.assertEqual(page.body, b"hello\n")
        web.hears(r'"127\.0\.0\.1" - - .*"GET /hello\.txt')
        web.end()
        self.sees("site", 503)

    def test_twistdWebWaitsForItsEdge(self) -> None:
        """
        It waits for what may pass.
        """
        edge = self.startEdge()
        edge.end()
        where = {
            "TUNNELSTACK_EDGE": f"http://localhost:{self.port}",
            "TUNNELSTACK_TOKEN_FILE": str(self.home / ".local/state/tunnelstack/dev.token"),
        }
        web = self.program("twistd", "-n", "--pidfile=", "web", "--path", ".", "--listen", "tunnel:site", **where)
        web.hears("no session with")
        self.startEdge(port=self.port)
        self.sees("site")

    def test_theExampleOfTheReadmeWorks(self) -> None:
        self.startEdge()
        example = self.program("python", str(ROOT / "docs" / "examples" / "echo.py"))
        self.assertEqual(example.ends(), 0, example.said())
        self.assertEqual(example.out, ["b'hello, tunnel\\n'"])

    def test_theExampleReportsThatThereIsNoEdge(self) -> None:
        """
        The kind of M10: a sample that logs nowhere prints nothing for as long as the edge is down.
        """
        example = self.program("python", str(ROOT / "docs" / "examples" / "echo.py"))
        self.assertEqual((example.ends(), example.out), (1, []), example.said())
        [line] = example.err
        self.assertTrue(line.startswith("the endpoint string tunnel:echo: no edge is configured: "), line)

    def test_theExampleWaitsForAnEdgeThatIsDown(self) -> None:
        edge = self.startEdge()
        edge.end()
        token = str(self.home / ".local/state/tunnelstack/dev.token")
        where = {"TUNNELSTACK_EDGE": f"http://localhost:{self.port}", "TUNNELSTACK_TOKEN_FILE": token}
        example = self.program("python", str(ROOT / "docs" / "examples" / "echo.py"), **where)
        [line] = until(lambda: list(example.err), example.said)
        self.assertRegex(line, rf"no session with localhost:{self.port}: the connection was refused; retrying$")
        self.startEdge(port=self.port)
        self.assertEqual((example.ends(), example.out), (0, ["b'hello, tunnel\\n'"]), example.said())
        self.assertNotIn("Traceback", example.said())

    def test_twistdConchListensThroughATunnel(self) -> None:
        self.startEdge()
        made = self.program("ckeygen", "-q", "-t", "ed25519", "-f", "ssh_host_ed25519_key", "--no-passphrase")
        self.assertEqual(made.ends(), 0, made.said())
        conch = self.program("twistd", "-n", "--pidfile=", "conch", "--data", ".", "--port", "tunnel:shell:kind=stream")
        conch.hears("tunnel:shell$")
        done = subprocess.run(
            [*self.command("tunnelstack"), "connect", "shell"], input=b"nonsense\r\n", capture_output=True, env=self.environ,
            timeout=60,
        )
        self.assertRegex(done.stdout, rb"^SSH-2\.0-")

    def test_autobahnForwardsFromOneEndpointToAnother(self) -> None:
        """
        On one side a WebSocket as a stream, on the other what autobahn's users have: neither knows of tunnels.
        """
        self.startEdge()
        with socket.create_server(("127.0.0.1", 0)) as server:
            far = f"tcp:127.0.0.1:{server.getsockname()[1]}"
            forward = self.program(
                "twistd", "-n", "--pidfile=", "endpointforward", "--endpoint", "tunnel:forward:kind=tcp", "--dest_endpoint", far
            )
            port = int(forward.hears(r"tcp:forward\.localhost:(\d+)$")[1])
            with socket.create_connection(("127.0.0.1", port), 30) as visitor:
                server.settimeout(30)
                near, _ = server.accept()
                with near:
                    near.settimeout(30)
                    near.sendall(b"hello")            # what comes before it is connected there, it drops
                    self.assertEqual(visitor.recv(100), b"hello")
                    visitor.sendall(b"question")
                    self.assertEqual(near.recv(100), b"question")
                    near.sendall(b"answer")
                    self.assertEqual(visitor.recv(100), b"answer")

    def test_anAMPServerIsReachedByItsClient(self) -> None:
        self.startEdge()
        self.script("tests.system.sums", "server", "tunnel:sums:kind=stream").hears("^listens$")
        client = self.script("tests.system.sums", "client", "tunnel:sums")
        self.assertEqual((client.ends(), client.out), (0, ["5"]), client.said())

    def test_aWebSocketServerOfAutobahnListensThroughATunnel(self) -> None:
        self.startEdge()
        self.script("tests.system.echo", "tunnel:echo").hears("^listens")
        with connect(f"ws://echo.localhost:{self.port}/", sock=socket.create_connection(("127.0.0.1", self.port))) as speaking:
            for message in ("hello", b"\x00\x01", "x" * 300_000):
                speaking.send(message)
                self.assertEqual(speaking.recv(30), message)

    def test_aWebSocketPassesThroughAnAgent(self) -> None:
        self.startEdge()
        echo = self.script("tests.system.echo", "tcp:0:interface=127.0.0.1")
        self.startAgent("http", echo.hears(r"^listens (\d+)")[1], "--name", "echo").hears("^echo ")
        with connect(f"ws://echo.localhost:{self.port}/", sock=socket.create_connection(("127.0.0.1", self.port))) as speaking:
            speaking.send("there and back")
            self.assertEqual(speaking.recv(30), "there and back")

    def test_curlReachesAService(self) -> None:
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("curl is not installed")
        self.startEdge()
        self.startAgent("http", str(self.origin()), "--name", "myapp").hears("^myapp ")
        url = f"http://myapp.localhost:{self.port}"
        command = [curl, "-sS", "--fail", "--resolve", f"myapp.localhost:{self.port}:127.0.0.1", f"{url}/one", f"{url}/two"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (0, "GET /one\nGET /two\n"), done.stderr)


class ConnectTests(Stage):
    """
    C{tunnelstack connect}: a stream on standard input and output.
    """

    def connect(self, *arguments: str, said: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [*self.command("tunnelstack"), "connect", *arguments]
        return subprocess.run(command, input=said, capture_output=True, env=self.environ, timeout=60)

    def test_connectReachesAService(self) -> None:
        """
        A server that answers only when we have ended our direction: the half-close goes all the way, and back.
        """
        self.startEdge()
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.startAgent("tcp", str(server.getsockname()[1]), "--name", "db").hears("^db ")
            for said in (b"", b"question", bytes(range(256)) * 8192):
                program = subprocess.Popen(
                    [*self.command("tunnelstack"), "connect", "db"], env=self.environ, stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                self.addCleanup(program.kill)
                assert program.stdin is not None
                program.stdin.write(said)
                program.stdin.close()
                program.stdin = None
                heard = answer(server, b"answer")
                out, _ = program.communicate(timeout=30)
                self.assertEqual((heard == said, out, program.returncode), (True, b"answer", 0))

    def test_theEndOfTheServiceIsSeenWhileTheInputIsOpen(self) -> None:
        """
        An SSH client whose proxy command this is would otherwise wait until its user gives up.
        """
        self.startEdge()
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.startAgent("tcp", str(server.getsockname()[1]), "--name", "db").hears("^db ")
            program = subprocess.Popen(
                [*self.command("tunnelstack"), "connect", "db"], env=self.environ, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self.addCleanup(program.kill)
            assert program.stdin is not None and program.stdout is not None
            program.stdin.write(b"question")
            program.stdin.flush()
            connection, received = acceptData(server)
            with connection:
                self.assertEqual(received, b"question")
                connection.sendall(b"answer")
                connection.shutdown(socket.SHUT_WR)
                self.assertEqual(program.stdout.read(), b"answer")
                self.assertIsNone(program.poll())
                program.stdin.close()
                self.assertEqual(connection.recv(1), b"")
            self.assertEqual(program.wait(30), 0)
            program.stdout.close()

    def test_connectFailsWithoutTheService(self) -> None:
        self.startEdge()
        done = self.connect("nobody")
        self.assertEqual((done.returncode, done.stdout), (69, b""))
        self.assertEqual(done.stderr, b"tunnelstack: nobody cannot be reached: no service nobody can be dialled at this edge\n")

    def test_eachCauseHasASentenceAndACode(self) -> None:
        """
        The kind of M15: an unknown purpose, no SSH server and a right that is missing had one sentence, or a Python C{repr}.
        """
        self.startEdge()
        self.startAgent("tcp", str(freePort()), "--name", "db").hears("^db ")
        made = subprocess.run(
            [*self.command("tunnelstack"), "token", "new", "ada", "--allow", "dial:other"], env=self.environ,
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        stranger = {"TUNNELSTACK_EDGE": f"http://localhost:{self.port}", "TUNNELSTACK_TOKEN": made.stdout.strip()}
        known, refused = self.environ, self.environ | stranger
        unreached = "cannot be reached: its agent cannot connect to the server, or does not allow it"
        for environ, arguments, code, sentence in (
            (known, ("dev", "--purpose", "/demo/shout/1.0.0"), 76, "dev does not serve the purpose /demo/shout/1.0.0"),
            (known, ("dev", "--purpose", "ssh"), 69, "dev cannot be reached: dev has no SSH server"),
            (refused, ("db",), 77, "the token does not allow dial:db"),
            (known, ("gone", "--purpose", "ssh"), 69, "gone cannot be reached: gone is not connected"),
            (known, ("db",), 69, f"db {unreached}"), (known, ("dev", "--purpose", "tcp:localhost:1"), 69, f"dev {unreached}"),
            (known, ("dev", "--purpose", "tcp:localhost:http"), 64, "'http' is not a port number"),
        ):  # fmt: skip
            self.environ = environ
            done = self.connect(*arguments)
            self.assertEqual((done.returncode, done.stdout), (code, b""), done.stderr)
            self.assertEqual(done.stderr.decode(), f"tunnelstack: {sentence}\n")

    def test_connectFailsWithoutAnEdge(self) -> None:
        self.startEdge().end()
        self.environ |= {"TUNNELSTACK_EDGE": f"http://localhost:{self.port}", "TUNNELSTACK_TOKEN": newToken().token}
        done = self.connect("db", "--give-up-after", "1")
        self.assertEqual(done.returncode, 69)
        self.assertIn(b"no session with an edge within 1 seconds", done.stderr)

    def test_wrongUsageIsRejected(self) -> None:
        for arguments in ((), ("a", "b"), ("a", "--purpose", "nonsense"), ("a", "--port", "3")):
            self.assertEqual(self.connect(*arguments).returncode, 64)


class TidyTests(Stage):
    """
    What is left when all have gone: nothing.
    """

    def test_sigtermEndsBothInGoodOrder(self) -> None:
        edge = self.startEdge()
        agent = self.startAgent("http", str(self.origin()), "--name", "myapp")
        agent.hears("^myapp ")
        self.assertEqual(agent.end(), 0, agent.said())
        until(lambda: any(event["message"].startswith("dev disconnected") for event in edge.logged()), edge.said)
        self.assertEqual(edge.end(), 0, edge.said())
        for program in (edge, agent):
            self.assertNotIn("Traceback", program.said())
        state = self.home / ".local" / "state" / "tunnelstack"
        kept = {path.name: path.stat().st_mode & 0o777 for path in state.iterdir()}
        wanted = dict.fromkeys(("dev.token", "names.json"), 0o600)
        self.assertEqual(kept, wanted, "but what the next start goes on with")
        self.assertEqual(state.stat().st_mode & 0o777, 0o700)

"""
HTTP/2 by programs of others through whole programs: C{curl}, C{h2load}, nginx in front, a browser.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.ports import freePort
from tests.system.house import DOMAIN, House, memory
from tests.system.origin import Head, Origin, Talk
from tests.system.stage import PATIENCE, Program, until
from tests.system.test_visitors import ASSETS, HOST, Foreign, peer

SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"
REQUESTS = 20_000 if SOAK else 500
LARGE = 20 * 1024 * 1024
STREAMS = 100
WINDOWS = 512 * 1024
"""Octets that one stream may cost in one process: a window of the session, and what waits for the visitor."""


@cache
def http2House() -> House:
    """
    One that accepts HTTP/2 without TLS as well.
    """
    return House(edge="h2c = true\n")


class HTTP2Case(Foreign):
    """
    What these tests begin with.
    """

    def setUp(self) -> None:
        super().setUp()
        self.house = http2House()

    def accessLines(self, **fields: Any) -> list[dict[str, Any]]:
        return self.house.edge.logged(logger="tunnelstack.access", **fields)


class CurlTests(HTTP2Case):
    """
    curl, by ALPN and with prior knowledge.
    """

    def curl(self, scheme: str, path: str, *options: str) -> bytes:
        """
        One request; its answer has the version and the status on a line of its own at its end.
        """
        version = ["--http2"] if scheme == "https" else ["--http2-prior-knowledge"]
        done = subprocess.run(
            [peer("curl"), "-sS", "--noproxy", "*", *version, "--cacert", str(self.house.folder / "root.pem"),
             "--resolve", f"*:{self.house.ports[scheme]}:127.0.0.1", "-w", "\n%{http_version} %{http_code}", *options,
             self.url(scheme, path)],
            capture_output=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_pagesAreServed(self) -> None:
        for scheme in ("https", "http"):
            self.assertEqual(self.curl(scheme, "/length"), b"hello\n2 200")
            self.assertEqual(self.curl(scheme, "/chunked"), b"hello world\n2 200")
            self.assertEqual(self.curl(scheme, "/close"), b"until the end\n2 200")
            self.assertEqual(self.curl(scheme, "/nowhere"), b"nothing here\n2 404")
            self.assertEqual(self.curl(scheme, "/none"), b"\n2 204")
            self.assertIn(b"content-length: 1000", self.curl(scheme, "/head", "--head"))

    def test_bodiesArrive(self) -> None:
        body = bytes(range(256)) * 4096
        (self.folder / "body").write_bytes(body)
        for scheme in ("https", "http"):
            echo = self.curl(scheme, "/echo", "--data-binary", f"@{self.folder}/body")
            self.assertEqual(echo, body + b"\n2 200")
            through = self.curl(scheme, "/through", "-T", str(self.folder / "body"), "-H", "Content-Length:")
            self.assertEqual(through[-6:], b"\n2 200")

    def test_largeBodiesArrive(self) -> None:
        large = self.curl("https", f"/large?{LARGE}")
        self.assertEqual(hashlib.sha256(large[:-6]).digest(), hashlib.sha256(bytes(range(256)) * (LARGE // 256)).digest())
        body = bytes(range(255, -1, -1)) * (LARGE // 256)
        (self.folder / "body").write_bytes(body)
        swallowed = self.curl("https", "/swallow", "--data-binary", f"@{self.folder}/body")
        self.assertEqual(swallowed[:-6].decode(), hashlib.sha256(body).hexdigest())

    def test_aBodyWaitsFor100Continue(self) -> None:
        answer = self.curl("https", "/expect", "-H", "Expect: 100-continue", "-d", "hello", "-i")
        self.assertTrue(answer.startswith(b"HTTP/2 100"), answer)
        self.assertTrue(answer.endswith(b"hello\n2 200"), answer)

    def test_earlyHintsArrive(self) -> None:
        answer = self.curl("https", "/hints", "-i")
        self.assertEqual(answer.count(b"HTTP/2 103"), 2)

    def test_aServerThatBreaks(self) -> None:
        self.assertEqual(self.curl("https", "/break")[-6:], b"\n2 502")
        done = subprocess.run(
            [peer("curl"), "-sS", "--noproxy", "*", "--http2", "--cacert", str(self.house.folder / "root.pem"), "--resolve",
             f"*:{self.house.ports['https']}:127.0.0.1", self.url("https", "/half")],
            capture_output=True, timeout=60,
        )  # fmt: skip
        self.assertNotEqual(done.returncode, 0)

    def test_theAccessLogHasTheProtocol(self) -> None:
        self.curl("https", "/length?logged")
        until(lambda: self.accessLines(target="/length?logged", protocol="HTTP/2.0", status=200), self.house.edge.said)

    def test_HTTP1IsSelectedByThoseWhoOfferNothingElse(self) -> None:
        self.assertEqual(self.curl("https", "/length", "--http1.1"), b"hello\n1.1 200")

    def test_itCanBeTurnedOff(self) -> None:
        house = House(edge="http2 = false\n")
        self.addCleanup(house.close)
        self.house = house
        self.assertEqual(self.curl("https", "/length"), b"hello\n1.1 200")


class LoadTests(HTTP2Case):
    """
    h2load: many streams on few connections.
    """

    def test_h2loadIsServed(self) -> None:
        for scheme in ("https", "http"):
            done = subprocess.run(
                [peer("h2load"), "-n", str(REQUESTS), "-c", "2", "-m", "32", "-t", "1",
                 f"--connect-to=127.0.0.1:{self.house.ports[scheme]}", self.url(scheme, "/length")],
                capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            self.assertIn(f"{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout", done.stdout, done.stderr)
            self.assertIn(f"status codes: {REQUESTS} 2xx", done.stdout)


class HostileTests(HTTP2Case):
    """
    Visitors that take without reading, and send without being read, on 100 streams each.
    """

    def stall(self, *fields: tuple[str, str], body: bytes = b"") -> socket.socket:
        """
        Open as many streams as the edge allows, and read nothing but its SETTINGS.
        """
        machine = H2Connection(H2Configuration(client_side=True))
        machine.initiate_connection()
        visitor = socket.create_connection(("127.0.0.1", self.house.ports["http"]), 20)
        self.addCleanup(visitor.close)
        visitor.sendall(machine.data_to_send())
        while machine.max_outbound_frame_size and not machine.remote_settings.max_concurrent_streams <= STREAMS:
            machine.receive_data(visitor.recv(65536))
        for number in range(STREAMS):
            head = [(":scheme", "http"), (":authority", HOST), *fields]
            machine.send_headers(2 * number + 1, head, end_stream=not body)
            if body:
                credit = min(len(body), machine.local_flow_control_window(2 * number + 1))
                for start in range(0, credit, 16384):
                    machine.send_data(2 * number + 1, body[start:min(start + 16384, credit)])
        visitor.settimeout(PATIENCE)
        visitor.sendall(machine.data_to_send())
        return visitor

    def grows(self) -> dict[str, int]:
        """
        Octets by which edge and agent have grown since the last call, once they grow no more.
        """
        programs = {"edge": self.house.edge, "agent": self.house.agent}
        before = getattr(self, "_before", {name: memory(program.process.pid) for name, program in programs.items()})
        last: dict[str, int] = {}

        def settled() -> bool:
            nonlocal last
            time.sleep(0.3)
            earlier, last = last, {name: memory(program.process.pid) for name, program in programs.items()}
            return bool(earlier) and all(last[name] - earlier[name] < 1 << 20 for name in last)

        until(settled)
        self._before = last
        return {name: last[name] - before[name] for name in last}

    def othersAreServed(self) -> None:
        with self.house.connect("http", HOST) as talk:
            talk.say(f"GET /length HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            self.assertEqual(talk.body(talk.head()), b"hello")

    def test_streamsThatAreNotReadCostTheirWindows(self) -> None:
        self.grows()
        self.stall((":method", "GET"), (":path", f"/large?{LARGE}"))
        grown = self.grows()
        for name, octets in grown.items():
            self.assertLess(octets, STREAMS * WINDOWS, (name, grown))
        self.othersAreServed()

    def test_uploadsThatAreNotReadCostTheirWindows(self) -> None:
        self.grows()
        self.stall((":method", "POST"), (":path", "/silent"), body=bytes(1 << 20))
        grown = self.grows()
        for name, octets in grown.items():
            self.assertLess(octets, STREAMS * WINDOWS, (name, grown))
        self.othersAreServed()


class NginxTests(HTTP2Case):
    """
    nginx, which speaks HTTP/2 to visitors, and to the edge for gRPC.
    """

    def test_nginxMayBeInFront(self) -> None:
        port = freePort()
        self.nginx(
            f"server {{ listen 127.0.0.1:{port} http2; location / {{ proxy_pass http://127.0.0.1:{self.house.ports['http']}; "
            "proxy_http_version 1.1; proxy_set_header Host $http_host; } }"
        )
        self.listens(port)
        done = subprocess.run(
            [peer("curl"), "-sS", "--noproxy", "*", "--http2-prior-knowledge", "--resolve", f"*:{port}:127.0.0.1",
             f"http://{HOST}:{port}/length"],
            capture_output=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(done.stdout, b"hello", done.stderr)

    def test_nginxThatPassesGRPC(self) -> None:
        from tests.peers._grpc import Client, Service, requireGRPC

        requireGRPC()
        service = Service()
        self.addCleanup(service.stop)
        agent = self.house.startAgent({"calls": service.port}, 'http2 = "always"\n')
        self.addCleanup(agent.drop)
        port = freePort()
        self.nginx(
            f"server {{ listen 127.0.0.1:{port} http2; location / {{ grpc_pass grpc://127.0.0.1:{self.house.ports['http']}; "
            "grpc_set_header Host $http_host; } }"
        )
        self.listens(port)
        client = Client(f"127.0.0.1:{port}", f"calls.{DOMAIN}")
        self.addCleanup(client.close)
        self.assertEqual(client.unary(b"hello", timeout=30), b"hello")
        self.assertEqual(len(list(client.serverStream(b"20 1000", timeout=30))), 20)


class NginxBehindTests(HTTP2Case):
    """
    nginx as the local server, which selects the protocol by ALPN.
    """

    def answers(self, name: str, lines: str) -> set[str]:
        """
        The versions by which nginx was asked.
        """
        port = freePort()
        certificate = self.house.folder / "certs" / "default.pem"
        self.nginx(
            f"server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {certificate}; ssl_certificate_key {certificate};\n"
            "location / { default_type text/plain; return 200 $server_protocol; } }"
        )
        self.listens(port)
        agent = self.house.startAgent({name: f"https://localhost:{port}"}, "insecure_origin = true\n" + lines)
        self.addCleanup(agent.drop)
        asked = [self.house.connect("http", f"{name}.{DOMAIN}") for _ in range(3)]
        found = set()
        for talk in asked:
            with talk:
                talk.say(f"GET / HTTP/1.1\r\nHost: {name}.{DOMAIN}\r\n\r\n".encode())
                found.add(talk.body(talk.head()).decode())
        return found

    def test_HTTP2IsSelected(self) -> None:
        self.assertEqual(self.answers("auto", ""), {"HTTP/2.0"})

    def test_HTTP2MayBeTurnedOff(self) -> None:
        self.assertEqual(self.answers("never", 'http2 = "never"\n'), {"HTTP/1.1"})

    def test_HTTP2MayBeRequired(self) -> None:
        self.assertEqual(self.answers("always", 'http2 = "always"\n'), {"HTTP/2.0"})


PAGE = """<!doctype html><title>waiting</title><script>
const wanted = %d;
let seen = 0, said = [];
function done(what) { said.push(what); show(); }
function one() { seen += 1; show(); }
function show() {
  const used = performance.getEntriesByType("resource").filter(entry => entry.name.endsWith(".svg"));
  const protocols = [...new Set(used.map(entry => entry.nextHopProtocol))].join("+");
  document.title = "seen " + seen + " " + protocols + " " + said.sort().join(" ");
}
async function watch() {          // the virtual time of a browser stands still while something is fetched
  for (let tries = 0; tries < 2000 && seen + said.length < wanted; tries++) await fetch("/length?" + tries);
  show();
}
addEventListener("load", watch);
</script><body>"""


class _PageOrigin(Origin):
    """
    An origin with a page.
    """

    def __init__(self, page: bytes) -> None:
        self._page = page
        super().__init__(True)

    def on_page(self, talk: Talk, head: Head) -> None:
        self.answer(talk, self._page, b"Content-Type: text/html")


class BrowserTests(HTTP2Case):
    """
    Chromium.
    """

    def dump(self, path: str, host: str) -> str:
        """
        The title of a page when it has settled.
        """
        done = subprocess.run(
            [peer("chromium", "chromium-browser", "google-chrome"), "--headless", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", f"--user-data-dir={self.folder}/profile", "--ignore-certificate-errors",
             f"--host-resolver-rules=MAP *.{DOMAIN} 127.0.0.1", "--virtual-time-budget=20000", "--timeout=30000", "--dump-dom",
             self.url("https", path, host)],
            capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        title = re.search(r"<title>(.*?)</title>", done.stdout)
        self.assertIsNotNone(title, done.stderr[-2000:])
        assert title is not None
        return title[1]

    def test_aPageWithSixtyAssetsIsLoaded(self) -> None:
        assets = "".join(f'<img src="/{number}.svg" onload="one()" onerror="done(this.src)">' for number in range(ASSETS))
        (self.folder / "index.html").write_text(PAGE % ASSETS + assets + "</body>")
        for number in range(ASSETS):
            (self.folder / f"{number}.svg").write_text(
                f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><title>{number}{"x" * 9000}</title></svg>'
            )
        origin = Program(
            ["python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"], dict(os.environ),
            str(self.folder),
        )
        self.addCleanup(origin.drop)
        self.agentFor("browser", int(origin.hears(r"port (\d+)")[1]))
        self.assertEqual(self.dump("/", f"browser.{DOMAIN}"), f"seen {ASSETS} h2 ")
        ports = {line["visitor"] for line in self.accessLines(host=f"browser.{DOMAIN}:{self.house.ports['https']}")}
        self.assertEqual(ports, {"127.0.0.1"})

    def test_aWebSocketAndAnEventStreamShareAConnection(self) -> None:
        """
        Both on the connection of the page.
        """
        (self.folder / "page").write_text(PAGE % 2 + """<script>
const socket = new WebSocket("wss://" + location.host + "/websocket");
socket.onopen = () => socket.send("hello");
socket.onmessage = message => { done("socket:" + message.data); socket.close(); };
const events = new EventSource("/events");
events.onmessage = message => { done("event:" + message.data); events.close(); };
</script></body>""")
        origin = _PageOrigin(Path(self.folder / "page").read_bytes())
        self.addCleanup(origin.close)
        self.agentFor("talks", origin.port)
        for step in (b"one", b""):
            origin.steps.put(step)
        self.assertEqual(self.dump("/page", f"talks.{DOMAIN}"), "seen 0  event:one socket:hello")
        host = f"talks.{DOMAIN}:{self.house.ports['https']}"
        lines = until(lambda: self.accessLines(host=host, target="/websocket"), self.house.edge.said)
        self.assertEqual((lines[0]["protocol"], lines[0]["status"]), ("HTTP/2.0", 101))

"""
The models of L{tests.edge.path_readers} beside the programs that they stand for: nginx, Node, Go, and Python's own server.

Each program is a server on loopback that answers with the paths under which it looks for the resource, in hexadecimal.
"""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from urllib.parse import unquote, urlsplit

from twisted.trial.unittest import SynchronousTestCase

from tests.edge.path_readers import READERS, SEGMENTS, SEPARATORS
from tests.peers._go import program
from tests.ports import freePort
from tests.system.stage import until
from tests.system.test_visitors import peer

NODE = """
const hex = text => Buffer.from(text, "utf8").toString("hex");
require("http").createServer((request, response) => {
  try {
    const path = new URL(request.url, "http://localhost").pathname;
    response.end(hex(path) + " " + hex(decodeURIComponent(path)));
  } catch (error) {
    response.statusCode = 400;
    response.end();
  }
}).listen(0, "127.0.0.1", function () { console.log("port", this.address().port); });
process.stdin.on("end", () => process.exit(0)).resume();
"""

FIXED = [
    b"/", b"//", b"/x/..;/admin", b"/%61dmin", b"//x/admin", b"/\\x/admin", b"/x/%2e%2e/admin",
    b"/x%2f..%2fadmin", b"/admin%00x", b"/admin%3fx", b"/admin%23x", b"/admin?x", b"/a//b/../c", b"/a/./b/.",
    b"/a/..", b"/..", b"/%zz", b"/%", b"/%2561", b"/\xc3\xa4", b"/%c0%ae", b"/a%5c..%5cb", b"/a\\..\\b",
    b"/.%2e/%2E./x", b"/...", b"/a;b/c;d", b"///x///y/",
]  # fmt: skip


def targets(number: int = 300) -> list[bytes]:
    """
    The fixed ones, and others that are the same in every run.
    """
    random = Random(1)
    made = [
        b"/" + b"".join(random.choice(SEPARATORS) + random.choice(SEGMENTS) for _ in range(random.randint(1, 5)))
        for _ in range(number)
    ]
    return FIXED + made


def ask(port: int, target: bytes) -> bytes | None:
    """
    @return: the body of a response of 200; C{None} if the request was refused.
    """
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if re.match(rb"HTTP/1\.[01] 200 ", head) else None


class _PythonPaths(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        directory = self.translate_path("/").rstrip("/")
        files = "/" + self.translate_path(self.path)[len(directory) :].strip("/")
        url = unquote(urlsplit(self.requestline.split(" ")[1]).path or "/")
        body = " ".join(path.encode("utf-8", "surrogatepass").hex() for path in (files, url)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class PathReaderTests(SynchronousTestCase):
    """
    Where a program serves a path, its model gives the same path.
    """

    def compare(self, port: int, models: Sequence[str], unknown: str = "(?!)", outside: str = "(?!)") -> None:
        """
        @param models: one for each path in an answer.
        @param unknown: targets of which the model knows nothing.
        @param outside: a path that the model gives, and that is not compared.
        """
        served = 0
        for target in targets():
            body = ask(port, target)
            if body is None or re.match(unknown.encode(), target):
                continue
            served += 1
            for name, path in zip(models, body.decode("ascii").split(" "), strict=True):
                model = READERS[name](target)
                if model is None or not re.search(outside.encode(), model):
                    self.assertEqual(model, bytes.fromhex(path), (name, target))
        self.assertGreater(served, len(FIXED))

    def started(self, *command: str) -> int:
        """
        Start a server that prints its port, until the test ends.
        """
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        return int(process.stdout.readline().split()[1])

    def test_go(self) -> None:
        self.compare(self.started(str(program("paths"))), ["Go, path", "Go, files"])

    def test_nodeReadsPathsAsItsModel(self) -> None:
        port = self.started(peer("node"), "-e", NODE)
        self.compare(port, ["Node, URL", "Node, URL, decoded"], unknown=r"[/\\]{2}")

    def test_pythonReadsPathsAsItsModel(self) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _PythonPaths)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.compare(server.server_port, ["Python, files", "Python, URL"], outside=r"[\x80-\xff]")

    def test_nginxReadsPathsAsItsModel(self) -> None:
        binary, port, folder = peer("nginx"), freePort(), Path(self.mktemp()).absolute()
        (folder / "logs").mkdir(parents=True)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/logs/error.log; events {{ }}\n"
            f"http {{ access_log off; {temporary}\n"
            f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "$uri"; }} }} }}\n'
        )
        process = subprocess.Popen([binary, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.terminate)

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        for target in targets():
            self.assertEqual(READERS["nginx"](target), ask(port, target), target)

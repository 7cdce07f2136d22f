"""
The words and places that people type, as whole programs read them on an empty home.
"""

from __future__ import annotations

import ssl
import subprocess
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.system.stage import Hello, Stage
from tests.transport.certificates import authority
from tunnelstack.control.auth.tokens import newToken


class PlaceTests(Stage):
    """
    The kind: a place is named by what a person has at hand: a URL from a browser, or what another program printed.
    """

    def test_whatAnEdgePrintsIsTakenByAgents(self) -> None:
        running = self.startEdge()
        port = self.origin()
        printed = running.hears(r"agents (ws://localhost:\d+/\S+)")[1]
        for number, (url, target) in enumerate(
            ((printed, f"http://localhost:{port}"), (f"localhost:{self.port}", f":{port}"), (printed, f"localhost:{port}/"))
        ):
            agent = self.program("tunnel-agent", "--edge", url, "http", target, "--name", f"site{number}")
            agent.hears(rf"-> tcp:localhost:{port}$")
            self.sees(f"site{number}")

    def test_aPortIsEnoughForAnEdge(self) -> None:
        edge = self.program("tunnel-edge", "--dev", "--listen", ":0")
        edge.hears(r"^edge +ready +http://localhost:(\d+)")

    def test_aServerWithTLSIsVerified(self) -> None:
        """
        It is verified, unless that is switched off, which is logged.
        """
        self.startEdge()
        identity, folder = authority().identity("localhost"), self.home
        key = identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        Path(folder, "server.pem").write_bytes(identity.certificate.to_cryptography().public_bytes(Encoding.PEM) + key)
        Path(folder, "ca.pem").write_bytes(authority().certificate.to_cryptography().public_bytes(Encoding.PEM))
        port = self.secureOrigin(str(folder / "server.pem"))
        unverified = self.startAgent("http", f"https://localhost:{port}", "--name", "a", "--insecure-origin")
        unverified.hears(r"^warning +the certificate of https://localhost:\d+ is not verified \(--insecure-origin\)")
        self.assertEqual(self.sees("a").body, b"GET /\n")
        refused = self.startAgent("http", f"https://localhost:{port}", "--name", "b")
        refused.hears(r"^warning +cannot connect to https://localhost:\d+: its certificate is .*trustRoots=FILE")
        self.assertIn(b"The agent rejected the certificate of localhost", self.sees("b", 503).body)
        trusted = self.startAgent(
            "http", f"https://localhost:{port}", "--name", "c", SSL_CERT_FILE=str(folder / "ca.pem")
        )
        trusted.hears(r"^c +http://")
        self.assertEqual(self.sees("c").body, b"GET /\n")

    def secureOrigin(self, pem: str) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return int(server.server_address[1])

    def test_whatCannotBeMeantIsASentence(self) -> None:
        environ = self.environ | {"TUNNELSTACK_EDGE": "http://localhost:1", "TUNNELSTACK_TOKEN": newToken().token}
        for arguments, told in (
            (("http", "http://localhost:3000/app"), "leave out the path"), (("tcp", "localhost"), "it has no port"),
            (("--edge", "ftp://a.net", "http", "3000"), "--edge must be a URL such as"),
        ):  # fmt: skip
            done = subprocess.run(
                [*self.command("tunnel-agent"), *arguments], env=environ, capture_output=True, text=True, timeout=60
            )
            self.assertEqual((done.returncode, done.stdout), (64, ""), done.stderr)
            self.assertEqual(done.stderr.count("\n"), 2, done.stderr)      # the sentence, and whose --help has more
            self.assertIn(told, done.stderr)

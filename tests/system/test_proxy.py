"""
A whole agent whose only way out is a proxy that wants TLS and a password, as C{HTTPS_PROXY} says.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.system.stage import Program, Stage
from tests.transport.certificates import authority, edge

TOKEN = "ts_home_" + "x" * 43
DIGEST = sha256(TOKEN.encode()).hexdigest()


class SecureProxy:
    """
    A proxy that lets those out who know the password, to a port of this machine, whatever they call it.

    @ivar asked: the first lines and credentials that were shown.
    """

    def __init__(self, certificate: Path, to: int) -> None:
        self.asked: list[tuple[str, str]] = []
        self.password = b64encode(b"anna:swordfish").decode()
        self._to = to
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listening.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with self._context.wrap_socket(connection, server_side=True) as near:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += near.recv(4096)
                line, *fields = head.decode().split("\r\n")
                shown = next((field.split()[-1] for field in fields if field.lower().startswith("proxy-auth")), "")
                self.asked.append((line, shown))
                if shown != self.password:
                    near.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
                    return
                with socket.create_connection(("127.0.0.1", self._to)) as far:
                    near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    self._join(near, far)
        except OSError:
            return

    def _join(self, near: ssl.SSLSocket, far: socket.socket) -> None:
        """
        In one thread, for OpenSSL wants no two in one connection.
        """
        while not self._over.is_set():
            ready = [near] if near.pending() else select.select([near, far], [], [], 0.2)[0]
            for one, other in ((near, far), (far, near)):
                if one in ready:
                    octets = one.recv(65_536)
                    if not octets:
                        return
                    other.sendall(octets)

    def stop(self) -> None:
        """
        Let nobody out any more.
        """
        self._over.set()
        self._listening.close()


class ProxyTests(Stage):
    """
    An edge with TLS, which can be reached through the proxy alone.
    """

    def setUp(self) -> None:
        super().setUp()
        certs = self.home / "certs"
        certs.mkdir()
        identity = edge()
        key = identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.pem = certs / "edge.example.pem"
        self.pem.write_bytes(identity.certificate.to_cryptography().public_bytes(Encoding.PEM) + key)
        self.roots = self.home / "roots.pem"
        self.roots.write_bytes(authority().certificate.to_cryptography().public_bytes(Encoding.PEM))
        (self.home / "edge.toml").write_text(
            f'[edge]\ndomain = "edge.example"\nlisten = ["tls:{certs}:port=0:interface=127.0.0.1", '
            f'"tcp:0:interface=127.0.0.1"]\n[[agent]]\nname = "home"\nallow = ["http:*"]\ntoken_sha256 = "{DIGEST}"\n'
        )

    def begin(self) -> SecureProxy:
        started = self.program("tunnel-edge", "--config", str(self.home / "edge.toml"))
        self.port = int(started.hears(r"^edge +ready +https://edge\.example:(\d+)")[1])
        proxy = SecureProxy(self.pem, self.port)
        self.addCleanup(proxy.stop)
        return proxy

    def agent(self, proxy: SecureProxy, user: str = "anna:swordfish@", roots: Path | None = None) -> Program:
        environ: dict[str, Any] = {
            "HTTPS_PROXY": f"https://{user}localhost:{proxy.port}", "TUNNELSTACK_TOKEN": TOKEN,
            "SSL_CERT_FILE": str(roots or self.roots), "NO_PROXY": "",
        }
        return self.program(
            "tunnel-agent", "--edge", "https://edge.example", "http", str(self.origin()), "--name", "site", **environ
        )

    def test_anAgentConnectsThroughAProxyWithTLSAndAPassword(self) -> None:
        proxy = self.begin()
        agent = self.agent(proxy)
        agent.hears(r"^session +up +edge=edge\.example ")
        agent.hears(r"^site +https://site\.edge\.example")
        self.assertEqual(proxy.asked, [("CONNECT edge.example:443 HTTP/1.1", proxy.password)])
        context = ssl.create_default_context(cafile=str(self.roots))
        context.check_hostname = False
        with context.wrap_socket(socket.create_connection(("127.0.0.1", self.port))) as visitor:
            visitor.sendall(b"GET /there HTTP/1.1\r\nHost: site.edge.example\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: visitor.recv(65_536), b""))
        self.assertTrue(answer.endswith(b"GET /there\n"), answer)
        self.assertEqual(agent.end(), 0, agent.said())
        self.assertNotIn("swordfish", agent.said())

    def test_aWrongPasswordIsSaidOnce(self) -> None:
        proxy = self.begin()
        agent = self.agent(proxy, "anna:guess@")
        agent.hears(
            rf"^\w+ +no session with edge\.example: the proxy localhost:{proxy.port} requires a user and a password: "
            "put them into its URL"
        )
        self.assertEqual(agent.end(), 0, agent.said())
        self.assertNotIn("guess", agent.said())

    def test_aProxyThatIsNotTrusted(self) -> None:
        proxy = self.begin()
        nobody = self.home / "nobody.pem"
        nobody.write_text("")
        agent = self.agent(proxy, roots=nobody)
        agent.hears(
            rf"^warning +no session with edge\.example: no TLS with the proxy localhost:{proxy.port}: "
            "its certificate is issued by \"test root\", an authority that is not trusted here; .*SSL_CERT_FILE.*; retrying"
        )
        self.assertEqual(proxy.asked, [])
        self.assertEqual(agent.end(), 0, agent.said())

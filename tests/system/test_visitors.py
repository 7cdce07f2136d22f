"""
Visitors that are programs of others: C{curl}, C{httpx}, nginx in front and behind, a browser.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import httpx
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.ports import freePort
from tests.system.house import DOMAIN, House, house
from tests.system.stage import Program, until

HOST = f"keeps.{DOMAIN}"
ASSETS = 60


def peer(*names: str) -> str:
    """
    A program that others wrote.

    @return: where it is.
    @raise SkipTest: this machine does not have it, and need not.
    """
    for name in names:
        path = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
        if path is not None:
            return path
    if os.environ.get("TUNNELSTACK_REQUIRE_PEERS") == "1":
        raise AssertionError(f"{names[0]} is required here and was not found")
    raise SkipTest(f"{names[0]} is not installed on this machine")


class Foreign(SynchronousTestCase):
    """
    What these tests begin with.
    """

    house: House

    def setUp(self) -> None:
        self.house = house()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def url(self, scheme: str, path: str, host: str = HOST) -> str:
        return f"{scheme}://{host}:{self.house.ports[scheme]}{path}"

    def agentFor(self, name: str, port: int) -> Program:
        """
        One more process of the agent.
        """
        agent = self.house.startAgent({name: port})
        self.addCleanup(agent.drop)
        return agent

    def nginx(self, server: str) -> None:
        """
        Start nginx with one server block.
        """
        binary = peer("nginx")
        (self.folder / "logs").mkdir()
        (self.folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {self.folder}/pid; error_log {self.folder}/logs/error.log;\n"
            "events { worker_connections 256; }\n"
            f"http {{ access_log off; client_max_body_size 0; client_body_temp_path {self.folder}/body;\n"
            f"proxy_temp_path {self.folder}/proxy; fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u;\n"
            f"scgi_temp_path {self.folder}/s; {server} }}\n"
        )
        process = subprocess.Popen(
            [binary, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")], stderr=subprocess.DEVNULL
        )

        def stop() -> None:
            process.terminate()
            process.wait(30)

        self.addCleanup(stop)

    def listens(self, port: int) -> None:
        """
        Wait for somebody there.
        """

        def tried() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(tried, lambda: f"nobody on {port}")


class CurlTests(Foreign):
    """
    curl.
    """

    def curl(self, scheme: str, path: str, *arguments: str) -> str:
        port = self.house.ports[scheme]
        done = subprocess.run(
            [peer("curl"), "-sS", "--max-time", "30", "--resolve", f"{HOST}:{port}:127.0.0.1", "--cacert",
             str(self.house.folder / "root.pem"), *arguments, self.url(scheme, path)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_curlGetsPages(self) -> None:
        for scheme in ("http", "https"):
            self.assertEqual(self.curl(scheme, "/chunked"), "hello world")
            self.assertEqual(self.curl(scheme, "/echo", "-d", "x" * 5000, "-H", "Expect: 100-continue"), "x" * 5000)
            self.assertIn("content-length: 1000", self.curl(scheme, "/head", "-I").lower())

    def test_curlSendsAndReceivesAFile(self) -> None:
        file = self.folder / "file"
        file.write_bytes(os.urandom(3_000_000))
        self.curl("https", "/echo", "-T", str(file), "-o", str(self.folder / "back"), "-X", "POST")
        self.assertEqual((self.folder / "back").read_bytes(), file.read_bytes())


class HTTPXTests(Foreign):
    """
    httpx.
    """

    def test_manyRequestsShareOneClient(self) -> None:
        with httpx.Client(verify=self.house.trust, timeout=30) as client:
            for scheme in ("http", "https"):
                base = f"{scheme}://127.0.0.1:{self.house.ports[scheme]}"
                for _ in range(20):
                    answer = client.post(base + "/echo", content=b"x" * 10_000, headers={"Host": HOST})
                    self.assertEqual((answer.status_code, len(answer.content)), (200, 10_000))
                with client.stream("GET", base + "/large?1000000", headers={"Host": HOST}) as answer:
                    self.assertEqual(sum(map(len, answer.iter_bytes())), 1_000_000)


class NginxTests(Foreign):
    """
    nginx, as the origin and in front of the edge.
    """

    def test_nginxIsPublished(self) -> None:
        port, page = freePort(), os.urandom(500_000)
        (self.folder / "page").write_bytes(page)
        self.nginx(f"server {{ listen 127.0.0.1:{port}; root {self.folder}; location /moved {{ return 301 /page; }} }}")
        self.listens(port)
        self.agentFor("nginx", port)
        with httpx.Client(timeout=30, base_url=f"http://127.0.0.1:{self.house.ports['http']}") as client:
            host = {"Host": f"nginx.{DOMAIN}"}
            answer = client.get("/page", headers=host)
            self.assertEqual(answer.content, page)
            again = client.get("/page", headers=host | {"If-None-Match": answer.headers["etag"]})
            self.assertEqual((again.status_code, again.content), (304, b""))
            part = client.get("/page", headers=host | {"Range": "bytes=10-19"})
            self.assertEqual((part.status_code, part.content), (206, page[10:20]))
            self.assertEqual(client.get("/moved", headers=host).status_code, 301)
            self.assertEqual(client.get("/other", headers=host).status_code, 404)
            self.assertEqual(client.head("/page", headers=host).headers["content-length"], "500000")

    def test_nginxStandsInFront(self) -> None:
        port = freePort()
        self.nginx(
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{self.house.ports['http']};\n"
            "proxy_http_version 1.1; proxy_set_header Host $host; proxy_buffering off; proxy_request_buffering off;\n"
            "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; } }"
        )
        self.listens(port)
        with httpx.Client(timeout=30, base_url=f"http://127.0.0.1:{port}", headers={"Host": HOST}) as client:
            self.assertEqual(client.get("/chunked").text, "hello world")
            body = os.urandom(2_000_000)
            self.assertEqual(client.post("/echo", content=body).content, body)
            self.assertEqual(client.get("/break").status_code, 502)
        with socket.create_connection(("127.0.0.1", port), 20) as visitor:
            visitor.sendall(f"GET /upgrade HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n".encode())
            heard = b""
            while not heard.endswith(b"here I am."):
                heard += visitor.recv(65536)
            visitor.sendall(b"shout")
            self.assertEqual(visitor.recv(65536), b"SHOUT")


class BrowserTests(Foreign):
    """
    Chromium.
    """

    def test_aPageWithSixtyAssetsIsLoaded(self) -> None:
        binary = peer("chromium", "chromium-browser", "google-chrome")
        assets = "".join(f'<img src="/{number}.svg" onload="one()">' for number in range(ASSETS))
        (self.folder / "index.html").write_text(
            "<!doctype html><title>waiting</title><script>let seen = 0; "
            f"function one() {{ seen += 1; document.title = 'seen ' + seen }}</script><body>{assets}</body>"
        )
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
        for scheme in ("http", "https"):
            done = subprocess.run(
                [binary, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 f"--user-data-dir={self.folder}/{scheme}", "--ignore-certificate-errors",
                 f"--host-resolver-rules=MAP *.{DOMAIN} 127.0.0.1", "--virtual-time-budget=20000",
                 "--timeout=30000", "--dump-dom", self.url(scheme, "/", f"browser.{DOMAIN}")],
                capture_output=True, text=True, timeout=90,
            )  # fmt: skip
            title = re.search(r"<title>(.*?)</title>", done.stdout)
            self.assertEqual(title and title[1], f"seen {ASSETS}", done.stderr[-2000:])

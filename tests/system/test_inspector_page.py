"""
The page of the inspector in a real browser.
"""

from __future__ import annotations

import urllib.request
from base64 import b64decode
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.system.page_stage import PageStage

MARKUP = b"<h1>Hello</h1><script>document.title = 'taken over'</script><img src=x onerror=\"document.title='taken over'\">"

PICTURE = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
"""One pixel."""


class Site(BaseHTTPRequestHandler):
    """
    Answers of several kinds, by path; what it received is in C{received}.
    """

    protocol_version = "HTTP/1.1"
    received: list[tuple[str, str, bytes, str]] = []

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.received.append((self.command, self.path, body, self.headers.get("Cookie", "")))
        status, kind, octets = {
            "/markup": (200, "text/html", MARKUP),
            "/broken": (500, "text/plain", b"it broke"),
            "/picture": (200, "image/gif", PICTURE),
        }.get(self.path.partition("?")[0], (200, "application/json", b'{"answer":[1,2]}'))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(octets)))
        self.send_header("Set-Cookie", "session=very-secret")
        self.end_headers()
        self.wfile.write(octets)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, format: str, *arguments: object) -> None:
        """
        Log nothing.
        """


class InspectorPageTests(PageStage):
    """
    An edge, an agent with its inspector, a site and a visitor.
    """

    artefact = "inspector"

    def setUp(self) -> None:
        super().setUp()
        Site.received.clear()
        port = self.origin(Site)
        config = Path(self.mktemp()).absolute()
        config.write_text('[inspect]\nenabled = true\nlisten = "tcp:0:interface=127.0.0.1"\n')
        self.startEdge()
        token = (self.home / ".local" / "state" / "tunnelstack" / "dev.token").read_text()
        agent = self.program(
            "tunnel-agent", "--edge", f"http://localhost:{self.port}", "--config", str(config),
            "http", str(port), "--name", "app",
            TUNNELSTACK_TOKEN=token,
        )
        agent.hears(r"^app +http")
        self.address = agent.hears(r"http://127\.0\.0\.1:\d+").group()
        self.openLive(self.address)

    def get(self, path: str, body: bytes | None = None, status: int = 200) -> None:
        """
        Visit the site, with a cookie.
        """
        method, headers = "GET" if body is None else "POST", {"Cookie": "session=very-secret"}
        answer = self.visit("app", path, method=method, body=body, headers=headers)
        self.assertEqual(answer.status, status)

    def rows(self) -> list[str]:
        """
        @return: the texts of the rows that are shown.
        """
        rows = self.browser.run("[...document.querySelectorAll('#rows tr:not([hidden])')].map((row) => row.innerText)")
        return list(rows)

    def shows(self, count: int) -> list[str]:
        """
        Wait until so many requests are listed, and have ended.
        """
        ended = "[...document.querySelectorAll('#rows tr')].every((row) => !row.innerText.includes('open'))"
        self.browser.wait(f"document.querySelectorAll('#rows tr:not([hidden])').length === {count} && {ended}")
        return self.rows()

    def select(self, path: str) -> str:
        """
        Open the newest request for a path.

        @return: the text of its details.
        """
        self.browser.run(
            f"[...document.querySelectorAll('#rows tr')].find((row) => row.innerText.includes('{path}')).click()"
        )
        self.browser.wait(f"document.querySelector('#title').textContent.includes('{path}')")
        self.browser.wait("document.querySelector('#response').innerText.length > 0")
        return self.browser.text("#detail")

    def test_requestsAppearAsTheyArriveAndAreFiltered(self) -> None:
        self.get("/one")
        self.get("/broken", status=500)
        self.get("/two", b"{}")
        rows = self.shows(3)
        self.assertIn("/two", rows[0])
        for field, text, left in (
            ("path", "ONE", ["/one"]), ("status", "5xx", ["/broken"]), ("method", "post", ["/two"]),
            ("field", "text/plain", ["/broken"]), ("time", "60000", []),
        ):
            self.browser.type(f"#filter-{field}", text)
            self.browser.wait(f"document.querySelectorAll('#rows tr:not([hidden])').length === {len(left)}")
            self.assertEqual([path for path, row in zip(left, self.rows(), strict=True) if path not in row], [], field)
            self.browser.type(f"#filter-{field}", "")
        self.shows(3)
        self.assertEqual(self.browser.problems, [])

    def test_theDetailHasHeadsBodiesAndTimesAndNoSecrets(self) -> None:
        self.get("/detail?a=1", b'{"question": true}')
        self.shows(1)
        text = self.select("/detail")
        for wanted in ("POST /detail?a=1", "HTTP/1.1 200", '"question": true', '"answer": [', "127.0.0.1", "ms"):
            self.assertIn(wanted, text)
        self.assertNotIn("very-secret", self.browser.run("document.documentElement.outerHTML"))

    def test_markupOfTheSiteIsShownAndHasNoRights(self) -> None:
        self.get("/markup")
        self.shows(1)
        self.assertIn("<h1>Hello</h1>", self.select("/markup"))
        self.browser.click(".tabs button")
        self.browser.wait("!document.querySelector('iframe').hidden")
        self.assertEqual(self.browser.run("document.querySelector('iframe').getAttribute('sandbox')"), "")
        self.assertEqual(self.browser.run("document.title"), "Requests - tunnelstack")

    def test_picturesAreShown(self) -> None:
        self.get("/picture")
        self.shows(1)
        self.select("/picture")
        self.browser.wait("document.querySelector('img.body').naturalWidth === 1")

    def test_aRequestIsSentAgainWithItsSecrets(self) -> None:
        self.get("/again", b"body")
        self.shows(1)
        self.select("/again")
        self.browser.click("#replay")
        rows = self.shows(2)
        self.assertIn("replay of", rows[0])
        self.assertEqual(Site.received, [("POST", "/again", b"body", "session=very-secret")] * 2)

    def test_aRequestIsEditedAndSent(self) -> None:
        self.get("/first", b"body")
        self.shows(1)
        self.select("/first")
        self.browser.click("#edit")
        self.browser.type("#edit-method", "PUT")
        self.browser.type("#edit-target", "/second?x=2")
        self.browser.type("#edit-body", "another")
        self.browser.click("#editor button[type=submit]")
        self.shows(2)
        self.assertEqual(Site.received[-1], ("PUT", "/second?x=2", b"another", "session=very-secret"))

    def test_theKeyboardIsEnough(self) -> None:
        self.get("/one")
        self.get("/two")
        self.shows(2)
        self.browser.press("j")
        self.browser.press("Enter")
        self.browser.wait("document.querySelector('#title').textContent.includes('/two')")
        self.browser.press("j")
        self.browser.wait("document.querySelector('#title').textContent.includes('/one')")
        self.browser.press("Escape")
        self.browser.wait("document.querySelector('#detail').hidden")

    def test_clearForgetsWhatHasEnded(self) -> None:
        self.get("/one")
        self.shows(1)
        self.browser.click("#forget")
        self.shows(0)
        self.assertIn("No requests yet", self.browser.text("#list"))

    def test_aPhoneShowsTheListOrTheDetail(self) -> None:
        self.browser.resize(390, 800)
        self.browser.dark(True)
        self.get("/one")
        self.shows(1)
        self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 390)
        self.select("/one")
        self.assertEqual(self.browser.run("getComputedStyle(document.querySelector('#list')).display"), "none")
        self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 390)

    def test_aPageOfAnotherOriginReachesNothing(self) -> None:
        """
        Neither the list nor a change: the browser sends the origin, which is refused.
        """
        self.get("/one")
        self.shows(1)
        other = self.origin(Site)
        self.browser.open(f"http://localhost:{other}/markup")
        reach = f"fetch('{self.address}/api/requests', OPTIONS).then((answer) => answer.status, () => 'refused')"
        for options in ("{}", "{method: 'DELETE', headers: {'X-Tunnelstack': '1'}}", "{method: 'POST', mode: 'no-cors'}"):
            self.assertIn(self.browser.run(reach.replace("OPTIONS", options)), ("refused", 0, 403), options)
        with urllib.request.urlopen(f"{self.address}/api/requests") as answer:
            self.assertIn(b"/one", answer.read())

"""
The dashboard of an edge in a real browser.
"""

from __future__ import annotations

import json
import socket
import subprocess
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.system.page_stage import PageStage
from tests.system.stage import until

TOKEN = "correct-horse-battery-staple"

ANSWER_OCTETS = 64 * 1024 * 1024
"""Octets of an answer that a visitor does not read: more than all buffers on the way hold."""


class Site(BaseHTTPRequestHandler):
    """
    Answers at once, or with more than anybody reads.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        octets = ANSWER_OCTETS if self.path == "/large" else 5
        self.send_response(200)
        self.send_header("Content-Length", str(octets))
        self.end_headers()
        piece = b"x" * min(octets, 65_536)
        for _ in range(octets // len(piece)):
            self.wfile.write(piece)

    def log_message(self, format: str, *arguments: object) -> None:
        """
        Log nothing.
        """


class DashboardPageTests(PageStage):
    """
    An edge with two agents, C{laptop} and C{office}.
    """

    artefact = "dashboard"

    def setUp(self) -> None:
        super().setUp()
        tokenFile, config = self.home / "admin.token", self.home / "edge.toml"
        tokenFile.write_text(TOKEN)
        tokenFile.chmod(0o600)
        config.write_text(
            f'[admin]\nlisten = "0"\ntoken_file = "{tokenFile}"\n[metrics]\nenabled = true\n[samples]\nrequests = 9\n'
            '[[route]]\nhost = "www.localhost"\nto = "absent"\n'
        )
        self.edge = self.startEdge("--config", str(config))
        self.address = "http://" + str(self.ask("status")["admin"][0])
        site = self.origin(Site)
        for agent, service in (("laptop", "app"), ("office", "shop")):
            self.connect(agent, service, site)
        self.openLive(self.address)
        self.shows(2)

    def ask(self, command: str) -> dict[str, Any]:
        """
        @return: the answer of the edge to a command.
        """
        done = subprocess.run(
            [*self.command("tunnelstack"), command, "--json"], env=self.environ, capture_output=True, text=True, timeout=60
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def connect(self, agent: str, service: str, port: int) -> None:
        """
        Start an agent with a token of its own.
        """
        token = self.home / f"{agent}.token"
        new = [*self.command("tunnelstack"), "token", "new", agent, "--allow", f"http:{service}", "--out", str(token)]
        subprocess.run(new, env=self.environ, capture_output=True, check=True, timeout=60)
        url = f"http://localhost:{self.port}"
        started = self.program(
            "tunnel-agent", "--edge", url, "--token-file", str(token), "http", str(port), "--name", service
        )
        started.hears(rf"^{service} +http")

    def shows(self, count: int) -> list[str]:
        """
        Wait until the list has so many rows.

        @return: their texts.
        """
        self.browser.wait(f"document.querySelectorAll('#rows tr').length === {count}")
        rows = self.browser.run("[...document.querySelectorAll('#rows tr')].map((row) => row.innerText)")
        return list(rows)

    def select(self, text: str) -> str:
        """
        Open the first row with a text.

        @return: the text of its details.
        """
        find = f"[...document.querySelectorAll('#rows tr')].find((row) => row.innerText.includes('{text}'))"
        self.browser.wait(f"!!{find}")
        self.browser.run(f"{find}.click()")
        self.browser.wait("!document.querySelector('#detail').hidden")
        return self.browser.text("#detail")

    def allow(self) -> None:
        """
        Show the token.
        """
        self.browser.wait("!document.querySelector('#unlock').hidden")
        self.browser.click("#unlock")
        self.browser.type("#token", TOKEN)
        self.browser.click("#dialog-yes")
        self.browser.wait("!document.querySelector('#drain').hidden && !document.querySelector('#dialog').open")

    def confirm(self, button: str) -> None:
        """
        Press a button, and confirm.
        """
        self.browser.wait(f"document.querySelector('{button}') && !document.querySelector('{button}').disabled")
        self.browser.click(button)
        self.browser.wait("document.querySelector('#dialog').open")
        self.browser.click("#dialog-yes")
        self.browser.wait("!document.querySelector('#dialog').open")

    def session(self, agent: str) -> int:
        """
        @return: the number of an agent's session, once it has one.
        """
        return int(until(lambda: [each["session"] for each in self.ask("agents")["agents"] if each["agent"] == agent])[0])

    def test_agentsAndServicesAreListedAndFiltered(self) -> None:
        rows = self.shows(2)
        self.assertIn("laptop", rows[0])
        self.browser.wait("document.querySelector('#rows').innerText.includes(' ms')")      # a round trip was measured
        self.browser.type("#filter", "SHOP")
        self.assertIn("office", self.shows(1)[0])
        self.browser.type("#filter", "nothing of the kind")
        self.shows(0)
        self.assertIn("match the filter", self.browser.text("#empty"))
        self.browser.type("#filter", "")
        self.browser.click("#tab-routes")
        rows = self.shows(3)
        self.assertIn("down", next(row for row in rows if "www.localhost" in row))
        self.assertIn("office", next(row for row in rows if "shop" in row))
        self.browser.click("#tab-limits")
        self.browser.wait("document.querySelector('#more').innerText.includes('process_octets')")
        self.assertEqual(self.browser.problems, [])

    def test_totalsAreLive(self) -> None:
        self.browser.wait("(document.querySelector('[data-name=Requests] .value') || document.body).innerText.includes('/s')")
        for _ in range(3):
            self.assertEqual(self.visit("app", "/small").status, 200)
        self.browser.wait("(document.querySelector('[data-name=Requests]') || document.body).innerText.includes('3 in total')")
        self.browser.wait("document.querySelector('[data-name=Agents] .value').innerText === '2'")

    def test_theLastRequestsAreShown(self) -> None:
        self.visit("app", "/small?token=very-secret", headers={"Cookie": "a=very-secret"})
        self.browser.click("#tab-samples")
        self.assertIn("GET /small", self.shows(1)[0])
        text = self.select("/small")
        for wanted in ("app", "200", "Body of the response", "Host"):
            self.assertIn(wanted, text)
        self.assertNotIn("very-secret", self.browser.run("document.documentElement.outerHTML"))

    def test_aStreamIsMarkedThatAVisitorDoesNotRead(self) -> None:
        visitor = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.addCleanup(visitor.close)
        visitor.sendall(b"GET /large HTTP/1.1\r\nHost: app.localhost\r\n\r\n")
        self.browser.click("#tab-streams")
        self.browser.click("#slow")
        self.assertIn("visitor", self.shows(1)[0])
        self.browser.wait("(document.querySelector('[data-name=Streams]') || document.body).innerText.includes('1 is slow')")
        text = self.select("visitor")
        for wanted in ("laptop", "The visitor does not read", "Not read by the visitor"):
            self.assertIn(wanted, text)

    def test_withoutTheTokenNothingCanBeChanged(self) -> None:
        self.select("laptop")
        self.assertNotIn("Disconnect", self.browser.text("#detail"))
        self.assertTrue(self.browser.run("document.querySelector('#drain').hidden"))
        refused = "fetch('/agents/disconnect', {method: 'POST', headers: {'X-Tunnelstack': '1'}, body: '{\"session\": 1}'})"
        self.assertEqual(self.browser.run(f"{refused}.then((answer) => answer.status)"), 403)
        self.browser.click("#unlock")
        self.browser.type("#token", "wrong")
        self.browser.click("#dialog-yes")
        self.browser.wait("!document.querySelector('#dialog-problem').hidden")
        self.assertEqual(len(self.ask("agents")["agents"]), 2)

    def test_anAgentIsDrainedAndConnectsAgain(self) -> None:
        before = self.session("laptop")
        self.allow()
        self.select("laptop")
        self.confirm("#agent-drain")
        until(lambda: self.session("laptop") != before)
        self.assertEqual(self.sees("app").status, 200)

    def test_anAgentIsDisconnectedAndWhyIsShown(self) -> None:
        before = self.session("office")
        self.allow()
        self.select("office")
        self.confirm("#agent-disconnect")
        self.browser.wait("document.querySelector('#more').innerText.includes('an operator has requested it')")
        until(lambda: self.session("office") != before)
        self.browser.click("#lock")
        self.browser.wait("document.querySelector('#drain').hidden && !document.querySelector('#unlock').hidden")

    def test_theEdgeIsDrained(self) -> None:
        self.allow()
        self.confirm("#drain")
        self.assertEqual(self.edge.ends(), 0)
        self.browser.wait("document.querySelector('#connection').classList.contains('lost')")

    def test_theKeyboardIsEnough(self) -> None:
        self.browser.press("j")
        self.browser.press("Enter")
        self.browser.wait("document.querySelector('#title').textContent === 'laptop'")
        self.browser.press("j")
        self.browser.wait("document.querySelector('#title').textContent === 'office'")
        self.browser.press("Escape")
        self.browser.wait("document.querySelector('#detail').hidden")
        self.browser.press("2")
        self.browser.wait("document.querySelector('#tab-routes').getAttribute('aria-selected') === 'true'")
        self.browser.press("/")
        self.browser.wait("document.activeElement.id === 'filter'")
        self.browser.press("Escape")
        self.browser.press("3")
        self.browser.wait("document.querySelector('#list').dataset.view === 'streams'")

    def test_aPhoneInTheDarkShowsTheListOrTheDetail(self) -> None:
        self.browser.resize(390, 800)
        self.browser.dark(True)
        for tab in ("agents", "routes", "streams", "limits"):
            self.browser.click(f"#tab-{tab}")
            self.browser.wait(f"document.querySelector('#list').dataset.view === '{tab}'")
            self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 390, tab)
        self.browser.click("#tab-agents")
        self.select("laptop")
        self.assertEqual(self.browser.run("getComputedStyle(document.querySelector('#list')).display"), "none")
        self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 390)
        paper = self.browser.run("getComputedStyle(document.body).backgroundColor")
        self.assertLess(max(int(part) for part in paper.removeprefix("rgb(").rstrip(")").split(",")), 64)

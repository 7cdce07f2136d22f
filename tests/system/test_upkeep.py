"""
How an operator looks after services, with whole programs: health checks, and samples of requests.
"""

from __future__ import annotations

import json
from typing import Any

from tests.system.stage import Hello, until
from tests.system.test_commands import Commands
from tunnelstack.control.auth.tokens import newToken

HEALTH = """
[[health]]
to = "site"
path = "/healthz"
interval_seconds = 1
failures = 1
successes = 1
"""


class HealthTests(Commands):
    """
    Two agents with one name, of which one has a web server that fails.
    """

    def web(self, name: bytes) -> Any:
        """
        @return: a web server's handler, whose C{status} is that of its health.
        """

        class Web(Hello):
            status = 200

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    self.send_response(Web.status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.answer(name)

        return Web

    def reached(self) -> set[bytes]:
        return {self.visit("site").body for _ in range(4)}

    def agents(self) -> list[Any]:
        return [each["out_of_service"] for each in json.loads(self.good("agents", "--json"))["agents"]]

    def test_anAgentIsLeftOutAndComesBack(self) -> None:
        token = newToken()
        self.edge(
            f'[[agent]]\nname = "desk"\ntoken_sha256 = "{token.tokenSha256}"\nid = "{token.id}"\nallow = ["http:*"]\n'
            f"share = true\n{HEALTH}"
        )
        good, bad = self.web(b"good"), self.web(b"bad")
        for handler in (good, bad):
            port = self.origin(handler)
            self.agent(token.token, "http", str(port), "--name", "site").hears(r"^site ")
        until(lambda: self.reached() == {b"good", b"bad"})
        bad.status = 500
        until(lambda: self.reached() == {b"good"})
        self.assertEqual(sorted(map(str, self.agents())), ["{'site': 'it answered 500'}", "{}"])
        self.assertIn("out of service: site: it answered 500", self.good("agents"))
        self.assertIn("out of service: desk", self.good("routes"))
        good.status = 503
        answer = self.sees("site", 503)
        self.assertEqual(answer.fields["Retry-After"], "1")
        self.assertIn(b"it answered 50", answer.body)
        good.status = bad.status = 200
        until(lambda: self.agents() == [{}, {}])
        self.assertEqual(self.reached(), {b"good", b"bad"})


class SampleTests(Commands):
    """
    The last requests, as an operator sees them.
    """

    def test_requestsAreListed(self) -> None:
        self.edge("[samples]\nrequests = 2\n")
        token = self.good("token", "new", "desk", "--allow", "http:*").strip()
        self.assertIn("no requests", self.good("samples"))
        self.agent(token, "http", str(self.origin()), "--name", "site").hears(r"^site ")
        for number in range(3):
            self.visit("site", f"/page{number}?password=top", headers={"Authorization": "Basic top"})
        listed = self.good("samples").splitlines()
        self.assertEqual([line.split()[3].partition("?")[0] for line in listed[1:]], ["/page2", "/page1"])
        said = self.good("samples", "--json")
        (sample, _) = json.loads(said)["samples"]
        self.assertEqual((sample["service"], sample["status"], sample["octets_out"]), ("site", 200, 24))
        self.assertNotIn("top", said)

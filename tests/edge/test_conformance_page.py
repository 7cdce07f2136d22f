"""
The table of docs/topics/http-conformance.md, row by row, through a whole edge and agent.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.edge.test_edge_and_agent import Both, just
from tunnelstack.control.config.records import ServiceConfig

PAGE = Path(__file__).parent.parent.parent / "docs" / "topics" / "http-conformance.md"
SITE = ServiceConfig(name="site", target="3001")
GET = b"GET / HTTP/1.1\r\nHost: site.localhost\r\n"
OK = b"HTTP/1.1 200 OK\r\n"

CODE = re.compile(r"(not )?`([^`]*)`")
START_LINE = re.compile(rb"(?:[\r\n]*[A-Z]+ .* HTTP/|[\r\n]*HTTP/|hello)")


@frozen
class Row:
    """
    A row of a table.

    @ivar octets: what is sent.
    @ivar arrives: what the other side must receive.
    @ivar absent: what it must not.
    """

    rule: str
    octets: bytes
    status: bytes
    arrives: tuple[bytes, ...]
    absent: tuple[bytes, ...]
    nothing: bool
    last: str


def unescaped(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def message(text: str, start: bytes) -> bytes:
    """
    A whole message of what is in a table.
    """
    octets = unescaped(text)
    if not START_LINE.match(octets):
        octets = start + octets
    return octets if b"\r\n\r\n" in octets.lstrip(b"\r\n") or b"\n\n" in octets else octets + b"\r\n\r\n"


def rows(title: str, start: bytes) -> list[Row]:
    """
    The rows of the table below a title.
    """
    table = PAGE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    found = []
    for line in table.splitlines():
        if not line.startswith("| ") or line.startswith("| rule"):
            continue
        rule, sent, status, arrives, *last = [cell.strip() for cell in line.strip()[1:-1].split("|")]
        codes = [(bool(absent), unescaped(text)) for absent, text in CODE.findall(arrives)]
        sample = CODE.search(sent)
        assert sample is not None, line
        found.append(Row(
            rule, message(sample[2], start), status.encode(), tuple(text for absent, text in codes if not absent),
            tuple(text for absent, text in codes if absent), arrives == "nothing", last[0] if last else "",
        ))
    return found


class Origin(Protocol):
    """
    A web server that collects what it receives, and answers each request with the same octets.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.factory.heard += data                                               # type: ignore[attr-defined]
        if self.factory.answers and (b"\r\n\r\n" in self.factory.heard):         # type: ignore[attr-defined]
            octets = self.factory.answers.pop()                                  # type: ignore[attr-defined]
            self.transport.write(octets)
            if octets.startswith(OK + b"\r\n"):
                self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.ended += 1                                                  # type: ignore[attr-defined]


class ConformanceTests(Both):
    """
    What the page says is true.
    """

    def setUp(self) -> None:
        super().setUp()
        both = self.begin(SITE, start=False)
        self.server = just(Origin)
        self.server.heard, self.server.answers, self.server.ended = b"", [], 0
        both.network.listenTCP(3001, self.server)
        both.start()

    def test_requestsAreForwardedAsThePageStates(self) -> None:
        found = rows("Requests of visitors", GET)
        self.assertGreater(len(found), 40)
        for row in found:
            self.server.heard, self.server.answers = b"", [OK + b"Content-Length: 0\r\n\r\n"]
            visitor = self.both.visit(row.octets)
            self.assertEqual(visitor.got[9:12], row.status, row)
            self.assertTrue(self.server.heard == b"" or not row.nothing, (row, self.server.heard))
            self.compare(row, self.server.heard)

    def test_responsesAreForwardedAsThePageStates(self) -> None:
        found = rows("Responses of servers", OK)
        self.assertGreater(len(found), 25)
        for row in found:
            self.server.heard, self.server.answers, self.server.ended = b"", [row.octets], 0
            visitor = self.both.visit(GET + b"\r\n")
            self.assertEqual(visitor.got[9:12], row.status, (row, visitor.got))
            self.compare(row, visitor.got)
            self.assertEqual("closed" if self.server.ended else "kept", row.last, row)

    def compare(self, row: Row, octets: bytes) -> None:
        for text in row.arrives:
            self.assertIn(text, octets, row)
        for text in row.absent:
            self.assertNotIn(text, octets, row)

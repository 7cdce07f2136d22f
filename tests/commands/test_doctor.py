"""
C{tunnelstack doctor}: what is found, what is left out, and the remedy.
"""

from __future__ import annotations

import json
from time import time
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.doctor.checks import SECONDS, EdgeDiagnosis, Finding
from tunnelstack.doctor.command import formatJSON, formatText
from tunnelstack.testing import EdgeAndAgent


class Other(Protocol):
    """
    What is no edge: a web server.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n")


class DoctorTests(SynchronousTestCase):
    """
    An edge on a network without sockets, and what may be wrong with the way to it.
    """

    def setUp(self) -> None:
        self.both = EdgeAndAgent()
        self.both.edge.startService()
        self.network = self.both.network
        self.addCleanup(self.end)

    def end(self) -> None:
        self.both.edge.stopService()
        self.network.passTime(40)

    def listen(self, port: int, protocol: type[Protocol]) -> None:
        factory: Any = Factory.forProtocol(protocol)
        factory.noisy = False
        self.network.listenTCP(port, factory)

    def runChecks(
        self, url: str = "http://localhost:8080", *, token: str = "", time: Any = time, wait: float = 1, **more: Any
    ) -> Any:
        """
        @return: the findings, by the check.
        """
        resolve = more.pop("resolve", lambda host: succeed(["192.0.2.1"]))
        self.edge = EdgeAddress(url=url, token=token or self.both.token, **more)
        doctor = EdgeDiagnosis(self.network, self.edge, resolve, time)
        done = doctor.runChecks()
        self.network.passTime(wait)
        self.successResultOf(done)
        self.findings = doctor.findings
        self.assertEqual([finding.check for finding in doctor.findings], list(EdgeDiagnosis.CHECKS))
        return {finding.check: finding for finding in doctor.findings}

    def wrong(self, found: dict[str, Finding]) -> list[str]:
        return [check for check, finding in found.items() if finding.good is False]

    def test_allIsWell(self) -> None:
        found = self.runChecks()
        self.assertEqual(self.wrong(found), [])
        self.assertTrue(all(finding.good and not finding.remedy for finding in self.findings))
        self.assertIn("accepts the token of agent laptop", found["session"].says)
        self.network.passTime(5)
        self.assertEqual(list(self.both.edge.registry), [])       # nothing of it is left at the edge
        self.assertTrue(json.loads(formatJSON(self.edge, self.findings))["good"])

    def test_aNameThatIsUnknown(self) -> None:
        found = self.runChecks("http://edge.example", resolve=lambda host: fail(OSError(-2, "Name or service not known")))
        self.assertEqual(self.wrong(found), ["name"])
        self.assertIsNone(found["session"].good)

    def test_aPortThatIsShut(self) -> None:
        found = self.runChecks("http://localhost:1")
        self.assertEqual((self.wrong(found), found["reach"].code), (["reach"], 69))

    def test_aTokenThatIsUnknown(self) -> None:
        found = self.runChecks(token="ts_x")
        self.assertEqual((self.wrong(found), found["session"].code), (["session"], 77))
        self.assertIn("new token", found["session"].remedy)

    def test_aServerThatIsNoEdge(self) -> None:
        self.listen(9000, Other)
        found = self.runChecks("http://localhost:9000")
        self.assertEqual((self.wrong(found), found["session"].code), (["clock", "session"], 76))
        self.assertIn("WebSocket", found["session"].remedy)

    def test_aClockThatIsWrong(self) -> None:
        """
        It says so, and goes on: a session may work all the same.
        """
        for ahead, says in ((3600, "ahead of"), (-3600, "behind")):
            found = self.runChecks(time=lambda ahead=ahead: time() + ahead)
            self.assertEqual(self.wrong(found), ["clock"])
            self.assertIn(f"seconds {says} the edge's", found["clock"].says)
            self.assertTrue(found["session"].good)

    def test_aPortWithoutTLSIsReported(self) -> None:
        self.listen(9000, Other)
        found = self.runChecks("https://localhost:9000")
        self.assertEqual(self.wrong(found), ["tls"])
        self.assertIn("no TLS with localhost", found["tls"].says)

    def test_aProxyThatDeniesIsReportedWithARemedy(self) -> None:
        class Denies(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")

        self.listen(3128, Denies)
        found = self.runChecks("http://edge.example", proxy="http://anna:secret@localhost:3128")
        self.assertIn("the proxy localhost is this machine", found["name"].says)
        self.assertEqual(self.wrong(found), ["reach"])
        self.assertIn("the user and the password", found["reach"].remedy)
        self.assertNotIn("secret", formatText(self.edge, self.findings) + formatJSON(self.edge, self.findings))

    def test_nothingWaitsForEver(self) -> None:
        found = self.runChecks("http://edge.example", resolve=lambda host: Deferred(), wait=SECONDS + 1)
        self.assertEqual(self.wrong(found), ["name"])

    def test_eachCheckHasALineAndAFailureARemedy(self) -> None:
        self.runChecks("http://localhost:1")
        lines = formatText(self.edge, self.findings).splitlines()
        self.assertEqual(lines[0], "edge      http://localhost:1")
        self.assertTrue(lines[2].startswith("reach     WRONG  "))
        self.assertEqual(lines[3].strip(), "check whether the edge runs, and on which port")
        self.assertEqual(len(lines), 1 + len(EdgeDiagnosis.CHECKS) + 1)

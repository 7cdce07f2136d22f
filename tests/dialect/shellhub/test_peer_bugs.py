"""
The known bugs of ShellHub's own programs, B1 to B12: we neither suffer from them nor have them.

Those that are one promise in both versions are shown in C{test_shellhub}, and those of octets in C{test_shellhub_vectors}; the
rest is here, with what else a bad peer may do.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.shellhub.support import TENANT, Device, Hub
from tests.promises.streams import Collect
from tunnelstack.negotiation.errors import NegotiationRefused
from tunnelstack.session.revdial.dialler import PickUpError
from tunnelstack.stream.errors import SessionLost, StreamResetError
from tunnelstack.wire.negotiation.multistream.tokens import HEADER, token
from tunnelstack.wire.records.shellhub import HTTPProxy, SSHOpen
from tunnelstack.wire.records.shellhub_bootstrap import REPEAT, REPEAT_SPREAD
from tunnelstack.wire.revdial import encode_line


class Bad(SynchronousTestCase):
    def setUp(self) -> None:
        self.hub = Hub()

    def dial(self, device: Device, target: Any) -> Deferred[Any]:
        dialled = self.hub.connections.endpointTo(TENANT, device.uid, target).connect(Factory.forProtocol(Collect))
        self.hub.settle()
        return dialled

    def raw(self, device: Device, octets: bytes) -> Any:
        """
        A stream of version 2 on which a server says what it likes.
        """
        tunnel: Any = self.hub.connections.find(TENANT, device.uid)
        opened = tunnel.session.connector.connect(Factory.forProtocol(Collect))
        end = self.successResultOf(opened)
        end.transport.write(octets)
        self.hub.settle()
        return end


class BugTests(Bad):
    def test_B8_aPickUpFailureFailsItsOwnDial(self) -> None:
        device = self.hub.device(1)
        device.link.session.reach = lambda path: _Never()
        first, second = self.dial(device, SSHOpen("a")), self.dial(device, SSHOpen("b"))
        tunnel: Any = self.hub.connections.find(TENANT, device.uid)
        asked = tunnel.session.pending
        path = f"/ssh/revdial?revdial.dialer={tunnel.session.identifier}&uuid="
        control = device.link.session.transport
        for ticket in ("unknown", asked[1], asked[1]):       # unsolicited, its own, and once again
            control.write(encode_line("pickup-failed", path + ticket, "no"))
        self.hub.settle()
        self.assertNoResult(first)
        self.failureResultOf(second, PickUpError)
        self.hub.network.passTime(19)
        self.assertNoResult(first)
        self.assertEqual(len(self.hub.connections), 1, "and nothing stalls")
        first.addErrback(lambda _: None)
        first.cancel()

    def test_B9_theTimeBetweenAuthenticationsIsNeverNothing(self) -> None:
        for number in (0.0, 0.5, 1.0):
            device = Device(self.hub, 2, f"02:42:ac:11:01:{number * 10:02.0f}")
            device.dialler.registration._random = lambda number=number: number
            device.dial()
            first = device.dialler.registration.token
            self.hub.network.passTime(REPEAT + REPEAT_SPREAD[0] - 1)
            self.assertEqual(device.dialler.registration.token, first)
            self.hub.network.passTime(REPEAT_SPREAD[1] - REPEAT_SPREAD[0] + 2)
            self.assertNotEqual(device.dialler.registration.token, first)

    def test_B10_whatNamesAPickUpCannotBeGuessedAndIsUsedOnce(self) -> None:
        device = self.hub.device(1)
        paths: list[str] = []
        reach = device.link.session.reach
        device.link.session.reach = lambda path: paths.append(path) or reach(path)
        for _ in range(2):
            self.successResultOf(self.dial(device, SSHOpen("s")))
        self.assertEqual(len(set(paths)), 2)
        for path in paths:
            self.assertRegex(path, r"^/ssh/revdial\?revdial\.dialer=[0-9a-f]{32}&uuid=[0-9a-f-]{36}$")
            again = reach(path).connect(Factory.forProtocol(Collect))
            self.hub.settle()
            self.failureResultOf(again)

    def test_B11_streamsThatAnAgentOpensAreReset(self) -> None:
        device = self.hub.device(2)
        for _ in range(300):
            opened = device.link.session.connector.connect(Factory.forProtocol(Collect))
            self.hub.settle()
            self.assertTrue(self.successResultOf(opened).reason.check(StreamResetError))
        tunnel: Any = self.hub.connections.find(TENANT, device.uid)
        self.assertEqual(tunnel.session.streams, 0)
        self.successResultOf(self.dial(device, SSHOpen("s")))

    def test_B12_aServerThatNeverSaysWhatAStreamIsFor(self) -> None:
        device = self.hub.device(2)
        for octets in (b"", HEADER, HEADER + token(b"/ssh/open/1.0.0"), HEADER + token(b"/http/proxy/1.0.0") + b'{"host":'):
            end = self.raw(device, octets)
            self.hub.network.passTime(29)
            self.assertIsNone(end.reason)
            self.hub.network.passTime(2)
            self.assertIsNotNone(end.reason)
        device = self.hub.device(1)
        device.link.session.reach, reach = (lambda path: _Never()), device.link.session.reach
        self.dial(device, SSHOpen("s")).addErrback(lambda _: None)
        self.assertEqual(device.link.session.streams, 0)
        device.link.session.reach = reach

    def test_everyBugHasATest(self) -> None:
        said = "".join(
            (Path(__file__).parent / f"{name}.py").read_text()
            for name in ("test_agent_and_edge", "test_vectors", "test_peer_bugs")
        )
        self.assertEqual(
            [number for number in range(1, 13) if not re.search(rf"\bB{number}\b|_B{number}_", said)], [],
        )  # fmt: skip


class BadPeerTests(Bad):
    """
    Each gets its answer, and disturbs nobody.
    """

    def test_controlLinesOfAMegabyteEndTheConnection(self) -> None:
        good, bad = self.hub.device(1, "02:00:00:00:00:01"), self.hub.device(1, "02:00:00:00:00:02")
        bad.link.session.transport.write(b"x" * 1_000_000)
        self.hub.settle()
        self.assertFalse(bad.up)
        self.assertTrue(good.up)
        self.assertEqual(self.hub.gone, ["02-00-00-00-00-02"])

    def test_envelopesWithNumbersAreRefused(self) -> None:
        device = self.hub.device(2)
        for envelope in (b'{"host":"localhost","id":"r","port":9000}', b'{"id":1}', b"[]", b'"x"', b"{", b"x" * 5000):
            for name in (b"/http/proxy/1.0.0", b"/ssh/open/1.0.0"):
                end = self.raw(device, HEADER + token(name) + envelope + b"\n")
                if envelope != b"{":
                    self.assertIsNotNone(end.reason, envelope)
                self.assertNotIn(b"SSH", end.got)
        self.assertEqual(device.sshd, [])
        self.assertTrue(device.up)

    def test_repliesThatAreNone(self) -> None:
        device = self.hub.device(2)
        for reply in (b'{"status":true}', b"x", b'{"status":"' + b"x" * 600, b'{"status":"x","message":"m"}'):
            session = device.link.session
            session.listener.unlisten()
            session.listener.listen(_saying(HEADER + token(b"/http/proxy/1.0.0") + reply))
            dialled = self.dial(device, HTTPProxy("localhost", 80))
            failure = self.failureResultOf(dialled)
            if b"message" in reply:
                self.assertEqual(str(failure.trap(NegotiationRefused) and failure.value), "m")
        self.assertEqual(device.link.session.streams, 0)

    def test_anAgentThatNeverAcknowledges(self) -> None:
        device, other = self.hub.device(2, "02:00:00:00:00:01"), self.hub.device(2, "02:00:00:00:00:02")
        self.patch(device.link.session, "dataReceived", lambda data: None)
        self.failureResultOf(self._bodyTimeout(self.dial(device, SSHOpen("s"))))
        self.assertTrue(other.up)
        self.successResultOf(self.dial(other, SSHOpen("s")))

    def _bodyTimeout(self, dialled: Deferred[Any]) -> Deferred[Any]:
        self.hub.network.passTime(31)
        return dialled

    def test_aDeviceThatIsGone(self) -> None:
        device = self.hub.device(2)
        dialled = self.hub.connections.endpointTo(TENANT, device.uid, SSHOpen("s")).connect(Factory.forProtocol(Collect))
        device.link.abort("")
        self.hub.settle()
        self.failureResultOf(dialled, SessionLost)


class _Never:
    def connect(self, factory: Any) -> Deferred[Any]:
        return Deferred()


def _saying(octets: bytes) -> Any:
    class Saying(Collect):
        def connectionMade(self) -> None:
            super().connectionMade()
            self.transport.write(octets)  # type: ignore[union-attr]

    return Factory.forProtocol(Saying)

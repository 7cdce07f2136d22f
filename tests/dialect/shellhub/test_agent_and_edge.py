"""
ShellHub, our edge and our agent against each other, both versions: everything that can be asked of a device, and its life.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, TimeoutError
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.dialect.shellhub.support import PORT, TENANT, WEB, Device, Hub, Sshd, request
from tests.promises.streams import Collect, HalfCollect
from tunnelstack.control.config.records import Route
from tunnelstack.dialect.shellhub.connections import MAX_CONNECTS, DeviceNotConnected
from tunnelstack.dialect.shellhub.dialler import DeviceNotAccepted, ServerBusy
from tunnelstack.edge.stream_report import streamsOf
from tunnelstack.errors import Denied, UsageError
from tunnelstack.exchange.errors import Busy
from tunnelstack.interfaces import ITunnel
from tunnelstack.negotiation.errors import NegotiationRefused
from tunnelstack.records import HTTPPurpose, Principal, SSHPurpose, StreamPurpose, TCPPurpose
from tunnelstack.session.revdial.dialler import PickUpError
from tunnelstack.stream.errors import SessionLost, UnsupportedPurpose
from tunnelstack.wire.records.shellhub import HTTPProxy, SSHClose, SSHOpen


class Version2Tests(SynchronousTestCase):
    """
    What is the same in both versions.
    """

    version = 2
    cut: int | None = None

    def setUp(self) -> None:
        self.hub = Hub(self.cut)
        self.device = self.hub.device(self.version)

    def dial(self, target: Any, protocol: Any = Collect) -> Deferred[Any]:
        endpoint = self.hub.connections.endpointTo(TENANT, self.device.uid, target)
        dialled = endpoint.connect(Factory.forProtocol(protocol))
        self.hub.settle()
        return dialled

    def listen(self, protocol: Any) -> list[Any]:
        built: list[Any] = []

        class Building(Factory):
            noisy = False

            def buildProtocol(self, address: Any) -> Any:
                built.append(protocol())
                return built[-1]

        self.hub.network.listenTCP(WEB, Building())
        return built

    # SSH

    def test_anSSHStreamIsOpened(self) -> None:
        near = self.successResultOf(self.dial(SSHOpen("sess-1")))
        self.hub.settle()
        self.assertEqual(near.got, b"SSH-2.0-Go\r\n")
        near.transport.write(b"SSH-2.0-Us\r\n")
        self.hub.settle()
        self.assertEqual((self.device.sshd[0].got, near.got), (b"SSH-2.0-Us\r\n", b"SSH-2.0-Go\r\nSSH-2.0-US\r\n"))
        self.assertEqual(list(self.device.streams.sessions), ["sess-1"])

    def test_nothingIsLostWhateverTheClientWritesAtOnce(self) -> None:
        """
        B1: octets right behind the opening, which genuine agents would swallow.
        """

        class Hasty(Collect):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.write(b"SSH-2.0-Us\r\n")  # type: ignore[union-attr]

        self.successResultOf(self.dial(SSHOpen("s"), Hasty))
        self.hub.settle()
        self.assertEqual(self.device.sshd[0].got, b"SSH-2.0-Us\r\n")

    def test_theEdgeListsTheStreamsOfADevice(self) -> None:
        self.successResultOf(self.dial(SSHOpen("s")))
        tunnel: Any = self.hub.connections.find(TENANT, self.device.uid)
        self.assertEqual([stream["queued"] for stream in streamsOf(self.hub.edge)], [0] * tunnel.session.streams)
        self.assertEqual(len(tunnel.session.transports()), tunnel.session.streams)
        self.assertGreater(tunnel.session.streams, 0)

    def test_concurrentSessionsDoNotMeet(self) -> None:
        ends = [self.dial(SSHOpen(f"s{number}")) for number in range(20)]
        for number, end in enumerate(ends):
            self.successResultOf(end).transport.write(b"for %d" % number)
        self.hub.settle()
        self.assertEqual(sorted(sshd.got for sshd in self.device.sshd), sorted(b"for %d" % n for n in range(20)))
        self.assertEqual(len(self.device.streams.sessions), 20)

    def test_anSSHSessionIsClosedByItsName(self) -> None:
        near = self.successResultOf(self.dial(SSHOpen("sess-1")))
        other = self.successResultOf(self.dial(SSHOpen("sess-2")))
        tunnel: Any = self.hub.connections.find(TENANT, self.device.uid)
        for session in ("sess-1", "nobody"):
            closed = tunnel.closeSession(session)
            self.hub.settle()
            self.successResultOf(closed)
        self.hub.settle()
        self.assertTrue(near.reason.check(ConnectionDone), near.reason)
        self.assertIsNone(other.reason)
        self.hub.network.passTime(1)
        self.assertEqual((tunnel.session.streams, self.device.link.session.streams), (1, 1), "B7: nothing is left half open")

    def test_theEndOfASessionIsTheEndOfItsStream(self) -> None:
        near = self.successResultOf(self.dial(SSHOpen("s")))
        self.device.sshd[0].transport.loseConnection()  # type: ignore[union-attr]
        self.hub.settle()
        self.assertTrue(near.reason.check(ConnectionDone))
        self.successResultOf(self.dial(SSHOpen("t")))
        self.assertEqual(list(self.device.streams.sessions), ["t"])

    def test_aDeviceWithoutSSHRefusesItsStreams(self) -> None:
        del self.device.streams.handlers[b"/ssh/open/1.0.0"]
        hub = Hub(self.cut)
        device = Device(hub, self.version, "02:42:ac:11:00:09")
        del device.streams.handlers[b"/ssh/open/1.0.0"]
        device.dial()
        opened = hub.connections.endpointTo(TENANT, device.uid, SSHOpen("s")).connect(Factory.forProtocol(Collect))
        hub.network.passTime(31)
        if self.version == 2:
            self.failureResultOf(opened, NegotiationRefused)
        else:
            self.assertIn(b"404", self.successResultOf(opened).got)

    # Proxies

    def test_aProxyStreamReachesALocalServer(self) -> None:
        served = self.listen(Echo)
        near = self.successResultOf(self.dial(HTTPProxy("127.0.0.1", WEB, "req-1")))
        near.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        self.hub.settle()
        self.assertEqual((len(served), near.got), (1, b"GET / HTTP/1.1\r\n\r\n"))
        near.transport.write(bytes(600_000))
        self.hub.settle()
        self.assertEqual(len(near.got), 600_018)

    def test_aServerThatSpeaksFirstIsHeardFromItsFirstOctet(self) -> None:
        """
        B5: no line feed before it, and nothing of it lost.
        """

        class Greeting(Collect):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.write(b"220 hello\r\n")  # type: ignore[union-attr]

        self.listen(Greeting)
        near = self.successResultOf(self.dial(HTTPProxy("127.0.0.1", WEB)))
        self.assertEqual(near.got, b"", "held back until the answer was surely read")
        self.hub.network.passTime(0.2, 0.1)
        self.assertEqual(near.got, b"220 hello\r\n")

    def test_aTargetThatIsNotThere(self) -> None:
        """
        B2: the reason is heard; B3: no stream is left.
        """
        failure = self.failureResultOf(self.dial(HTTPProxy("127.0.0.1", 9999)), NegotiationRefused)
        said = {1: "failed to connect to the server on device", 2: "failed to dial to the address and port"}
        self.assertIn(said[self.version], str(failure.value))
        tunnel: Any = self.hub.connections.find(TENANT, self.device.uid)
        self.assertEqual((tunnel.session.streams, self.device.link.session.streams), (0, 0))

    def test_aTargetThatIsNotAllowed(self) -> None:
        served = self.listen(Echo)
        self.failureResultOf(self.dial(HTTPProxy("192.0.2.1", WEB)), NegotiationRefused)
        self.assertEqual((self.device.link.session.streams, served), (0, []))

    def test_theEndOfTheVisitorDoesNotCutTheAnswer(self) -> None:
        """
        Genuine agents end both directions when one is ended, so we do not end ours.
        """
        near = self.successResultOf(self.dial(HTTPProxy("127.0.0.1", WEB)) if self.listen(HalfCollect) is not None else None)
        self.assertTrue(near.transport.endsBothDirections)

    # Its life

    def test_oneThatIsNotThere(self) -> None:
        dialled = self.hub.connections.endpointTo(TENANT, "f" * 64, SSHOpen("s")).connect(Factory.forProtocol(Collect))
        self.failureResultOf(dialled, DeviceNotConnected)
        for tenant, uid in (("", "f" * 64), (TENANT, "")):
            self.assertRaises(UsageError, self.hub.connections.endpointTo, tenant, uid, SSHOpen("s"))

    def test_nobodyWaitsForEver(self) -> None:
        """
        B12: negotiations end in time, on both sides.
        """
        self.device.link.session.dataReceived = lambda data: None
        dialled = self.hub.connections.endpointTo(TENANT, self.device.uid, SSHOpen("s")).connect(Factory.forProtocol(Collect))
        self.hub.network.passTime(31)
        self.failureResultOf(dialled)

    def test_aDialThatIsGivenUpLeavesNothing(self) -> None:
        dialled = self.hub.connections.endpointTo(TENANT, self.device.uid, SSHOpen("s")).connect(Factory.forProtocol(Collect))
        dialled.cancel()
        self.failureResultOf(dialled, CancelledError)
        self.hub.network.passTime(2)
        self.assertEqual(self.device.link.session.streams, 0)

    def test_signsOfLife(self) -> None:
        self.assertEqual(self.hub.heard, ["02-42-ac-11-00-02"])
        self.hub.network.passTime(110)
        self.assertEqual(len(self.hub.heard), 4)
        self.assertTrue(self.device.up)
        self.assertEqual(self.hub.gone, [])
        self.device.link.abort("")
        self.hub.settle()
        self.assertEqual((self.hub.gone, len(self.hub.connections)), (["02-42-ac-11-00-02"], 0))

    def test_oneThatAnswersNoPingIsSentAway(self) -> None:
        """
        B4: its connection is closed, so that it comes again.
        """
        session = self.device.link.session
        session.transport.protocol.dataReceived = lambda data: None
        session.transport._connection.dataReceived = lambda data: None
        if self.version == 1:                 # it does not see that it hears nothing, and goes on to give signs of life
            session._timer.stop()
            self.hub.network.callLater(31, session.transport.write, b'{"command":"keep-alive"}\n')
        self.hub.network.passTime(51)
        self.assertEqual(len(self.hub.connections), 0)
        self.assertEqual(self.hub.gone, ["02-42-ac-11-00-02"])

    def test_theNewestWins(self) -> None:
        for version in (1, 2, self.version):
            self.hub.network.passTime(10)
            newer = self.hub.device(version)
            self.hub.network.passTime(1)
            self.assertFalse(self.device.up)
            self.assertTrue(newer.up)
            tunnel: Any = self.hub.connections.find(TENANT, newer.uid)
            self.assertEqual((tunnel.dialect, len(self.hub.connections)), (f"shellhub/{version}", 1))
            self.device = newer
        self.assertEqual(self.hub.gone, [], "it was never gone")

    def test_twinsAreSlowedDown(self) -> None:
        """
        B6: two agents of one identity that displace each other without a pause.
        """
        for _ in range(MAX_CONNECTS - 1):
            self.hub.device(self.version)
        twin = Device(self.hub, self.version, "02:42:ac:11:00:02")
        self.failureResultOf(twin.dialling(), ServerBusy)
        self.hub.device(self.version, "02:42:ac:11:00:03")
        self.hub.network.passTime(21)
        self.successResultOf(twin.dialling())

    def test_rejectedAndForgottenDevicesAreSentAway(self) -> None:
        for decide in (self.hub.book.reject, self.hub.book.forget):
            decide("dev.02-42-ac-11-00-02")
            self.hub.settle()
            self.assertFalse(self.device.up)
            self.hub.book.automatic = True
            if decide == self.hub.book.reject:
                self.failureResultOf(self.device.dialling(), DeviceNotAccepted)
                self.hub.book.accept("dev.02-42-ac-11-00-02")
            self.hub.network.passTime(20)
            self.device.dial()

    # The tunnel

    def test_theTunnelKeepsItsPromises(self) -> None:
        tunnel: Any = self.hub.connections.find(TENANT, self.device.uid)
        verifyObject(ITunnel, tunnel)
        self.assertIs(self.hub.edge.registry.agent("dev.02-42-ac-11-00-02"), tunnel)
        self.assertTrue(tunnel.healthy)
        self.assertRaises(UnsupportedPurpose, tunnel.endpointFor, StreamPurpose(b"/x"))
        self.assertRaises(UnsupportedPurpose, tunnel.endpointFor, TCPPurpose(service="x"))
        self.listen(Echo)
        for purpose in (SSHPurpose(), TCPPurpose(port=WEB), HTTPPurpose(host="localhost", port=WEB)):
            opened = tunnel.endpointFor(purpose).connect(Factory.forProtocol(Collect))
            self.hub.settle()
            self.successResultOf(opened)
        self.assertEqual(tunnel.inFlight, 3)
        answer = tunnel.ping()
        self.hub.settle()
        self.successResultOf(answer)

    def test_drainWaitsForStreams(self) -> None:
        near = self.successResultOf(self.dial(SSHOpen("s")))
        tunnel: Any = self.hub.connections.find(TENANT, self.device.uid)
        drained = tunnel.drain()
        self.assertFalse(tunnel.healthy)
        self.assertRaises(Busy, tunnel.exchange, HTTPPurpose(port=WEB), None)
        self.hub.settle()
        self.assertNoResult(drained)
        near.transport.loseConnection()
        self.hub.network.passTime(1)
        self.successResultOf(drained)
        self.assertFalse(self.device.up)

    def test_theDeviceDrains(self) -> None:
        near = self.successResultOf(self.dial(SSHOpen("s")))
        drained = self.device.link.drain()
        self.hub.settle()
        self.assertNoResult(drained)
        self.assertIsNotNone(self.device.link.agent)
        near.transport.loseConnection()
        self.hub.network.passTime(1)
        self.successResultOf(drained)

    def test_whoDialsHearsOfALoss(self) -> None:
        self.device.streams.handlers[b"/ssh/open/1.0.0"]._ssh.buildProtocol = lambda address: Sshd()
        near = self.successResultOf(self.dial(SSHOpen("s")))
        tunnel: Any = self.hub.connections.find(TENANT, self.device.uid)
        tunnel.abort("")
        self.hub.settle()
        self.assertIsNotNone(near.reason)
        self.failureResultOf(self.dial(SSHOpen("t")), DeviceNotConnected)
        self.failureResultOf(tunnel.ping(), SessionLost)

    def test_authenticatesAgainFromTimeToTime(self) -> None:
        first = self.device.dialler.registration.token
        self.hub.network.passTime(634)
        self.assertEqual(self.device.dialler.registration.token, first)
        self.hub.network.passTime(2)
        self.assertNotEqual(self.device.dialler.registration.token, first)
        self.assertTrue(self.device.up)
        self.device.link.abort("")
        self.hub.settle()
        self.assertEqual([call for call in self.hub.network.getDelayedCalls() if "Renewal" in str(call)], [])


class Version2CutTests(Version2Tests):
    cut = 7

    def test_signsOfLife(self) -> None:
        """
        Too slow in pieces, and shown above.
        """


class Version1Tests(Version2Tests):
    version = 1

    def test_aDeviceThatCannotPickUp(self) -> None:
        class Nowhere:
            def connect(self, factory: Any) -> Deferred[Any]:
                return fail(ConnectionRefusedError())

        self.device.link.session.reach = lambda path: Nowhere()
        self.failureResultOf(self.dial(SSHOpen("s")), PickUpError)

    def test_sessionsOutliveTheirControlConnection(self) -> None:
        near = self.successResultOf(self.dial(SSHOpen("s")))
        newer = self.hub.device(1)
        self.assertFalse(self.device.up)
        near.transport.write(b"still here")
        self.hub.settle()
        self.assertEqual(self.device.sshd[0].got, b"still here")
        self.assertTrue(newer.up)

    def test_aPickUpThatWasNotRequestedIsRefused(self) -> None:
        path = "/ssh/revdial?revdial.dialer=" + "0" * 32 + "&uuid=11111111-2222-4333-8444-555555555555"
        for line in (f"GET {path}", "GET /ssh/revdial"):
            caller = self.hub.visit(request(line, "Connection: Upgrade", "Upgrade: websocket"))
            self.assertTrue(caller.got.startswith(b"HTTP/1.1 400 Bad Request\r\n"), caller.got)
            self.assertTrue(caller.got.endswith(b"\r\n\r\nunknown dialer\n"))
            self.assertIn(b"Content-Type: text/plain; charset=utf-8\r\n", caller.got)
            self.assertIn(b"X-Content-Type-Options: nosniff\r\n", caller.got)


class Version1CutTests(Version1Tests):
    cut = 11

    def test_signsOfLife(self) -> None:
        """
        As above.
        """


class MixedTests(SynchronousTestCase):
    def test_aMixedFleetAnswersEachItsOwn(self) -> None:
        hub = Hub()
        devices = [hub.device(1 + number % 2, f"02:00:00:00:00:{number:02x}") for number in range(40)]
        ends = []
        for number, device in enumerate(devices):
            opened = hub.connections.endpointTo(TENANT, device.uid, SSHOpen(f"s{number}")).connect(Factory.forProtocol(Collect))
            ends.append((device, opened))
        hub.settle()
        for number, (_, opened) in enumerate(ends):
            self.successResultOf(opened).transport.write(b"%d" % number)
        hub.settle()
        self.assertEqual([device.sshd[0].got for device, _ in ends], [b"%d" % number for number in range(40)])
        hub.stop()
        self.assertEqual(len(hub.connections), 0)


class TimeoutTests(SynchronousTestCase):
    def test_theWholeDialHasThirtySeconds(self) -> None:
        hub = Hub()
        device = hub.device(2)
        tunnel: Any = hub.connections.find(TENANT, device.uid)

        class Never:
            def connect(self, factory: Any) -> Deferred[Any]:
                return Deferred()

        tunnel._streamEndpoint = lambda target: Never()
        opened = tunnel.targetEndpoint(SSHClose("s")).connect(Factory.forProtocol(Collect))
        hub.network.passTime(29)
        self.assertNoResult(opened)
        hub.network.passTime(1)
        self.failureResultOf(opened, TimeoutError)

    def test_thePortIsTheEdges(self) -> None:
        self.assertEqual(Hub().edge.addresses[0].port, PORT)


class RouteTests(SynchronousTestCase):
    """
    Visitors and dialling people reach what is behind a device.
    """

    def setUp(self) -> None:
        self.hub = Hub(routes=(Route(host="cam.example.net", to="dev.cam:9000"),))

    def serve(self) -> None:
        class Page(Collect):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                if self.got.endswith(b"\r\n\r\n"):
                    self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage")  # type: ignore[union-attr]

        factory = Factory.forProtocol(Page)
        factory.noisy = False
        self.hub.network.listenTCP(WEB, factory)

    def get(self, host: str = "cam.example.net") -> bytes:
        return self.hub.visit(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).got

    def test_aPageOfADeviceIsForwarded(self) -> None:
        self.serve()
        self.assertIn(b" 503 ", self.get().splitlines()[0])
        for version in (1, 2):
            device = self.hub.device(version, hostname="cam")
            for _ in range(3):
                self.assertTrue(self.get().endswith(b"\r\n\r\nimage"), self.get())
            self.assertEqual(device.link.session.streams, 1, "the connection is kept for the next visitor")
            device.link.abort("")
            self.hub.settle()

    def test_aDeviceWhoseServerIsNotThere(self) -> None:
        for version in (1, 2):
            device = self.hub.device(version, hostname="cam")
            self.assertIn(b"HTTP/1.1 50", self.get())
            self.assertEqual(device.link.session.streams, 0)

    def test_principalsWithTheRightDialDevices(self) -> None:
        self.serve()
        everybody = Principal(agent="me", allow=("dial:dev.cam", "dial:dev.other"))
        for version in (1, 2):
            self.hub.device(version, hostname="cam")
            for to, purpose, said in (("dev.cam", "ssh", b"SSH-2.0-Go\r\n"), ("dev.cam:9000", "", b"")):
                tunnel, asked = self.hub.edge.agents.reach(everybody, to, purpose)
                opened = tunnel.endpointFor(asked, wait=True).connect(Factory.forProtocol(Collect))
                self.hub.settle()
                self.assertEqual(self.successResultOf(opened).got, said)

    def test_whoMayNotDialDoesNot(self) -> None:
        self.hub.device(2, hostname="cam")
        for allow, to, purpose, code in (
            ((), "dev.cam", "ssh", "not-allowed"), ((), "dev.cam:80", "", "not-allowed"),
            (("dial:*",), "dev.gone", "ssh", "absent"), (("dial:*",), "dev.cam:x", "", "malformed"),
            (("dial:*",), "dev.cam:70000", "", "malformed"),
        ):  # fmt: skip
            denied = self.assertRaises(Denied, self.hub.edge.agents.reach, Principal(agent="me", allow=allow), to, purpose)
            self.assertEqual(denied.code, code)

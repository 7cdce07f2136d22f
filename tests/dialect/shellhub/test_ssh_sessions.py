"""
SSH sessions of devices: how the edge knows and closes them, and how an agent ends them.

The fault of which these are tests (C1) has a kind: a close that waits for a producer which never ends.  The embedded SSH server
is such a producer for as long as a command runs.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.changed_settings import changes
from tests.dialect.shellhub.support import TENANT, Device, Hub, key, request
from tests.promises.streams import Collect, HalfCollect
from tunnelstack.dialect.shellhub.settings import SessionSettings
from tunnelstack.dialect.shellhub.ssh_session import SessionProtocol
from tunnelstack.errors import Denied
from tunnelstack.records import SSHPurpose
from tunnelstack.wire.records.shellhub import SSHClose, SSHOpen
from tunnelstack.wire.records.shellhub_identity import Claims, sign_token


class Producing(Collect):
    """
    An SSH server whose command never ends: a producer that writes for as long as it is asked.
    """

    def connectionMade(self) -> None:
        super().connectionMade()
        self.stopped = False
        self.transport.write(b"SSH-2.0-Go\r\n")  # type: ignore[union-attr]
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]

    def pauseProducing(self) -> None:
        """
        It stops for no one.
        """

    resumeProducing = pauseProducing

    def stopProducing(self) -> None:
        self.stopped = True


class Serving(Factory):
    """
    Builds such servers.
    """

    noisy = False

    def __init__(self) -> None:
        self.built: list[Producing] = []

    def buildProtocol(self, address: Any) -> Producing:
        self.built.append(Producing())
        return self.built[-1]


class SessionCase(SynchronousTestCase):
    """
    An edge, and one device with an SSH server that produces.
    """

    version = 2

    def setUp(self) -> None:
        self.hub = Hub()
        self.server = Serving()
        self.device = self.hub.device(self.version, ssh=self.server)
        self.tunnel: Any = self.hub.connections.find(TENANT, self.device.uid)

    def open(self, session: str, protocol: type[Collect] = Collect) -> Collect:
        """
        Open a session at the edge, as its SSH gateway does.
        """
        endpoint = self.tunnel.endpointFor(SSHPurpose(session))
        connected = endpoint.connect(Factory.forProtocol(protocol))
        self.hub.settle()
        near: Collect = self.successResultOf(connected)
        return near

    def get(self, path: str) -> Any:
        return self.hub.edge.dialects.getHandlers[path.encode()]()

    def post(self, path: str, **body: object) -> Any:
        done: Any = self.hub.edge.dialects.postHandlers[path.encode()](body)
        self.hub.settle()
        return self.successResultOf(done)

    def ask(self, line: str, body: bytes = b"", token: str | None = None) -> tuple[int, bytes]:
        """
        A request to the edge itself.

        @param token: that of the device unless given; C{""} for none.
        """
        if token is None:
            token = self.device.dialler.registration.token
        fields = [f"Authorization: Bearer {token}"] if token else []
        caller = self.hub.visit(request(line, *fields, body=body))
        head, _, answer = caller.got.partition(b"\r\n\r\n")
        return int(head.split()[1]), answer


class AgentTests(SessionCase):
    """
    The agent's end.
    """

    def test_aCloseEndsASessionWhoseCommandGoesOn(self) -> None:
        """
        C1: at once, and after what the server wrote.
        """
        near, other = self.open("s1"), self.open("s2")
        self.server.built[0].transport.write(b"last words")  # type: ignore[union-attr]
        began = self.hub.network.seconds()
        endpoint = self.hub.connections.endpointTo(TENANT, self.device.uid, SSHClose("s1"))
        requested = endpoint.connect(Factory.forProtocol(Collect))
        self.hub.settle()
        self.successResultOf(requested)
        self.assertEqual(self.hub.network.seconds(), began)
        self.assertEqual(near.got, b"SSH-2.0-Go\r\nlast words")
        self.assertIsNotNone(near.reason)
        self.assertIsNotNone(self.server.built[0].reason)
        self.server.built[0].transport.write(b"too late")  # type: ignore[union-attr]
        self.hub.settle()
        self.assertEqual((other.reason, self.server.built[1].reason), (None, None))

    def test_aSessionThatEndedAtTheEdgeIsForgotten(self) -> None:
        """
        Genuine agents forget a session only when they are asked to close it.
        """
        near = self.open("s1")
        self.assertEqual(list(self.device.streams.sessions), ["s1"])
        near.transport.abortConnection()  # type: ignore[union-attr]
        self.hub.settle()
        self.assertEqual((self.device.streams.sessions, self.tunnel.sshSessions), ({}, {}))
        self.assertEqual(self.tunnel.session.streams, 0)

    def test_aSessionThatEndedAtTheDeviceIsForgotten(self) -> None:
        near = self.open("s1")
        self.server.built[0].transport.unregisterProducer()  # type: ignore[union-attr]
        self.server.built[0].transport.loseConnection()  # type: ignore[union-attr]
        self.hub.settle()
        self.assertIsNotNone(near.reason)
        self.assertEqual((self.device.streams.sessions, self.tunnel.sshSessions), ({}, {}))

    def test_nothingIsRequestedOfADeviceThatIsGone(self) -> None:
        near = self.open("s1")
        self.device.link.abort("the test")
        self.hub.settle()
        self.assertIsNotNone(near.reason)
        self.assertEqual(self.tunnel.sshSessions, {})


class AgentVersion1Tests(AgentTests):
    """
    The same in version 1.
    """

    version = 1


class AdministrationTests(SessionCase):
    """
    What operators can do.
    """

    def test_openSessionsAreListed(self) -> None:
        self.assertEqual(self.get("/devices/sessions"), {"sessions": []})
        self.open("a" * 16)
        self.hub.network.passTime(3)
        self.open("b" * 16)
        listed = self.get("/devices/sessions")["sessions"]
        self.assertEqual([each["session"] for each in listed], ["a" * 16, "b" * 16])
        self.assertEqual({each["device"] for each in listed}, {self.tunnel.device.agent})
        self.assertEqual(listed[1]["opened"] - listed[0]["opened"], 3)

    def test_aSessionIsClosedByTheBeginningOfItsIdentifier(self) -> None:
        near = self.open("0123456789abcdef")
        closed = self.post("/devices/sessions/close", session="01234567")
        self.assertEqual(closed["session"]["session"], "0123456789abcdef")
        self.assertIsNotNone(near.reason)
        self.assertEqual(self.get("/devices/sessions"), {"sessions": []})
        self.assertEqual(self.device.streams.sessions, {})

    def test_whatNamesNoSessionIsDenied(self) -> None:
        near = [self.open("01234567aa"), self.open("01234567bb")]
        close = self.hub.edge.dialects.postHandlers[b"/devices/sessions/close"]
        for body, code in (
            ({}, "malformed"), ({"session": 1}, "malformed"), ({"session": "0123"}, "malformed"),
            ({"session": "01234567"}, "unknown"), ({"session": "f" * 64}, "unknown"),
        ):  # fmt: skip
            self.assertEqual(self.assertRaises(Denied, close, body).code, code, body)
        self.assertEqual([each.reason for each in near], [None, None])


class DoorTests(SessionCase):
    """
    What a device can do by HTTP.
    """

    def test_aDeviceClosesItsSession(self) -> None:
        for line in ("POST /api/sessions/{}/close", "DELETE /api/sessions/{}"):
            for body in (b"", json.dumps({"device": self.device.uid}).encode()):
                near = self.open("s1")
                self.assertEqual(self.ask(line.format("s1"), body), (200, b""))
                self.assertIsNotNone(near.reason)
                self.assertEqual(self.device.streams.sessions, {})

    def test_noOneElseDoes(self) -> None:
        near = self.open("s1")
        other = self.hub.device(2, mac="02:42:ac:11:00:03")
        token = other.dialler.registration.token
        forged = sign_token(Claims(uid=self.device.uid, tenant=TENANT), key(5))
        for line in ("POST /api/sessions/s1/close", "DELETE /api/sessions/s1"):
            self.assertEqual(self.ask(line, token="")[0], 401)
            self.assertEqual(self.ask(line, token=forged)[0], 401)
            self.assertEqual(self.ask(line, token=token)[0], 404)
            self.assertEqual(self.ask(line, json.dumps({"device": self.device.uid}).encode(), token)[0], 403)
        self.assertIsNone(near.reason)

    def test_otherRequestsAreRejected(self) -> None:
        near = self.open("s1")
        for line, body, status in (
            ("POST /api/sessions/s1", b"", 404), ("POST /api/sessions/s2/close", b"", 404), ("DELETE /api/sessions/", b"", 404),
            ("POST /api/sessions/s1/close/x", b"", 404), ("POST /api/sessions/s1/close", b"[]", 400),
            ("POST /api/sessions/s1/close", b'{"device":1}', 400), ("GET /api/sessions/s1", b"", 405),
        ):  # fmt: skip
            self.assertEqual(self.ask(line, body)[0], status, (line, body))
        self.assertIsNone(near.reason)

    def test_theHealthCheckNeedsNoToken(self) -> None:
        self.assertEqual(self.ask("GET /healthcheck", token=""), (200, b"OK"))
        self.assertEqual(self.ask("HEAD /healthcheck", token=""), (200, b""))
        self.assertEqual(self.ask("POST /healthcheck", token="")[0], 405)

    def test_anEdgeThatStopsIsNotHealthy(self) -> None:
        self.hub.edge.agents.stopping = True
        self.assertEqual(self.ask("GET /healthcheck", token="")[0], 503)


class SettingsTests(SynchronousTestCase):
    """
    C{[shellhub.session]}: what is sent with the answer to a registration, and what both sides do with it.
    """

    def test_theyAreSentAndUsedOnBothSides(self) -> None:
        settings = SessionSettings(
            keepaliveSeconds=20, pingTimeoutSeconds=7, backlog=9, windowOctets=1 << 20, openTimeoutSeconds=40,
            closeTimeoutSeconds=50,
        )
        hub = Hub(settings=settings.encoded())
        device = hub.device()
        answer: Any = device.dialler.registration.answer
        self.assertEqual(answer.config, {
            "yamux_accept_backlog": 9, "yamux_keep_alive_interval": 20 * 10**9, "yamux_connection_write_timeout": 7 * 10**9,
            "yamux_max_stream_window_size": 1 << 20, "yamux_stream_open_timeout": 40 * 10**9,
            "yamux_stream_close_timeout": 50 * 10**9,
        })
        far = device.link.session.limits
        self.assertEqual(
            (far.keepalive, far.keepalive_timeout, far.backlog, far.window, far.open_timeout, far.close_timeout),
            (20.0, 7.0, 9, 1 << 20, 40.0, 50.0),
        )
        near: Any = hub.connections.find(TENANT, device.uid)
        self.assertEqual((near.session.limits.open_timeout, near.session.limits.close_timeout), (40.0, 50.0))

    def test_theDefaultsAreNotSent(self) -> None:
        device = Hub().device()
        answer: Any = device.dialler.registration.answer
        self.assertEqual(answer.config, {})
        self.assertEqual(SessionSettings().encoded(), Hub().bootstrap.settings)

    @changes("edge [shellhub.session] close_timeout_seconds")
    def test_aStreamThatTheAgentLeavesOpenIsResetInTime(self) -> None:
        """
        B3 and B7: a genuine agent never ends some streams; the edge resets them after the close timeout.
        """

        class Deaf(HalfCollect):
            def readConnectionLost(self) -> None:
                """
                Our direction stays open.
                """

        class Deafs(Factory):
            noisy = False

            def buildProtocol(self, address: Any) -> Any:
                deaf.append(Deaf())
                return deaf[-1]

        deaf: list[Deaf] = []
        hub = Hub(settings=SessionSettings(closeTimeoutSeconds=50).encoded())
        device = Device(hub, 2, "02:42:ac:11:00:02")
        device.streams.handlers[b"/ssh/close/1.0.0"] = Deafs()
        device.dial()
        tunnel: Any = hub.connections.find(TENANT, device.uid)
        tunnel.closeSession("s1")
        hub.settle()
        self.assertEqual(tunnel.session.streams, 1)
        hub.network.passTime(49)
        self.assertEqual(tunnel.session.streams, 1)
        hub.network.passTime(32)                # streams are looked at every 30 seconds
        self.assertEqual(tunnel.session.streams, 0)
        self.assertIsNotNone(deaf[0].reason)


class SettingEffectTests(SynchronousTestCase):
    """
    What becomes different when a number of C{[shellhub.session]} is changed.
    """

    def connected(self, **settings: Any) -> Device:
        """
        A device, and the sessions at both ends.
        """
        self.hub = Hub(settings=SessionSettings(**settings).encoded())
        device = self.hub.device()
        self.tunnel: Any = self.hub.connections.find(TENANT, device.uid)
        return device

    def silence(self) -> None:
        """
        From now on nothing passes, and nobody is told.
        """
        for wire in self.hub.network.wires:
            self.patch(wire, "_carry", lambda receiver: False)

    def lostAfter(self, **settings: Any) -> float:
        """
        Seconds from the last octet that passes until the device has lost its session.
        """
        device = self.connected(**settings)
        self.silence()
        began = self.hub.network.seconds()
        while device.up:
            self.hub.network.passTime(1)
            self.assertLess(self.hub.network.seconds(), began + 300)
        return self.hub.network.seconds() - began

    @changes("edge [shellhub.session] keepalive_seconds", "edge [shellhub.session] ping_timeout_seconds")
    def test_pings(self) -> None:
        self.assertEqual(self.lostAfter(), 50)
        self.assertEqual(self.lostAfter(keepaliveSeconds=10.0), 25)
        self.assertEqual(self.lostAfter(pingTimeoutSeconds=4.0), 39)

    def dial(self, number: int) -> list[Any]:
        """
        Open so many SSH sessions at once.

        @return: the protocols, or failures.
        """
        found: list[Any] = []
        for each in range(number):
            self.tunnel.endpointFor(SSHPurpose(f"s{each}")).connect(Factory.forProtocol(Collect)).addBoth(found.append)
        return found

    @changes("edge [shellhub.session] backlog")
    def test_theBacklogApplies(self) -> None:
        """
        Streams that arrive together wait to be accepted.
        """
        for backlog, opened in ((256, 9), (4, 4)):
            self.connected(backlog=backlog)
            found = self.dial(9)
            self.hub.settle()
            self.assertEqual(sum(isinstance(each, Collect) and each.reason is None for each in found), opened)

    @changes("edge [shellhub.session] window_octets")
    def test_windowOctetsApply(self) -> None:
        """
        A server on the device that does not read is sent a window.
        """
        for window in (262_144, 1 << 20):
            device = self.connected(windowOctets=window)
            found = self.dial(1)
            self.hub.settle()
            (near,) = found
            device.sshd[0].transport.pauseProducing()  # type: ignore[union-attr]
            before = device.link.session.held
            near.transport.write(bytes(4 << 20))
            self.hub.settle()
            self.assertGreater(device.link.session.held - before, 0.9 * window)
            self.assertLessEqual(device.link.session.held, window)

    @changes("edge [shellhub.session] open_timeout_seconds")
    def test_openTimeoutSecondsApply(self) -> None:
        """
        The opening of an SSH session takes 30 seconds at most, whatever is set.
        """
        for seconds in (5, 20):
            self.connected(keepalive=False, openTimeoutSeconds=float(seconds))
            self.silence()
            self.dial(1)
            began = self.hub.network.seconds()
            while self.tunnel.session.streams:
                self.hub.network.passTime(1)
                self.assertLess(self.hub.network.seconds(), began + 300)
            self.assertEqual(self.hub.network.seconds() - began, seconds)


class SessionProtocolTests(SynchronousTestCase):
    """
    The protocol that remembers a session.
    """

    def test_theApplicationReceivesEverythingItself(self) -> None:
        ended: list[object] = []
        stream: Any = StringTransport()
        stream.protocol = first = Collect()
        session = SessionProtocol(stream, lambda: ended.append(first.reason))
        self.assertIs(stream.protocol, session)
        session.dataReceived(b"one")
        second = HalfCollect()
        session.replaceProtocol(second)
        session.dataReceived(b"two")
        self.assertEqual((first.got, second.got), (b"one", b"two"))
        session.connectionLost(None)  # type: ignore[arg-type]
        self.assertEqual(len(ended), 1)


class ClosedSessionTests(SessionCase):
    """
    A session that the edge closed.
    """

    def test_theDeviceIsAskedOnce(self) -> None:
        asked: list[str] = []
        close = self.device.streams.closeSession
        self.device.streams.closeSession = lambda session: (asked.append(session), close(session))  # type: ignore[assignment,method-assign,func-returns-value]
        self.open("01234567")
        self.post("/devices/sessions/close", session="01234567")
        self.assertEqual(asked, ["01234567"])

    def test_aTargetThatIsNoSessionIsNotListed(self) -> None:
        endpoint = self.hub.connections.endpointTo(TENANT, self.device.uid, SSHClose("s1"))
        endpoint.connect(Factory.forProtocol(Collect))
        self.hub.settle()
        self.assertEqual(self.tunnel.sshSessions, {})
        endpoint = self.hub.connections.endpointTo(TENANT, self.device.uid, SSHOpen("s1"))
        endpoint.connect(Factory.forProtocol(Collect))
        self.hub.settle()
        self.assertEqual(list(self.tunnel.sshSessions), ["s1"])

"""
What ShellHub's agents ask before they have a tunnel, and what becomes of those who ask wrongly.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.shellhub.support import TENANT, Device, Hub, key, request
from tunnelstack.dialect.shellhub.bootstrap import VOUCH_SECONDS
from tunnelstack.dialect.shellhub.device_book import PENDING, Tenant
from tunnelstack.dialect.shellhub.dialler import (
    DeviceNotAccepted,
    DeviceTokenRefused,
    NotAShellHubServer,
    ServerBusy,
    ShellHubDialler,
    limitsFromSettings,
)
from tunnelstack.errors import ConfigurationError, Refused, UsageError
from tunnelstack.exchange.whole_message import BODY_SECONDS
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.wire.records.shellhub_identity import Claims, fingerprint, sign_token
from tunnelstack.wire.records.shellhub_settings import DEFAULTS, Settings

AUTH = {
    "info": {"id": "debian", "version": "v0.26.0"}, "hostname": "Box_1", "identity": {"mac": "02:42:ac:11:00:02"},
    "public_key": "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n", "tenant_id": TENANT,
}  # fmt: skip
UID = "1e75e8a4b765e8f2b8e1e6b87923c23765b37548058c0072b52bae995c263d89"


class DoorTests(SynchronousTestCase):
    """
    Requests by hand.
    """

    def setUp(self) -> None:
        self.hub = Hub()

    def ask(self, line: str, body: bytes = b"", *fields: str) -> tuple[int, dict[str, str], Any]:
        caller = self.hub.visit(request(line, "User-Agent: shellhub-agent/v0.26.0", *fields, body=body))
        head, _, said = caller.got.partition(b"\r\n\r\n")
        if caller.lost is None:
            caller.transport.abortConnection()
            self.hub.settle()
        status, *lines = head.decode().split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.assertEqual(int(found["content-length"]), len(said))
        isJSON = found.get("content-type") == "application/json"
        return int(status.split()[1]), found, json.loads(said) if isJSON else said

    def authorize(self, **changes: Any) -> tuple[int, dict[str, str], Any]:
        said = {name: value for name, value in {**AUTH, **changes}.items() if value is not None}
        return self.ask("POST /api/devices/auth", json.dumps(said).encode())

    def test_infoHasVersionAndEndpoints(self) -> None:
        status, fields, said = self.ask("GET /info?agent_version=v0.26.0")
        self.assertEqual((status, fields["content-type"]), (200, "application/json"))
        self.assertEqual(said, {"version": "v0.26.0", "endpoints": {"api": "edge:80", "ssh": "edge:2222"}})

    def test_anAcceptedDeviceGetsAToken(self) -> None:
        status, fields, said = self.authorize()
        self.assertEqual((status, fields["content-type"]), (200, "application/json"))
        token = said.pop("token")
        self.assertEqual(said, {"uid": UID, "name": "box-1", "namespace": "dev", "status": "accepted"})
        self.assertEqual(token.count("."), 2)

    def test_namesAreUniqueAndDevicesKeepTheirs(self) -> None:
        first = self.authorize()[2]
        second = self.authorize(identity={"mac": "02:42:ac:11:00:03"})[2]
        self.assertEqual(first["name"], "box-1")
        self.assertEqual(second["name"], f"box-1-{second['uid'][:8]}")
        self.assertEqual(self.authorize()[2]["name"], "box-1")
        self.assertEqual(self.authorize(hostname=None, identity={"mac": "02:00"})[2]["name"], "02-00")

    def test_configIsSaidWhereThereIsOne(self) -> None:
        self.hub = Hub(settings=Settings(keep_alive=False))
        self.assertEqual(self.authorize()[2]["config"], {"yamux_enable_keep_alive": False})

    def test_malformedRequestsAreRejected(self) -> None:
        for body in (b"", b"{", b"[]", b"{}", b'{"public_key":1}', json.dumps({**AUTH, "tenant_id": "x"}).encode()):
            status, _, said = self.ask("POST /api/devices/auth", body)
            self.assertEqual((status, list(said)), (400, ["message"]), body)
        self.assertEqual(len(self.hub.book), 0)
        self.assertEqual(self.ask("GET /api/devices/auth")[0], 405)
        self.assertEqual(self.ask("POST /info", b"x")[0], 405)

    def test_bodiesAreBounded(self) -> None:
        chunks = b"8000\r\n%b\r\n" % (b"x" * 0x8000)
        for field, body in (("Content-Length: 65537", b""), ("Transfer-Encoding: chunked", 3 * chunks)):
            caller = self.hub.visit(request("POST /api/devices/auth", field) + body)
            self.assertIn(b" 413 ", caller.got.splitlines()[0])
            caller.transport.abortConnection()
            self.hub.settle()
        caller = self.hub.visit(request("POST /api/devices/auth", "Content-Length: 100") + b"{")
        self.assertEqual(caller.got, b"")
        self.hub.network.passTime(BODY_SECONDS + 1)
        self.assertIn(b" 408 ", caller.got)
        caller = self.hub.visit(request("POST /api/devices/auth", "Content-Length: 100") + b"{")
        caller.transport.loseConnection()
        self.hub.settle()

    def test_bodiesMayComeInPieces(self) -> None:
        self.hub = Hub(cut=3)
        self.assertEqual(self.authorize()[0], 200)

    def test_onlyDevicesOfConfiguredTenantsAreRegistered(self) -> None:
        digest = sha256(b"open sesame").hexdigest()
        self.hub = Hub(automatic=False, tenants=(Tenant(id=TENANT, namespace="lab", installKeys=(digest,)),))
        stranger = self.authorize(tenant_id="11111111-2222-4333-8444-555555555555")
        self.assertEqual((stranger[0], list(stranger[2])), (403, ["message"]))
        waiting = self.authorize()[2]
        self.assertEqual((waiting["status"], waiting["namespace"]), (PENDING, "lab"))
        self.assertEqual(self.authorize(install_key="guess")[2]["status"], PENDING)
        self.assertEqual(self.authorize(install_key="open sesame")[2]["status"], "accepted")
        self.assertEqual(self.authorize()[2]["status"], "accepted")

    def test_tooManyPendingDevicesAreRefused(self) -> None:
        self.hub = Hub(automatic=False, tenants=(Tenant(id=TENANT, namespace="lab"),))
        for number in range(1000):
            self.hub.book.register(uid=f"{number:064x}", tenant=TENANT, hostname="", publicKey="")
        status, fields, _ = self.authorize()
        self.assertEqual((status, fields["retry-after"]), (429, "60"))

    # Tokens

    def bind(self, token: str, path: str = "/agent/connection") -> bytes:
        fields = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        fields.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        if token:
            fields.append(f"Authorization: {token}")
        return self.hub.visit(request(f"GET {path}", *fields)).got

    def signed(self, with_: Any = None, **changes: Any) -> str:
        claims = {"uid": UID, "tenant": TENANT, "token": "jti", "issued": 0.0, **changes}
        return "Bearer " + sign_token(Claims(**claims), with_ or key())

    def test_goodTokensOpenConnections(self) -> None:
        self.authorize()
        for path in ("/agent/connection", "/ssh/connection"):
            self.assertIn(b" 101 ", self.bind(self.signed(), path).splitlines()[0])

    def test_missingAndBadTokensAreRefused(self) -> None:
        """
        Wrong, foreign, not yet valid, of somebody who is not known: an empty 401, before the upgrade.
        """
        self.authorize()
        good = self.signed()
        for token in (
            "", "Bearer", "Bearer x", "Bearer x.y.z", good[:-4], good.replace("Bearer", "Basic"), self.signed(key(2)),
            self.signed(issued=1000.0), self.signed(uid="f" * 64), self.signed(tenant="other"), "Bearer " + "x" * 9000,
        ):  # fmt: skip
            for path in ("/agent/connection", "/ssh/connection"):
                said = self.bind(token, path)
                self.assertTrue(said.startswith(b"HTTP/1.1 401 Unauthorized\r\n"), said)
                self.assertTrue(said.endswith(b"\r\n\r\n"), said)
        self.assertEqual(len(self.hub.connections), 0)

    def test_aDeviceThatIsNotAccepted(self) -> None:
        self.hub = Hub(automatic=False, tenants=(Tenant(id=TENANT, namespace="lab"),))
        self.authorize()
        said = self.bind(self.signed())
        self.assertTrue(said.startswith(b"HTTP/1.1 403 Forbidden\r\n"))
        self.assertTrue(said.endswith(b'{"message":"device is not accepted"}'))
        self.hub.book.accept("lab.box-1")
        self.assertIn(b" 101 ", self.bind(self.signed()).splitlines()[0])

    def test_anEdgeThatStopsTakesNobody(self) -> None:
        self.authorize()
        self.hub.edge.agents.stopping = True
        self.assertIn(b" 503 ", self.bind(self.signed()).splitlines()[0])

    def test_subprotocolAndRequestsThatAreNoUpgrades(self) -> None:
        self.authorize()
        fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Authorization: {self.signed()}")
        offered = request(
            "GET /agent/connection", *fields, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: chat, binary",
        )  # fmt: skip
        self.assertIn(b"Sec-WebSocket-Protocol: binary\r\n", self.hub.visit(offered).got)
        said = self.hub.visit(request("GET /agent/connection", f"Authorization: {self.signed()}")).got
        self.assertIn(b"HTTP/1.1 4", said)

    # Keys of users

    def test_aKeyIsAuthorizedOnceTheServerVouches(self) -> None:
        device = self.hub.device()
        user = key(3)
        blob = user.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        outcomes: list[bool] = []

        def vouch() -> bool:
            device.dialler.registration.isKeyAuthorized("root", user.public_key(), blob).addCallback(outcomes.append)
            self.hub.settle()
            return outcomes[-1]

        self.assertFalse(vouch())
        self.hub.bootstrap.vouchedKeys.add(fingerprint(blob), user, device.uid)
        self.assertTrue(vouch())
        self.hub.bootstrap.vouchedKeys.discard(fingerprint(blob))
        self.assertFalse(vouch())
        self.hub.bootstrap.vouchedKeys.add(fingerprint(blob), user, "f" * 64)
        self.assertFalse(vouch(), "another device's")
        self.hub.bootstrap.vouchedKeys.add(fingerprint(blob), key(4), device.uid)
        self.assertFalse(vouch(), "another key's signature")
        self.hub.bootstrap.vouchedKeys.add(fingerprint(blob), user, device.uid)
        self.hub.network.passTime(VOUCH_SECONDS)
        self.assertFalse(vouch(), "too late")
        for token, body, status in (("", b"{}", 401), (self.token(device), b"{}", 400)):
            fields = (f"Authorization: Bearer {token}",) if token else ()
            self.assertEqual(self.ask("POST /api/auth/ssh", body, *fields)[0], status)

    def token(self, device: Device) -> str:
        return device.dialler.registration.token


class Scripted(Protocol):
    """
    Answers each request with what comes next.
    """

    transport: Any
    answers: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        if self.answers:
            self.transport.write(self.answers.pop(0))


def answer(status: int, body: bytes = b"", kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


INFO = answer(200, b'{"version":"v0.26.0","endpoints":{"api":"a","ssh":"s"}}')
YES = answer(200, json.dumps({"uid": UID, "token": "a.b.c", "name": "box", "namespace": "dev"}).encode())


class DiallerTests(SynchronousTestCase):
    """
    Servers that say other things.
    """

    def dial(self, *answers: bytes) -> Any:
        hub = Hub()
        factory = Factory.forProtocol(type("Server", (Scripted,), {"answers": list(answers)}))
        factory.noisy = False
        hub.network.ports[8080].factory = factory
        self.device = Device(hub, 2, "02:42:ac:11:00:02")
        return self.device.dialling()

    def test_responsesOfOtherServersAreErrors(self) -> None:
        for answers, kind in (
            ((answer(200, b"<html>", "text/html"),), NotAShellHubServer),
            ((answer(404),), NotAShellHubServer),
            ((answer(503),), ServerBusy),
            ((INFO, answer(403, b"{}")), Refused),
            ((INFO, answer(200, b"{}")), NotAShellHubServer),
            ((INFO, answer(200, b"x" * 70_000)), NotAShellHubServer),
            ((INFO, YES, answer(403)), DeviceNotAccepted),
            ((INFO, YES, answer(429)), ServerBusy),
            ((INFO, YES, answer(500)), ServerBusy),
            ((INFO, YES, answer(404)), NotAShellHubServer),
            ((INFO, YES, answer(401), YES, answer(401)), DeviceTokenRefused),
            ((INFO, YES, answer(401), YES, answer(403)), DeviceNotAccepted),
        ):
            self.failureResultOf(self.dial(*answers), kind)

    def test_aServerThatSaysNothing(self) -> None:
        attempt = self.dial()
        self.device.hub.network.passTime(31)
        self.failureResultOf(attempt)

    def test_anotherVersionIsRefused(self) -> None:
        device = Device(Hub(), 2, "02")
        for version in (0, 3):
            self.assertRaises(
                UsageError, ShellHubDialler, device.hub.network, "http://localhost", device.dialler.registration.identity,
                device.streams, version=version,
            )

    def test_pathsThatLeadElsewhereAreNotUsed(self) -> None:
        device = Device(Hub(), 1, "02")
        for path in ("@evil.example/x", ".evil.example", "http://evil.example/", "/a b"):
            self.assertRaises(NotAShellHubServer, device.dialler._pickUpEndpoint, path)

    def test_settingsBecomeLimits(self) -> None:
        ours = limitsFromSettings(Settings(backlog=7, keep_alive=False, window=1 << 20, write_timeout=3.0))
        self.assertEqual((ours.backlog, ours.keepalive, ours.window, ours.keepalive_timeout), (7, 0.0, 1 << 20, 3.0))
        self.assertEqual(limitsFromSettings(DEFAULTS).keepalive, 35.0)


class AllowedTests(SynchronousTestCase):
    def test_nothingUnlessItIsSaid(self) -> None:
        self.assertFalse(TargetAllowlist().has("127.0.0.1", 80))

    def test_hostsAndPortsAreCompared(self) -> None:
        allowed = TargetAllowlist(("localhost:80", "printer.lan:*", "[2001:db8::1]:443", "localhost:81"))
        for host, port in (
            ("127.0.0.1", 80), ("::1", 81), ("", 80), ("LOCALHOST", 80), ("printer.lan", 9100), ("2001:db8::1", 443),
        ):  # fmt: skip
            self.assertTrue(allowed.has(host, port), host)
        for host, port in (("127.0.0.1", 82), ("printer", 80), ("2001:db8::1", 80), ("192.0.2.1", 80)):
            self.assertFalse(allowed.has(host, port), host)

    def test_invalidTargetsAreRejected(self) -> None:
        for text in ("80", ":80x", "host:", "host:0", "host:65536", "host:http"):
            self.assertRaises(ConfigurationError, TargetAllowlist, (text,))

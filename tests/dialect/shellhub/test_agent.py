"""
An agent that is a device: when it waits, when it tries again, and when it has come to its end.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.protocol import Factory
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.shellhub.support import PORT, TENANT, Hub, key
from tests.dialect.shellhub.test_bootstrap import INFO, YES, Scripted, answer
from tunnelstack.agent.service import AgentService
from tunnelstack.agent.uplink import REFUSED_SECONDS
from tunnelstack.control.config.records import AgentConfig, EdgeAddress
from tunnelstack.control.process.exit_status import CredentialRefused, GaveUp, WrongProtocol
from tunnelstack.dialect.shellhub.device_book import Tenant
from tunnelstack.dialect.shellhub.settings import DeviceSettings
from tunnelstack.errors import ConfigurationError
from tunnelstack.testing import Network

NO = answer(403, b'{"message":"no"}')
STRANGER = "11111111-2222-4333-8444-555555555555"


class DeviceTests(SynchronousTestCase):
    """
    One server of devices, and at most one edge beside it.
    """

    def setUp(self) -> None:
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.path = Path(self.mktemp())
        self.path.write_bytes(key(1).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def agent(self, hub: Hub, *, tenant: str = TENANT, **settings: Any) -> AgentService:
        """
        A device, started.
        """
        device = DeviceSettings(
            url=f"http://localhost:{PORT}", tenant=tenant, deviceKeyFile=str(self.path), ssh="", hostname="bench",
        )
        config = evolve(AgentConfig(dialects={"shellhub": {"shellhub": (device,)}}), **settings)
        agent = AgentService(hub.network, config, plugins=False, random=lambda: 0.5)
        agent.startService()
        hub.settle()
        self.addCleanup(self.stop, hub, agent)
        return agent

    def stop(self, hub: Hub, agent: AgentService) -> None:
        stopped: Any = agent.stopService()
        hub.network.passTime(40)
        self.successResultOf(stopped)
        hub.stop()
        self.assertEqual(hub.network.wires, [])
        self.assertEqual(hub.network.getDelayedCalls(), [])

    def scripted(self, *answers: bytes) -> Hub:
        """
        A server that says these, one after the other and over all connections.
        """
        hub = Hub()
        script = list(answers)
        factory = Factory.forProtocol(type("Server", (Scripted,), {"answers": script}))
        factory.noisy = False
        self.real, hub.network.ports[PORT].factory = hub.network.ports[PORT].factory, factory
        return hub

    def told(self, level: str) -> list[str]:
        return [str(formatEvent(event)) for event in self.events if event["log_level"].name == level]

    def test_aRefusedDeviceEndsAtOnce(self) -> None:
        for answers in ((INFO, NO), (INFO, answer(401)), (INFO, YES, answer(401), YES, answer(401))):
            self.events.clear()
            agent = self.agent(self.scripted(*answers))
            ended = self.successResultOf(agent.whenFailed())
            self.assertIsInstance(ended, CredentialRefused)
            self.assertIn(f"the server at http://localhost:{PORT} re", str(ended))
            self.assertEqual(self.told("critical"), [], "its life says why")

    def test_soDoesOneOfAnUnknownTenant(self) -> None:
        hub = Hub(automatic=False, tenants=(Tenant(id=TENANT, namespace="lab"),))
        agent = self.agent(hub, tenant=STRANGER)
        self.assertIsInstance(self.successResultOf(agent.whenFailed()), CredentialRefused)

    def test_whatIsNoServerEndsIt(self) -> None:
        agent = self.agent(self.scripted(answer(404)))
        self.assertIsInstance(self.successResultOf(agent.whenFailed()), WrongProtocol)

    def test_oneThatIsPendingWaits(self) -> None:
        hub = Hub(automatic=False, tenants=(Tenant(id=TENANT, namespace="lab"),))
        agent = self.agent(hub)
        hub.network.passTime(600)
        self.assertNoResult(agent.whenFailed())
        self.assertEqual(self.told("critical"), [])
        self.assertEqual(sum("is not accepted yet" in line for line in self.told("warn")), 1, self.told("warn"))
        hub.book.accept("lab.bench")
        hub.network.passTime(31)
        self.assertTrue(any("device=lab.bench" in line for line in self.told("info")))

    def test_aBusyServerIsTriedAgain(self) -> None:
        agent = self.agent(self.scripted(answer(503), INFO, answer(429)))
        self.assertNoResult(agent.whenFailed())

    def test_afterHavingBeenUpItIsTriedOnceAMinute(self) -> None:
        hub = Hub()
        agent = self.agent(hub)
        self.assertTrue(any("device=" in line for line in self.told("info")))
        hub.network.passTime(6)                # the registration's connection is kept for five seconds
        port = hub.network.ports[PORT]
        real, asked = port.factory, []

        class Refusing(Scripted):
            def connectionMade(self) -> None:
                asked.append(hub.network.seconds())
                self.answers = [NO, NO]

        port.factory = Factory.forProtocol(Refusing)
        port.factory.noisy = False
        agent.links[0].dialect.dialler.registration.token = ""
        agent.links[0].uplink.link.abort("the test says so")
        hub.network.passTime(REFUSED_SECONDS * 5)
        self.assertNoResult(agent.whenFailed())
        self.assertEqual(len(self.told("critical")), 1, self.told("critical"))
        waits = [later - sooner for sooner, later in pairwise(asked)]
        self.assertEqual((len(waits) >= 3, set(map(round, waits))), (True, {round(REFUSED_SECONDS)}))
        port.factory = real
        hub.network.passTime(REFUSED_SECONDS + 1)
        self.assertEqual(sum("device=" in line for line in self.told("info")), 2)

    def test_withAnEdgeBesideItIsTriedOnceAMinute(self) -> None:
        hub = self.scripted(*[INFO, NO] * 9)
        agent = self.agent(hub, edges=(EdgeAddress(url="http://localhost:1", token="t"),))
        hub.network.passTime(REFUSED_SECONDS * 4)
        self.assertNoResult(agent.whenFailed())
        self.assertEqual(sum("rejects this device" in line for line in self.told("critical")), 1)

    def test_anAgentGivesUpAfterItsTime(self) -> None:
        """
        It counts for devices as it does for edges.
        """
        hub = Hub(automatic=False, tenants=(Tenant(id=TENANT, namespace="lab"),))
        agent = self.agent(hub, giveUpAfterSeconds=100.0)
        hub.network.passTime(99)
        self.assertNoResult(agent.whenFailed())
        hub.network.passTime(2)
        self.assertIsInstance(self.successResultOf(agent.whenFailed()), GaveUp)

    def test_anUnencryptedWayOffThisMachineMustBeAllowed(self) -> None:
        def make(url: str, **settings: Any) -> AgentService:
            device = DeviceSettings(url=url, tenant=TENANT, deviceKeyFile=str(self.path), ssh="22", **settings)
            return AgentService(Network(), AgentConfig(dialects={"shellhub": {"shellhub": (device,)}}), plugins=False)

        error = self.assertRaises(ConfigurationError, make, "http://hub.example")
        self.assertIn("insecure = true", str(error))
        allowed: dict[str, dict[str, Any]] = {
            "http://hub.example": {"insecure": True}, "http://localhost": {}, "https://hub.example": {},
        }  # fmt: skip
        for url, settings in allowed.items():
            self.assertEqual(len(make(url, **settings).links), 1)

"""
The files of an agent's secrets: looked at when it starts.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent.service import AgentService, secretsOf
from tunnelstack.control.config.records import AgentConfig, EdgeAddress, ServiceConfig
from tunnelstack.dialect.shellhub.settings import DeviceSettings

TENANT = "00000000-0000-4000-0000-000000000000"


class SecretsTests(SynchronousTestCase):
    """
    Tokens and private keys.
    """

    def test_everyFileOfASecretIsLookedAt(self) -> None:
        config = AgentConfig(
            edges=(
                EdgeAddress(url="https://a.net", tokenFile="token"),
                EdgeAddress(url="https://b.net", certificateFile="both.pem"),
                EdgeAddress(url="https://c.net", certificateFile="public.pem", keyFile="c.key"),
            ),
            services=(ServiceConfig(name="a", kind="ssh", target="embedded", hostKeysFile="host_keys"),),
            dialects={"shellhub": {"shellhub": (
                DeviceSettings(
                    url="https://d.net", tenant=TENANT, deviceKeyFile="d.pem", installKeyFile="install", hostKeysFile="h"
                ),
            )}},
        )
        found = set(filter(None, secretsOf(config)))
        self.assertEqual(found, {"token", "both.pem", "c.key", "host_keys", "d.pem", "install", "h"})

    def test_anAgentWarnsAtItsStart(self) -> None:
        token = Path(self.mktemp())
        token.write_text("t")
        token.chmod(0o644)
        told: list[str] = []
        self.patch(AgentService, "log", Logger("tunnelstack.test", observer=lambda event: told.append(formatEvent(event))))
        agent = AgentService(
            Clock(), AgentConfig(edges=(EdgeAddress(url="https://127.0.0.1", token="t", tokenFile=str(token)),)), plugins=False
        )
        self.patch(agent.links[0].uplink, "start", lambda: None)
        agent.startService()
        self.assertEqual([line for line in told if "can be read by other users" in line and str(token) in line], told)
        self.assertEqual(len(told), 1)

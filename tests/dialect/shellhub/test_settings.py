"""
The tables of configuration files that are about devices and SSH: what they say, and every mistake.
"""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_reader import Reads
from tunnelstack.control.config import reader, records
from tunnelstack.control.config.reload import difference
from tunnelstack.dialect.shellhub.settings import EdgeSettings, SessionSettings, TenantSettings
from tunnelstack.records import EMBEDDED
from tunnelstack.wire.records.shellhub_settings import DEFAULTS, Settings

ID = "00000000-0000-4000-0000-00000000000a"
EDGE = f"""
[shellhub]
policy = "install-key"
key_file = "signing.pem"

[[tenant]]
id = "{ID}"
namespace = "lab"
install_keys_file = "keys"

[ssh]
listen = ["tcp:2222"]
authorized_keys_file = "people"
vouch = ["alice@desk root@lab.*"]
jump_users = ["guest"]
"""
AGENT = f"""
[[shellhub]]
url = "https://hub.example.net"
tenant = "{ID}"
version = 1
mac = "02:42:ac:11:00:02"
ssh = "22"
targets = ["localhost:80", "[::1]:*"]

[[service]]
name = "desk"
kind = "ssh"
target = "embedded"
authorized_keys_file = "keys"
users = ["ada"]
"""


class EdgeTests(Reads, SynchronousTestCase):
    """
    C{[shellhub]}, C{[[tenant]]} and C{[ssh]} of an edge.
    """

    def test_everythingArrives(self) -> None:
        edge = reader.parseEdge(EDGE, "edge.toml")
        self.assertEqual(edge.dialects, {"shellhub": {
            "shellhub": (EdgeSettings(policy="install-key", keyFile="signing.pem"),),
            "tenant": (TenantSettings(id=ID, namespace="lab", installKeysFile="keys"),),
        }})
        self.assertEqual((edge.ssh.listen, edge.ssh.jumpUsers), (("tcp:2222",), ("guest",)))
        self.assertEqual(edge.ssh.vouch, ("alice@desk root@lab.*",))

    def test_theSettingsOfSessionsHaveATableOfTheirOwn(self) -> None:
        tables = reader.parseEdge("[shellhub.session]\nkeepalive = false\nbacklog = 9\n", "edge.toml").dialects["shellhub"]
        (settings,) = tables["shellhub.session"]
        self.assertEqual(settings, SessionSettings(keepalive=False, backlog=9))
        self.assertEqual(tables["shellhub"], (EdgeSettings(),))
        self.assertEqual(settings.encoded(), Settings(keep_alive=False, backlog=9))
        self.assertEqual(SessionSettings().encoded(), DEFAULTS)

    def test_settingsThatNoSessionCanHaveAreNamed(self) -> None:
        for text, told in (
            ("window_octets = 1000", "window_octets must be from 262144 to 2147483647, not 1000"),
            ("backlog = 0", "backlog must be from 1 to 65536, not 0"),
            ("keepalive_seconds = 0", "keepalive_seconds must be from 1 to 86400, not 0.0"),
            ("close_timeout = 3", "[shellhub.session] has no key close_timeout; did you mean close_timeout_seconds?"),
        ):
            self.assertEqual(self.mistakes(f"[shellhub.session]\n{text}"), [f"a.toml:2: {told}"])

    def test_withoutTheTableNoDevicesComeIn(self) -> None:
        self.assertEqual(reader.parseEdge("", "edge.toml").dialects, {})
        tables = {"shellhub": {"shellhub": (EdgeSettings(policy="pending"),)}}
        self.assertEqual(reader.parseEdge("[shellhub]", "edge.toml").dialects, tables)

    def test_mistakesAreNamed(self) -> None:
        for text, told in (
            ('[shellhub]\npolicy = "all"', "a.toml:2: policy must be one of automatic, install-key, pending, not 'all'"),
            (
                f'[[tenant]]\nid = "{ID}"\nnamespace = "lab"', "a.toml:1: [[tenant]] needs [shellhub]",
            ),
            (
                f'[shellhub]\n[[tenant]]\nid = "{ID}"\nnamespace = "lab"\ninstall_keys_file = "x"',
                'a.toml:2: install_keys_file needs policy = "install-key" in [shellhub]',
            ),
            (
                f'[shellhub]\n[[tenant]]\nid = "{ID}"\nnamespace = "a"\n[[tenant]]\nid = "{ID.upper()}"\nnamespace = "b"',
                "a.toml:5: [[tenant]] has the same id as the one on line 2",
            ),
            ("[ssh]\nvouch = [\"*@*\"]", "a.toml:1: [ssh] vouch and jump_users need an authorized_keys_file"),
            ("[ssh]\nvouch = true\nauthorized_keys_file = \"x\"", "a.toml:2: vouch must be a list of text in quotes, not true"),
            (
                "[ssh]\nvouch = [\"root\"]\nauthorized_keys_file = \"x\"",
                (
                    "a.toml:2: vouch must be USER@DEVICE, or KEY USER@DEVICE, such as 'deploy@lab.*' or "
                    "'alice@desk *@lab.bench', not 'root'"
                ),
            ),
            (
                '[shellhub]\n[[tenant]]\nid = "lab"\nnamespace = "lab"',
                "a.toml:3: id must be a UUID such as 00000000-0000-4000-0000-000000000000, not 'lab'",
            ),
        ):
            self.assertEqual(self.mistakes(text), [told])

    def test_anotherPolicyWaitsForARestart(self) -> None:
        old = reader.parseEdge(EDGE, "edge.toml")
        new = evolve(old, dialects={"shellhub": {"shellhub": (EdgeSettings(policy="automatic"),)}})
        found = difference(old, new)
        self.assertEqual(found.config, old)
        self.assertEqual(
            found.needsRestart, ("the new [shellhub]", "the new [[tenant]]"))


class AgentTests(Reads, SynchronousTestCase):
    """
    C{[[shellhub]]} and services of the kind C{ssh}.
    """

    def test_everythingArrives(self) -> None:
        agent = reader.parse(AGENT, "agent.toml")
        assert isinstance(agent, records.AgentConfig)
        (device,) = agent.dialects["shellhub"]["shellhub"]
        self.assertEqual((device.tenant, device.version, device.ssh), (ID, 1, "22"))
        self.assertEqual(device.targets, ("localhost:80", "[::1]:*"))
        service = records.ServiceConfig(
            name="desk", kind="ssh", target=EMBEDDED, authorizedKeysFile="keys", users=("ada",),
        )  # fmt: skip
        self.assertEqual(agent.services, (service,))

    def test_theTableAloneMakesAnAgentsFile(self) -> None:
        self.assertIsInstance(reader.parse(AGENT.partition("[[service]]")[0], "a.toml"), records.AgentConfig)

    def test_mistakesAreNamed(self) -> None:
        begin = f'[[shellhub]]\nurl = "http://hub"\ntenant = "{ID}"\n'
        for text, told in (
            ("version = 3", "a.toml:4: version must be one of 1, 2, not 3"),
            ('targets = ["here"]', "a.toml:4: targets must be host:port, or host:* for every port of a host, not 'here'"),
            ('targets = ["a:0"]', "a.toml:4: targets must be host:port, or host:* for every port of a host, not 'a:0'"),
            (
                'ssh = "22"\nusers = ["ada"]',
                'a.toml:1: [[shellhub]] may have keys, passwords and users only with ssh = "embedded"',
            ),
            ('tennant = "x"', "a.toml:4: [[shellhub]] has no key tennant; did you mean tenant?"),
        ):
            self.assertEqual(self.mistakes(begin + text), [told])

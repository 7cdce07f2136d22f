"""
The tables of an edge's file, the agents and services that commands add, and C{tunnelstack godoxy}.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from attrs import evolve
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.dialect.godoxy.edge_support import AgentDouble, GodoxyEdgeCase, tcp, web
from tests.dialect.godoxy.test_certificates import authorityPEM, certificatePEM, keyPEM
from tests.transport.certificates import authority
from tunnelstack.commands.admin_client import formatTable
from tunnelstack.control.config.reader import Mistakes, parseEdge
from tunnelstack.control.config.reload import difference
from tunnelstack.dialect.godoxy.edge_commands import HELP, DialledAgentsCommand
from tunnelstack.dialect.godoxy.edge_settings import (
    DialledAgentSettings,
    EdgeSettings,
    ServiceSettings,
    parseAddress,
    parseHTTPTarget,
)
from tunnelstack.dialect.godoxy.edge_store import FILE, AgentStore, credentialsOf
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.interfaces import ICommand
from tunnelstack.settings.state_dir import StateDirectory

EDGE = """
[godoxy]
health_seconds = 10

[[godoxy.agent]]
name = "nas"
address = "nas.example.net:8890"
archive = "nas.zip"

[[godoxy.service]]
name = "wiki"
agent = "nas"
target = "https://127.0.0.1:8443"
insecure = true

[[godoxy.service]]
name = "game"
agent = "nas"
kind = "udp"
target = "[::1]:25565"
port = 25565
"""


def makeArchive(path: str) -> str:
    identity = authority().identity("client")
    with ZipFile(path, "w") as archive:
        for name, octets in (("ca", authorityPEM()), ("cert", certificatePEM(identity)), ("key", keyPEM(identity))):
            archive.writestr(f"{name}.pem", octets)
    return path


class FileTests(SynchronousTestCase):
    def test_anEdgesFileIsRead(self) -> None:
        self.assertEqual(parseEdge(EDGE, "edge.toml").dialects["godoxy"], {
            "godoxy": (EdgeSettings(healthSeconds=10),),
            "godoxy.agent": (DialledAgentSettings(name="nas", address="nas.example.net:8890", archive="nas.zip"),),
            "godoxy.service": (
                ServiceSettings(name="wiki", agent="nas", target="https://127.0.0.1:8443", insecure=True),
                ServiceSettings(name="game", agent="nas", kind="udp", target="[::1]:25565", port=25565),
            ),
        })

    def test_mistakesAreReported(self) -> None:
        for before, after, told in (
            ('archive = "nas.zip"', "", "needs an archive, or ca_file and certificate_file, or archives in [godoxy]"),
            ('archive = "nas.zip"', 'ca_file = "ca.pem"', "needs ca_file and certificate_file together"),
            ('archive = "nas.zip"', 'archive = "nas.zip"\nca_file = "ca.pem"', "has an archive and files of its own"),
            ('"nas.example.net:8890"', '"nas.example.net"', "must be host:port"),
            ('"nas.example.net:8890"', '"::1:8890"', "must be host:port"),
            ('agent = "nas"\ntarget', 'agent = "shed"\ntarget', "is of the agent 'shed'"),
            ('"https://127.0.0.1:8443"', '"https://127.0.0.1:8443/path"', "without a path"),
            ('"https://127.0.0.1:8443"', '"ftp://127.0.0.1"', "must be host:port or a URL"),
            ("insecure = true", "port = 80", "port and address are for services of kind tcp and udp"),
            ("port = 25565", "insecure = true", "are for services of kind http"),
            ('"[::1]:25565"', '"http://a"', "target must be host:port"),
            ('kind = "udp"', 'kind = "sctp"', "must be one of http, tcp, udp"),
            ('name = "game"', 'name = "wiki"', "name"),
            ("health_seconds = 10", "health_seconds = 0", "from 1 to 3600"),
            ("port = 25565", 'port = 25565\naddress = "here"', "must be an IP address"),
        ):  # fmt: skip
            self.assertIn(before, EDGE)
            mistakes = self.assertRaises(Mistakes, parseEdge, EDGE.replace(before, after), "edge.toml")
            self.assertIn(told, str(mistakes), after)

    def test_targetsAndAddressesAreParsed(self) -> None:
        self.assertEqual(parseAddress("[fe80::1%eth0]:22"), ("fe80::1%eth0", 22))
        for text, found in (
            ("127.0.0.1:3000", ("http", "127.0.0.1:3000")), ("https://wiki", ("https", "wiki:443")),
            ("h2c://[::1]", ("h2c", "[::1]:80")), ("http://[::1]:81", ("http", "[::1]:81")), ("http://a:1", ("http", "a:1")),
        ):  # fmt: skip
            self.assertEqual(parseHTTPTarget(text), found)
        for text in ("wiki", "http://", "http://a/", "http://a?b", "http://u@a", "a:0", "a:70000", "https://a:b", "", "http://::1"):
            self.assertRaises(ConfigurationError, parseHTTPTarget, text)

    def test_changesApplyToARunningEdge(self) -> None:
        found = difference(parseEdge(EDGE, "edge.toml"), parseEdge(EDGE.replace("nas.example", "shed.example"), "edge.toml"))
        self.assertEqual(found.needsRestart, ())
        self.assertEqual(len(found.changed), 1)


class StoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.archive = makeArchive(self.mktemp())
        self.store = AgentStore(StateDirectory(self.folder))
        self.changes = 0
        self.store.watch(self.changed)

    def changed(self) -> None:
        self.changes += 1

    def add(self, name: str = "nas", address: str = "nas:8890", **more: Any) -> Any:
        return self.store.addAgent({"name": name, "address": address, "archive": self.archive, **more})

    def publish(self, name: str = "wiki", **more: Any) -> Any:
        return self.store.addService({"name": name, "agent": "nas", "target": "a:1", **more})

    def denied(self, told: str, call: Any, *arguments: Any, **more: Any) -> None:
        error = self.assertRaises(Denied, call, *arguments, **more)
        self.assertIn(told, error.sentence)

    def test_whatIsAddedIsKept(self) -> None:
        self.add()
        self.publish()
        self.publish("game", kind="udp", port=1)
        self.assertEqual(self.changes, 3)
        self.assertEqual(stat.S_IMODE((self.folder / FILE).stat().st_mode), 0o600)
        again = AgentStore(StateDirectory(self.folder))
        self.assertEqual([each.settings for each in again.agents.values()], [self.store.agents["nas"].settings])
        self.assertEqual(again.services, self.store.services)
        self.assertEqual(again.agents["nas"].identity, self.store.agents["nas"].identity)
        self.store.removeService("game")
        self.store.removeAgent("nas")
        self.assertEqual(json.loads((self.folder / FILE).read_text()), {"agents": [], "services": []})
        self.assertEqual(self.store.services, {})

    def test_whatCannotBeAddedIsDenied(self) -> None:
        self.add()
        self.denied("there is an agent nas", self.add)
        self.denied("there is an agent nas at nas:8890", self.add, "shed")
        self.denied("no setting colour", self.add, "shed", "a:1", colour="red")
        self.denied("another type", self.add, "shed", 1)
        self.denied("host:port", self.add, "shed", "a")
        self.denied("cannot be read", self.add, "shed", "a:1", archive="/nowhere")
        self.denied("give an archive", self.add, "shed", "a:1", archive="")
        self.denied("missing", self.store.addAgent, {"name": "shed"})
        self.publish()
        self.denied("there is a service wiki", self.publish)
        self.denied("there is no agent", self.publish, "other", agent="shed")
        self.denied("another type", self.publish, "other", port="80")
        self.denied("another type", self.publish, "other", port=True)
        self.denied("are for services of kind http", self.publish, "other", kind="tcp", insecure=True)
        self.denied("there is no agent x", self.store.removeAgent, "x")
        self.denied("there is no service x", self.store.removeService, "x")

    def test_nothingIsAddedWithoutAStateFolder(self) -> None:
        self.store = AgentStore()
        self.denied("no state folder", self.add)
        self.assertEqual(self.store.agents, {})

    def test_theConfigurationIsNotChangedByCommands(self) -> None:
        agent = DialledAgentSettings(name="nas", address="nas:8890", archive=self.archive)
        tables = {"godoxy.agent": (agent,), "godoxy.service": (ServiceSettings(name="wiki", agent="nas", target="a:1"),)}
        self.store.prepare(tables)()
        self.denied("in the configuration file", self.store.removeAgent, "nas")
        self.denied("in the configuration file", self.store.removeService, "wiki")
        self.publish("other")
        self.assertTrue(self.store.isConfigured("wiki"))
        self.assertFalse(self.store.isConfigured("other"))
        self.store.prepare({})()
        self.add()
        error = self.assertRaises(ConfigurationError, self.store.prepare, tables)
        self.assertIn("the agent nas of the configuration was added by a command", str(error))

    def test_anArchiveThatHasVanishedDoesNotKeepTheEdgeFromStarting(self) -> None:
        self.add()
        Path(self.archive).unlink()
        again = AgentStore(StateDirectory(self.folder))
        self.assertIsNone(again.agents["nas"].credentials)
        self.assertIn("cannot be read", again.agents["nas"].reason)
        again.removeAgent("nas")

    def test_aFileThatCannotBeReadIsAnError(self) -> None:
        self.folder.mkdir()
        for text in ("", "[]", "{}", '{"agents":[{"name":1}],"services":[]}', '{"agents":[[]],"services":[]}'):
            (self.folder / FILE).write_text(text)
            error = self.assertRaises(ConfigurationError, AgentStore, StateDirectory(self.folder))
            self.assertIn("move it away", str(error))

    def test_aFolderOfGenuineArchives(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        makeArchive(str(folder / "10.0.0.7:8890.zip"))
        agent = DialledAgentSettings(name="nas", address="10.0.0.7:8890")
        self.assertEqual(len(credentialsOf(agent, str(folder)).authorities), 1)
        self.assertRaises(ConfigurationError, credentialsOf, agent, "")


class CommandTests(GodoxyEdgeCase):
    """
    With an edge that answers.
    """

    def run_(self, *arguments: str, **options: Any) -> tuple[Any, Any]:
        command = DialledAgentsCommand()
        given = {"archive": None, "port": None, "address": None, "insecure": 0, **options}
        return command.run(command.parse(given, arguments), self.admin)

    def admin(self, method: str, path: str, asked: Any = None) -> Any:
        if method == "GET":
            return self.dialect.getHandlers[path.encode()]()
        answer = self.dialect.postHandlers[path.encode()](json.loads(json.dumps(asked)))
        self.network.settle()
        return answer

    def test_itIsACommand(self) -> None:
        verifyObject(ICommand, DialledAgentsCommand())
        self.assertLessEqual(max(map(len, HELP.splitlines())), 120)
        self.assertLessEqual(len(HELP.strip().splitlines()), 42)

    def test_agentsAndServicesAreAddedByCommands(self) -> None:
        AgentDouble(self.network)
        self.begin(agents=())
        self.assertEqual(
            self.run_("add", "nas", "127.0.0.1:8890", archive="x.zip")[1], "nas is dialled at 127.0.0.1:8890\n"
        )
        self.assertEqual(self.run_("publish", "game", "nas", "tcp", "a:1", port="4000")[1], "game is published of nas\n")
        self.run_("publish", "wiki", "nas", "http", "https://b", insecure=1)
        self.network.passTime(31)
        answer, (headings, rows) = self.run_()
        self.assertEqual([each["state"] for each in answer["agents"]], ["up"])
        self.assertEqual(formatTable(headings, rows), (
            "AGENT    ADDRESS         STATE     VERSION    TCP     UDP      FROM\n"
            "nas      127.0.0.1:8890  up        v0.31.0    yes     yes      command\n"
            "\n"
            "SERVICE  AGENT           PUBLIC    TARGET     HEALTH  FROM\n"
            "game     nas             tcp:4000  a:1        good    command\n"
            "wiki     nas             http      https://b  good    command\n"
        ))
        self.assertEqual(self.run_("withdraw", "game")[1], "game is withdrawn\n")
        self.assertNotIn(4000, self.network.ports)
        self.assertEqual(self.run_("remove", "nas")[1], "nas is removed\n")
        self.network.settle()
        self.assertEqual(self.run_()[0], {"agents": [], "services": []})
        self.assertFalse(self.edge.registry.hasAgent("nas"))

    def test_whatIsConfiguredIsNotRemoved(self) -> None:
        self.begin(web(), tcp())
        self.assertRaises(Denied, self.run_, "remove", "nas")
        self.assertRaises(Denied, self.run_, "withdraw", "wiki")
        self.assertRaises(Denied, self.dialect.postHandlers[b"/godoxy/agents/remove"], {"name": 1})
        _, (headings, rows) = self.run_()
        self.assertIn("down", formatTable(headings, rows))

    def test_anAgentWithoutCertificatesIsShown(self) -> None:
        self.begin(agents=())
        self.run_("add", "nas", "127.0.0.1:8890", archive="x.zip")
        store = self.dialect.store
        store.agents["nas"] = evolve(store.agents["nas"], credentials=None, reason="it has vanished")
        self.dialect.agents.update()
        (agent,) = self.run_()[0]["agents"]
        self.assertEqual((agent["state"], agent["reason"]), ("down", "it has vanished"))

    def test_wrongCommandLinesAreRejected(self) -> None:
        for arguments, options, told in (
            (("ad",), {}, "no verb 'ad'; did you mean add?"), (("add", "nas"), {}, "takes a name and an address"),
            (("list", "x"), {}, "takes nothing"), (("remove", "a"), {"archive": "x"}, "--archive is for godoxy add"),
            (("publish", "a", "b", "sctp", "c:1"), {}, "one of http, tcp, udp"),
            (("publish", "a", "b", "tcp", "c:1"), {"port": "70000"}, "from 1 to 65535"),
        ):  # fmt: skip
            error = self.assertRaises(usage.UsageError, self.run_, *arguments, **options)
            self.assertIn(told, str(error))

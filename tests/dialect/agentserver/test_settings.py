"""
The tables of agentserver in configuration files, its command lines, and the file of added sandboxes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_reader import Reads
from tests.dialect.agentserver.support import digest, sandbox
from tunnelstack.agent.dialect_command import makeOptions
from tunnelstack.commands.admin_client import formatTable
from tunnelstack.control.config import reader, records
from tunnelstack.control.config.reload import difference
from tunnelstack.dialect.agentserver.commands import Sandboxes
from tunnelstack.dialect.agentserver.sandbox_store import FILE, SandboxStore
from tunnelstack.dialect.agentserver.settings import AgentSettings, EdgeSettings
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.state_dir import StateDirectory

EDGE = f"""
[agentserver]
body_octets = 1000

[[agentserver.sandbox]]
id = "sbx-1"
name = "demo"
token_sha256 = "{digest("tok-1")}"
"""
AGENT = """
[[agentserver]]
url = "https://agents.example.net/base"
sandbox = "sbx-1"
token_file = "sandbox.token"
target = "3000"
terminal = true
"""


class FileTests(Reads, SynchronousTestCase):
    def test_theTablesOfAnEdgeAreRead(self) -> None:
        edge = reader.parseEdge(EDGE, "edge.toml")
        self.assertEqual(edge.dialects, {"agentserver": {
            "agentserver": (EdgeSettings(bodyOctets=1000),), "agentserver.sandbox": (sandbox(),),
        }})
        self.assertEqual(reader.parseEdge("", "edge.toml").dialects, {})

    def test_theTableOfAnAgentIsRead(self) -> None:
        agent = reader.parse(AGENT, "agent.toml")
        assert isinstance(agent, records.AgentConfig)
        self.assertEqual(agent.dialects["agentserver"]["agentserver"], (AgentSettings(
            url="https://agents.example.net/base", sandbox="sbx-1", tokenFile="sandbox.token", target="3000", terminal=True,
        ),))

    def test_anEdgesFileIsRecognized(self) -> None:
        self.assertIsInstance(reader.parse(EDGE, "edge.toml"), records.EdgeConfig)

    def test_mistakesAreNamed(self) -> None:
        entry = EDGE.partition("\n\n")[2]
        for text, told in (
            ("[agentserver]\nbody = 1", "a.toml:2: [agentserver] has no key body; did you mean body_octets?"),
            ("[agentserver]\nbody_octets = -1", "a.toml:2: body_octets must be at least 0, not -1"),
            (entry + entry, "a.toml:5: [[agentserver.sandbox]] has the same id as the one on line 1"),
            (entry.replace("sbx-1", "a/b"),
             "a.toml:2: id must be an identifier of up to 255 visible ASCII characters, without '/', not 'a/b'"),
            (entry.replace('"demo"', '"De mo"'),
             "a.toml:3: name must be a name of up to 63 letters a-z, digits and inner hyphens, not 'De mo'"),
            (entry.replace("token_sha256", "token"),
             "a.toml:1: [[agentserver.sandbox]] needs a token_sha256: the SHA-256 of its tunnel_token, in hexadecimal digits"),
        ):
            self.assertIn(told, self.mistakes(text))

    def test_sandboxesChangeWithoutARestart(self) -> None:
        old = reader.parseEdge(EDGE, "edge.toml")
        new = reader.parseEdge(EDGE.replace("demo", "other"), "edge.toml")
        found = difference(old, new)
        self.assertEqual((found.config, found.needsRestart), (new, ()))
        limits = evolve(old, dialects={"agentserver": {**old.dialects["agentserver"], "agentserver": (EdgeSettings(),)}})
        self.assertEqual(difference(old, limits).needsRestart, ("the new [agentserver]",))


class CommandTests(SynchronousTestCase):
    """
    C{tunnelstack sandbox}.
    """

    def parse(self, *arguments: str, **options: Any) -> Any:
        return Sandboxes().parse({"id": None, "token-file": None, **options}, arguments)

    def tokenFile(self, text: str) -> str:
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)

    def test_theTokenOfAFileIsSentAsItsHash(self) -> None:
        parsed = self.parse("add", "demo", **{"id": "sbx-1", "token-file": self.tokenFile("tok-1\n")})
        self.assertEqual((parsed.which, parsed.id, parsed.tokenSha256), ("demo", "sbx-1", digest("tok-1")))

    def test_withoutAVerbItLists(self) -> None:
        self.assertEqual((self.parse().verb, self.parse("list").verb), ("list", "list"))

    def test_mistakesAreNamed(self) -> None:
        for arguments in (("ad", "x"), ("add",), ("add", "a", "b"), ("list", "a"), ("revoke",)):
            self.assertRaises(usage.UsageError, self.parse, *arguments)
        self.assertRaises(usage.UsageError, self.parse, "revoke", "demo", id="sbx-1")
        for text in ("", "two words"):
            self.assertRaises(ConfigurationError, self.parse, "add", "demo", **{"token-file": self.tokenFile(text)})
        self.assertRaises(ConfigurationError, self.parse, "add", "demo", **{"token-file": "/nowhere/token"})

    def test_textOfAnAgentIsShownPrintably(self) -> None:
        answer = {"sandboxes": [{
            "name": "demo", "id": "sbx-1", "connected": True, "hostname": "\x1b[2Jh", "agent_version": "", "configured": False,
        }]}
        _, (headings, rows) = Sandboxes().run(self.parse(), lambda method, path: answer)
        self.assertNotIn("\x1b", formatTable(headings, rows))


class AgentCommandTests(SynchronousTestCase):
    """
    C{tunnel-agent agentserver}.
    """

    FULL = ("3000", "--edge", "https://a.example", "--sandbox", "sbx-1", "--token-file", "t")

    def parse(self, *arguments: str) -> Any:
        options = makeOptions("agentserver", {})
        options.parseOptions(arguments)
        return options.config.dialects["agentserver"]["agentserver"][0]

    def test_everythingArrives(self) -> None:
        settings = self.parse(*self.FULL, "--terminal", "--shell", "/bin/sh", "--rewrite-host", "app", "--heartbeat", "5")
        self.assertEqual(settings, AgentSettings(
            url="https://a.example", sandbox="sbx-1", tokenFile="t", target="3000", terminal=True, shell="/bin/sh",
            rewriteHost="app", heartbeatSeconds=5.0,
        ))

    def test_mistakesAreNamed(self) -> None:
        for arguments in (
            (), self.FULL[:3], self.FULL[1:], (*self.FULL, "4000"), (*self.FULL, "--shell", "/bin/sh"),
            (*self.FULL, "--heartbeat", "soon"),
        ):  # fmt: skip
            self.assertRaises(usage.UsageError, self.parse, *arguments)
        self.assertRaises(ConfigurationError, self.parse, *self.FULL, "--heartbeat", "0")


class StoreTests(SynchronousTestCase):
    """
    The file of added sandboxes.
    """

    def setUp(self) -> None:
        self.state = StateDirectory(Path(self.mktemp()))

    def test_onlyHashesAreKept(self) -> None:
        _, token = SandboxStore(self.state).add("demo")
        self.assertNotIn(token, self.state.read(FILE) or "")
        self.assertEqual(self.state.path(FILE).stat().st_mode & 0o777, 0o600)

    def test_whatWasRevokedStaysRevoked(self) -> None:
        store = SandboxStore(self.state)
        sandbox, token = store.add("demo")
        store.revoke(sandbox.id)
        self.assertIsNone(SandboxStore(self.state).authenticate(sandbox.id, token))

    def test_aTokenIsForItsSandboxOnly(self) -> None:
        store = SandboxStore(self.state)
        (one, first), (two, second) = store.add("one"), store.add("two")
        self.assertIs(store.authenticate(one.id, first), one)
        for identifier, token in ((one.id, second), (two.id, first), ("gone", first), (one.id, ""), ("", "")):
            self.assertIsNone(store.authenticate(identifier, token))

    def test_aFileThatCannotBeReadStopsTheStart(self) -> None:
        for text in ("nonsense", "[]", '{"sandboxes":[{}]}', '{"sandboxes":[{"id":"a/b","name":"x","tokenSha256":"00"}]}'):
            self.state.write(FILE, text)
            self.assertRaises(ConfigurationError, SandboxStore, self.state)

    def test_oneSandboxIsNotInBothPlaces(self) -> None:
        SandboxStore(self.state).add("demo", "sbx-9")
        self.assertRaises(ConfigurationError, SandboxStore, self.state, [sandbox()])
        store = SandboxStore(self.state)
        self.assertRaises(ConfigurationError, store.prepare, [sandbox("sbx-9", "other")])
        self.assertEqual([each.id for each in store.sandboxes], ["sbx-9"])

    def test_whatCannotBeWrittenIsNotAdded(self) -> None:
        store = SandboxStore(self.state)
        self.state.folder.write_text("a file, and no folder")
        self.assertRaises(ConfigurationError, store.add, "demo")
        self.assertEqual(store.sandboxes, [])

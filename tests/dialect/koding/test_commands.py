"""
The commands of this dialect, their files, and the store of hosts.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.dialect.koding.support import KodingEdgeCase, host
from tunnelstack.control.config.reader import Mistakes, parseAgent, parseEdge
from tunnelstack.dialect.koding.commands import COMMANDS, Client, Hosts
from tunnelstack.dialect.koding.host_store import FILE, Host, HostStore, Port, digestOf
from tunnelstack.dialect.koding.settings import AgentSettings, parseTarget
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.interfaces import IAgentCommand, ICommand
from tunnelstack.settings.state_dir import StateDirectory

NONE: dict[str, Any] = {"identifier-file": None, "address": None}


class EdgeCommandTests(KodingEdgeCase):
    """
    C{tunnelstack koding}, with an edge that answers.
    """

    def run_(self, *arguments: str, **options: Any) -> tuple[Any, Any]:
        command = Hosts()
        given = {**NONE, **{name.replace("_", "-"): value for name, value in options.items()}}
        return command.run(command.parse(given, arguments), self.admin)

    def admin(self, method: str, path: str, asked: Any = None) -> Any:
        if method == "GET":
            return self.dialect.getHandlers[path.encode()]()
        return self.dialect.postHandlers[path.encode()](asked)

    def test_commandsAreWhatTheyPromise(self) -> None:
        for interface, command in zip((ICommand, IAgentCommand), COMMANDS, strict=True):
            verifyObject(interface, command)

    def test_aHostIsAddedForANewClient(self) -> None:
        self.begin()
        answer, identifier = self.run_("add", "new.test")
        self.assertEqual(len(identifier.strip()), 32)
        self.assertEqual(answer["identifier"], identifier.strip())
        self.connect(identifier.strip())
        _, (headings, rows) = self.run_()
        self.assertEqual(headings, ("PUBLIC", "CLIENT", "CONNECTED", "FROM"))
        self.assertEqual(list(rows), [
            ("app.test", "koding.app.test", "-", "file"), ("new.test", "koding.new.test", "yes", "command"),
        ])
        self.assertEqual(self.run_("revoke", "new.test")[1], "new.test is revoked\n")

    def test_aHostAndAPortAreAddedForAKnownClient(self) -> None:
        self.begin()
        path = Path(self.mktemp())
        path.write_text("1234\n")
        self.assertEqual(
            self.run_("add", "second.test", identifier_file=str(path))[1], "second.test is served by koding.app.test\n"
        )
        self.assertEqual(
            self.run_("open", "7005", "second.test", address="127.0.0.1")[1], "port 7005 is opened for koding.app.test\n"
        )
        _, (_, rows) = self.run_("list")
        self.assertIn(("tcp:127.0.0.1:7005", "koding.app.test", "-", "command"), rows)
        self.assertEqual(self.run_("close", "7005", address="127.0.0.1")[1], "port 7005 is closed for koding.app.test\n")

    def test_invalidArgumentsAreUsageErrors(self) -> None:
        for arguments, options in (
            (("ad", "x"), {}), (("add",), {}), (("revoke", "a", "b"), {}), (("open", "7005"), {}),
            (("open", "x", "a.test"), {}),
            (("close", "70000"), {}), (("list",), {"identifier-file": "f"}), (("add", "a.test"), {"address": "127.0.0.1"}),
            (("add", "a.test"), {"identifier-file": "/nonexistent"}), (("add", "a.test"), {"identifier-file": "/dev/null"}),
        ):
            self.assertRaises(usage.UsageError, Hosts().parse, {**NONE, **options}, arguments)


class AgentCommandTests(SynchronousTestCase):
    """
    C{tunnel-agent koding}.
    """

    OPTIONS = {"edge": "https://t.example", "identifier-file": "id", "ca-file": None, "insecure": 0}

    def test_targetsAreArguments(self) -> None:
        tables = Client().parse(self.OPTIONS, ("http", "3000", "tcp", "2222=22", "http", "8081=localhost:3001"))
        self.assertEqual(tables, {"koding": (AgentSettings(
            url="https://t.example", identifierFile="id", http=("3000", "8081=localhost:3001"), tcp=("2222=22",),
        ),)})  # fmt: skip

    def test_invalidArgumentsAreUsageErrors(self) -> None:
        for arguments in ((), ("http",), ("3000",), ("serve", "x"), ("http", "3000", "tcp")):
            self.assertRaises(usage.UsageError, Client().parse, self.OPTIONS, arguments)
        for missing in ("edge", "identifier-file"):
            self.assertRaises(usage.UsageError, Client().parse, {**self.OPTIONS, missing: None}, ("http", "3000"))
        self.assertRaises(ConfigurationError, Client().parse, self.OPTIONS, ("http", "70000=3000"))

    def test_theProgramReadsIt(self) -> None:
        from tunnelstack.agent.options import Options

        path = Path(self.mktemp())
        path.write_text("1234")
        options = Options({})
        options.parseOptions(["koding", "-e", "http://localhost:8080", "--identifier-file", str(path), "http", "3000"])
        (table,) = options.config.dialects["koding"]["koding"]
        self.assertEqual((table.url, table.http), ("http://localhost:8080", ("3000",)))


class SettingsTests(SynchronousTestCase):
    """
    Files.
    """

    def wrong(self, text: str, parse: Any = parseEdge) -> str:
        return str(self.assertRaises(Mistakes, parse, text, "f.toml"))

    def test_theTablesOfAnEdgeAreRead(self) -> None:
        digest = digestOf(b"x")
        config = parseEdge(
            f'[[koding.host]]\nhost = "a.test"\nidentifier_sha256 = "{digest}"\n'
            '[[koding.port]]\nport = 22\nhost = "a.test"\n', "f",
        )
        tables = config.dialects["koding"]
        self.assertEqual((tables["koding.host"][0].host, tables["koding.port"][0].port), ("a.test", 22))
        self.assertEqual(tables["koding"][0].openSeconds, 10.0)

    def test_mistakesOfAnEdgesFileAreReported(self) -> None:
        alone = self.wrong('[[koding.host]]\nhost = "a.test"\n')
        self.assertIn("needs either an identifier_file or an identifier_sha256", alone)
        for name in ("A.test", "a.test:80", "192.0.2.1", "a_b", ""):
            self.assertIn("f.toml:2: host must be", self.wrong(f'[[koding.host]]\nhost = "{name}"\nidentifier_file = "x"\n'))
        ports = '[[koding.port]]\nport = 22\nhost = "a.test"\n'
        self.assertIn("port 22 of the same address twice", self.wrong(ports + ports))
        self.assertIn("port 22 of the same address twice", self.wrong(ports + ports + 'address = "127.0.0.1"\n'))
        self.assertIn("address must be an IP address", self.wrong(ports + 'address = "here"\n'))
        other = ports + 'address = "127.0.0.1"\n' + ports + 'address = "127.0.0.2"\n'
        self.assertEqual(len(parseEdge(other, "f").dialects["koding"]["koding.port"]), 2)

    def test_mistakesOfAnAgentsFileAreReported(self) -> None:
        start = '[[koding]]\nurl = "http://localhost"\nidentifier_file = "x"\n'
        self.assertIn("serves nothing", self.wrong(start, parseAgent))
        self.assertIn("two targets for the same port", self.wrong(start + 'http = ["3000", "3001"]\n', parseAgent))
        self.assertIn("must be TARGET, or PORT=TARGET", self.wrong(start + 'tcp = ["0=", ""]\n', parseAgent))
        path = start.replace("localhost", "localhost/x") + 'http = ["1"]\n'
        self.assertIn("must not have a path", self.wrong(path, parseAgent))

    def test_aTargetMayBeginWithAPort(self) -> None:
        for text, wanted in (
            ("3000", (0, "3000")), ("8081=3000", (8081, "3000")), ("tcp:h:80:timeout=5", (0, "tcp:h:80:timeout=5")),
            ("80=unix:/a=b", (80, "unix:/a=b")),
        ):
            self.assertEqual(parseTarget(text), wanted)


class StoreTests(SynchronousTestCase):
    """
    What outlives the process.
    """

    def store(self, *hosts: Host, ports: Any = ()) -> HostStore:
        return HostStore(StateDirectory(self.path), hosts, ports)

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_hostsOfCommandsAreKept(self) -> None:
        store = self.store()
        store.add("a.test", digestOf(b"secret-a"))
        store.add("b.test", digestOf(b"secret-a"))
        store.open(22, "b.test", "127.0.0.1")
        again = self.store()
        self.assertEqual(again.hosts, store.hosts)
        self.assertEqual(again.ports, store.ports)
        self.assertEqual(again.clientOf(b"secret-a"), "koding.a.test")
        self.assertEqual(again.portsOf("koding.a.test"), [Port(port=22, host="b.test", address="127.0.0.1")])
        file = self.path / FILE
        self.assertNotIn("secret", file.read_text())
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)

    def test_aFilePrecedesWhatWasAddedByCommand(self) -> None:
        self.store().add("a.test", digestOf(b"old"))
        store = self.store(Host(host="a.test", digest=digestOf(b"new"), configured=True))
        self.assertEqual((store.clientOf(b"new"), store.clientOf(b"old")), ("koding.a.test", None))
        self.assertRaises(Denied, store.revoke, "a.test")

    def test_aClientKeepsItsNameWithoutTheHostThatGaveIt(self) -> None:
        store = self.store()
        for name in ("a.test", "b.test"):
            store.add(name, digestOf(b"one"))
        store.revoke("a.test")
        self.assertEqual(store.clientOf(b"one"), "koding.a.test")
        self.assertEqual(self.store().clientOf(b"one"), "koding.a.test")
        other = store.add("a.test", digestOf(b"two"))
        self.assertEqual(other.client, f"koding.a.test.{digestOf(b'two')[:8]}")
        store.revoke("b.test")
        self.assertIsNone(store.clientOf(b"one"))

    def test_portsGoWithTheirHost(self) -> None:
        store = self.store()
        store.add("a.test", digestOf(b"one"))
        store.open(22, "a.test")
        store.revoke("a.test")
        self.assertEqual(store.ports, [])

    def test_aFileThatCannotBeRead(self) -> None:
        self.store().add("a.test", digestOf(b"one"))
        for text in ("nonsense", "[]", '{"hosts":[{"other":1}],"ports":[]}'):
            (self.path / FILE).write_text(text)
            self.assertRaises(ConfigurationError, self.store)

    def test_nothingIsKeptWithoutAFolder(self) -> None:
        store = HostStore()
        store.add("a.test", digestOf(b"one"))
        self.assertIsNotNone(store.find("a.test"))
        self.assertEqual(host().host, "app.test")

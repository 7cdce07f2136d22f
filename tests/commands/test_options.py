"""
The command lines of edge and agent: what is said where, and which source wins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent import options as agentTap
from tunnelstack.commands import admin_client, check, connect, dialect_command, password, token
from tunnelstack.commands.main import Commands
from tunnelstack.control.config.dev_edge import readDevEdge, writeDevEdge
from tunnelstack.control.config.records import EdgeAddress, ServiceConfig
from tunnelstack.control.options import CREDENTIAL
from tunnelstack.demo import command as demo
from tunnelstack.doctor import command as doctor
from tunnelstack.edge import options as edgeTap
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.state_dir import StateDirectory

LOOPBACK = "tcp:9000:interface=127.0.0.1"


class Case(SynchronousTestCase):
    """
    A user with a home.
    """

    tap: Any

    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()
        self.environ = {"STATE_DIRECTORY": str(self.home / "state")}

    def read(self, *arguments: str, **environ: str) -> Any:
        options = self.tap.Options(self.environ | environ)
        options.parseOptions(arguments)
        return options.config

    def refused(self, kind: type[Exception], *arguments: str, **environ: str) -> str:
        return str(self.assertRaises(kind, self.read, *arguments, **environ))

    def file(self, text: str) -> str:
        path = self.home / "file.toml"
        path.write_text(text)
        return str(path)


class EdgeTests(Case):
    """
    C{tunnel-edge}.
    """

    tap = edgeTap

    def test_theDefaultsNeedNoOption(self) -> None:
        edge = self.read()
        self.assertEqual((edge.listen, edge.domain, edge.dev, edge.tokens), (("tcp:8080",), "localhost", False, ()))
        self.assertEqual(edge.stateDirectory, self.environ["STATE_DIRECTORY"])

    def handedOver(self, count: int, text: str, *arguments: str) -> Any:
        """
        What is read of a file by an edge to which systemd hands over so many sockets.
        """
        options = edgeTap.Options(self.environ)
        options._activated = tuple(f"systemd:domain=INET:index={index}" for index in range(count))
        options.parseOptions(["--config", self.file(text), *arguments])
        return options.config

    def test_socketsTakeTheSettingsOfTheListenersInTheirOrder(self) -> None:
        edge = self.handedOver(
            3, '[edge]\nlisten = ["haproxy:tcp:80"]\n[[listener]]\nendpoint = "tls:certs:port=443"\nclient_ca = "ca.pem"\n'
            'client_auth = "require"\n[[listener]]\nendpoint = "tcp:81"\nredirect = true\n',
        )  # fmt: skip
        self.assertEqual(edge.listen, ())
        self.assertEqual(
            [(each.endpoint, each.clientCa, each.clientAuth, each.redirect, each.socket) for each in edge.listeners],
            [
                ("haproxy:tcp:80", "", "", False, "systemd:domain=INET:index=0"),
                ("tls:certs:port=443", "ca.pem", "require", False, "systemd:domain=INET:index=1"),
                ("tcp:81", "", "", True, "systemd:domain=INET:index=2"),
            ],
        )

    def test_moreOrFewerSocketsThanListenersAreAnError(self) -> None:
        text = '[edge]\nlisten = ["tcp:80", "tls:certs:port=443"]\n'
        for count in (1, 3):
            told = str(self.assertRaises(ConfigurationError, self.handedOver, count, text))
            self.assertIn(f"LISTEN_FDS: {count}", told)
            self.assertIn("configuration (2)", told)

    def test_aListenerAloneTakesTheOnlySocket(self) -> None:
        edge = self.handedOver(1, '[[listener]]\nendpoint = "tls:certs:port=443"\n')
        placed = [(each.endpoint, each.socket) for each in edge.listeners]
        self.assertEqual(placed, [("tls:certs:port=443", "systemd:domain=INET:index=0")])

    def test_whoSaysNothingOfListenersServesPlainHTTPOnEverySocket(self) -> None:
        edge = self.handedOver(2, "[edge]\n")
        self.assertEqual(edge.listen, ("systemd:domain=INET:index=0", "systemd:domain=INET:index=1"))

    def test_socketsThatTheFileNamesItselfAreNotPlacedElsewhere(self) -> None:
        for text in (
            '[edge]\nlisten = ["systemd:domain=INET:index=0", "tcp:1"]\n',
            '[edge]\nlisten = []\n[[listener]]\nendpoint = "haproxy:systemd:domain=INET:index=1"\n',
        ):
            edge = self.handedOver(2, text)
            self.assertEqual({listener.socket for listener in edge.listeners} - {""}, set())
        edge = self.handedOver(2, '[edge]\nlisten = ["tls:c"]\n[admin]\nlisten = "systemd:domain=INET:index=0"\n')
        self.assertEqual([each.socket for each in edge.listeners], ["systemd:domain=INET:index=1"])

    def test_flagsWinOverSockets(self) -> None:
        self.assertEqual(self.handedOver(2, "[edge]\n", "--listen", LOOPBACK).listen, (LOOPBACK,))

    def test_flagsWinOverEnvironmentAndThatOverTheFile(self) -> None:
        path = self.file('[edge]\nlisten = ["tcp:1"]\ndomain = "file.net"\ndrain_seconds = 7\n')
        environ = {"TUNNELSTACK_CONFIG": path}
        edge = self.read(**environ)
        self.assertEqual((edge.listen, edge.domain, edge.drainSeconds), (("tcp:1",), "file.net", 7))
        environ |= {"TUNNELSTACK_LISTEN": "tcp:2 tcp:3", "TUNNELSTACK_DOMAIN": "Environ.NET."}
        edge = self.read(**environ)
        self.assertEqual((edge.listen, edge.domain), (("tcp:2", "tcp:3"), "environ.net"))
        edge = self.read("-l", "tcp:4", "--listen=tcp:5", "--domain", "flag.net", "--drain", "1.5", **environ)
        self.assertEqual((edge.listen, edge.domain, edge.drainSeconds), (("tcp:4", "tcp:5"), "flag.net", 1.5))
        self.assertEqual(self.read("--port", "9", **environ).listen, ("tcp:9",))

    def test_theDashboardIsOnLoopback(self) -> None:
        path = self.file('[edge]\n[admin]\nlisten = "tcp:9"\nhosts = ["a.example"]\n')
        admin = self.read("--dashboard", "9000", TUNNELSTACK_CONFIG=path).admin
        self.assertEqual((admin.listen, admin.hosts), ("tcp:9000:interface=127.0.0.1", ("a.example",)))
        self.assertEqual(self.read(TUNNELSTACK_CONFIG=path).admin.listen, "tcp:9")

    def test_devIsForThisMachineAlone(self) -> None:
        edge = self.read("--dev", "--port", "9000")
        self.assertEqual(edge.listen[0], LOOPBACK)
        for endpoint in edge.listen:
            self.assertRegex(endpoint, r"^tcp:9000:interface=(127\.0\.0\.1|\\:\\:1)$")
        self.assertEqual((edge.portsInterface, edge.dev), ("127.0.0.1", True))
        (token,) = edge.tokens
        self.assertEqual((token.name, token.share), ("dev", False))

    def test_aPortIsEnoughToListen(self) -> None:
        self.assertEqual(self.read("--listen", "80", "-l", ":81", "-l", "127.0.0.1:82").listen, (
            "tcp:80", "tcp:81", "tcp:82:interface=127.0.0.1",
        ))  # fmt: skip
        self.assertEqual(self.read(TUNNELSTACK_LISTEN="80 haproxy:81").listen, ("tcp:80", "haproxy:tcp:81"))
        path = self.file(
            '[edge]\nlisten = ["80"]\n[[listener]]\nendpoint = ":81"\n[ssh]\nlisten = ["2222"]\n[admin]\nlisten = "9000"\n'
        )
        edge = self.read("--config", path)
        self.assertEqual((edge.listen, edge.listeners[0].endpoint, edge.ssh.listen), (("tcp:80",), "tcp:81", ("tcp:2222",)))
        self.assertEqual(edge.admin.listen, "tcp:9000:interface=127.0.0.1")

    def test_aPortWithDevIsForThisMachineAlone(self) -> None:
        for text in ("9000", ":9000"):
            self.assertEqual(self.read("--dev", "--listen", text).listen, self.read("--dev", "--port", "9000").listen)
        self.refused(usage.UsageError, "--dev", "--listen", "99999")

    def test_devKeepsItsToken(self) -> None:
        options = edgeTap.Options(self.environ)
        options.parseOptions(["--dev"])
        # nobody shall look for an edge that may not start
        self.assertIsNone(readDevEdge(StateDirectory(self.home / "state")))
        self.assertEqual(self.read("--dev").tokens, options.config.tokens)
        (self.home / "state" / "dev.token").unlink()
        self.assertNotEqual(self.read("--dev").tokens, options.config.tokens)

    def test_wrongOptionsAreRejected(self) -> None:
        for arguments in (
            ("x",), ("--port", "65536"), ("--port", "-1"), ("--drain", "x"), ("--port", "1", "--listen", "tcp:2"),
            ("--dashboard", "tcp:9000"),
        ):  # fmt: skip
            self.refused(usage.UsageError, *arguments)
        told = self.refused(ConfigurationError, "--domain", "not a name")
        self.assertTrue(told.startswith("--domain must be a host name"), told)
        self.refused(usage.UsageError, "--domain", "not a name")      # which is what twistd shows without a traceback


class AgentTests(Case):
    """
    C{tunnel-agent}.
    """

    tap = agentTap

    def setUp(self) -> None:
        super().setUp()
        kept = str(self.home / "state" / "dev.token")
        self.dev = EdgeAddress(url="http://localhost:8080", token="dev-token", tokenFile=kept)
        writeDevEdge(StateDirectory(self.home / "state"), self.dev)

    def test_theFirstOctetOfAWebServerHasATime(self) -> None:
        (service,) = self.read("--dev", "http", "3000", "--first-octet", "120.5").services
        self.assertEqual(service.firstOctetSeconds, 120.5)
        self.assertIn("a number of seconds", self.refused(usage.UsageError, "--dev", "http", "3000", "--first-octet", "soon"))
        self.refused(usage.UsageError, "--dev", "tcp", "3000", "--first-octet", "3")

    def test_anUnencryptedWayOffThisMachineHasToBeAllowed(self) -> None:
        environ = {"TUNNELSTACK_TOKEN": "t", "TUNNELSTACK_EDGE": "http://edge.example"}
        self.assertIn("--insecure", self.refused(ConfigurationError, "http", "3000", **environ))
        for arguments in (("--insecure", "http", "3000"), ("http", "3000", "--insecure")):
            self.assertEqual([edge.url for edge in self.read(*arguments, **environ).edges], ["http://edge.example"])
        dialling = connect.Options(self.environ | environ)
        self.assertRaises(ConfigurationError, dialling.parseOptions, ["db"])
        dialling = connect.Options(self.environ | environ)
        dialling.parseOptions(["db", "--insecure"])
        self.assertEqual(dialling.config.edges[0].token, "t")
        options = doctor.Options()
        options.parseOptions([])
        self.assertRaises(ConfigurationError, doctor.main, options, self.environ | environ)

    def test_aCommandLinePublishesOneService(self) -> None:
        agent = self.read("--dev", "http", "3000", "--name", "myapp", "--rewrite-host", "inner")
        self.assertEqual(agent.services, (ServiceConfig(name="myapp", target="3000", rewriteHost="inner"),))
        self.assertEqual(agent.edges, (self.dev,))
        agent = self.read("--edge", "https://a.net", "--ca-file", "ca.pem", "http", "3000", TUNNELSTACK_TOKEN="t")
        self.assertEqual(agent.edges, (EdgeAddress(url="https://a.net", token="t", caFile="ca.pem"),))
        agent = self.read("tcp", "--remote-port=2200", "127.0.0.1:22", "-n", "shell")
        self.assertEqual(
            agent.services, (ServiceConfig(name="shell", kind="tcp", target="127.0.0.1:22", remotePort=2200),)
        )

    def test_aServiceIsCalledLikeTheMachine(self) -> None:
        for host, label in (
            ("laptop", "laptop"), ("Anna's Laptop.local", "anna-s-laptop"), ("_", "agent"), ("x" * 80, "x" * 63),
        ):  # fmt: skip
            self.assertEqual(agentTap.hostLabel(host), label)
        self.assertEqual(self.read("http", "1", TUNNELSTACK_NAME="named").services[0].name, "named")

    def test_aFileMayHaveSeveralServices(self) -> None:
        path = self.file('[[service]]\nname = "a"\ntarget = "1"\n[[service]]\nname = "b"\ntarget = "2"\n')
        self.assertEqual([service.name for service in self.read("start", "-c", path).services], ["a", "b"])
        self.assertEqual([service.name for service in self.read("http", "3", "-n", "c", "-c", path).services], ["c"])

    def test_theTimeToGiveUpHasThreeSources(self) -> None:
        self.assertEqual(self.read("http", "1").giveUpAfterSeconds, 0)
        self.assertEqual(self.read("http", "1", TUNNELSTACK_GIVE_UP_AFTER="5").giveUpAfterSeconds, 5)
        self.assertEqual(self.read("http", "1", "--give-up-after", "6", TUNNELSTACK_GIVE_UP_AFTER="5").giveUpAfterSeconds, 6)

    def test_wrongOptionsAreRejected(self) -> None:
        for arguments in (
            (), ("ftp", "1"), ("http",), ("http", "1", "2"), ("start", "1"), ("serve", ".", "--remote-port", "1"),
            ("start", "--name", "a"), ("tcp", "1", "--rewrite-host", "a"), ("http", "1", "--remote-port", "2"),
            ("tcp", "1", "--insecure-origin"), ("http", "1", "--rewrite-origin"),
        ):  # fmt: skip
            self.refused(usage.UsageError, *arguments)
        for arguments, told in (
            (("start",), "nothing to publish"), (("serve", "/nowhere"), "/nowhere is not a folder"),
            (("http", "0"), "the port must be"), (("http", "1", "--name", "Not A Name"), "name must be a name"),
            (("http", "1", "--edge", "ftp://localhost"), "--edge must be a URL"),
            (("http", "1", "--insecure-origin"), "insecure_origin is for a target at https:"),
            (("tcp", "localhost"), "it has no port"), (("http", "http://localhost/a"), "leave out the path"),
        ):  # fmt: skip
            self.assertIn(told, str(self.assertRaises(ConfigurationError, self.start, *arguments)))

    def start(self, *arguments: str, **environ: str) -> Any:
        """
        What an agent starts with.
        """
        options = self.tap.Options(self.environ | environ)
        options.parseOptions(arguments)
        return options.checked(MemoryReactorClock(), options.config)

    def test_aCredentialIsNeverAnArgument(self) -> None:
        for arguments in (
            ("http", "1", "--token", "x"), ("--token=x", "http", "1"), ("http", "ts_0123_abc"),
            ("http", "1", "--token-file", "ts_0123_abc"),
        ):  # fmt: skip
            self.assertEqual(self.refused(usage.UsageError, *arguments), CREDENTIAL)


def devices() -> dialect_command.EdgeCommandOptions:
    """
    The options of a command that a dialect adds.
    """
    return dialect_command.makeOptions("devices")


class HelpTests(SynchronousTestCase):
    """
    C{--help}.
    """

    screens = (
        edgeTap.Options, agentTap.Options, Commands,
        *(command.Options for command in (admin_client, check, connect, demo, doctor, password, token)), devices,
    )  # fmt: skip

    def test_fitsAScreenAndBeginsWithExamples(self) -> None:
        for options in self.screens:
            lines = str(options()).splitlines()
            self.assertLessEqual(len(lines), 42, options)
            self.assertLessEqual(max(map(len, lines)), 128, options)
            examples = [line for line in lines[:14] if line.startswith(("  tunnel", "  twistd", "  ssh", "  NAME"))]
            self.assertEqual(len(examples), 3, (options, examples))

    def test_theHelpNamesEveryOption(self) -> None:
        for options in self.screens:
            shown = str(options())
            for name in options().longOpt:
                if name not in ("token=", "help", "version"):
                    self.assertIn(f"--{name.rstrip('=')}", shown, options)

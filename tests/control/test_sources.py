"""
Which edge, and with which token: the order of sources, and that no token goes to an edge it is not for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.dev_edge import writeDevEdge
from tunnelstack.control.config.records import AgentConfig, EdgeAddress
from tunnelstack.control.config.sources import Sources
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings import state_dir
from tunnelstack.settings.state_dir import StateDirectory, stateDirectoryPath

FILE = """
[[edge]]
url = "https://file.example.net"
token_file = "${SECRETS}/file-token"
"""


class SourcesTests(SynchronousTestCase):
    """
    All four sources at once, and each alone.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        (self.folder / "agent.toml").write_text(FILE)
        (self.folder / "file-token").write_text("file-token\n")
        (self.folder / "given-token").write_text("  given-token\n")
        self.file = {"TUNNELSTACK_CONFIG": str(self.folder / "agent.toml"), "SECRETS": str(self.folder)}
        self.named = {"TUNNELSTACK_EDGE": "https://env.example.net", "TUNNELSTACK_TOKEN": "env-token"}

    def environ(self, *parts: dict[str, str], dev: str = "") -> dict[str, str]:
        environ = {"XDG_STATE_HOME": str(self.folder)}
        for part in parts:
            environ.update(part)
        if dev:
            writeDevEdge(StateDirectory(stateDirectoryPath(environ)), EdgeAddress(url=dev, token="dev-token"))
        return environ

    def edge(self, environ: dict[str, str], *given: Any, **options: Any) -> tuple[str, str]:
        (edge,) = Sources(environ).edges(*given, **options)
        return edge.url, edge.token

    def refuses(self, environ: dict[str, str], *given: Any, **options: Any) -> str:
        with self.assertRaises(ConfigurationError) as caught:
            Sources(environ).edges(*given, **options)
        return str(caught.exception)

    def test_whatIsGivenComesFirst(self) -> None:
        environ = self.environ(self.file, self.named, dev="http://localhost:8080")
        given = "https://given.example.net", str(self.folder / "given-token")
        self.assertEqual(self.edge(environ, *given), ("https://given.example.net", "given-token"))

    def test_theEnvironmentPrecedesTheFile(self) -> None:
        environ = self.environ(self.file, self.named, dev="http://localhost:8080")
        self.assertEqual(self.edge(environ), ("https://env.example.net", "env-token"))

    def test_theFilePrecedesTheDevEdge(self) -> None:
        environ = self.environ(self.file, dev="http://localhost:8080")
        self.assertEqual(self.edge(environ), ("https://file.example.net", "file-token"))

    def test_theDevEdgeIsUsedLast(self) -> None:
        environ = self.environ(dev="http://localhost:8080")
        self.assertEqual(self.edge(environ), ("http://localhost:8080", "dev-token"))

    def test_devAsksNothingElse(self) -> None:
        environ = self.environ(self.file, self.named, dev="http://localhost:8080")
        self.assertEqual(self.edge(environ, dev=True), ("http://localhost:8080", "dev-token"))

    def test_aTokenOfOneEdgeIsNotShownToAnother(self) -> None:
        environ = self.environ(self.file, dev="http://localhost:8080")
        told = self.refuses(environ, "https://other.example.net")
        self.assertEqual(
            told,
            "no token for https://other.example.net is configured: set TUNNELSTACK_TOKEN, or name a file with --token-file",
        )

    def test_aNamedEdgeFindsItsOwnToken(self) -> None:
        environ = self.environ(self.file, dev="http://localhost:8080")
        self.assertEqual(self.edge(environ, "http://LOCALHOST:8080/"), ("http://LOCALHOST:8080/", "dev-token"))
        self.assertEqual(self.edge(environ, "https://file.example.net/")[1], "file-token")

    def test_theEnvironmentMayNameATokenFile(self) -> None:
        environ = self.environ(
            {"TUNNELSTACK_EDGE": "https://a.net", "TUNNELSTACK_TOKEN_FILE": str(self.folder / "given-token")}
        )
        self.assertEqual(self.edge(environ), ("https://a.net", "given-token"))

    def test_noEdgeSaysWhatToDo(self) -> None:
        told = self.refuses(self.environ())
        self.assertIn("--edge URL", told)
        self.assertIn(str(self.folder / "tunnelstack"), told)

    def test_aMistakeNamesItsSource(self) -> None:
        self.assertTrue(self.refuses(self.environ(), "ftp://a.net").startswith("--edge must be a URL such as"))
        wrong = self.environ({"TUNNELSTACK_EDGE": "ftp://a.net"})
        self.assertTrue(self.refuses(wrong).startswith("TUNNELSTACK_EDGE must be a URL such as"))

    def test_whatAnEdgePrintsIsItsURL(self) -> None:
        """
        The kind: each place that takes the URL of an edge takes what an edge prints, and finds the token for it.
        """
        environ = self.environ(self.file, dev="http://localhost:8080")
        for text in ("ws://localhost:8080/_tunnel/1", "localhost:8080", "http://localhost:8080/_tunnel/1/"):
            self.assertEqual(self.edge(environ, text), ("http://localhost:8080", "dev-token"))
            self.assertEqual(self.edge(environ | {"TUNNELSTACK_EDGE": text}), ("http://localhost:8080", "dev-token"))
        for text in ("wss://file.example.net/_tunnel/1", "file.example.net"):
            self.assertEqual(self.edge(environ, text), ("https://file.example.net", "file-token"))

    def test_aTokenIsOneWordAndNotShown(self) -> None:
        for token in ("two words", "line\nline", "x" * 1025, "\u00fc"):
            told = self.refuses(self.environ({"TUNNELSTACK_TOKEN": token}), "https://a.net")
            self.assertTrue(told.startswith("TUNNELSTACK_TOKEN does not contain a token"))
            self.assertNotIn(token, told)

    def test_aMissingTokenFileIsOneSentence(self) -> None:
        told = self.refuses(self.environ(), "https://a.net", "/nowhere/token")
        self.assertEqual(told, "/nowhere/token cannot be read: No such file or directory")

    def test_theEnvironmentInAFileMustBeThere(self) -> None:
        del self.file["SECRETS"]
        self.assertIn("names an environment variable that is not set", self.refuses(self.environ(self.file)))

    def test_aCredentialOfSystemdIsUsed(self) -> None:
        (self.folder / "tunnelstack-token").write_text("systemd-token\n")
        environ = self.environ({"CREDENTIALS_DIRECTORY": str(self.folder)})
        self.assertEqual(self.edge(environ, "https://a.net"), ("https://a.net", "systemd-token"))
        self.assertEqual(self.edge({**environ, "TUNNELSTACK_TOKEN": "other"}, "https://a.net")[1], "other")
        self.assertIn("no token", self.refuses(self.environ({"CREDENTIALS_DIRECTORY": "/nowhere"}), "https://a.net"))

    def test_theProxyOfTheEnvironmentUnlessTheFileSaysOther(self) -> None:
        environ = self.environ({"TUNNELSTACK_TOKEN": "t", "HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "b.net"})
        for url, proxy in (("https://a.net", "http://proxy:3128"), ("http://a.net", ""), ("https://b.net", "")):
            [edge] = Sources(environ).edges(url, insecure=True)
            self.assertEqual(edge.proxy, proxy)
        agent = AgentConfig(edges=(EdgeAddress(url="https://a.net", proxy="direct"),))
        [edge] = Sources(environ).edges(agent=agent)
        self.assertEqual(edge.proxy, "direct")

    def test_aTokenCrossesTheNetworkUnencryptedOnlyIfThatIsAllowed(self) -> None:
        environ = self.environ({"TUNNELSTACK_TOKEN": "secret-token"})
        for url in (
            "http://a.net", "http://10.0.0.1:8080", "http://[fe80::1]:8080", "HTTP://A.net/base", "http://localhost.a.net",
            "http://127.0.0.1.a.net", "http://notlocalhost", "http://0.0.0.0", "http://[::ffff:10.0.0.1]", "http://128.0.0.1",
        ):
            told = self.refuses(environ, url)
            self.assertIn("unencrypted", told)
            self.assertIn("--insecure", told)
            self.assertIn("insecure = true in [[edge]]", told)
            self.assertNotIn("secret-token", told)
            self.assertEqual(self.edge(environ, url, insecure=True), (url, "secret-token"))
            agent = AgentConfig(edges=(EdgeAddress(url=url, insecure=True),))
            self.assertEqual(self.edge(environ, agent=agent), (url, "secret-token"))
            self.refuses(environ, agent=AgentConfig(edges=(EdgeAddress(url=url),)))

    def test_aTokenMayGoToThisMachineUnencrypted(self) -> None:
        environ = self.environ({"TUNNELSTACK_TOKEN": "t"})
        for url in (
            "https://a.net", "http://localhost", "http://LOCALHOST.:8080", "http://a.localhost", "http://127.0.0.1:1",
            "http://127.8.9.1", "http://[::1]:8080", "http://[::ffff:127.0.0.1]",
        ):  # fmt: skip
            self.assertEqual(self.edge(environ, url), (url, "t"))

    def test_withoutAHomeAnEdgeAndATokenThatAreNamedAreEnough(self) -> None:
        def unknown(uid: int) -> Any:
            raise KeyError(uid)

        self.patch(state_dir, "getpwuid", unknown)
        self.assertEqual(self.edge(self.named), ("https://env.example.net", "env-token"))
        self.assertIn("no token for https://a.net", self.refuses({}, "https://a.net"))
        self.assertIn("STATE_DIRECTORY", self.refuses({}))

    def test_aProxyTakesAnUnencryptedTokenFromThisMachine(self) -> None:
        environ = self.environ({"TUNNELSTACK_TOKEN": "t"})
        for url, proxy, refused in (
            ("http://localhost", "http://proxy:3128", True), ("http://127.0.0.1", "https://proxy", True),
            ("http://localhost", "direct", False), ("https://a.net", "http://proxy:3128", False),
        ):  # fmt: skip
            agent = AgentConfig(edges=(EdgeAddress(url=url, proxy=proxy),))
            if refused:
                self.assertIn("unencrypted", self.refuses(environ, agent=agent))
            else:
                self.assertEqual(self.edge(environ, agent=agent), (url, "t"))

    def test_theFileOfATokenIsRemembered(self) -> None:
        given = str(self.folder / "given-token")
        sources = Sources(self.environ(self.file))
        self.assertEqual([edge.tokenFile for edge in sources.edges()], [str(self.folder / "file-token")])
        self.assertEqual([edge.tokenFile for edge in sources.edges("https://a.net", given)], [given])
        named = Sources(self.environ(self.file, {"TUNNELSTACK_TOKEN_FILE": given}))
        self.assertEqual([edge.tokenFile for edge in named.edges("https://a.net")], [given])
        set_ = Sources(self.environ(self.file, {"TUNNELSTACK_TOKEN": "t"}))
        self.assertEqual([(edge.token, edge.tokenFile) for edge in set_.edges()], [("t", "")])

    def test_aCertificateNeedsNoToken(self) -> None:
        agent = AgentConfig(edges=(EdgeAddress(url="https://a.net", certificateFile="a.pem"),))
        [edge] = Sources(self.environ()).edges(agent=agent)
        self.assertEqual(edge.token, "")

    def test_whichAuthoritiesAreTrusted(self) -> None:
        """
        A flag wins over the environment, and that over the file; the environment is for edges with TLS only.
        """
        agent = AgentConfig(edges=(EdgeAddress(url="https://a.net", token="t", caFile="file.pem"),))
        environ = self.environ({"TUNNELSTACK_CA_FILE": "environ.pem", "TUNNELSTACK_TOKEN": "t"}, dev="http://localhost:8080")
        for sources, options, expected in (
            (self.environ(), {}, "file.pem"),
            (environ, {}, "environ.pem"),
            (environ, {"caFile": "flag.pem"}, "flag.pem"),
            (environ, {"url": "https://b.net"}, "environ.pem"),
            (environ, {"url": "http://b.net", "insecure": True}, ""),
            (environ, {"url": "http://b.net", "caFile": "flag.pem", "insecure": True}, "flag.pem"),
            (environ, {"dev": True}, ""),
        ):
            [edge] = Sources(sources).edges(agent=agent, **options)  # type: ignore[arg-type]
            self.assertEqual(edge.caFile, expected, (sources, options))

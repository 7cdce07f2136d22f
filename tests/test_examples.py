"""
What the documentation shows is run, and what it points to is there.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import unittest
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.transport.certificates import authority
from tests.wire.vectors_yamux import GOLDEN, ODD
from tunnelstack.agent import service
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.interfaces import IStreamHandler
from tunnelstack.transport.certificates import CertificateFolder

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"

FIND = """
from tunnelstack.interfaces import IStreamHandler
from twisted.plugin import getPlugins
print(*(handler.name for handler in getPlugins(IStreamHandler)))
"""


PROJECT = "https://github.com/tunnelstack/tunnelstack/"


def script(name: str) -> Any:
    """
    @return: a script of C{docs/} as a module.
    """
    return SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / f"{name}.py")))


def code(name: str) -> str:
    """
    @return: an example without its docstring.
    """
    return (EXAMPLES / name).read_text().partition('"""\n\n')[2]


class HandlerTests(SynchronousTestCase):
    """
    The handler of C{docs/howto/write-a-handler.md}.
    """

    def handler(self) -> Any:
        return runpy.run_path(str(EXAMPLES / "shout.py"))["shout"]

    def test_isAHandler(self) -> None:
        verifyObject(IStreamHandler, self.handler())

    def test_fitsIntoFifteenLines(self) -> None:
        written = [line for line in code("shout.py").splitlines() if line]
        self.assertLessEqual(len(written), 15)

    def test_itsOwnTestPasses(self) -> None:
        self.patch(sys, "path", [str(EXAMPLES), *sys.path])
        self.addCleanup(sys.modules.pop, "shout", None)
        case = runpy.run_path(str(EXAMPLES / "test_shout.py"))["ShoutTests"]
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
        self.assertEqual((result.testsRun, result.failures, result.errors), (1, [], []))

    def test_isFoundAsAPlugin(self) -> None:
        plugins = Path(self.mktemp()).absolute() / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        plugins.joinpath("shout.py").write_text((EXAMPLES / "shout.py").read_text())
        environment = {**os.environ, "PYTHONPATH": os.fspath(plugins.parent.parent)}
        command = [sys.executable, "-c", FIND]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT)
        self.assertIn("b'/demo/shout/1.0.0'", done.stdout.split(), done.stderr)

    def test_anAgentServesInstalledHandlers(self) -> None:
        handler = self.handler()
        self.patch(service, "installedPlugins", lambda interface: [handler])
        agent = service.AgentService(Clock(), AgentConfig())
        self.assertIs(agent.handlers[b"/demo/shout/1.0.0"], handler)


class PageTests(SynchronousTestCase):
    """
    The pages that are read outside the built documentation.
    """

    def test_theReadmeShowsTheExample(self) -> None:
        self.assertIn(f"```python\n{code('echo.py')}```", (ROOT / "README.md").read_text())

    def test_linksLeadSomewhere(self) -> None:
        """
        Those of the README, which an index shows as well, are absolute.
        """
        pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *script("code").pages()]
        dead = [
            f"{page.relative_to(ROOT)}: {target}"
            for page in pages
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
            if not (page.parent / target).exists()
        ]
        self.assertEqual(dead, [])
        readme = (ROOT / "README.md").read_text()
        self.assertEqual(re.findall(r"\]\((?!https:)", readme), [])
        links = re.findall(rf"{PROJECT}blob/main/([^\s)#]+)", readme + (ROOT / "setup.cfg").read_text())
        self.assertGreater(len(links), 10)
        self.assertEqual([link for link in links if not (ROOT / link).exists()], [])

    def test_theMessagesOfTroubleshootingExist(self) -> None:
        """
        Each message in quotes that the page explains is in the source, word for word, apart from the names of its values.
        """

        def withoutNames(text: str) -> str:
            return re.sub(r'\{[^{}"\n]*\}', "{}", text)

        source = withoutNames("\n".join(path.read_text() for path in (ROOT / "tunnelstack").rglob("*.py")))
        page = (ROOT / "docs" / "howto" / "troubleshooting.md").read_text()
        messages = re.findall(r'^\| (?:\d+ )?"([^"]+)" \|', page, re.MULTILINE)
        self.assertGreater(len(messages), 20)
        self.assertEqual([message for message in messages if withoutNames(message) not in source], [])

    def test_theHookOfCertbotWritesAFolderThatAnEdgeReads(self) -> None:
        page = (ROOT / "docs" / "howto" / "get-certificates.md").read_text()
        (text,) = re.findall(r"<<'END'\n(.*?)\n *END\n", page, re.DOTALL)
        folder = Path(self.mktemp()).absolute()
        live, to = folder / "live" / "tunnels.example.net", folder / "certificates"
        live.mkdir(parents=True)
        to.mkdir()
        identity = authority().identity("tunnels.example.net")
        (live / "fullchain.pem").write_bytes(identity.certificate.to_cryptography().public_bytes(Encoding.PEM))
        (live / "privkey.pem").write_bytes(
            identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        hook = dedent(text).replace("/etc/tunnelstack/certificates", str(to))
        hook = hook.replace("chgrp -R tunnelstack", f"chgrp -R {os.getgid()}")
        self.assertTrue(hook.startswith("#!/bin/sh\n"), hook)
        for _ in range(2):          # the second is a renewal
            subprocess.run(["sh", "-c", hook], check=True, timeout=60, env=os.environ | {"RENEWED_LINEAGE": str(live)})
            self.assertEqual([path.name for path in to.iterdir()], ["tunnels.example.net"])
            self.assertEqual((to / "tunnels.example.net" / "privkey.pem").stat().st_mode & 0o777, 0o640)
            (loaded,) = CertificateFolder(str(to), Clock()).loaded      # type: ignore[arg-type]
            self.assertIn("tunnels.example.net", loaded)

    def test_pagesAreCompleteWithoutSphinx(self) -> None:
        """
        The kind: what only Sphinx resolves is missing where a repository shows its pages.
        """
        code = script("code")
        for page in code.pages():
            text = page.read_text()
            self.assertEqual(code.withCode(text), text, f"{page.name}: run python docs/code.py")
            if page.name != "contents.md":
                self.assertEqual(re.findall(r"^(?:```|:::)\{.*", text, re.MULTILINE), [], page)

    def test_bothListsHaveEveryPage(self) -> None:
        docs = ROOT / "docs"
        wanted = {path.relative_to(docs).as_posix() for path in script("code").pages()} - {"contents.md", "index.md"}
        self.assertEqual(set(re.findall(r"\]\((.*?\.md)\)", (docs / "index.md").read_text())), wanted)
        entries = re.findall(r"^[a-z-]+/[a-z0-9-]+$", (docs / "contents.md").read_text(), re.MULTILINE)
        self.assertEqual({f"{entry}.md" for entry in entries}, wanted)

    def test_filesAndClassesThatPagesNameExist(self) -> None:
        """
        The pages that lead through the package.
        """
        package = ROOT / "tunnelstack"
        source = "\n".join(path.read_text() for path in package.rglob("*.py"))
        names = set(re.findall(r"\w+", source))
        for page in ("architecture", "life-of-a-request"):
            words = set(re.findall(r"`([^`\n]+)`", (ROOT / "docs" / "topics" / f"{page}.md").read_text()))
            files = [word.removeprefix("tunnelstack/") for word in words if re.fullmatch(r"[a-z_0-9/]+\.py", word)]
            self.assertEqual([file for file in files if not ((package / file).exists() or (ROOT / file).exists())], [], page)
            classes = {part for word in words if re.fullmatch(r"[A-Z]\w*(\.\w+)*", word) for part in word.split(".")}
            self.assertEqual(classes - names, set(), page)

    def test_theYamuxPageHasEveryVector(self) -> None:
        page = (ROOT / "docs" / "protocols" / "yamux.md").read_text()
        rows = dict(re.findall(r"^\| ([VX]\d\d) \| (.*?) \|", page, re.MULTILINE))
        self.assertEqual(rows.keys(), GOLDEN.keys() | ODD.keys())
        for number, text in GOLDEN.items():
            self.assertEqual(rows[number].strip("`").replace(" ", ""), text.replace(" ", ""), number)

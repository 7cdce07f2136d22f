"""
What a plain edge and a plain agent load: their size, and the time until they are ready, are mostly those of their modules.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.commands.main import LOADING, RUNNING
from tunnelstack.edge.deferred import DEFERRED
from tunnelstack.settings.dialects import dialectPackages

ROOT = Path(__file__).resolve().parent.parent.parent

SCRIPT = """
import sys
from tunnelstack.commands import main
main.runReactor = lambda *ignored: print(*sys.modules) or 0
sys.argv[0] = program = sys.argv.pop(1)
sys.exit({"tunnel-edge": main.tunnelEdge, "tunnel-agent": main.tunnelAgent}[program]())
"""
"""Prints the modules of a program that is about to serve."""

TWISTD_SCRIPT = """
import sys
from tunnelstack.edge.options import Options, makeService
options = Options()
options.parent = {"nodaemon": True, "logfile": "-"}
options.parseOptions(["--dev", "--port", "0"])
makeService(options)
print(*sys.modules)
"""
"""Prints the modules of an edge for development that C{twistd} runs, before it could change the root directory."""

COLLECTOR_SCRIPT = """
import gc
from unittest.mock import Mock
from twisted.internet import reactor
from tunnelstack.commands import main
from tunnelstack.control.process.log_writer import standardWriters
lifecycle = Mock(lines=None, code=0)
gc.set_threshold(*main.LOADING)
reactor.callLater(0, lambda: (print(gc.get_freeze_count(), *gc.get_threshold()), reactor.stop()))
main.runReactor(reactor, lifecycle, *standardWriters(None, None))
"""
"""Prints what the garbage collector of a running program leaves out, and its thresholds."""

LOADING_SCRIPT = """
import gc, sys
from tunnelstack.commands import main
main.runReactor = lambda *ignored: print(*gc.get_threshold()) or 0
sys.argv = ["tunnel-edge", "--dev", "--port", "0"]
sys.exit(main.tunnelEdge())
"""
"""Prints the thresholds of the garbage collector when a program is about to serve."""

SOURCES_SCRIPT = """
import linecache, sys
from tunnelstack import records
compiled = [name for name in linecache.cache if "tunnelstack.records" in name]
from tunnelstack.commands import main
main.runReactor = lambda *ignored: print(len(compiled), *(name for name in compiled if name in linecache.cache)) or 0
sys.argv = ["tunnel-edge", "--dev", "--port", "0"]
sys.exit(main.tunnelEdge())
"""
"""Prints of how many methods of records the source was kept, and of which it still is."""

NEITHER = {
    "argparse", "autobahn.twisted", "csv", "h2", "hpack", "importlib.metadata", "opentelemetry", "prometheus_client",
    "twisted.conch", "twisted.cred", "twisted.python.logfile", "twisted.protocols.haproxy", "twisted.trial", "twisted.web",
    "unittest",
    "tunnelstack.commands.admin_client", "tunnelstack.control.certificate_authority", "tunnelstack.control.metrics.samples",
    "tunnelstack.control.process.twistd", "tunnelstack.control.tracing", "tunnelstack.demo", "tunnelstack.doctor",
    "tunnelstack.endpoints", "tunnelstack.session.http2", "tunnelstack.testing", "tunnelstack.transport.dtls",
    "tunnelstack.transport.grpc_call", "tunnelstack.transport.http2.connection", "tunnelstack.wire.grpc",
    "tunnelstack.wire.http2.events",
}  # fmt: skip
EDGE = {
    "tunnelstack.agent", "tunnelstack.control.auth.checkers", "tunnelstack.control.auth.mtls",
    "tunnelstack.dialect.shellhub.hub", "tunnelstack.edge.metrics", "tunnelstack.transport.certificates",
    "tunnelstack.transport.tls",
}  # fmt: skip
DEVELOPMENT = {
    *DEFERRED, "tunnelstack.control.metrics", "tunnelstack.edge.dashboard",
    "tunnelstack.edge.running_edge", "tunnelstack.exchange.bounded_factory", "tunnelstack.pages",
    "tunnelstack.transport.datagram_splice", "tunnelstack.transport.udp", "tunnelstack.transport.verification",
}  # fmt: skip
AGENT = {
    "tunnelstack.agent.inspector", "tunnelstack.agent.metrics", "tunnelstack.agent.panel", "tunnelstack.agent.ssh_server",
    "tunnelstack.control.config.reader", "tunnelstack.edge", "tunnelstack.handler.folder_site", "tunnelstack.pages",
    "tunnelstack.transport.proxy",
}  # fmt: skip


def modules(*command: str, environ: dict[str, str], script: str = SCRIPT) -> set[str]:
    """
    @return: the modules of a program that is about to serve.
    """
    whole = [sys.executable, "-c", script, *command]
    done = subprocess.run(whole, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


class LoadedModulesTests(SynchronousTestCase):
    """
    Modules are named that only a feature needs which is not used.
    """

    def loaded(self, *command: str, script: str = SCRIPT, **environ: str) -> set[str]:
        folder = self.mktemp()
        os.makedirs(folder)
        return modules(*command, script=script, environ={"STATE_DIRECTORY": os.path.abspath(folder), **environ})

    def assertLoadedNone(self, loaded: set[str], unwanted: Iterable[str]) -> None:
        self.assertEqual(loaded & set(unwanted), set())

    def tablesOfDialects(self, *used: str) -> set[str]:
        return {f"{package.package}.settings" for package in dialectPackages() if package.name not in used}

    def test_anEdgeLoadsNoUnusedFeature(self) -> None:
        loaded = self.loaded("tunnel-edge", "--port", "0")
        self.assertIn("tunnelstack.edge.service", loaded)
        self.assertLoadedNone(loaded, NEITHER | EDGE | self.tablesOfDialects())

    def test_anEdgeForDevelopmentLoadsNoUnusedFeature(self) -> None:
        used = [package.name for package in dialectPackages() if package.defaults.development()]
        loaded = self.loaded("tunnel-edge", "--dev", "--port", "0")
        self.assertLoadedNone(loaded, NEITHER | EDGE | DEVELOPMENT | self.tablesOfDialects(*used))

    def test_underTwistdNothingIsLeftToLoad(self) -> None:
        """
        C{--chroot} takes the modules out of reach.
        """
        loaded = self.loaded(script=TWISTD_SCRIPT)
        self.assertEqual({"tunnelstack.dialect.shellhub.hub", *DEFERRED} - loaded, set())

    def test_anEdgeThatIsNotForDevelopmentHasNothingLeftToLoad(self) -> None:
        self.assertEqual(set(DEFERRED) - self.loaded("tunnel-edge", "--port", "0"), set())

    def test_anAgentLoadsNoUnusedFeature(self) -> None:
        loaded = self.loaded(
            "tunnel-agent", "--edge", "http://localhost:1", "http", "9", TUNNELSTACK_TOKEN="ts_0123abcd_secretsecretsecret",
        )
        self.assertIn("tunnelstack.agent.service", loaded)
        self.assertLoadedNone(loaded, NEITHER | AGENT | self.tablesOfDialects())

    def test_theGarbageCollectorLeavesOutWhatWasLoaded(self) -> None:
        done = subprocess.run([sys.executable, "-c", COLLECTOR_SCRIPT], capture_output=True, cwd=ROOT, text=True, timeout=120)
        spared, *thresholds = map(int, done.stdout.split())
        self.assertGreater(spared, 20_000)
        self.assertEqual(thresholds, list(RUNNING))

    def test_theGarbageCollectorLooksLessOftenWhileAServiceIsLoaded(self) -> None:
        self.assertEqual(self.loaded(script=LOADING_SCRIPT), set(map(str, LOADING)))

    def test_theSourcesOfCompiledMethodsAreNotKept(self) -> None:
        (kept,) = self.loaded(script=SOURCES_SCRIPT)
        self.assertGreater(int(kept), 0)

    def test_aFeatureIsLoadedThatIsUsed(self) -> None:
        """
        The names above are not merely misspelt.
        """
        for name in (NEITHER | EDGE | DEVELOPMENT | AGENT) - {"opentelemetry"}:
            path = ROOT.joinpath(*name.split("."))
            if name.startswith("tunnelstack."):
                self.assertTrue(path.is_dir() or path.with_suffix(".py").exists(), name)

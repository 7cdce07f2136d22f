"""
The shape of the house: who may import whom, read from the source.

A new package or root module fails here until it has a floor, which is the moment to think about where it belongs.
"""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tunnelstack"

#: Imports point down: a part sees the parts of lower floors, never its neighbours on the same one.
FLOORS = {
    "wire": 0,
    "transport": 1,
    "stream": 1.5,      # it sees transport: a stream and a WebSocket have parts in common
    "session": 2,
    "negotiation": 3,
    "exchange": 4,
    "handler": 4,
    "dialect": 5,
    "pages": 5,
    "edge": 6,
    "agent": 6,
    "endpoints": 7,
    "reactor": 7,
    "demo": 8,
    "doctor": 8,
    "endpoint_parsers": 8,
    "commands": 9,
}
#: Seen from everywhere but from one another.
COMMON = {"interfaces", "errors", "records", "doors", "settings", "version", "waiters"}
#: Parts beside the floors, with all that they may see.
BESIDE = {
    "errors": set(),
    "version": set(),
    "waiters": set(),
    "records": {"errors", "settings", "wire"},
    "interfaces": {"errors", "records", "settings", "wire"},
    "doors": {"errors", "records", "interfaces", "settings"},
    "settings": {"errors", "wire"},
    "control": COMMON | {"wire"},
    "testing": COMMON | {"control"} | {part for part, floor in FLOORS.items() if floor <= 6},
}
#: Values and exceptions of floors that the interfaces name.
NAMED_BY_INTERFACES = {"exchange.bounds", "exchange.errors", "exchange.traits", "stream.address", "stream.errors"}
#: From where the parts beside the floors are seen, if they are not common.
SEEN_FROM = {
    "control": {"edge", "agent", "endpoints", "demo", "doctor", "endpoint_parsers", "commands"},
    "testing": set(),
}

#: What must not be named outside the folder of a dialect and its records: the systems, and what only they have.
SYSTEMS = re.compile("shellhub|koding|ktunnel|agentserver|sandbox|godoxy|jetty|devicebook", re.IGNORECASE)

#: What carries streams and exchanges, and what routing, limits and health therefore do not know.
CARRIERS = re.compile("yamux|revdial|multistream|grpc|typed_?head", re.IGNORECASE)
#: The limits of all sessions are where those of the first kind were.
SESSION_LIMITS = "tunnelstack.wire.yamux.limits"

#: Libraries that one module alone may import, so that they can be replaced there.
KEEPERS = {
    "autobahn": "transport.websocket._autobahn", "txaio": "transport.websocket._autobahn",
    "_nvx_xormasker": "transport.websocket._autobahn",
    "h2": "wire.http2.connection", "hpack": "wire.http2.field_codec",
}  # fmt: skip

#: What has to be installed for what is imported, under the name by which an index knows it.
DISTRIBUTIONS = {
    "OpenSSL": "pyOpenSSL", "_nvx_xormasker": "autobahn", "attrs": "attrs", "autobahn": "autobahn", "automat": "Automat",
    "cryptography": "cryptography",
    "h2": "h2", "hpack": "hpack", "service_identity": "service-identity", "twisted": "Twisted", "zope": "zope.interface",
    "opentelemetry.sdk": "opentelemetry-sdk", "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
}  # fmt: skip
#: Parts of Twisted that its extra of the same name is for.
TWISTED_EXTRAS = {"conch"}

#: Modules that are for those who have installed the extra of this name.
OPTIONAL = {"reactor.uvloop": "uvloop", "control.metrics.text_format": "metrics", "control.tracing.otlp": "otel"}

WITHOUT_TWISTED = """
import sys
sys.modules.update(dict.fromkeys(["twisted", "autobahn", "zope", "OpenSSL"]))    # C{None}: an import of it fails
for module in sys.argv[1:]:
    __import__(module)
"""


def maySee(importer: str, imported: str) -> bool:
    """
    Whether a module of the part C{importer} may import a module of the part C{imported}.
    """
    if imported == importer:
        return True
    if importer in BESIDE:
        return imported in BESIDE[importer]
    if imported in BESIDE:
        return imported in COMMON or importer in SEEN_FROM[imported]
    return FLOORS[imported] < FLOORS[importer]


def modules(folder: Path = PACKAGE) -> Iterator[tuple[str, Path]]:
    """
    Every module below C{folder}, named from within the package: C{"wire.yamux.frames"}.
    """
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports(path: Path) -> Iterator[str]:
    """
    The full name of everything a module imports, at its top, inside functions, and for the type checker alone.
    """
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def part(module: str) -> str:
    """
    C{"wire.yamux.frames"} belongs to C{"wire"}.
    """
    return module.partition(".")[0]


def imported(path: Path, known: Collection[str]) -> set[str]:
    """
    The modules among C{known} that a module imports, for the type checker alone included.
    """
    found = set()
    for name in imports(path):
        name = name.removeprefix("tunnelstack.")
        while name and name not in known:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {""}


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """
    Groups of nodes that can all be reached from one another.
    """
    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = list(graph[start])
        while ahead:
            node = ahead.pop()
            if node not in seen:
                seen.add(node)
                ahead += graph[node]
        return seen

    reach = {node: reached(node) for node in graph}
    groups = {tuple(sorted(other for other in reach[node] if node in reach[other])) for node in graph if node in reach[node]}
    return [list(group) for group in sorted(groups)]


def names(path: Path, wanted: re.Pattern[str]) -> Iterator[str]:
    """
    Where a module names what is wanted in an identifier, an import or a string that is no docstring.
    """
    tree = ast.parse(path.read_text(), str(path))
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        for word in (*_words(node), *([node.value] if isinstance(node, ast.Constant) and id(node) not in docstrings else ())):
            if isinstance(word, str) and wanted.search(word):
                yield word


def _words(node: ast.AST) -> Iterator[str]:
    for name in ("id", "attr", "arg", "name", "module", "asname"):
        word = getattr(node, name, None)
        if isinstance(word, str):
            yield word


class DirectionTests(SynchronousTestCase):
    """
    The table of floors, against every import there is.
    """

    def test_importsPointDown(self) -> None:
        wrong = [
            f"{module} imports {name}"
            for module, path in modules()
            for name in imports(path)
            if part(name) in ("tunnelstack", "")
            and not maySee(part(module), part(name.removeprefix("tunnelstack.")))
            and not (module == "interfaces" and name.removeprefix("tunnelstack.").rpartition(".")[0] in NAMED_BY_INTERFACES)
        ]
        self.assertEqual(wrong, [])

    def test_noModulesImportEachOther(self) -> None:
        """
        What can only be understood together belongs in one module; an import for the type checker counts.
        """
        plain = {module: path for module, path in modules() if path.name != "__init__.py"}
        graph = {module: imported(path, plain) for module, path in plain.items()}
        self.assertEqual(circles(graph), [])

    def test_circlesAreFound(self) -> None:
        self.assertEqual(circles({"a": ["b"], "b": ["c"], "c": []}), [])
        self.assertEqual(
            circles({"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": ["d"], "e": ["a"]}), [["a", "b", "c"], ["d"]]
        )

    def test_everyPartHasAFloor(self) -> None:
        found = {part(module) for module, _ in modules()} - {""}
        self.assertEqual(found - FLOORS.keys() - BESIDE.keys(), set())

    def test_neighboursDoNotSeeEachOther(self) -> None:
        for pair in (("exchange", "handler"), ("edge", "agent")):
            self.assertFalse(maySee(*pair))
            self.assertFalse(maySee(*reversed(pair)))
        self.assertFalse(maySee("transport", "stream"))

    def test_theTableSaysNo(self) -> None:
        """
        What the check must catch is caught: a table that allows everything proves nothing.
        """
        for pair in (
            ("wire", "stream"), ("stream", "session"), ("session", "control"), ("dialect", "control"),
            ("control", "session"), ("edge", "testing"), ("edge", "endpoints"), ("errors", "records"), ("errors", "wire"),
        ):  # fmt: skip
            self.assertFalse(maySee(*pair), pair)

    def test_theTableSaysYes(self) -> None:
        for pair in (
            ("wire", "errors"), ("session", "stream"), ("edge", "control"), ("testing", "edge"), ("interfaces", "records"),
            ("doors", "interfaces"), ("commands", "endpoints"), ("control", "records"),
        ):  # fmt: skip
            self.assertTrue(maySee(*pair), pair)

    def test_oneModuleKnowsEachEngine(self) -> None:
        wrong = [
            f"{module} imports {name}"
            for module, path in modules()
            for name in imports(path)
            if KEEPERS.get(part(name), module) != module
        ]
        self.assertEqual(wrong, [])


class WireTests(SynchronousTestCase):
    """
    Floor 0 is octets and events: any event loop could drive it.
    """

    def test_wireNeedsNoTwisted(self) -> None:
        names = [f"tunnelstack.{module}" for module, _ in modules(PACKAGE / "wire")]
        common = [f"tunnelstack.{module}" for module in ("errors", "records")]
        command = [sys.executable, "-c", WITHOUT_TWISTED, *common, *names]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_theBlockWorks(self) -> None:
        command = [sys.executable, "-c", WITHOUT_TWISTED, "tunnelstack.stream.errors"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        self.assertIn("ModuleNotFoundError", done.stderr)

    def test_wireHasNoClockAndNoSocket(self) -> None:
        outside = {"asyncio", "logging", "select", "selectors", "socket", "ssl", "threading", "time"}
        wrong = [
            f"{module} imports {name}"
            for module, path in modules(PACKAGE / "wire")
            for name in imports(path)
            if part(name) in outside
        ]
        self.assertEqual(wrong, [])


class DialectTests(SynchronousTestCase):
    """
    What is peculiar to one system lives in its records and its dialect, and nowhere below.
    """

    def test_noSystemIsNamedOutsideItsDialect(self) -> None:
        """
        Identifiers, imports and strings; prose may use ordinary words, and name a system as an example.
        """
        free = ("dialect", "wire.records")
        wrong = [
            f"{module}: {named}"
            for module, path in modules()
            if not module.startswith(free)
            for named in names(path, SYSTEMS)
        ]
        self.assertEqual(wrong, [])

    def test_noCarrierIsNamedWhereExchangesAreDirected(self) -> None:
        """
        Routing, limits and health see exchanges and tunnels by their interfaces: a carrier can be replaced without them.
        """
        wrong = [
            f"{module}: {named}"
            for module, path in modules()
            if module.startswith(("edge.", "exchange.", "handler.", "control.registry"))
            for named in names(path, CARRIERS)
            if named != SESSION_LIMITS
        ]
        self.assertEqual(wrong, [])

    def test_settingsOfDialectsAreLight(self) -> None:
        """
        The reader of configuration files, the documentation and completions load them, and nothing of Twisted with them.
        """
        light = re.compile(r"dialect\.\w+\.(settings|defaults)")
        names = [f"tunnelstack.{module}" for module, _ in modules() if light.fullmatch(module)]
        self.assertGreaterEqual(len(names), 2)
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TWISTED, *names], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_onlyDialectsReadRecords(self) -> None:
        wrong = [
            f"{module} imports {name}"
            for module, path in modules()
            if FLOORS.get(part(module), 5) <= 4 and not module.startswith("wire.records")
            for name in imports(path)
            if name.startswith("tunnelstack.wire.records")
        ]
        self.assertEqual(wrong, [])


class PackageTests(SynchronousTestCase):
    """
    The habits of Twisted's own packages.
    """

    def test_noModuleSharesItsNameWithAPackage(self) -> None:
        """
        Python prefers the package without a word, and the module is dead.
        """
        shared = [module for module, path in modules() if path.name != "__init__.py" and path.with_suffix("").is_dir()]
        self.assertEqual(shared, [])

    def test_packagesAreEmpty(self) -> None:
        """
        All but the public C{tunnelstack.testing}, which says what it offers.
        """
        full = [module for module, path in modules() if path.name == "__init__.py" and path.read_text().strip()]
        self.assertEqual(full, ["testing"])

    def test_thePluginFileIsLight(self) -> None:
        """
        Every C{twistd} and every C{serverFromString} on the machine loads it.
        """
        script = "import sys, twisted.plugins.tunnelstack_plugins; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        heavy = {"autobahn", "OpenSSL", "twisted.internet.reactor", "twisted.internet.ssl", "twisted.web"}
        self.assertEqual(heavy & set(done.stdout.split()), set())

    def test_aPlainInstallationHasEverythingThatIsImported(self) -> None:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        said = re.findall(r"^([\w.-]+)(?:\[([\w, ]+)\])?", setup["options"]["install_requires"], re.MULTILINE)
        installed = {name: set(re.findall(r"\w+", extras)) for name, extras in said}
        foreign = {name for module, path in modules() if module not in OPTIONAL for name in imports(path)}
        for name in foreign:
            root, _, below = name.partition(".")
            if root not in {"tunnelstack", *sys.stdlib_module_names}:
                self.assertIn(DISTRIBUTIONS.get(root), installed, name)
            if root == "twisted" and part(below) in TWISTED_EXTRAS:
                self.assertIn(part(below), installed["Twisted"], name)

    def test_everyExtraInstallsWhatAModuleImports(self) -> None:
        """
        The kind: an extra that promises a feature which the package does not have.  "dev" is for those who work on it.
        """
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        extras = dict(setup["options.extras_require"])
        extras.pop("dev")
        self.assertEqual(extras.keys(), set(OPTIONAL.values()))
        for module, extra in OPTIONAL.items():
            foreign = [name for name in imports(dict(modules())[module]) if part(name) not in sys.stdlib_module_names]
            roots = {root for name in foreign for root in (part(name), ".".join(name.split(".")[:2]))} - {"tunnelstack"}
            wanted = re.findall(r"^([\w.-]+)", extras[extra], re.MULTILINE)
            names = {DISTRIBUTIONS.get(root, root).lower() for root in roots}
            self.assertLessEqual({name.lower() for name in wanted}, names, extra)

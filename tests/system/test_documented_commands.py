"""
Every command line of the documentation is run on an empty home, or is marked as not run, with what it needs.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

from attrs import define
from twisted.python import usage
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.ports import freePort
from tests.system.documented_commands import MARKED, SCENES, Answers, Ends, Lasts, Line, NotRun, Scene, Stays
from tests.system.stage import BIN, ROOT, Program, Stage, until
from tunnelstack.commands import dialect_command, main
from tunnelstack.control.options import BaseOptions, Misconfigured

PROMPT = re.compile(r" *[$#] (?P<command>\S.*)")
FENCE = re.compile(r" *```(?P<language>\S*)")
PROGRAMS = {"tunnel-edge": "tunnelstack.edge.options", "tunnel-agent": "tunnelstack.agent.options"}
OURS = re.compile(rf"^(?:\w+=\S* )*(?P<command>(?:tunnelstack|{'|'.join(PROGRAMS)})\b(?:[^&|;'\"]|'[^']*'|\"[^\"]*\")*)")


# Reading pages


@define(frozen=True)
class Documented:
    """
    A command line of a page.
    """

    page: str
    number: int
    command: str


def pages() -> list[str]:
    """
    @return: the pages, as paths from the root of the project.
    """
    found = [path.relative_to(ROOT) for path in sorted((ROOT / "docs").rglob("*.md"))]
    return ["README.md", *(path.as_posix() for path in found if path.parts[1] != "_build")]


def commandLines(page: str, text: str) -> Iterator[Documented]:
    """
    Find what follows a prompt in a block of code, which is in a fence or indented.
    """
    language: str | None = None
    lines = list(enumerate(text.splitlines(), 1))
    while lines:
        number, line = lines.pop(0)
        if fence := FENCE.match(line):
            language = fence["language"] if language is None else None
        elif (found := PROMPT.match(line)) and _isCommand(line, language):
            command = withoutComment(found["command"])
            while lines and isUnfinished(command):
                command = continued(command, lines.pop(0)[1].strip())
            yield Documented(page, number, command)


def _isCommand(line: str, language: str | None) -> bool:
    if line.lstrip().startswith("# "):
        return language == ""           # elsewhere it is a comment or a heading
    return language is not None or line.startswith("    ")


def commandsInProse(page: str) -> Iterator[str]:
    """
    @return: the commands of ours that stand in sentences; some of them are shortened.
    """
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", (ROOT / page).read_text())
    for found in re.finditer(rf"`((?:tunnelstack|{'|'.join(PROGRAMS)}) [^`]+)`", prose):
        yield " ".join(found[1].split())


def withoutComment(command: str) -> str:
    """
    @return: the command without a comment that stands apart from it.
    """
    return re.sub(r" +# .*", "", command)


def continued(command: str, line: str) -> str:
    """
    @return: the command with its next line.
    """
    return command.removesuffix("\\") + line if command.endswith("\\") else f"{command}\n{line}"


def isUnfinished(command: str) -> bool:
    """
    @return: whether a shell waits for another line.
    """
    if command.endswith("\\"):
        return True
    return subprocess.run(["bash", "-n", "-c", command], capture_output=True, timeout=60).returncode != 0


def documented() -> list[Documented]:
    """
    @return: every command line.
    """
    return [each for page in pages() for each in commandLines(page, (ROOT / page).read_text())]


def inTable() -> list[tuple[str, str]]:
    """
    @return: the page and the command of each line of the table.
    """
    return [(scene.page, line.command) for scene in SCENES for line in scene.lines]


def marked() -> Iterable[NotRun]:
    """
    @return: the lines that are not run.
    """
    return (line for scene in SCENES for line in scene.lines if isinstance(line, NotRun))


# Parsing


def optionsFor(arguments: Sequence[str]) -> tuple[BaseOptions, Sequence[str]]:
    """
    @return: the options of a command of ours, and the arguments that they read.
    """
    program, rest = arguments[0], arguments[1:]
    if program in PROGRAMS:
        options: BaseOptions = import_module(PROGRAMS[program]).Options()
        return options, rest
    found = main.Commands()
    found.parseOptions(rest)
    if found.command not in main.COMMANDS:
        return dialect_command.makeOptions(found.command), found.rest
    options = import_module(main.COMMANDS[found.command]).Options()
    options.command = found.command
    return options, found.rest


def ours(line: NotRun) -> str:
    """
    @return: the part that is a command of ours; C{""} if there is none.
    """
    found = OURS.match(line.command)
    return line.ours or (found["command"] if found else "")


def mistakeIn(command: str) -> str | None:
    """
    @return: why the command line of one of our programs is wrong.
    """
    try:
        options, arguments = optionsFor(shlex.split(command))
        options.parseOptions(arguments)
    except Misconfigured:
        return None             # a file or a token that is not here; the command line has been read
    except SystemExit:
        return None             # --help or --version
    except usage.UsageError as wrong:
        return str(wrong)
    return None


class TableTests(SynchronousTestCase):
    """
    The pages and the table.
    """

    def test_everyCommandLineIsInTheTable(self) -> None:
        """
        In the order of its page, too, and as often.
        """
        lines = documented()
        self.assertGreater(len(lines), 80)
        missing = Counter((line.page, line.command) for line in lines) - Counter(inTable())
        unknown = [f"{line.page}:{line.number}: {line.command}" for line in lines if (line.page, line.command) in missing]
        self.assertEqual(unknown, [], "add them to tests/system/documented_commands.py")
        gone = Counter(inTable()) - Counter((line.page, line.command) for line in lines)
        self.assertEqual(sorted(gone), [], "no page has these lines of tests/system/documented_commands.py")
        self.assertEqual([(line.page, line.command) for line in lines], inTable())

    def test_theMarkedOnesAreCounted(self) -> None:
        self.assertEqual(len(list(marked())), MARKED)

    def test_whatIsNotRunIsParsed(self) -> None:
        """
        The kind: an option that was renamed, in a line that a test cannot run.
        """
        home = Path(self.mktemp())
        home.mkdir()
        self.patch(os, "environ", {"HOME": str(home), "PATH": os.environ["PATH"]})
        parsed = [command for line in marked() if (command := ours(line))]
        self.assertGreater(len(parsed), 8)
        wrong = [(command, mistake) for command in parsed if (mistake := mistakeIn(command))]
        self.assertEqual(wrong, [])

    def test_proseHasNoOptionsAndCommandsThatDoNotExist(self) -> None:
        """
        Arguments may be missing there.
        """
        self.patch(sys, "stdout", io.StringIO())            # "--help" and "--version" are printed
        found = [(page, command) for page in pages() for command in commandsInProse(page)]
        self.assertGreater(len(found), 60)
        mistakes = [(page, command, mistakeIn(command)) for page, command in found]
        self.assertEqual([each for each in mistakes if re.search("not recognized|unknown command", each[2] or "")], [])

    def test_wrongOptionsAndCommandsAreFound(self) -> None:
        for command in (
            "tunnelstack sttus", "tunnelstack connect a --purpse b", "tunnel-edge --domains a", "tunnel-agent http 1 --naem a",
            "tunnelstack devices acept a", "tunnelstack godoxy --what",
        ):  # fmt: skip
            self.assertIsNotNone(mistakeIn(command), command)

    def test_commandLinesAreFoundInPages(self) -> None:
        text = (
            "    $ one  # comment\n    output\n\n$ prose\n# heading\n```\n$ two \\\n    more\n# three\n```\n```toml\n"
            "# comment\n```\n1. Item\n   ```\n   $ { four\n     five\n   } > file\n   ```\n"
        )
        self.assertEqual(
            [(line.number, line.command) for line in commandLines("page", text)],
            [(1, "one"), (7, "two more"), (9, "three"), (16, "{ four\nfive\n} > file")],
        )


class SceneTests(Stage):
    """
    The lines that are run, page by page.
    """

    timeout = 300

    def setUp(self) -> None:
        super().setUp()
        self.home = Path(tempfile.mkdtemp())        # short: the path of a Unix socket has few octets
        self.addCleanup(shutil.rmtree, self.home)
        self.ports = [freePort() for _ in range(3)]
        self.programs: dict[str, Program] = {}
        self.environ |= {
            "HOME": str(self.home), "PATH": f"{BIN}{os.pathsep}{self.environ['PATH']}", "ROOT": str(ROOT),
            "TUNNELSTACK_PORT": str(self.ports[0]),
            "AGENT_CA_CERT": "Y2E=;a2V5", "AGENT_SSL_CERT": "YWdlbnQ=;a2V5",
        }  # fmt: skip

    def filled(self, text: str) -> str:
        """
        @return: the text with the values of this test.
        """
        for name, value in (("port", self.ports[0]), ("other", self.ports[1]), ("third", self.ports[2]), ("home", self.home)):
            text = text.replace(f"{{{name}}}", str(value))
        return text

    def shell(self, script: str) -> str:
        """
        Run a script to its end.

        @return: what it printed.
        """
        done = subprocess.run(
            ["bash", "-e", "-c", script], env=self.environ, cwd=self.home, text=True, errors="replace", timeout=60,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.assertEqual(done.returncode, 0, f"{script}\n{done.stdout}")
        return done.stdout

    def play(self, scene: Scene) -> None:
        """
        Run the lines of a scene.
        """
        run = [line for line in scene.lines if not isinstance(line, NotRun)]
        self.requirePrograms(run)
        self.shell(self.filled(scene.before))
        if scene.served:
            self.origin(port=self.ports[1])
        if scene.edge is not None:
            (self.home / "of-the-stage.toml").write_text(scene.edge)
            self.startEdge("--config", "of-the-stage.toml", port=self.ports[0])
        lasting = ""
        for line in run:
            command = line.command
            for old, new in scene.replaced:
                command = command.replace(old, self.filled(new))
            if isinstance(line, Lasts):
                lasting += f"{command}\n"
            else:
                self.perform(line, command, lasting)

    def perform(self, line: Line, command: str, lasting: str) -> None:
        """
        Run one command.
        """
        if isinstance(line, Ends):
            self.shell(self.filled(line.before))
            said = self.shell(lasting + command)
            self.assertTrue(re.search(line.prints, said), f"{command}\nprinted {said!r}\nwithout {line.prints}")
        elif isinstance(line, Answers):
            self.answers(lasting + command, line.prints)
        elif isinstance(line, Stays):
            self.shell(self.filled(line.before))
            if line.ends:
                self.programs[line.ends].end()
            self.programs[line.command] = self.stays(f"{lasting}exec {command}", line.prints)

    def answers(self, script: str, pattern: str) -> None:
        """
        Run a command until it succeeds.
        """
        seen: list[str] = []

        def succeeds() -> bool:
            done = subprocess.run(
                ["bash", "-c", script], env=self.environ, cwd=self.home, text=True, errors="replace", timeout=60,
                stdin=subprocess.DEVNULL, capture_output=True,
            )
            seen.append(done.stdout + done.stderr)
            return done.returncode == 0 and re.search(pattern, done.stdout) is not None

        until(succeeds, lambda: (script, seen[-3:]))

    def stays(self, script: str, pattern: str) -> Program:
        """
        Start a command that runs until the test ends it.
        """
        program = Program(["bash", "-c", script], self.environ, str(self.home))
        self.addCleanup(program.drop)
        if pattern:
            program.hears(pattern)
        return program

    def requirePrograms(self, lines: Iterable[Line]) -> None:
        """
        Skip the test if the programs of others that the lines use are missing.
        """
        words = {word for line in lines for word in re.findall(r"\b(?:curl|jq|base64)\b", line.command)}
        missing = sorted(word for word in words if shutil.which(word) is None)
        if missing:
            raise SkipTest(f"{', '.join(missing)} not found")


def _addScenes() -> None:
    for number, scene in enumerate(SCENES):
        if any(not isinstance(line, NotRun) for line in scene.lines):

            def test(self: SceneTests, scene: Scene = scene) -> None:
                self.play(scene)

            name = re.sub(r"\W+", "_", scene.page.removesuffix(".md"))
            setattr(SceneTests, f"test_theCommandsOf_{name}_{number}_work", test)


_addScenes()

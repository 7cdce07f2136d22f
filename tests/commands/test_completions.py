"""
Completions of command lines, tried in the shells that are installed.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.system.stage import until
from tests.terminal import TerminalWindow
from tunnelstack.agent.options import SERVICES
from tunnelstack.commands import completions, main
from tunnelstack.commands.command_lines import (
    ARGUMENTS,
    CHOICES,
    FILES,
    FOLDERS,
    SUMMARIES,
    WORDS,
    CommandLine,
    programs,
)
from tunnelstack.commands.completions import SHELLS, script

SECONDS = 30

BASH = """
. {script}
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
{function} 2>&1
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

ZSH = """
autoload -U compinit && compinit -D -u
. {script}
(( $+functions[_tunnel_agent_completion] )) && print -- ${{_comps[tunnel-agent]}}
"""


def lines() -> list[CommandLine]:
    """
    All programs, and all of their commands.
    """
    return [line for program in programs() for line in (program, *program.commands)]


class ScriptTests(SynchronousTestCase):
    """
    What is printed.
    """

    def test_everyCommandAndOptionIsInEveryScript(self) -> None:
        for shell in SHELLS:
            text = script(shell)
            for line in lines():
                self.assertRegex(text, rf"(?<![\w-]){re.escape(line.name)}(?![\w-])", shell)
                for option in line.options:
                    self.assertRegex(text, rf"(--|-l ){re.escape(option.long)}(?![\w-])", shell)

    def test_aRefusedOptionIsNotOffered(self) -> None:
        for shell in SHELLS:
            self.assertNotRegex(script(shell), r"(--|-l )token(?![\w-])")

    def test_theTablesNameWhatExists(self) -> None:
        names = {line.name for line in lines()}
        options = {option.long for line in lines() for option in line.options if option.takesValue}
        self.assertLessEqual({*ARGUMENTS, *WORDS}, names)
        self.assertLessEqual({*FILES, *FOLDERS, *CHOICES}, options)

    def test_everyCommandHasASummary(self) -> None:
        self.assertEqual(set(SUMMARIES), {*main.COMMANDS, *SERVICES, "start"})
        for line in lines():
            self.assertRegex(line.says, r"\A[a-z].*[^.]\Z", line.name)

    def test_everyOptionHasADescription(self) -> None:
        for line in lines():
            for option in line.options:
                self.assertTrue(option.says, (line.name, option.long))

    def test_theWordsAreThoseOfTheHelp(self) -> None:
        text = str(main.Commands())
        for name, words in WORDS.items():
            self.assertIn(f"  {name} {'|'.join(words)} ", text)

    def test_theCommandPrintsTheScript(self) -> None:
        out = io.StringIO()
        self.patch(completions.sys, "stdout", out)
        options = completions.Options()
        options.parseOptions(["bash"])
        self.assertEqual(completions.main(options), 0)
        self.assertEqual(out.getvalue(), script("bash"))

    def test_otherShellsAreRefused(self) -> None:
        for words in ((), ("bsh",), ("bash", "zsh")):
            error = self.assertRaises(usage.UsageError, completions.Options().parseOptions, words)
            self.assertIn("bash, zsh or fish", str(error))


class ShellTests(SynchronousTestCase):
    """
    A shell reads its script.
    """

    def start(self, shell: str, *arguments: str, source: str = "") -> str:
        path = shutil.which(shell)
        if path is None:
            raise SkipTest(f"{shell} is not installed")
        done = subprocess.run(
            [path, *arguments], input=source, capture_output=True, text=True, timeout=SECONDS, cwd=self.folder
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        (self.folder / "etc").mkdir(parents=True)
        (self.folder / "edge.toml").touch()
        self.scripts: dict[str, Path] = {}

    def scriptOf(self, shell: str) -> Path:
        if shell not in self.scripts:
            self.scripts[shell] = path = (self.folder / f"script.{shell}").absolute()
            path.write_text(script(shell))
        return self.scripts[shell]

    def bash(self, *words: str) -> set[str]:
        """
        What bash offers for the last word.
        """
        quoted = " ".join(f"'{word}'" for word in words)
        function = "_" + re.sub(r"\W", "_", words[0]) + "_completion"
        source = BASH.format(script=self.scriptOf("bash"), words=quoted, function=function)
        return set(self.start("bash", "--norc", source=source).split("\n")) - {""}

    def test_bashCompletesCommands(self) -> None:
        self.assertEqual(self.bash("tunnelstack", "to"), {"token"})
        self.assertEqual(self.bash("tunnelstack", "st"), {"status", "streams"})
        self.assertEqual(self.bash("tunnel-agent", "s"), {"serve", "ssh", "start"})
        self.assertIn("devices", self.bash("tunnelstack", ""))

    def test_bashCompletesOptionsOfTheCommand(self) -> None:
        self.assertEqual(self.bash("tunnelstack", "token", "--al"), {"--allow"})
        self.assertEqual(self.bash("tunnelstack", "status", "--al"), set())
        self.assertEqual(self.bash("tunnel-edge", "--acc"), {"--access-log"})
        self.assertEqual(self.bash("tunnel-agent", "--dev", "http", "3000", "--na"), {"--name"})

    def test_bashCompletesTheFirstArgumentOnly(self) -> None:
        self.assertEqual(self.bash("tunnelstack", "token", ""), {"new", "list", "revoke"})
        self.assertEqual(self.bash("tunnelstack", "token", "new", ""), set())
        self.assertEqual(self.bash("tunnelstack", "devices", "acc"), {"accept"})

    def test_bashCompletesValues(self) -> None:
        self.assertEqual(self.bash("tunnel-edge", "--config", "ed"), {"edge.toml"})
        self.assertEqual(self.bash("tunnel-edge", "-c", "ed"), {"edge.toml"})
        self.assertEqual(self.bash("tunnel-edge", "--config", "=", "ed"), {"edge.toml"})
        self.assertEqual(self.bash("tunnel-edge", "--config", "="), {"edge.toml", "etc", "script.bash"})
        self.assertEqual(self.bash("tunnelstack", "certs", "ca", "--dir", ""), {"etc"})
        self.assertEqual(self.bash("tunnel-edge", "--log-format", "j"), {"json"})
        self.assertEqual(self.bash("tunnel-edge", "--domain", ""), set())

    def test_bashCompletesPaths(self) -> None:
        self.assertEqual(self.bash("tunnelstack", "check", "ed"), {"edge.toml"})
        self.assertEqual(self.bash("tunnel-agent", "serve", "e"), {"etc"})
        self.assertEqual(self.bash("tunnel-agent", "http", "e"), set())

    def test_bashSkipsTheValueOfAnOption(self) -> None:
        self.assertEqual(self.bash("tunnel-agent", "--edge", "http", "se"), {"serve"})
        self.assertEqual(self.bash("tunnel-agent", "--edge", "=", "http", "se"), {"serve"})

    def test_bashChangesNoSettingOfTheUser(self) -> None:
        begin = f"COMP_WORDS=(tunnelstack st) COMP_CWORD=1 before=$(shopt; set -o)\n. {self.scriptOf('bash')}\n"
        end = "_tunnelstack_completion\n[[ $before == $(shopt; set -o) ]] && echo same\n"
        self.assertIn("same", self.start("bash", "--norc", source=begin + end))

    def test_zshReadsItsScript(self) -> None:
        source = ZSH.format(script=self.scriptOf("zsh"))
        self.assertEqual(self.start("zsh", "-f", source=source).strip(), "_tunnelstack_programs")
        self.start("zsh", "-n", str(self.scriptOf("zsh")))

    def test_zshCompletesOnATerminal(self) -> None:
        zsh = shutil.which("zsh")
        if zsh is None:
            raise SkipTest("zsh is not installed")
        environ = {**os.environ, "PS1": "> ", "HOME": str(self.folder.absolute())}
        window = TerminalWindow([zsh, "-f", "-i"], environ, str(self.folder), columns=120)
        self.addCleanup(window.drop)
        window.type(f"autoload -U compinit && compinit -D -u; . {self.scriptOf('zsh')}; unsetopt beep; clear; print rea''dy\n")
        until(lambda: "ready" in window.text(), window.text)
        for typed, shown in (
            ("tunnelstack tok", "tunnelstack token "), ("tunnel-agent ser", "tunnel-agent serve "),
            ("tunnelstack token --al", "tunnelstack token --allow="), ("tunnelstack token n", "tunnelstack token new "),
            ("tunnel-edge --log-format j", "tunnel-edge --log-format json "),
            ("tunnelstack check ed", "tunnelstack check edge.toml"),
        ):  # fmt: skip
            window.type(f"{typed}\t")
            until(lambda shown=shown: shown.rstrip() in window.text(), window.text)
            window.type("\x15")

    def test_fishCompletes(self) -> None:
        self.start("fish", "--no-execute", str(self.scriptOf("fish")))
        source = f"source {self.scriptOf('fish')}\ncomplete -C 'tunnelstack tok'\ncomplete -C 'tunnelstack token --al'\n"
        offered = [line.split("\t")[0] for line in self.start("fish", "--no-config", source=source).splitlines()]
        self.assertEqual(offered, ["token", "--allow"])

"""
Help, and what is offered for a misspelt word, as whole programs print them on an empty home.
"""

from __future__ import annotations

import re
import subprocess

from tests.system.stage import Stage


class HelpTests(Stage):
    """
    The kind: a word from a fixed set (a program's first argument, a command, its subcommand, an option) that is asked about or
    misspelt.
    """

    def run_(self, line: str) -> tuple[int, str, str]:
        program, *arguments = line.split()
        done = subprocess.run(
            [*self.command(program), *arguments], env=self.environ, capture_output=True, text=True, timeout=60, cwd=self.home
        )
        return done.returncode, done.stdout, done.stderr

    def test_helpIsPrintedHoweverItIsAskedFor(self) -> None:
        for lines in (
            ("tunnelstack --help", "tunnelstack -h", "tunnelstack help"),
            ("tunnelstack token --help", "tunnelstack token -h", "tunnelstack token help", "tunnelstack help token"),
            ("tunnelstack status -h", "tunnelstack status help", "tunnelstack help status"),
            ("tunnelstack devices -h", "tunnelstack devices help", "tunnelstack help devices"),
            ("tunnelstack check -h", "tunnelstack check help"), ("tunnelstack connect -h", "tunnelstack help connect"),
            ("tunnel-edge --help", "tunnel-edge -h", "tunnel-edge help", "tunnel-edge --dev help"),
            ("tunnel-agent --help", "tunnel-agent -h", "tunnel-agent help", "tunnel-agent help http", "tunnel-agent http -h"),
        ):  # fmt: skip
            screens = [self.run_(line) for line in lines]
            code, out, err = screens[0]
            self.assertEqual((code, err), (0, ""), lines)
            self.assertTrue(out.startswith("Usage: tunnel"), out)
            self.assertEqual([screen for screen in screens if screen != screens[0]], [], lines)

    def test_aNameMayBeHelp(self) -> None:
        code, _, err = self.run_("tunnelstack connect help")
        self.assertEqual(code, 78, err)
        self.assertIn("no edge is configured", err)

    def test_misspeltWordsAreCorrected(self) -> None:
        for line, told in (
            ("tunnelstack stauts", "unknown command 'stauts'; did you mean status?"),
            ("tunnelstack Token new a", "unknown command 'Token'; did you mean token?"),
            ("tunnelstack http 3000", "unknown command 'http'; did you mean tunnel-agent http?"),
            ("tunnelstack edge", "unknown command 'edge'; did you mean tunnel-edge?"),
            ("tunnelstack xyzzy", "unknown command 'xyzzy'; the commands are demo, connect,"),
            ("tunnelstack help stauts", "unknown command 'stauts'; did you mean status?"),
            ("tunnelstack token nwe laptop", "must be new, list or revoke, not 'nwe'; did you mean new?"),
            ("tunnelstack devices acept a", "devices has no verb 'acept'; did you mean accept?"),
            ("tunnelstack koding ad a", "koding has no verb 'ad'; did you mean add?"),
            ("tunnelstack --verison", "option --verison not recognized; did you mean --version?"),
            ("tunnelstack status --jsno", "option --jsno not recognized; did you mean --json?"),
            ("tunnel-edge --lisen 80", "option --lisen not recognized; did you mean --listen?"),
            ("tunnel-edge http 3000", "not 'http'; services are published by tunnel-agent"),
            ("tunnel-agent htpp 3000", "not 'htpp'; did you mean http?"),
            ("tunnel-agent 3000", "not '3000'; did you mean http 3000?"),
            ("tunnel-agent http 3000 --nmae a", "option --nmae not recognized; did you mean --name?"),
        ):  # fmt: skip
            code, out, err = self.run_(line)
            self.assertEqual((code, out), (64, ""), line)
            self.assertIn(told, err, line)
            self.assertEqual(err.count("\n"), 2, err)      # the sentence, and whose --help says more

    def test_onlySimilarOptionsAreOffered(self) -> None:
        code, out, err = self.run_("tunnel-edge --frob")
        self.assertEqual((code, out, err), (64, "", "tunnel-edge: option --frob not recognized\nSee tunnel-edge --help.\n"))

    def test_subcommandsOfDialectsStandInLineWithTheOthers(self) -> None:
        for line, first, dialects in (
            ("tunnelstack --help", r"  token new\S+ +", r"  (?:sandbox|godoxy|koding|devices) list\S+ "),
            ("tunnel-agent --help", r"  ssh \[TARGET\] +", r"  (?:agentserver|godoxy|koding) "),
        ):
            _, out, _ = self.run_(line)
            (column,) = {len(found) for found in re.findall(f"(?m)^{first}(?=an |manage )", out)}
            shown = [each for each in out.splitlines() if re.match(dialects, each)]
            self.assertGreater(len(shown), 2, out)
            self.assertEqual([each for each in shown if not re.fullmatch(r".* \S", each[:column + 1])], [], out)

    def test_aKnownOptionIsNotCorrected(self) -> None:
        for line, told in (
            ("tunnel-edge --listen", "option --listen requires argument\n"),
            ("tunnel-edge --h2c=yes", "option --h2c must not have an argument\n"),
        ):  # fmt: skip
            code, out, err = self.run_(line)
            self.assertEqual((code, out), (64, ""), line)
            self.assertIn(told, err, line)

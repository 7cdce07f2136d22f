"""
The command C{tunnelstack completions}, which prints the completions of all programs for a shell.
"""

from __future__ import annotations

import sys

from twisted.python import usage

from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.wire.printable_text import quoted

HELP = """
Usage: tunnelstack completions bash|zsh|fish

Print a script that completes the command lines of tunnelstack, tunnel-edge and tunnel-agent in a shell.

  tunnelstack completions bash > ~/.local/share/bash-completion/completions/tunnelstack
        and links named tunnel-edge and tunnel-agent to this file; or, in ~/.bashrc:  . <(tunnelstack completions bash)
  tunnelstack completions zsh > ~/.zfunc/_tunnelstack
        with  fpath+=~/.zfunc  before compinit in ~/.zshrc
  tunnelstack completions fish > ~/.config/fish/completions/tunnelstack.fish
        and links named tunnel-edge.fish and tunnel-agent.fish to this file

The script has the options of this version, and the commands of the dialects that are installed.
Exit codes: 0 printed, 64 usage.
"""

SHELLS = ("bash", "zsh", "fish")


class Options(BaseOptions):
    """
    The command line.

    @ivar shell: one of L{SHELLS}.
    """

    helpText = HELP

    def parseArgs(self, *arguments: str) -> None:
        """
        Read the name of the shell.
        """
        shell = arguments[0] if arguments else ""
        if shell not in SHELLS or len(arguments) > 1:
            given = f"not {quoted(' '.join(arguments))}{didYouMean(shell, SHELLS)}" if arguments else "but it is missing"
            raise usage.UsageError(f"completions takes one shell, bash, zsh or fish, {given}")
        self.shell = shell


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    sys.stdout.write(script(options.shell))
    return STOPPED


def script(shell: str) -> str:
    """
    @param shell: one of L{SHELLS}.
    @return: the script.
    """
    from tunnelstack.commands.bash_completion import bashScript  # these import every command
    from tunnelstack.commands.command_lines import programs
    from tunnelstack.commands.fish_completion import fishScript
    from tunnelstack.commands.zsh_completion import zshScript

    return {"bash": bashScript, "zsh": zshScript, "fish": fishScript}[shell](programs())

"""
The completion of command lines in fish.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tunnelstack.commands.command_lines import CHOICES, FILES, FOLDERS, CommandLine, Option

HEAD = """\
# Completion for tunnelstack, tunnel-edge and tunnel-agent in fish, made by "tunnelstack completions fish".
"""


def fishScript(programs: Iterable[CommandLine]) -> str:
    """
    @return: the script for all programs.
    """
    return HEAD + "".join(line for program in programs for line in ("\n", *_program(program)))


def _program(program: CommandLine) -> Iterator[str]:
    name = program.name
    yield f"complete -c {name} -f\n"
    names = " ".join(line.name for line in program.commands)
    first = f"not __fish_seen_subcommand_from {names}" if names else ""
    for option in program.options:
        yield _complete(name, first, _option(option))
    for line in program.commands:
        yield _complete(name, first, f"-a {line.name} -d {_quoted(line.says)}")
    for line in program.commands:
        seen = f"__fish_seen_subcommand_from {line.name}"
        for option in line.options:
            yield _complete(name, seen, _option(option))
        if line.words:
            words = " ".join(line.words)
            yield _complete(name, f"{seen}; and not __fish_seen_subcommand_from {words}", f"-a {_quoted(words)}")
        if line.argument:
            yield _complete(name, seen, "-F")


def _complete(name: str, condition: str, what: str) -> str:
    return f"complete -c {name}" + (f" -n {_quoted(condition)}" if condition else "") + f" {what}\n"


def _option(option: Option) -> str:
    short = f" -s {option.short}" if option.short else ""
    value = f" -r{_values(option)}" if option.takesValue else ""
    says = f" -d {_quoted(option.says)}" if option.says else ""
    return f"-l {option.long}{short}{value}{says}"


def _values(option: Option) -> str:
    if option.long in FILES:
        return " -F"
    if option.long in FOLDERS:
        return " -a '(__fish_complete_directories)'"
    return f" -a {_quoted(' '.join(CHOICES[option.long]))}" if option.long in CHOICES else ""


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

"""
The completion of command lines in zsh.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tunnelstack.commands.command_lines import CHOICES, FILE, FILES, FOLDER, FOLDERS, CommandLine, Option

HEAD = """\
#compdef tunnelstack tunnel-edge tunnel-agent
# Completion for tunnelstack, tunnel-edge and tunnel-agent in zsh, made by "tunnelstack completions zsh".
"""

PROGRAM = """
{function}() {{
    local curcontext=$curcontext state line
    local -a commands
    commands=(
{commands}    )
    _arguments -C -s -S \\
{options}        '1:command:->command' \\
        '*::argument:->argument' && return
    case $state in
        command) _describe -t commands command commands ;;
        argument)
            case $words[1] in
{cases}            esac ;;
    esac
}}
"""

PLAIN = """
{function}() {{
    _arguments -s -S \\
{options}        '*:argument: '
}}
"""

FOOT = """
_tunnelstack_programs() {{
    case $service in
{cases}    esac
}}

if [[ $funcstack[1] == _tunnelstack* ]]; then
    _tunnelstack_programs "$@"
else
    compdef _tunnelstack_programs {names}
fi
"""


def zshScript(programs: Iterable[CommandLine]) -> str:
    """
    @return: the script for all programs: to be sourced after C{compinit}, or to be a file C{_tunnelstack} in C{fpath}.
    """
    programs = tuple(programs)
    cases = "".join(f"        {program.name}) {_function(program)} \"$@\" ;;\n" for program in programs)
    foot = FOOT.format(cases=cases, names=" ".join(program.name for program in programs))
    return HEAD + "".join(map(_program, programs)) + foot


def _function(program: CommandLine) -> str:
    return "_" + re.sub(r"\W", "_", program.name) + "_completion"


def _program(program: CommandLine) -> str:
    options = "".join(f"        {spec} \\\n" for option in program.options for spec in _option(option))
    if not program.commands:
        return PLAIN.format(function=_function(program), options=options)
    commands = "".join(f"        {_quoted(f'{line.name}:{line.says}')}\n" for line in program.commands)
    cases = "".join(map(_case, program.commands))
    return PROGRAM.format(function=_function(program), options=options, commands=commands, cases=cases)


def _case(line: CommandLine) -> str:
    specs = [spec for option in line.options for spec in _option(option)]
    if line.words:
        specs.append(f"'1:word:({' '.join(line.words)})'")
    rest = {FILE: "'*:file:_files'", FOLDER: "'*:folder:_files -/'"}.get(line.argument, "'*:argument: '")
    body = "".join(f" \\\n                        {spec}" for spec in (*specs, rest))
    return f"                {line.name})\n                    _arguments -s -S{body} ;;\n"


def _option(option: Option) -> Iterator[str]:
    """
    The specifications of one option, for C{_arguments}: one for each way to write it.
    """
    excluded = f"({' '.join(option.spellings)})" if option.short else ""
    says = re.sub(r"([\\\[\]:])", r"\\\1", option.says)
    value = f":value:{_values(option)}" if option.takesValue else ""
    for spelling in option.spellings:
        joined = ("=" if spelling.startswith("--") else "+") if option.takesValue else ""
        yield _quoted(f"{excluded}{spelling}{joined}[{says}]{value}")


def _values(option: Option) -> str:
    if option.long in FILES:
        return "_files"
    if option.long in FOLDERS:
        return "_files -/"
    return f"({' '.join(CHOICES[option.long])})" if option.long in CHOICES else " "


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"

"""
The completion of command lines in bash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tunnelstack.commands.command_lines import CHOICES, FILE, FILES, FOLDER, FOLDERS, CommandLine, Option

HEAD = """\
# Completion for tunnelstack, tunnel-edge and tunnel-agent in bash, made by "tunnelstack completions bash".

# Sets the word to complete, the option whose value it is, and the command.  "=" is a word of its own for bash.
# $1: a pattern with the options that take a value.
_tunnelstack_words() {
    local i word
    cur=${COMP_WORDS[COMP_CWORD]} option= command= count=0
    local last=$((COMP_CWORD - 1))
    if [[ $cur == "=" ]]; then
        cur=
    elif [[ ${COMP_WORDS[last]} == "=" ]]; then
        ((last--))
    fi
    if [[ ${COMP_WORDS[last]} == $1 ]]; then
        option=${COMP_WORDS[last]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == $1 ]]; then
            ((i++))
            [[ ${COMP_WORDS[i]} == "=" ]] && ((i++))
        elif [[ $word != -* && $word != "=" ]]; then
            [[ -z $command ]] && command=$word || ((count++))
        fi
    done
}

# $1: files or directories, as for compgen -A.
_tunnelstack_paths() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -A "$1" -- "$cur")
}

# $1: words.
_tunnelstack_choose() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}
"""

PROGRAM = """
{function}() {{
    local cur option command count options= words= paths=
    COMPREPLY=()
    _tunnelstack_words '@({valued})'
    case $option in
        "") ;;
{values}        *) return ;;
    esac
    case $command in
{commands}    esac
    if [[ $cur == -* ]]; then
        _tunnelstack_choose "$options"
    elif [[ -n $words ]]; then
        _tunnelstack_choose "$words"
    elif [[ -n $paths ]]; then
        _tunnelstack_paths "$paths"
    fi
}}
complete -F {function} {name}
"""


def bashScript(programs: Iterable[CommandLine]) -> str:
    """
    @return: the script for all programs.
    """
    return HEAD + "".join(map(_program, programs))


def _program(program: CommandLine) -> str:
    options = {option for line in (program, *program.commands) for option in line.options}
    valued = sorted({spelling for option in options if option.takesValue for spelling in option.spellings})
    return PROGRAM.format(
        name=program.name, function="_" + re.sub(r"\W", "_", program.name) + "_completion", valued="|".join(valued),
        values="".join(_values(options)), commands="".join(_commands(program)),
    )


def _values(options: Iterable[Option]) -> Iterator[str]:
    """
    The values of options, each with what completes it.
    """
    for calls, names in (("_tunnelstack_paths file", FILES), ("_tunnelstack_paths directory", FOLDERS)):
        yield from _value([option for option in options if option.long in names], calls)
    for name, choices in CHOICES.items():
        yield from _value([option for option in options if option.long == name], f'_tunnelstack_choose "{" ".join(choices)}"')


def _value(options: Iterable[Option], call: str) -> Iterator[str]:
    spellings = sorted({spelling for option in options if option.takesValue for spelling in option.spellings})
    if spellings:
        yield f"        {'|'.join(spellings)}) {call}; return ;;\n"


def _commands(program: CommandLine) -> Iterator[str]:
    """
    The options and arguments of the program and of its commands.
    """
    yield f'        "") options="{_spelt(program.options)}" words="{" ".join(line.name for line in program.commands)}" ;;\n'
    for line in program.commands:
        sets = f'options="{_spelt(line.options)}"'
        if line.words:
            sets += f'; ((count)) || words="{" ".join(line.words)}"'
        if line.argument:
            sets += f" paths={({FILE: 'file', FOLDER: 'directory'})[line.argument]}"
        yield f"        {line.name}) {sets} ;;\n"


def _spelt(options: Iterable[Option]) -> str:
    return " ".join(f"--{option.long}" for option in options)

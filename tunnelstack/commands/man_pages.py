"""
The man pages of all programs, made from their option tables and help texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from textwrap import dedent

from tunnelstack.commands.command_lines import CommandLine, Option, programs

USAGE = "Usage: "
EXIT_CODES = "Exit codes: "
VARIABLE = re.compile(r"\b[A-Z]+_[A-Z_]+\b")

PLACEHOLDER = "VALUE"
"""Stands for the value of an option for which the help text has no name."""

SEPARATE = "tunnelstack"
"""The program whose commands have pages of their own."""


def manPages() -> dict[str, str]:
    """
    @return: the pages by their file names.
    """
    pages: dict[str, str] = {}
    for program in programs():
        commands = program.commands if program.name == SEPARATE else ()
        names = [f"{program.name}-{line.name}" for line in commands]
        others = [other for other in ("tunnelstack", "tunnel-edge", "tunnel-agent") if other != program.name]
        pages[f"{program.name}.1"] = page(program.name, program, [*others, *names])
        for name, line in zip(names, commands, strict=True):
            pages[f"{name}.1"] = page(name, line, [program.name])
    return pages


def page(name: str, line: CommandLine, related: Iterable[str]) -> str:
    """
    @param related: the pages to see also.
    """
    text = HelpText(line.helpText)
    lines = [
        f'.TH {_escaped(name.upper())} 1 "" tunnelstack "User Commands"',
        ".SH NAME", f"{_escaped(name)} \\- {_escaped(line.says)}",
        ".SH SYNOPSIS", ".nf", *map(_escaped, text.synopsis), ".fi",
        ".SH DESCRIPTION", *_verbatim(text.description),
        ".SH OPTIONS", *(each for option in line.options for each in _option(option, text)),
    ]  # fmt: skip
    if text.notes:
        lines += [".SH NOTES", *_verbatim(text.notes)]
    if text.exitCodes:
        lines += [".SH EXIT STATUS", _escaped(text.exitCodes)]
    *first, last = (f".BR {_escaped(other)} (1)" for other in related)
    lines += [".SH SEE ALSO", *(f"{other}," for other in first), last]
    return "\n".join(lines) + "\n"


class HelpText:
    """
    The parts of a text that C{--help} prints.

    @ivar synopsis: the lines of the usage.
    @ivar description: the lines before the options.
    @ivar notes: the lines after them.
    @ivar exitCodes: the sentence about exit codes; C{""} if there is none.
    """

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        usage, rest = self._paragraph(self._lines)
        self.synopsis = [line.removeprefix(USAGE) for line in usage]
        options = next((at for at, line in enumerate(rest) if line.startswith("Options ")), len(rest))
        self.description = _stripped(rest[:options])
        _, after = self._paragraph(rest[options:])
        codes = [line for line in after + self.description if line.startswith(EXIT_CODES)]
        self.exitCodes = codes[0].removeprefix(EXIT_CODES) if codes else ""
        self.notes = _stripped([line for line in after if line not in codes])
        self.description = [line for line in self.description if line not in codes]

    @staticmethod
    def _paragraph(lines: list[str]) -> tuple[list[str], list[str]]:
        """
        @return: the lines up to the first empty one, and those after it.
        """
        end = lines.index("") if "" in lines else len(lines)
        return lines[:end], lines[end + 1 :]

    def rowOf(self, option: Option) -> str:
        """
        @return: the line about an option, beginning with it; C{""} if there is none.
        """
        spelt = re.compile(rf"  +(?:-\w, |--\S+ \S+, )?(--{re.escape(option.long)}(?![\w-]).*)")
        return next((match[1] for line in self._lines if (match := spelt.match(line))), "")


def _option(option: Option, text: HelpText) -> Iterator[str]:
    row = text.rowOf(option)
    spelt = ", ".join(f"\\fB{_escaped(each)}\\fR" for each in reversed(option.spellings))
    value = ""
    if option.takesValue:
        named = re.match(r"--\S+ ([A-Z|]+)\b", row)
        value = f" \\fI{_escaped(named[1] if named else PLACEHOLDER)}\\fR"
    yield ".TP"
    yield spelt + value
    says = option.says[:1].upper() + option.says[1:]
    variable = VARIABLE.search(row)
    yield _escaped(f"{says.rstrip(':')}." + (f" The environment variable {variable[0]} stands for it." if variable else ""))


def _verbatim(lines: Iterable[str]) -> list[str]:
    """
    @return: lines that stay as they are.
    """
    return [".nf", *(_escaped(line) for line in dedent("\n".join(lines)).split("\n")), ".fi"]


def _stripped(lines: list[str]) -> list[str]:
    """
    @return: the lines without empty ones at both ends.
    """
    text = "\n".join(lines).strip("\n")
    return text.split("\n") if text else []


def _escaped(text: str) -> str:
    """
    @return: text in which nothing is a request or an escape of roff.
    """
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = text.replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    return f"\\&{text}" if text.startswith(".") else text

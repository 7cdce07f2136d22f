"""
Writes reference/configuration.md from the records that the programs themselves read::

    python docs/configuration.py

A test fails when the page and the records differ.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from attrs import NOTHING, Factory, fields

from tunnelstack.control.config.reader import agentSections, edgeSections
from tunnelstack.control.config.records import NEVER
from tunnelstack.settings.setting import keyOf

HERE = Path(__file__).resolve().parent
PAGE = HERE / "reference" / "configuration.md"
EXAMPLES = {"edge": HERE / "examples" / "edge.toml", "agent": HERE / "examples" / "agent.toml"}

WORDS = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "datetime": "date and time"}

PREFACE = """\
# Configuration files

TOML, one file for an edge and one for an agent. Options override the environment, the environment overrides the file,
the file overrides the defaults. `tunnelstack check FILE` reports every mistake with its line, its key and the nearest known
key. Names of durations end in `_seconds`.

Secrets are in files of their own or in the environment. An edge keeps only the SHA-256 of a token.

This page is generated from the records that the programs read (`docs/configuration.py`).
"""

EDGE = """
## An edge's file

An edge reads its file again at SIGHUP and applies the differences; sessions stay connected. Settings marked *live*, and
`[[agent]]`, `[[certificate]]`, `[[checker]]`, `[[route]]` and `[[health]]`, apply from then on. Other changes need a restart,
which the log reports.
"""

AGENT = """
## An agent's file

An agent reads its file again at SIGHUP as an edge does; sessions stay connected. Settings marked *live* apply from then on.
A new `[[service]]` is announced, a removed one is withdrawn, a changed one is replaced. Requests under way finish with the old
one. Other changes need a restart, which the log reports.
"""


def kindOf(kind: Any) -> str:
    """
    A type in words.
    """
    if get_origin(kind) is tuple:
        return f"list of {WORDS[get_args(kind)[0].__name__]}"
    return WORDS[kind.__name__]


def shown(value: Any) -> str:
    """
    A default as TOML writes it.
    """
    if value is NOTHING:
        return "required"
    if isinstance(value, Factory) or value == NEVER:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`" if value else "none"
    if isinstance(value, str):
        return f'`"{value}"`' if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def section(name: str, record: type, many: bool) -> str:
    """
    One table of a file.
    """
    hints = get_type_hints(record)
    about = re.split(r"\n\s*@", record.__doc__ or "")[0].strip()
    about = re.sub(r"[CL]\{([^}]*)\}", r"`\1`", re.sub(r"\s+", " ", about))
    about = about.partition(": ")[2] or about
    lines = [f"### {f'[[{name}]]' if many else f'[{name}]'}", "", about[:1].upper() + about[1:], ""]
    lines += ["| key | what | default | |", "|---|---|---|---|"]
    for attribute in fields(record):
        if attribute.metadata["inFile"]:
            says = attribute.metadata["says"].replace("|", "\\|")
            live = "*live*" if attribute.metadata["live"] else ""
            kind = kindOf(hints[attribute.name])
            lines.append(f"| `{keyOf(attribute.name)}` | {kind}: {says} | {shown(attribute.default)} | {live} |")
    return "\n".join(lines) + "\n"


def example(which: str) -> str:
    """
    An example, as it stands in its file.
    """
    return f"```toml\n{EXAMPLES[which].read_text()}```\n"


def page() -> str:
    """
    The whole page.
    """
    edge = [section(name, record, many) for name, (record, many) in edgeSections().items()]
    agent = [section(name, record, many) for name, (record, many) in agentSections().items()]
    parts = [PREFACE, EDGE, example("edge"), *edge, AGENT, example("agent"), *agent]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())

"""
The console scripts C{tunnel-edge}, C{tunnel-agent} and C{tunnelstack}.

Nothing is imported here before it is needed, so that Ctrl-C ends a program without a traceback even while it is being loaded.
"""

from __future__ import annotations

from importlib import import_module

STOPPED = 0
"""The exit code of a process that stopped on request, as in C{tunnelstack.control.process.exit_status}."""


def tunnelEdge() -> int:
    """
    @return: the exit code.
    """
    return _run("tunnelEdge")


def tunnelAgent() -> int:
    """
    @return: the exit code.
    """
    return _run("tunnelAgent")


def tunnelstack() -> int:
    """
    @return: the exit code.
    """
    return _run("main")


def _run(name: str) -> int:
    try:
        code: int = getattr(import_module("tunnelstack.commands.main"), name)()
    except KeyboardInterrupt:
        return STOPPED
    return code

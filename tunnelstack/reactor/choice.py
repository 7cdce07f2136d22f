"""
Selects the reactor of the console scripts.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Mapping
from importlib import import_module

from tunnelstack.errors import ConfigurationError
from tunnelstack.wire.printable_text import quoted

VARIABLE = "TUNNELSTACK_REACTOR"

MODULES = {"busypoll": "tunnelstack.reactor.busypoll", "uvloop": "tunnelstack.reactor.uvloop"}
"""The modules of our reactors.  They are plugins too, but to find a plugin loads the interfaces of all of them, a test
framework among them."""


def install(environ: Mapping[str, str]) -> None:
    """
    Install the reactor that C{TUNNELSTACK_REACTOR} names, as C{twistd --reactor} does.  The default is
    L{tunnelstack.reactor.busypoll} if the system has epoll, and Twisted's default otherwise.  Nothing happens if a reactor is
    installed already.

    @raise ConfigurationError: the reactor does not exist, or does not work on this system.
    """
    if "twisted.internet.reactor" in sys.modules:
        return
    name = environ.get(VARIABLE, "")
    if name:
        _named(name)
    elif hasattr(select, "epoll"):
        import_module(MODULES["busypoll"]).install()


def _named(name: str) -> None:
    try:
        if name in MODULES:
            import_module(MODULES[name]).install()
        else:
            _plugin(name)
    except ConfigurationError:
        raise
    except Exception as problem:
        raise ConfigurationError(f"{VARIABLE}: {name} does not work here: {problem}") from problem


def _plugin(name: str) -> None:
    """
    Install a reactor of a Twisted plugin.
    """
    from twisted.application import reactors  # slow to load, and rarely needed

    try:
        reactors.installReactor(name)
    except reactors.NoSuchReactor:
        known = ", ".join(sorted(reactor.shortName for reactor in reactors.getReactorTypes()))
        raise ConfigurationError(f"{VARIABLE}: there is no reactor {quoted(name)}; the reactors are {known}") from None

"""
Selects the reactor of the console scripts.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Mapping

from twisted.application import reactors

from tunnelstack.errors import ConfigurationError
from tunnelstack.wire.printable_text import quoted

VARIABLE = "TUNNELSTACK_REACTOR"


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
        from tunnelstack.reactor import busypoll

        busypoll.install()


def _named(name: str) -> None:
    try:
        reactors.installReactor(name)
    except reactors.NoSuchReactor:
        known = ", ".join(sorted(reactor.shortName for reactor in reactors.getReactorTypes()))
        raise ConfigurationError(f"{VARIABLE}: there is no reactor {quoted(name)}; the reactors are {known}") from None
    except Exception as problem:
        raise ConfigurationError(f"{VARIABLE}: {name} does not work here: {problem}") from problem

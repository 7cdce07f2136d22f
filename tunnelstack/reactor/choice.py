"""
Which reactor turns a program of ours.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Mapping

from twisted.application import reactors

from tunnelstack.errors import ConfigurationError

VARIABLE = "TUNNELSTACK_REACTOR"


def install(environ: Mapping[str, str]) -> None:
    """
    Install the reactor that the environment names, as C{twistd --reactor} would; unless it names one, that which
    L{tunnelstack.reactor.busypoll} describes, where the system has epoll.  Nothing happens where there is a reactor already.

    @raise ConfigurationError: there is no such reactor, or it does not work here.
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
        raise ConfigurationError(f"{VARIABLE}: there is no reactor {name!r}; there are {known}") from None
    except Exception as problem:
        raise ConfigurationError(f"{VARIABLE}: {name} does not work here: {problem}") from problem

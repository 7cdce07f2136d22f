"""
The reactor of this process.
"""

from __future__ import annotations

from typing import cast

from tunnelstack.interfaces import IReactor


def runningReactor() -> IReactor:
    """
    @return: the reactor of this process; the default one is installed if there is none yet.
    """
    from twisted.internet import reactor

    return cast(IReactor, reactor)

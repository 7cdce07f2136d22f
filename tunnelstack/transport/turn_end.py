"""
Calls at the end of a reactor turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IReactorTime


def turnEnd(clock: IReactorTime) -> Callable[[Callable[[], object]], object]:
    """
    Make a function that calls its argument once, after what this reactor turn still has to do.

    @return: C{callAtTurnEnd} of the reactor, if it has that
        (L{BusyPollReactor<tunnelstack.reactor.busypoll.BusyPollReactor>}); else a C{callLater} without delay, which costs a
        delayed call.
    """
    own: Callable[[Callable[[], object]], object] | None = getattr(clock, "callAtTurnEnd", None)
    return partial(clock.callLater, 0) if own is None else own

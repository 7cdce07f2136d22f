"""
The last time that the configuration of a running edge was read again.
"""

from __future__ import annotations

from attrs import frozen

from tunnelstack.settings.record import Record


@frozen(eq=False, repr=False)
class LastReload(Record):
    """
    The result of a reload.

    @ivar at: when it was, in seconds of the clock.
    @ivar changed: a sentence for each difference.
    @ivar error: why nothing has changed; C{""} if the new configuration could be used.
    """

    at: float
    changed: tuple[str, ...] = ()
    error: str = ""

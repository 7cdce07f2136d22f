"""
How fast a carrier takes octets, and how little may therefore be given to it at a time.

Whatever a carrier has taken and not yet sent delays all that follows: a ping, credit, a keystroke after a bulk transfer.  So a
sender gives a slow carrier no more than it sends in a fraction of a second, and keeps the rest in queues of its own, where
urgent octets come first.  A fast carrier gets as much as it needs to be busy until the sender's next turn.

The rate is measured only while it is the carrier that holds the sender back: from one moment at which the carrier has taken
everything, after it had refused some, to the next.  The owner calls L{SendRate.taken} at each such moment.
"""

from __future__ import annotations

LARGEST_BATCH = 64 * 1024
"""Octets to give at once to a carrier that is fast."""

FIRST_BATCH = 16 * 1024
"""The same for a carrier that nothing is known of: L{SendRate.untroubled} doubles it."""

SMALLEST_BATCH = 2 * 1024
"""Octets; less would mostly be headers."""

BATCH_SECONDS = 0.25
"""Seconds that a slow carrier needs for one batch."""

FIRST_UNSENT = 16 * 1024
"""Octets that the kernel may keep unsent, of a carrier whose rate is not known."""

LEAST_UNSENT = 4 * 1024
"""The same, of a carrier that is slow."""

MOST_UNSENT = 4 * 1024 * 1024
"""The same, of a carrier that is fast; about as much as kernels keep in a buffer."""

UNSENT_SECONDS = 0.05
"""Seconds that a fast carrier needs for what the kernel keeps unsent, if the sender is always back before that; a slow one,
where L{FIRST_UNSENT} is more, C{BATCH_SECONDS}."""

LATE_UNSENT_SECONDS = 1.0
"""The same for a sender that is late: the carrier is then idle until its next turn."""

SAMPLE_SECONDS = 0.02
"""Seconds that one measurement takes at least."""

IDLE_SECONDS = 0.1
"""A measurement begins anew if there was nothing to send for longer.  Gaps that are shorter are counted: a sender that reads
from elsewhere has many."""

MEMORY_SECONDS = 0.5
"""A measurement of so many seconds replaces those before it; a shorter one counts in proportion."""


class SendRate:
    """
    The rate of one carrier, in octets a second.

    @ivar rate: C{0} while it is not known.
    @ivar batch: octets to give at once.
    @ivar unsent: octets that the kernel may keep unsent.
    @ivar idle_at: since when there was nothing to send, although the carrier would take it; C{None} if there was.  The owner
        sets it, if it is not set; to spare a call for each flush.
    """

    __slots__ = ("_octets", "_since", "batch", "idle_at", "rate", "unsent")

    def __init__(self) -> None:
        self.rate = 0.0
        self.batch = FIRST_BATCH
        self.unsent = FIRST_UNSENT
        self.idle_at: float | None = None
        self._since: float | None = None      # when the present measurement began
        self._octets = 0                      # that had been taken then

    def taken(self, now: float, octets: int) -> bool:
        """
        The carrier has taken everything that was given to it, after it had refused some.

        @param now: seconds of the owner's clock.
        @param octets: all octets ever taken.
        @return: whether L{bound} is to be called.
        """
        idle, self.idle_at = self.idle_at, None
        since = self._since
        if since is None or (idle is not None and now - idle > IDLE_SECONDS):
            self._since, self._octets = now, octets
            return since is None
        if now - since < SAMPLE_SECONDS:
            return False
        self._measured(now - since, octets - self._octets)
        self._since, self._octets = now, octets
        return True

    def untroubled(self) -> None:
        """
        The carrier has taken several batches in a row, and refused none yet.
        """
        if not self.rate:
            self.batch = min(LARGEST_BATCH, 2 * self.batch)

    def seconds(self, octets: int) -> float:
        """
        @return: seconds that the carrier needs for so many octets; C{0} while its rate is not known.
        """
        return octets / self.rate if self.rate else 0.0

    def _measured(self, seconds: float, octets: int) -> None:
        rate = octets / seconds
        weight = min(1.0, seconds / MEMORY_SECONDS) if self.rate else 1.0
        self.rate += weight * (rate - self.rate)
        self.batch = int(min(LARGEST_BATCH, max(SMALLEST_BATCH, self.rate * BATCH_SECONDS)))

    def bound(self, unsent: int | None) -> None:
        """
        Let the kernel keep what it sends in a short time.  If little was left in it, the sender came late, for instance because
        its process has much to do: then it needs more in store.  Without this, a late sender would measure itself instead of
        the carrier, and allow the kernel less and less.

        @param unsent: octets that the kernel has not sent now; C{None} where that is not known.
        """
        if not self.rate:
            return
        least = max(LEAST_UNSENT, min(FIRST_UNSENT, self.rate * BATCH_SECONDS), self.rate * UNSENT_SECONDS)
        most = max(LEAST_UNSENT, self.rate * LATE_UNSENT_SECONDS)
        late = unsent is None or unsent < self.unsent // 4
        self.unsent = int(min(MOST_UNSENT, most, max(least, 2 * self.unsent if late else 0)))

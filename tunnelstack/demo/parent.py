"""
The end of a process together with the process that has started it, however that ends.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from threading import Thread

KILL_SECONDS = 35.0
"""Seconds that a process has to end after SIGTERM: a little more than the time to drain."""


def endWithParent() -> None:
    """
    End this process when its standard input ends.  That is a pipe, whose other end only the parent has: the kernel closes it
    when the parent ends, even if it is killed.
    """
    Thread(target=_waitForEnd, name="end with parent", daemon=True).start()


def _waitForEnd() -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(KILL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)

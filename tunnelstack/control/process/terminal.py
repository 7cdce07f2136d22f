"""
The terminal that a process was started on, and whether it is still there.

A process without a terminal, such as a daemon, is sent SIGHUP to read its configuration again.  A process with one is sent the
same signal when the terminal is closed, and should end then, because the person who started it sees it no more.  The two are
distinguished by the controlling terminal: the kernel takes it away from all processes of a session when it is closed.
"""

from __future__ import annotations

import os
import signal

CONTROLLING_TERMINAL = "/dev/tty"
"""Opens the controlling terminal of the process that opens it; fails if that process has none."""


class ControllingTerminal:
    """
    The controlling terminal of this process.  To be made before a handler for SIGHUP is installed, and after a daemon has left
    its terminal.

    @ivar matters: whether the process had a terminal and is to end with it.  A process that was started with C{nohup}, which
        ignores SIGHUP, is not.
    """

    def __init__(self) -> None:
        self.matters = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and not self.isClosed()

    def isClosed(self) -> bool:
        """
        @return: whether there is no terminal now.
        """
        try:
            os.close(os.open(CONTROLLING_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return True
        return False

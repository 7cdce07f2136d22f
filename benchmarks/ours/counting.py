"""
Counts the calls of Python functions in a process: a figure that noise on the machine does not change.
"""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType


class CallCounter:
    """
    Calls of functions that are written in C are not counted.

    @ivar calls: since the last L{begin}.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._counting = False

    def begin(self) -> None:
        """
        Count from here.
        """
        self._counting = True
        self.calls = 0
        sys.setprofile(self._profile)

    def end(self) -> None:
        """
        Count no more.
        """
        sys.setprofile(None)
        self._counting = False

    def install(self) -> None:
        """
        Begin at the first C{SIGPROF}, which prints C{{}}; end at the second, which prints C{{"calls": N}}.
        """
        signal.signal(signal.SIGPROF, self._toggle)

    def _toggle(self, number: int, frame: FrameType | None) -> None:
        if self._counting:
            self.end()
            print(json.dumps({"calls": self.calls}), flush=True)
        else:
            print("{}", flush=True)
            self.begin()

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            self.calls += 1

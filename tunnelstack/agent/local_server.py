"""
Whether the local server of a service answers, as the last connection to it has shown.
"""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.agent.target import failureReason

NOTHING = "nothing listens"


class LocalServer:
    """
    The local server of one service.  It is logged when it does not answer any more, and when it answers again.

    @ivar down: why it does not answer; C{""} if it does, or if that is not known.
    """

    log = Logger()

    def __init__(self, service: str, shown: str, then: str) -> None:
        """
        @param service: the name of the service.
        @param shown: the target as status lines show it.
        @param then: what happens to visitors meanwhile.
        """
        self._service = service
        self._where = shown.removeprefix("tcp:").removeprefix("udp:")
        self._then = then
        self._known = False
        self.down = ""

    def reached(self) -> None:
        """
        It has accepted a connection, or has sent a datagram.
        """
        self._known = True
        if self.down:
            self.down = ""
            self.log.info(
                "{target} answers again", target=self._where, service=self._service, down=False, status=self._service
            )

    def failed(self, failure: Failure) -> None:
        """
        It cannot be connected to.
        """
        self.notReached(failureReason(failure))

    def notReached(self, why: str) -> None:
        """
        It cannot be connected to.

        @param why: the reason in a few words.
        """
        known, self._known = self._known, True
        if self.down:
            return
        self.down = why
        nothing = "nothing listens on {target}" + ("" if known else " yet")
        text = nothing if why == NOTHING else "cannot connect to {target}: {why}"
        self.log.warn(text + "; {then}", target=self._where, why=why, then=self._then, service=self._service, down=True)

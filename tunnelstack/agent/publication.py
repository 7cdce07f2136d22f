"""
A service that an agent offers, what its edges said to it, and who serves it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.errors import Denied, Unavailable
from tunnelstack.records import Grant, Service
from tunnelstack.stream.address import TunnelAddress
from tunnelstack.waiters import Waiters

RETRY_SECONDS = 30.0
"""Seconds until an edge is asked again for what it could not grant at that moment (times 0.75 to 1.25)."""

FINAL_CODES = frozenset(("not-allowed", "malformed", "unsupported"))
"""Codes of refusals that stay as long as nobody changes something."""


class Publication:
    """
    One service of an agent.

    @ivar service: the L{Service}.
    @ivar handler: an C{IProtocolFactory}, or an L{IDiallingHandler<tunnelstack.interfaces.IDiallingHandler>}.
    @ivar shown: what a status line says is behind it, or C{""}.
    """

    log = Logger()

    def __init__(
        self,
        service: Service,
        handler: Any,
        clock: Any,
        *,
        shown: str = "",
        optional: bool = False,
        onWithdrawn: Callable[[Publication], object] = lambda publication: None,
        random: Callable[[], float] = random,
    ) -> None:
        """
        @param optional: that the token does not allow it is no news.
        @param onWithdrawn: called when it is withdrawn.
        """
        self.service = service
        self.handler = handler
        self.shown = shown
        self._optional = optional
        self._clock = clock
        self._onWithdrawn = onWithdrawn
        self._random = random
        self._grants: dict[Any, Grant] = {}           # by link, the latest last
        self._links: set[Any] = set()
        self._timers: dict[Any, Any] = {}
        self._waiting: Waiters[Grant] = Waiters()
        self._lastReason = ""

    @property
    def grant(self) -> Grant | None:
        """
        What an edge granted, the latest, or C{None} while there is none.
        """
        return next(reversed(self._grants.values()), None)

    @property
    def address(self) -> TunnelAddress:
        """
        The public side, as far as it is known.
        """
        grant = self.grant or Grant()
        return TunnelAddress(name=self.service.name, host=grant.host, port=grant.port, url=grant.url)

    def whenGranted(self) -> Deferred[Grant]:
        """
        @return: fires once an edge has granted it; fails with L{Denied} when one says that it never will.  What may pass is
            waited for.
        """
        return self._waiting.wait() if self.grant is None else succeed(self.grant)

    # Sessions come and go

    def announce(self, link: Any) -> Deferred[None]:
        """
        There is a session: ask its edge.

        @return: fires when the edge has answered, or will not.
        """
        self._links.add(link)
        asked: Deferred[Any] = link.announce(self.service)
        asked.addCallbacks(self._granted, self._denied, (link,), {}, (link,))
        return asked.addErrback(self._unexpectedError)

    def linkLost(self, link: Any) -> None:
        """
        A session is gone, and what its edge had granted.
        """
        self._links.discard(link)
        self._grants.pop(link, None)
        self._cancelRetry(link)

    def revoked(self, link: Any, reason: str) -> None:
        """
        The edge has taken back what it had granted.
        """
        if self._grants.pop(link, None) is not None:
            self.log.warn("{service} is withdrawn by the edge: {reason}", service=self.service.name, reason=reason)
            self._scheduleRetry(link)

    def _granted(self, grant: Grant, link: Any) -> None:
        if link not in self._links:
            return
        self._grants[link] = grant
        self._lastReason = ""
        where = grant.url or (f"tcp:{grant.host}:{grant.port}" if grant.port else f"tunnel:{self.service.name}")
        self.log.info(
            "{where}{arrow}{target}", status=self.service.name, where=where, arrow=" -> " if self.shown else "",
            target=self.shown, kind=self.service.kind,
        )
        self._waiting.fire(grant)

    def _denied(self, failure: Failure, link: Any) -> None:
        failure.trap(Unavailable)
        if link not in self._links:
            return
        error: Any = failure.value
        code, sentence = (error.code, error.sentence) if isinstance(error, Denied) else ("", str(error))
        if code in FINAL_CODES:
            log = self.log.info if self._optional and code == "not-allowed" else self.log.critical
            self._logOnce(log, "the edge does not publish {service}: {reason}", sentence)
            self._waiting.fail(failure)
        else:
            self._logOnce(self.log.warn, "the edge cannot publish {service} now: {reason}", sentence)
            self._scheduleRetry(link)

    def _logOnce(self, log: Any, text: str, reason: str) -> None:
        """
        Once for each reason.
        """
        if reason != self._lastReason:
            self._lastReason = reason
            log(text, service=self.service.name, reason=reason)

    def _scheduleRetry(self, link: Any) -> None:
        seconds = RETRY_SECONDS * (0.75 + 0.5 * self._random())
        self._timers[link] = self._clock.callLater(seconds, self._retry, link)

    def _cancelRetry(self, link: Any) -> None:
        timer = self._timers.pop(link, None)
        if timer is not None:
            timer.cancel()

    def _retry(self, link: Any) -> None:
        self._timers.pop(link, None)
        self.announce(link)

    def _unexpectedError(self, failure: Failure) -> None:
        self.log.failure("the answer of an edge could not be dealt with", failure=failure)

    # Changes

    def replace(self, service: Service, handler: Any, shown: str) -> Deferred[Any]:
        """
        Offer something else instead.  Streams that are there stay with who serves them.

        @param service: of the same kind and name.
        @return: fires when the edges that are there know.
        """
        before, self.service = self.service, service
        self.handler = handler
        self.shown = shown
        links = list(self._links)
        for link in links:
            self._cancelRetry(link)
            if service.port != before.port:   # an edge gives a name no second port
                self._grants.pop(link, None)
                link.withdraw(before).addErrback(lambda failure: failure.trap(Unavailable))
        return DeferredList([self.announce(link) for link in links])

    def withdraw(self) -> Deferred[Any]:
        """
        Offer it no more.

        @return: fires when the edges that are there know.
        """
        links = list(self._links)
        for link in links:
            self.linkLost(link)
        self._onWithdrawn(self)
        self.log.info("withdrawn", status=self.service.name, kind=self.service.kind, where="", target="")
        return DeferredList([link.withdraw(self.service) for link in links], consumeErrors=True)

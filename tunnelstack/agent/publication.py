"""
A service that an agent publishes: what its edges have granted, and the handler of its streams.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import random

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.errors import Denied, Unavailable
from tunnelstack.interfaces import Handler, IServiceLink
from tunnelstack.records import Grant, Service
from tunnelstack.stream.address import TunnelAddress
from tunnelstack.waiters import Waiters

RETRY_SECONDS = 30.0
"""Seconds until a service is announced again that the edge could not publish at that moment (times 0.75 to 1.25)."""

FINAL_CODES = frozenset(("not-allowed", "malformed", "unsupported"))
"""Codes of refusals that are final: the same announcement would be refused again."""


class Publication:
    """
    One service of an agent.

    @ivar service: the L{Service}.
    @ivar handler: an C{IProtocolFactory}, or an L{IDiallingHandler<tunnelstack.interfaces.IDiallingHandler>}.
    @ivar shown: the target as status lines show it, or C{""}.
    @ivar optional: a refusal is no mistake, because the token may lack the right.
    """

    log = Logger()

    def __init__(
        self,
        service: Service,
        handler: Handler,
        clock: IReactorTime,
        *,
        shown: str = "",
        optional: bool = False,
        onWithdrawn: Callable[[Publication], object] = lambda publication: None,
        onRefused: Callable[[Publication], object] = lambda publication: None,
        random: Callable[[], float] = random,
    ) -> None:
        """
        @param optional: if the token does not allow the service, this is logged as information and not as an error.
        @param onWithdrawn: called when the publication is withdrawn.
        @param onRefused: called when an edge has refused the service finally.
        """
        self.service = service
        self.handler = handler
        self.shown = shown
        self.optional = optional
        self._clock = clock
        self._onWithdrawn = onWithdrawn
        self._onRefused = onRefused
        self._random = random
        self._grants: dict[IServiceLink, Grant] = {}           # by link, the latest last
        self._refusals: dict[IServiceLink, str] = {}           # the reasons of those that are final
        self._links: set[IServiceLink] = set()
        self._timers: dict[IServiceLink, IDelayedCall] = {}
        self._waiting: Waiters[Grant] = Waiters()
        self._lastReason = ""

    @property
    def grant(self) -> Grant | None:
        """
        The latest grant of an edge; C{None} while there is none.
        """
        return next(reversed(self._grants.values()), None)

    def refusal(self, links: Collection[IServiceLink]) -> str:
        """
        @return: the reason, if the edges of all these sessions have refused the service finally; otherwise C{""}.
        """
        reasons = [self._refusals.get(link, "") for link in links]
        return reasons[-1] if reasons and all(reasons) else ""

    @property
    def address(self) -> TunnelAddress:
        """
        The public address, as far as it is known.
        """
        grant = self.grant or Grant()
        return TunnelAddress(name=self.service.name, host=grant.host, port=grant.port, url=grant.url)

    def whenGranted(self) -> Deferred[Grant]:
        """
        @return: fires once an edge has granted the service; fails with L{Denied} if an edge refuses it finally.  After other
            refusals the service is announced again.
        """
        return self._waiting.wait() if self.grant is None else succeed(self.grant)

    # Sessions come and go

    def announce(self, link: IServiceLink) -> Deferred[None]:
        """
        Announce the service to the edge of a new session.

        @return: fires when the edge has answered, or the session is lost; it does not fail.
        """
        self._links.add(link)
        self._refusals.pop(link, None)
        answered = link.announce(self.service).addCallbacks(self._granted, self._denied, (link,), {}, (link,))
        return answered.addErrback(self._unexpectedError)

    def linkLost(self, link: IServiceLink) -> None:
        """
        A session is lost, and with it the grant of its edge.
        """
        self._links.discard(link)
        self._refusals.pop(link, None)
        self._grants.pop(link, None)
        self._cancelRetry(link)

    def revoked(self, link: IServiceLink, reason: str) -> None:
        """
        The edge has withdrawn its grant.
        """
        if self._grants.pop(link, None) is not None:
            service = self.service.name
            self.log.warn("the edge has withdrawn {service}: {reason}", service=service, reason=reason, unpublished=service)
            self._scheduleRetry(link)

    def _granted(self, grant: Grant, link: IServiceLink) -> None:
        if link not in self._links:
            return
        self._grants[link] = grant
        self._lastReason = ""
        where = grant.url or (f"{self.service.kind}:{grant.host}:{grant.port}" if grant.port else f"tunnel:{self.service.name}")
        self.log.info(
            "{where}{arrow}{target}", status=self.service.name, where=where, arrow=" -> " if self.shown else "",
            target=self.shown, kind=self.service.kind,
        )
        self._waiting.fire(grant)

    def _denied(self, failure: Failure, link: IServiceLink) -> None:
        failure.trap(Unavailable)
        if link not in self._links:
            return
        error = failure.value
        code, sentence = (error.code, error.sentence) if isinstance(error, Denied) else ("", str(error))
        if code in FINAL_CODES:
            log = self.log.info if self.optional and code == "not-allowed" else self.log.critical
            self._logOnce(log, "the edge does not publish {service}: {reason}", sentence)
            self._refusals[link] = sentence
            self._waiting.fail(failure)
            self._onRefused(self)
        else:
            self._logOnce(self.log.warn, "the edge cannot publish {service} now: {reason}", sentence)
            self._scheduleRetry(link)

    def _logOnce(self, log: Callable[..., object], text: str, reason: str) -> None:
        """
        Log a refusal unless the last one had the same reason.
        """
        if reason != self._lastReason:
            self._lastReason = reason
            log(text, service=self.service.name, reason=reason, unpublished=self.service.name)

    def _scheduleRetry(self, link: IServiceLink) -> None:
        seconds = RETRY_SECONDS * (0.75 + 0.5 * self._random())
        self._timers[link] = self._clock.callLater(seconds, self._retry, link)

    def _cancelRetry(self, link: IServiceLink) -> None:
        timer = self._timers.pop(link, None)
        if timer is not None:
            timer.cancel()

    def _retry(self, link: IServiceLink) -> None:
        self._timers.pop(link, None)
        self.announce(link)

    def _unexpectedError(self, failure: Failure) -> None:
        self.log.failure("failed to process the answer of an edge", failure=failure)

    # Changes

    def replace(self, service: Service, handler: Handler, shown: str) -> Deferred[None]:
        """
        Publish another service in place of this one.  Open streams stay with the old handler.

        @param service: has the same kind and name.
        @return: fires when all connected edges have answered.
        """
        before, self.service = self.service, service
        self.handler = handler
        self.shown = shown
        links = list(self._links)
        for link in links:
            self._cancelRetry(link)
            if service.port != before.port:   # an edge gives only one port to a name
                self._grants.pop(link, None)
                link.withdraw(before).addErrback(lambda failure: failure.trap(Unavailable))
        return DeferredList([self.announce(link) for link in links]).addCallback(lambda answers: None)

    def withdraw(self) -> Deferred[None]:
        """
        Stop publishing the service.

        @return: fires when all connected edges have answered.
        """
        links = list(self._links)
        for link in links:
            self.linkLost(link)
        self._onWithdrawn(self)
        self.log.info("withdrawn", status=self.service.name, kind=self.service.kind, where="", target="")
        answers = DeferredList([link.withdraw(self.service) for link in links], consumeErrors=True)
        return answers.addCallback(lambda answers: None)

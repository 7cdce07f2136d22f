"""
The request of a health check, and what it is about.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from zope.interface import implementer

from tunnelstack.control.config.upkeep import HealthCheck
from tunnelstack.errors import TunnelError
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.interfaces import IExchange, IExchangeReceiver, ITunnel
from tunnelstack.records import HTTPPurpose
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

MOST_OCTETS = 64 * 1024
"""Octets of a response's body that are read, so that the connection to the web server can be used again."""

AGENT = b"tunnelstack-health"


@define(eq=False)
class HealthTarget:
    """
    One service of one tunnel.

    @ivar key: as the registry has it: the name of the service, or C{agent:port}.
    @ivar host: the C{Host} of the requests.
    @ivar due: when the next request begins, in seconds of the clock.
    @ivar streak: how many requests in a row have had the latest result.
    @ivar reason: why the latest request failed; C{""} if it succeeded, or if there was none.
    @ivar out: why the agent is left out; C{""} if it is not.
    """

    tunnel: ITunnel
    check: HealthCheck
    key: str
    purpose: HTTPPurpose
    host: str
    due: float
    streak: int = 0
    reason: str = ""
    out: str = ""
    probe: HealthProbe | None = field(default=None)

    def concluded(self, reason: str) -> None:
        """
        @param reason: why the request failed; C{""} if it succeeded.
        """
        self.streak = self.streak + 1 if bool(reason) == bool(self.reason) else 1
        self.reason = reason


@implementer(IExchangeReceiver)
class HealthProbe:
    """
    One request.
    """

    def __init__(self, target: HealthTarget, deadline: float, concluded: Callable[[HealthTarget, str], object]) -> None:
        """
        @param deadline: of the response, in seconds of the clock.
        @param concluded: called with the target, and with the reason why the request failed; C{""} if it succeeded.
        """
        self._whenConcluded = concluded
        self._target = target
        self._deadline = deadline
        self._octets = 0
        self._concluded = False
        self._exchange: IExchange | None = None

    def begin(self) -> None:
        """
        Send the request.
        """
        target = self._target
        fields = [(b"Host", target.host.encode()), (b"User-Agent", AGENT), (b"Accept", b"*/*")]
        try:
            self._exchange = target.tunnel.exchange(target.purpose, self)
            self._exchange.sendHead(RequestHead(b"GET", target.check.path.encode(), fields))
            self._exchange.end()
        except TunnelError as error:
            self._over(str(error) if isinstance(error, ExchangeFailed) else "its agent cannot carry requests")

    def checkDeadline(self, now: float) -> None:
        """
        Give up if it is too late.
        """
        if now >= self._deadline:
            self.abandon()
            self._over(f"no answer within {self._target.check.timeoutSeconds:g} s")

    def abandon(self) -> None:
        """
        Receive nothing more.
        """
        if self._exchange is not None:
            self._exchange.cancel(FailureKind.CLIENT_CLOSED)

    def informational(self, head: ResponseHead) -> None:
        """
        The final response is waited for.
        """

    def headReceived(self, head: ResponseHead) -> None:
        success = self._target.check.isSuccess(head.status)
        self._conclude("" if success else f"it answered {head.status}")

    def bodyReceived(self, octets: bytes) -> None:
        self._octets += len(octets)
        if self._octets > MOST_OCTETS:
            self.abandon()
            self._over("")

    def ended(self, trailers: object) -> None:
        self._over("")

    def failed(self, reason: ExchangeFailed) -> None:
        self._over(reason.sentence.rstrip("."))

    def _over(self, reason: str) -> None:
        if self._target.probe is self:
            self._target.probe = None
            self._conclude(reason)

    def _conclude(self, reason: str) -> None:
        """
        @param reason: why it failed; that counts only if there was no head.
        """
        if not self._concluded:
            self._concluded = True
            self._whenConcluded(self._target, reason)

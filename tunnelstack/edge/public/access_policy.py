"""
Which visitors a route lets in: by address, by name and password, and how often.

What a policy says no to is answered by the edge, and the agent never hears of it.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable
from math import ceil
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.control.config.records import Route
from tunnelstack.edge.public.rate import Bucket, KeyedRates, Rate, rateLimitKey
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.interfaces import IExchangeReceiver
from tunnelstack.settings.password_hash import UNKNOWN_USER, PasswordEntry, parsePasswordEntry
from tunnelstack.wire.addresses import IPNetwork, read_address, read_network
from tunnelstack.wire.http1.head import Fields, RequestHead, values
from tunnelstack.wire.printable_text import printable

ATTEMPTS_PER_SECOND = 5.0
"""Passwords a second that one address may try."""

MAX_VERIFYING = 4
"""Passwords that are looked at at a time: each takes a thread and 16 MiB."""

UNKNOWN = "unknown"
"""Visitors whose addresses are not known, who are counted together."""

REMEMBERED = 1024
"""Visitors whose passwords were right, and need not be hashed again."""

MAX_REMEMBERED_AGENTS = 65_536
"""Agents whose rateLimit is remembered; when there are more, all begin anew."""


def usersOf(route: Route) -> list[PasswordEntry]:
    """
    Those a route knows by name and password.

    @raise ConfigurationError: its file cannot be used.
    """
    kept = [parsePasswordEntry(line) for line in route.users]
    if not route.usersFile:
        return kept
    try:
        lines = Path(route.usersFile).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigurationError(f"users_file {route.usersFile!r} cannot be read: {unreadable}") from None
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            try:
                kept.append(parsePasswordEntry(line.strip()))
            except ConfigurationError as wrong:
                raise ConfigurationError(f"{route.usersFile}:{number}: a line {wrong}") from None
    if not kept:
        raise ConfigurationError(f"users_file {route.usersFile!r} names nobody")
    return kept


@frozen
class AddressRule:
    """
    One line of a list of addresses.

    @ivar allows: whether it lets in.
    """

    allows: bool
    network: IPNetwork | None


def parseAddressRule(text: str) -> AddressRule:
    """
    @param text: C{"allow 10.0.0.0/8"}, C{"deny all"}; L{tunnelstack.control.config.records} has seen that it is one.
    """
    verb, _, which = text.partition(" ")
    return AddressRule(verb == "allow", None if which == "all" else read_network(which))


def isAddressAllowed(rules: Iterable[AddressRule], address: str) -> bool:
    """
    Whether an address is let in: by the first rule that fits.  If none does, it is unless the list allows a network.

    @param address: C{""} if it is not known: it may be any, so it is let in only if every address is.
    """
    who = read_address(address)
    allows = False
    for rule in rules:
        if rule.network is None or (who is not None and who in rule.network):
            return rule.allows
        if who is None and not rule.allows:
            return False
        allows = allows or rule.allows
    return not allows


class BasicAuthenticator:
    """
    Who may come in with name and password.
    """

    log = Logger()

    def __init__(self, users: Iterable[PasswordEntry], realm: str, clock: Any) -> None:
        """
        @param clock: the reactor; its threads do the hashing, where it has any.
        """
        self._users = {kept.user: kept for kept in users}
        self._clock = clock
        self._pool = getattr(clock, "getThreadPool", lambda: None)
        self._cache: dict[bytes, str] = {}
        self._key = secrets.token_bytes(32)
        self._attempts = KeyedRates(ATTEMPTS_PER_SECOND, 4 * ATTEMPTS_PER_SECOND)
        self._verifying = 0
        plain = realm.replace("\\", "").replace('"', "")
        self._challengeFields: Fields = [(b"WWW-Authenticate", f'Basic realm="{plain}", charset="UTF-8"'.encode())]

    def verify(self, head: RequestHead, address: str) -> ExchangeFailed | Deferred[ExchangeFailed | None] | None:
        """
        @return: C{None} to let the request in, why not, or a Deferred of that.
        """
        shown = values(head.fields, b"authorization")
        pair = _basicCredentials(shown[0]) if len(shown) == 1 else None
        if pair is None:
            return self._challenge()
        digest = hmac.digest(self._key, b"%d:" % len(pair[0]) + b"\0".join(pair), "sha256")
        if digest in self._cache:
            return None
        who = rateLimitKey(address) if address else UNKNOWN
        if self._verifying >= MAX_VERIFYING or (who and not self._attempts.take(who, self._clock.seconds())):
            return ExchangeFailed(
                FailureKind.RATE_LIMITED,
                "Too many passwords are tried here; try again in a moment.",
                retryAfter=1,
            )
        self._verifying += 1
        user = pair[0].decode("utf-8", "replace")
        kept = self._users.get(user, UNKNOWN_USER)
        return self._verifyHash(kept, pair[1]).addCallback(self._checked, digest, user, address)

    def _verifyHash(self, kept: PasswordEntry, password: bytes) -> Deferred[bool]:
        pool: Any = self._pool()
        if pool is None:
            asked: Deferred[bool] = maybeDeferred(kept.verify, password)
        else:
            asked = deferToThreadPool(self._clock, pool, kept.verify, password)
        return asked.addBoth(self._verified)

    def _verified(self, result: Any) -> Any:
        self._verifying -= 1
        return result

    def _checked(self, fits: bool, digest: bytes, user: str, address: str) -> ExchangeFailed | None:
        if not fits or user not in self._users:
            self.log.info(
                "a wrong password for {user} from {visitor}", user=printable(user, 64), visitor=address or UNKNOWN,
                status="visitor",
            )
            return self._challenge()
        if len(self._cache) >= REMEMBERED:
            self._cache.clear()
        self._cache[digest] = user
        return None

    def _challenge(self) -> ExchangeFailed:
        return ExchangeFailed(FailureKind.UNAUTHORIZED, fields=self._challengeFields)


def _basicCredentials(shown: bytes) -> tuple[bytes, bytes] | None:
    """
    Name and password of an C{Authorization} field.
    """
    scheme, _, coded = shown.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name, colon, password = b64decode(coded.strip(), validate=True).partition(b":")
    except (NotBase64, ValueError):
        return None
    return (name, password) if colon else None


@frozen
class AgentRateLimit:
    """
    How much may be asked of one agent.
    """

    rate: Rate | None
    buckets: tuple[Bucket, ...]


class AgentRateLimits:
    """
    How much may be asked of each agent, as its credential says, or else the configuration for all.

    What an agent's visitors have taken counts on when the configuration is read again, and when it shows another credential
    that says the same.
    """

    def __init__(self, limits: Any, record: Callable[[str], Any]) -> None:
        """
        @param limits: a L{Limits<tunnelstack.control.config.records.Limits>}.
        @param record: of a credential's identifier, the
            L{TokenRecord<tunnelstack.control.config.records.TokenRecord>}, or C{None}.
        """
        self._record = record
        self._limitsByRate: dict[tuple[str, float, int], AgentRateLimit] = {}                  # by agent and what it may
        self.configure(limits)

    def configure(self, limits: Any) -> None:
        """
        From now on, other numbers for those whose credentials name none.
        """
        self._limits = limits
        self._checked: dict[tuple[str, str], tuple[Any, AgentRateLimit | None]] = {}      # with the record it was made from

    def find(self, principal: Any) -> AgentRateLimit | None:
        """
        @return: C{None} for an agent that may be asked anything.
        """
        record = self._record(principal.token)
        who = principal.agent, principal.token
        known = self._checked.get(who)
        if known is not None and known[0] is record:
            return known[1]
        if max(len(self._checked), len(self._limitsByRate)) >= MAX_REMEMBERED_AGENTS:
            self._checked.clear()
            self._limitsByRate.clear()
        rateLimit = self._limitOf(principal.agent, record)
        self._checked[who] = (record, rateLimit)
        return rateLimit

    def _limitOf(self, agent: str, record: Any) -> AgentRateLimit | None:
        perSecond = getattr(record, "requestsPerSecond", 0) or self._limits.agentRequestsPerSecond
        octets = getattr(record, "octetsPerSecond", 0) or self._limits.agentOctetsPerSecond
        if not (perSecond or octets):
            return None
        what = agent, perSecond, octets
        rateLimit = self._limitsByRate.get(what)
        if rateLimit is None:
            rateLimit = self._limitsByRate[what] = AgentRateLimit(
                Rate(perSecond) if perSecond else None, (Bucket(octets),) if octets else ()
            )
        return rateLimit


class AccessPolicy:
    """
    What one route asks of its visitors.

    @ivar redirect: who comes by plain HTTP is sent to where it is secure.
    @ivar buckets: for the octets of its exchanges.
    @ivar restricts: it keeps somebody out.
    @ivar names: it asks for name and password, which are for the edge alone.
    """

    __slots__ = ("_passwords", "_rate", "_rules", "authenticates", "buckets", "redirect", "restricts")

    def __init__(self, route: Route, clock: Any) -> None:
        """
        @param clock: the reactor.
        """
        self.redirect = route.redirect
        self.buckets = (Bucket(route.octetsPerSecond),) if route.octetsPerSecond else ()
        self._rate = Rate(route.requestsPerSecond, route.burst) if route.requestsPerSecond else None
        self._rules = tuple(map(parseAddressRule, route.visitors))
        users = usersOf(route)
        self._passwords = BasicAuthenticator(users, route.realm or route.host, clock) if users else None
        self.authenticates = self._passwords is not None
        self.restricts = self.authenticates or bool(self._rules)

    @staticmethod
    def of(route: Route, clock: Any) -> AccessPolicy | None:
        """
        @return: C{None} for a route that asks nothing of anybody.
        """
        plain = Route(host=route.host, to=route.to, path=route.path)
        return None if route == plain else AccessPolicy(route, clock)

    def check(self, head: RequestHead, address: str, now: float) -> ExchangeFailed | Deferred[ExchangeFailed | None] | None:
        """
        @param address: where the request comes from; C{""} if that is not known.
        @return: C{None} to let it in, why not, or a Deferred of that.
        """
        if self._rules and not isAddressAllowed(self._rules, address):
            return ExchangeFailed(FailureKind.FORBIDDEN)
        late = rateLimitExceeded(self._rate, now)
        if late is not None or self._passwords is None:
            return late
        return self._passwords.verify(head, address)


def rateLimitExceeded(rate: Rate | None, now: float) -> ExchangeFailed | None:
    """
    @return: C{None} if there is room for one more.
    """
    wait = rate.take(now) if rate is not None else 0.0
    return ExchangeFailed(FailureKind.RATE_LIMITED, retryAfter=max(1, ceil(wait))) if wait else None


@implementer(IExchangeReceiver)
class PendingRequest:
    """
    A request whose visitor is being found out; what comes of it meanwhile is kept, and little does, because its connection is
    paused.
    """

    def __init__(
        self, exchange: Any, decision: Deferred[ExchangeFailed | None], go: Callable[[], Any], stop: Callable[[Any], Any]
    ) -> None:
        """
        @param go: asks the tunnel; gives the receiver of the request.
        @param stop: answers with what is wrong; gives the receiver of the rest.
        """
        self._exchange = exchange
        self._buffered: list[tuple[str, Any]] = []
        self._receiver: Any = None
        exchange.pauseProducing()
        decision.addErrback(self._unexpectedError).addCallback(self._decided, go, stop)

    def _unexpectedError(self, failure: Failure) -> ExchangeFailed:
        BasicAuthenticator.log.failure("a password could not be looked at", failure=failure)
        return ExchangeFailed(FailureKind.BROKEN, status=500)

    def _decided(self, failed: ExchangeFailed | None, go: Callable[[], Any], stop: Callable[[Any], Any]) -> None:
        if self._exchange.finished:
            return
        self._exchange.resumeProducing()
        self._receiver = receiver = go() if failed is None else stop(failed)
        buffered, self._buffered = self._buffered, []
        for name, value in buffered:
            getattr(receiver, name)(value)

    def _deliver(self, name: str, what: Any) -> None:
        if self._receiver is None:
            self._buffered.append((name, what))
        else:
            getattr(self._receiver, name)(what)

    def headReceived(self, head: Any) -> None:
        """
        As in L{IExchangeReceiver}.
        """
        self._deliver("headReceived", head)

    def informational(self, head: Any) -> None:
        """
        As in L{IExchangeReceiver}.
        """
        self._deliver("informational", head)

    def bodyReceived(self, octets: bytes) -> None:
        """
        As in L{IExchangeReceiver}.
        """
        self._deliver("bodyReceived", octets)

    def ended(self, trailers: Any) -> None:
        """
        As in L{IExchangeReceiver}.
        """
        self._deliver("ended", trailers)

    def failed(self, reason: Any) -> None:
        """
        As in L{IExchangeReceiver}.
        """
        self._deliver("failed", reason)



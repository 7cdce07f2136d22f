"""
The access policy of a route: which addresses and users it allows, and how many requests.

The edge answers the requests that a policy rejects; they are not forwarded to the agent.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from tunnelstack.control.config.records import Route
from tunnelstack.edge.public.rate import Bucket, KeyedRates, Rate, rateLimitExceeded, rateLimitKey
from tunnelstack.edge.public.visitor_cookies import (
    CREDENTIAL_NAMES,
    CREDENTIALS,
    VisitorCookies,
    withoutCookies,
)
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.password_hash import UNKNOWN_USER, PasswordEntry, parsePasswordEntry
from tunnelstack.settings.record import Record
from tunnelstack.wire.addresses import IPNetwork, read_address, read_network
from tunnelstack.wire.http1.framing import without
from tunnelstack.wire.http1.head import Fields, RequestHead, values
from tunnelstack.wire.printable_text import printable, quoted

ATTEMPTS_PER_SECOND = 5.0
"""Passwords that are verified for one address in a second."""

MAX_VERIFYING = 4
"""Passwords that are verified at a time: each takes a thread and 16 MiB."""

UNKNOWN = "unknown"
"""The key under which visitors without a known address are counted together."""

REMEMBERED = 1024
"""Verified passwords that are remembered, so that a browser's requests do not hash one again each time."""


def usersOf(route: Route) -> list[PasswordEntry]:
    """
    The users of a route, from the configuration and from C{users_file}.

    @raise ConfigurationError: the file cannot be used.
    """
    kept = [parsePasswordEntry(line) for line in route.users]
    if route.keepAuthorization and not (kept or route.usersFile):
        raise ConfigurationError("keep_authorization is for a route with users or users_file")
    if not route.usersFile:
        return kept
    try:
        lines = Path(route.usersFile).read_text("utf-8").splitlines()
    except OSError as unreadable:
        raise ConfigurationError(f"users_file {quoted(route.usersFile)} cannot be read: {unreadable.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"users_file {quoted(route.usersFile)} is not UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            try:
                kept.append(parsePasswordEntry(line.strip()))
            except ConfigurationError as wrong:
                raise ConfigurationError(f"{route.usersFile}:{number}: a line {wrong}") from None
    if not kept:
        raise ConfigurationError(f"users_file {quoted(route.usersFile)} lists no user")
    return kept


@frozen(eq=False, repr=False)
class AddressRule(Record):
    """
    One rule of a list of addresses.

    @ivar allows: the rule allows the network, and does not deny it.
    @ivar network: C{None} for every address.
    """

    allows: bool
    network: IPNetwork | None


def parseAddressRule(text: str) -> AddressRule:
    """
    @param text: such as C{"allow 10.0.0.0/8"} or C{"deny all"}.  L{tunnelstack.control.config.records} has validated it.
    """
    verb, _, which = text.partition(" ")
    return AddressRule(verb == "allow", None if which == "all" else read_network(which))


def isAddressAllowed(rules: Iterable[AddressRule], address: str) -> bool:
    """
    Whether an address is allowed.  The first rule that contains it decides.  If none does, it is allowed unless the list allows
    other addresses.

    @param address: C{""} if it is not known.  It could be any then, so it is allowed only if every address is.
    """
    parsed = read_address(address)
    allows = False
    for rule in rules:
        if rule.network is None or (parsed is not None and parsed in rule.network):
            return rule.allows
        if parsed is None and not rule.allows:
            return False
        allows = allows or rule.allows
    return not allows


class BasicAuthenticator:
    """
    HTTP Basic authentication (RFC 7617) with the users of one route.

    Usually C{Authorization} is for the edge alone.  With cookies it is the application's, unless it has the name and the
    password of a user of the route.  A visitor is then recognized by a cookie (L{tunnelstack.edge.public.visitor_cookies}),
    which it gets once it has authenticated, or it authenticates by a field of its own.
    """

    log = Logger()

    def __init__(
        self, users: Iterable[PasswordEntry], realm: str, clock: IReactor, keepFor: tuple[str, str] | None = None
    ) -> None:
        """
        @param clock: the reactor.  Passwords are hashed in its thread pool, or at once if it has none.
        @param keepFor: the host and the path of the route, if C{Authorization} is the application's.
        """
        self._users = {kept.user: kept for kept in users}
        self._clock = clock
        self._cookies = None if keepFor is None else VisitorCookies(self._users, *keepFor, clock.seconds)
        self._foreign: set[bytes] = set()         # digests of credentials that are for the application
        self._pool: Callable[[], ThreadPool | None] = getattr(clock, "getThreadPool", lambda: None)
        self._cache: dict[bytes, str] = {}
        self._key = secrets.token_bytes(32)
        self._attempts = KeyedRates(ATTEMPTS_PER_SECOND, 4 * ATTEMPTS_PER_SECOND)
        self._verifying = 0
        plain = realm.replace("\\", "").replace('"', "")
        self._challengeFields: Fields = [(b"WWW-Authenticate", f'Basic realm="{plain}", charset="UTF-8"'.encode())]

    def verify(self, head: RequestHead, address: str) -> Decision:
        """
        @return: C{None} to allow the request, or why it is rejected, or a C{Deferred} of that.
        """
        shown = _onlyCredentials(values(head.fields, b"authorization"))
        if self._cookies is None:
            return self._authenticate(shown, address)
        own = values(head.fields, CREDENTIALS)
        if own:
            decision = self._authenticate(_onlyCredentials(own), address)
            if isinstance(decision, Deferred):
                return decision.addCallback(lambda failed: failed or self._classify(shown, address))
            return decision or self._classify(shown, address)
        if self._cookies.find(head.fields) is not None:
            return self._classify(shown, address)
        return self._authenticate(shown, address)

    def _authenticate(self, pair: tuple[bytes, bytes] | None, address: str) -> Decision:
        """
        @param pair: the user and the password of a request; C{None} if it has none.
        """
        if pair is None:
            return self._challenge()
        digest = self._digest(pair)
        if digest in self._cache:
            return None
        found = self._tryPassword(pair, digest, address)
        return found if isinstance(found, ExchangeFailed) else found.addCallback(self._authenticated, pair, address)

    def _authenticated(self, fits: bool, pair: tuple[bytes, bytes], address: str) -> ExchangeFailed | None:
        if fits:
            return None
        self.log.info(
            "wrong password for {user} from {visitor}", user=printable(_userName(pair), 64), visitor=address or UNKNOWN,
            status="visitor",
        )
        return self._challenge()

    def _classify(self, pair: tuple[bytes, bytes] | None, address: str) -> Decision:
        """
        Find out for whom C{Authorization} is, in a request that is allowed by something else.  A password of a user of this
        route is for the edge; another one for the same name is the application's.
        """
        if pair is None or _userName(pair) not in self._users:
            return None
        digest = self._digest(pair)
        if digest in self._cache or digest in self._foreign:
            return None
        found = self._tryPassword(pair, digest, address)
        return found if isinstance(found, ExchangeFailed) else found.addCallback(lambda fits: None)

    def _tryPassword(self, pair: tuple[bytes, bytes], digest: bytes, address: str) -> ExchangeFailed | Deferred[bool]:
        """
        @return: a C{Deferred} of whether it is the password of a user of this route.
        """
        source = rateLimitKey(address) if address else UNKNOWN
        if self._verifying >= MAX_VERIFYING or (source and not self._attempts.take(source, self._clock.seconds())):
            return ExchangeFailed(
                FailureKind.RATE_LIMITED, "There are too many attempts to log in. Try again in a moment.", retryAfter=1
            )
        self._verifying += 1
        user = _userName(pair)
        kept = self._users.get(user, UNKNOWN_USER)
        return self._verifyHash(kept, pair[1]).addCallback(self._remember, digest, user)

    def _verifyHash(self, kept: PasswordEntry, password: bytes) -> Deferred[bool]:
        pool = self._pool()
        if pool is None:
            asked: Deferred[bool] = maybeDeferred(kept.verify, password)
        else:
            asked = deferToThreadPool(self._clock, pool, kept.verify, password)
        return asked.addBoth(self._verified)

    def _verified(self, result: bool | Failure) -> bool | Failure:
        self._verifying -= 1
        return result

    def _remember(self, fits: bool, digest: bytes, user: str) -> bool:
        fits = fits and user in self._users
        if len(self._cache) >= REMEMBERED:
            self._cache.clear()
        if len(self._foreign) >= REMEMBERED:
            self._foreign.clear()
        if fits:
            self._cache[digest] = user
        elif self._cookies is not None:
            self._foreign.add(digest)
        return fits

    def _digest(self, pair: tuple[bytes, bytes]) -> bytes:
        return hmac.digest(self._key, b"%d:" % len(pair[0]) + b"\0".join(pair), "sha256")

    def admit(self, head: RequestHead, secure: bool) -> AdmittedRequest:
        """
        Call this for a request that L{verify} allows, before anything else is verified.

        @param secure: the visitor uses TLS.
        @return: what goes to the application.
        """
        cookies = self._cookies
        if cookies is None:
            return AdmittedRequest(without(head.fields, b"authorization"))
        user, fields = "", []
        for name, value in withoutCookies(without(head.fields, *CREDENTIAL_NAMES)):
            if name.lower() != b"authorization" or self._isForeign(pair := _basicCredentials(value)):
                fields.append((name, value))
            elif pair is not None:
                user = self._cache.get(self._digest(pair), "")
        cookie = cookies.find(head.fields) if user else None
        fresh = not user or (cookie is not None and cookie.isFresh(self._clock.seconds()))
        return AdmittedRequest(fields, b"" if fresh else cookies.make(user, secure))

    def _isForeign(self, pair: tuple[bytes, bytes] | None) -> bool:
        """
        Whether an C{Authorization} field is the application's: it has no name of a user of this route, or not the password.
        """
        return pair is None or _userName(pair) not in self._users or self._digest(pair) in self._foreign

    def _challenge(self) -> ExchangeFailed:
        return ExchangeFailed(FailureKind.UNAUTHORIZED, fields=self._challengeFields)


Decision = ExchangeFailed | Deferred[ExchangeFailed | None] | None
"""C{None} if a request is allowed, or why it is rejected, or a C{Deferred} of that."""


def _userName(pair: tuple[bytes, bytes]) -> str:
    return pair[0].decode("utf-8", "replace")


def _onlyCredentials(shown: list[bytes]) -> tuple[bytes, bytes] | None:
    """
    @param shown: the values of a field.
    @return: user and password; C{None} if there is not exactly one value, or it has none.
    """
    return _basicCredentials(shown[0]) if len(shown) == 1 else None


def _basicCredentials(shown: bytes) -> tuple[bytes, bytes] | None:
    """
    @param shown: the value of an C{Authorization} field.
    @return: user and password; C{None} if it has none.
    """
    scheme, _, coded = shown.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name, colon, password = b64decode(coded.strip(), validate=True).partition(b":")
    except (NotBase64, ValueError):
        return None
    return (name, password) if colon else None


@frozen(eq=False, repr=False)
class AdmittedRequest(Record):
    """
    A request that a policy allows.

    @ivar fields: those that are not for the edge alone.
    @ivar cookie: the value of C{Set-Cookie} that the response gets; C{b""} for none.
    """

    fields: Fields
    cookie: bytes = b""


class AccessPolicy:
    """
    What one route requires of requests.

    @ivar redirect: requests by plain HTTP are redirected to C{https}.
    @ivar buckets: limit the octets of its exchanges.
    @ivar restricts: it rejects some addresses or users.
    @ivar authenticates: it requires a user and a password, which are for the edge and not for the agent: what L{admit} returns
        is passed on.
    """

    __slots__ = ("_passwords", "_rate", "_rules", "authenticates", "buckets", "redirect", "restricts")

    def __init__(self, route: Route, clock: IReactor) -> None:
        """
        @param clock: the reactor.
        @raise ConfigurationError: C{users_file} cannot be used.
        """
        self.redirect = route.redirect
        self.buckets = (Bucket(route.octetsPerSecond),) if route.octetsPerSecond else ()
        self._rate = Rate(route.requestsPerSecond, route.burst) if route.requestsPerSecond else None
        self._rules = tuple(map(parseAddressRule, route.visitors))
        users = usersOf(route)
        kept = (route.host, route.path) if route.keepAuthorization else None
        self._passwords = BasicAuthenticator(users, route.realm or route.host, clock, kept) if users else None
        self.authenticates = self._passwords is not None
        self.restricts = self.authenticates or bool(self._rules)

    @staticmethod
    def of(route: Route, clock: IReactor) -> AccessPolicy | None:
        """
        @return: C{None} for a route that allows every request.
        """
        plain = Route(host=route.host, to=route.to, path=route.path)
        return None if route == plain else AccessPolicy(route, clock)

    def check(self, head: RequestHead, address: str, now: float) -> Decision:
        """
        @param address: the visitor's; C{""} if it is not known.
        @return: C{None} to allow the request, or why it is rejected, or a C{Deferred} of that.
        """
        if self._rules and not isAddressAllowed(self._rules, address):
            return ExchangeFailed(FailureKind.FORBIDDEN)
        late = rateLimitExceeded(self._rate, now)
        if late is not None or self._passwords is None:
            return late
        return self._passwords.verify(head, address)

    def admit(self, head: RequestHead, secure: bool) -> AdmittedRequest:
        """
        Call this once L{check} allows a request, in the same turn of the reactor.

        @param secure: the visitor uses TLS.
        @return: what goes to the application.
        """
        return AdmittedRequest(head.fields) if self._passwords is None else self._passwords.admit(head, secure)

"""
Whom a route lets in, where it sends them, how often and how fast.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any
from unittest import mock

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.test_public_server import GET, OK, PublicCase
from tests.exchange.doubles import Server, settle
from tunnelstack.control.config.records import CertificateRecord, EdgeConfig, Limits, Route, TokenRecord
from tunnelstack.doors import HTTPDoor
from tunnelstack.edge.listeners import EdgeListener
from tunnelstack.edge.public.access_policy import (
    AccessPolicy,
    BasicAuthenticator,
    isAddressAllowed,
    parseAddressRule,
)
from tunnelstack.edge.public.bandwidth import MAX_DELAYED
from tunnelstack.edge.public.visitor_cookies import LIFETIME
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.password_hash import PasswordEntry, makePasswordEntry

ALICE = makePasswordEntry("alice", "secret: with a colon", ln=10)        # a fast one


def shows(name: str, password: str) -> bytes:
    """
    A request with a password.
    """
    return GET[:-2] + b"Authorization: Basic %b\r\n\r\n" % b64encode(f"{name}:{password}".encode())


class RuleTests(SynchronousTestCase):
    """
    Lists of addresses.
    """

    def judged(self, rules: list[str], *addresses: str) -> list[bool]:
        read = list(map(parseAddressRule, rules))
        return [isAddressAllowed(read, address) for address in addresses]

    def test_theFirstThatFitsDecides(self) -> None:
        rules = ["deny 10.0.0.5", "allow 10.0.0.0/8", "allow 2001:db8::/32", "deny all"]
        self.assertEqual(
            self.judged(rules, "10.0.0.5", "10.0.0.6", "2001:db8::7", "192.0.2.1", "::1", ""),
            [False, True, True, False, False, False],
        )

    def test_theOppositeOfTheLastRuleIsTheDefault(self) -> None:
        self.assertEqual(self.judged(["allow 10.0.0.0/8"], "192.0.2.1", ""), [False, False])
        self.assertEqual(self.judged(["deny 10.0.0.0/8"], "192.0.2.1", "10.1.1.1"), [True, False])

    def test_anUnknownAddressMayBeAny(self) -> None:
        for rules, expected in (
            (["deny 10.0.0.5"], False), (["deny 10.0.0.5", "allow all"], False), (["allow 10.0.0.0/8"], False),
            (["allow 10.0.0.0/8", "allow all"], True), (["allow all", "deny 10.0.0.5"], True), (["deny all"], False),
        ):
            self.assertEqual(self.judged(rules, "", "unknown", "_hidden", "10.0.0.5.6"), [expected] * 4, rules)

    def test_rulesForAddressesThatAreCarriedByOthers(self) -> None:
        for rule in ("deny ::ffff:10.0.0.5", "deny ::FFFF:a00:5", "deny ::ffff:10.0.0.0/125", "deny 10.0.0.5"):
            self.assertEqual(self.judged([rule], "10.0.0.5", "::ffff:10.0.0.5", "10.0.0.9"), [False, False, True], rule)

    def test_invalidRulesAreRejected(self) -> None:
        for wrong in ("allow", "permit all", "allow 10.0.0.5/8", "deny 300.1.1.1", "allow all "):
            with self.assertRaises(ConfigurationError):
                Route(host="a.net", to="b", visitors=(wrong,))


class AddressTests(PublicCase):
    """
    A route for a network.
    """

    config = EdgeConfig(
        routes=(Route(host="app.localhost", to="app", visitors=("allow 192.0.2.0/24",)),), trustedProxies=("10.0.0.0/8",)
    )

    def test_theAddressOfTheConnectionDecides(self) -> None:
        self.say(GET)
        self.assertEqual(self.answer(), OK)
        self.visitor = self.visit(IPv4Address("TCP", "198.51.100.1", 1))
        self.assertEqual(self.status(GET), 403)
        self.assertEqual(self.status(GET[:-2] + b"X-Forwarded-For: 192.0.2.1\r\n\r\n"), 403)

    def test_orByWhatATrustedProxySays(self) -> None:
        self.visitor = self.visit(IPv4Address("TCP", "10.0.0.1", 1))
        self.assertEqual(self.status(GET[:-2] + b"X-Forwarded-For: 192.0.2.1, 198.51.100.1\r\n\r\n"), 403)
        self.assertEqual(self.status(GET), 403)
        self.say(GET[:-2] + b"X-Forwarded-For: 198.51.100.1, 192.0.2.1\r\n\r\n")
        self.assertEqual(self.answer(), OK)

    def test_everyFormOfAnAddressIsRecognized(self) -> None:
        self.visitor = self.visit(IPv6Address("TCP", "::ffff:10.0.0.1", 1))
        for form in (
            b"192.0.2.1:80", b"::ffff:192.0.2.1", b'"[::ffff:192.0.2.1]:80"', b"198.51.100.1, ::ffff:c000:201, 10.0.0.2:1",
        ):  # fmt: skip
            self.say(GET[:-2] + b"X-Forwarded-For: " + form + b"\r\n\r\n")
            self.assertEqual(self.answer(), OK)
            self.assertEqual(self.log[-1].visitor, "192.0.2.1")

    def test_anAddressThatCannotBeReadIsKeptOut(self) -> None:
        self.visitor = self.visit(IPv4Address("TCP", "10.0.0.1", 1))
        for fields in (
            b"X-Forwarded-For: unknown", b"X-Forwarded-For: 192.0.2.1, _x", b"X-Forwarded-Proto: https",
            b'Forwarded: for="192.0.2.1',
        ):  # fmt: skip
            self.assertEqual(self.status(GET[:-2] + fields + b"\r\n\r\n"), 403)
            self.assertEqual(self.log[-1].visitor, "")

    def test_aPeerWithoutAnIPAddressIsKeptOut(self) -> None:
        self.visitor = self.visit(UNIXAddress("/run/proxy.sock"))
        self.assertEqual(self.status(GET), 403)


class NameTests(PublicCase):
    """
    A route with passwords.
    """

    config = EdgeConfig(routes=(Route(host="app.localhost", to="app", users=(ALICE,), realm='the "site"'),))

    def test_itIsAskedFor(self) -> None:
        other = GET[:-2] + b"Authorization: x\r\n\r\n"
        for request in (GET, other, shows("alice", "wrong"), shows("bob", "secret: with a colon")):
            heard = self.say(request)
            self.assertTrue(heard.startswith(b"HTTP/1.1 401 "), heard)
            self.assertIn(b'\r\nWWW-Authenticate: Basic realm="the site", charset="UTF-8"\r\n', heard)

    def test_theRightOneIsForTheEdgeAlone(self) -> None:
        self.say(shows("alice", "secret: with a colon"))
        self.assertIsNone(self.asked().field(b"authorization"))
        self.assertEqual(self.answer(), OK)

    def test_aPasswordIsHashedOnce(self) -> None:
        with mock.patch.object(PasswordEntry, "verify", autospec=True, return_value=True) as fits:
            for _ in range(5):
                self.say(shows("alice", "x"))
                self.assertEqual(self.answer(), OK)
        self.assertEqual(fits.call_count, 1)

    def test_anUnknownUserTakesAsLong(self) -> None:
        with mock.patch.object(PasswordEntry, "verify", autospec=True, return_value=False) as fits:
            self.say(shows("bob", "x"))
        self.assertEqual(fits.call_count, 1)

    def test_guessingIsSlow(self) -> None:
        statuses = [self.status(shows("alice", str(number))) for number in range(25)]
        self.assertEqual((statuses[0], statuses[-1]), (401, 429))
        self.assertEqual(self.status(shows("alice", "secret: with a colon")), 429)
        self.edge.clock.advance(1)
        self.say(shows("alice", "secret: with a colon"))
        self.assertEqual(self.answer(), OK)

    def test_oneAddressHasOneLimitInEveryForm(self) -> None:
        self.factory.configure(evolve(self.config, trustedProxies=("10.0.0.0/8",)), self.edge.routes)
        self.visitor = self.visit(IPv4Address("TCP", "10.0.0.1", 1))
        for forms in (["203.0.113.66:%d", "[::ffff:203.0.113.66]:%d"], ["unknown", "_x", "a%d.example"]):
            statuses = []
            for number in range(25):
                form = forms[number % len(forms)].replace("%d", str(number)).encode()
                statuses.append(self.status(shows("alice", str(number))[:-2] + b"X-Forwarded-For: " + form + b"\r\n\r\n"))
            self.assertEqual((statuses[0], statuses[-1]), (401, 429))

    def test_theBodyWaitsForTheVerdict(self) -> None:
        verdict: Deferred[bool] = Deferred()
        with mock.patch.object(BasicAuthenticator, "_verifyHash", lambda *_: verdict):
            post = shows("alice", "x").replace(b"GET", b"POST")[:-2] + b"Content-Length: 10\r\n\r\n"
            self.assertEqual(self.say(post + b"01234"), b"")
            self.say(b"56789")
            verdict.callback(True)
            self.settle()
        self.assertTrue(self.tunnel.agent.far[-1].take().endswith(b"\r\n\r\n0123456789"))
        self.assertEqual(self.answer(), OK)

    def test_whoWentAwayMeanwhileIsNotServed(self) -> None:
        verdict: Deferred[bool] = Deferred()
        with mock.patch.object(BasicAuthenticator, "_verifyHash", lambda *_: verdict):
            self.say(shows("alice", "x"))
            self.visitor.transport.abortConnection()
            self.settle()
            verdict.callback(True)
        self.assertEqual(self.tunnel.asked, [])

    def test_noPasswordIsLogged(self) -> None:
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.say(shows("alice", "hunter2"))
        self.assertIn("wrong password for alice", "".join(str(formatEvent(event)) for event in events))
        self.assertNotIn("hunter2", repr(events))


def coded(name: str, password: str) -> bytes:
    """
    A name and a password, as fields have them.
    """
    return b"Basic " + b64encode(f"{name}:{password}".encode())


RIGHT, WRONG = coded("alice", "secret: with a colon"), coded("alice", "of the application")
BEARER = b"Bearer of.the.application"


class KeptAuthorizationTests(PublicCase):
    """
    The kind of B8: a field that edge and application both use.  A route with passwords took C{Authorization} away from the
    application, and answered C{Bearer} with 401.
    """

    config = EdgeConfig(
        routes=(
            Route(host="app.localhost", to="app", users=(ALICE,), keepAuthorization=True),
            Route(host="app.localhost", path="/b", to="app", users=(ALICE,), keepAuthorization=True),
        ),
        trustedProxies=("10.0.0.0/8",),
    )

    def request(self, *fields: bytes, target: bytes = b"/") -> bytes:
        return self.say(GET.replace(b" / ", b" %b " % target)[:-2] + b"".join(field + b"\r\n" for field in fields) + b"\r\n")

    def cookie(self, *fields: bytes, target: bytes = b"/") -> bytes:
        """
        Authenticate as a browser does.

        @return: the whole value of C{Set-Cookie}; C{b""} if there is none.
        """
        self.assertEqual(self.request(b"Authorization: " + RIGHT, *fields, target=target), b"")
        self.assertIsNone(self.asked().field(b"authorization"))
        heard = self.answer()
        self.assertTrue(heard.startswith(b"HTTP/1.1 200 "), heard)
        return heard.partition(b"Set-Cookie: ")[2].partition(b"\r\n")[0]

    def pair(self, cookie: bytes) -> bytes:
        return cookie.partition(b";")[0]

    def reaches(self, *fields: bytes) -> Any:
        """
        @return: the head with which a request reached the agent.
        """
        self.assertEqual(self.request(*fields), b"")
        head = self.asked()
        self.assertTrue(self.answer().endswith(b"\r\n\r\nok"))
        return head

    def test_aBrowserThatHasAuthenticatedMaySendWhatTheApplicationWants(self) -> None:
        cookie = self.pair(self.cookie())
        for value in (BEARER, coded("bob", "of the application"), WRONG, b"Digest x"):
            head = self.reaches(b"Authorization: " + value, b"Cookie: a=1; %b; b=2" % cookie)
            self.assertEqual((head.field(b"authorization"), head.field(b"cookie")), (value, b"a=1; b=2"))
        self.assertIsNone(self.reaches(b"Cookie: " + cookie).field(b"cookie"))

    def test_thePasswordOfTheEdgeNeverReachesTheApplication(self) -> None:
        cookie = self.pair(self.cookie())
        for fields in (
            (b"Authorization: " + RIGHT, b"Cookie: " + cookie), (b"Tunnel-Authorization: " + RIGHT, b"Authorization: " + RIGHT),
            (b"Tunnel-Authorization: " + RIGHT, b"Tunnel_Authorization: " + RIGHT),
            (b"Cookie: " + cookie, b"Authorization: " + RIGHT, b"Authorization: " + BEARER),
        ):  # fmt: skip
            for fresh in (False, True):
                if fresh:                     # after a reload, which forgets the passwords that were verified
                    self.reload()
                sent = b"".join(b"%b: %b\r\n" % field for field in self.reaches(*fields).fields)
                self.assertNotIn(RIGHT, sent)
                self.assertNotIn(cookie, sent)

    def reload(self) -> None:
        self.edge.routes = type(self.edge)(self.config).routes
        self.factory.configure(self.config, self.edge.routes)
        self.visitor = self.visit()

    def test_withoutACookieAPasswordIsAskedFor(self) -> None:
        for fields in (
            (), (b"Authorization: " + BEARER,), (b"Authorization: " + WRONG,), (b"Cookie: tunnelstack-visitor=",),
            (b"Cookie: tunnelstack-visitor=a.b.c", b"Authorization: " + BEARER), (b"Tunnel-Authorization: " + BEARER,),
            (b"Tunnel-Authorization: " + RIGHT, b"Tunnel-Authorization: " + RIGHT),
        ):  # fmt: skip
            heard = self.request(*fields)
            self.assertTrue(heard.startswith(b"HTTP/1.1 401 "), heard)
            self.assertNotIn(b"Set-Cookie", heard)

    def test_aProgramHasAFieldOfItsOwn(self) -> None:
        for value in (BEARER, coded("bob", "x"), WRONG):
            head = self.reaches(b"Tunnel-Authorization: " + RIGHT, b"Authorization: " + value)
            self.assertEqual((head.field(b"authorization"), head.field(b"tunnel-authorization")), (value, None))
        heard = self.request(b"Tunnel-Authorization: " + WRONG, b"Authorization: " + BEARER)
        self.assertTrue(heard.startswith(b"HTTP/1.1 401 "), heard)

    def test_aCookieIsForOneRouteUntilItExpires(self) -> None:
        cookie = self.pair(self.cookie())
        self.assertTrue(self.request(b"Cookie: " + cookie, target=b"/b").startswith(b"HTTP/1.1 401 "))
        below = self.cookie(target=b"/b/c")
        self.assertIn(b"; Path=/b; HttpOnly; SameSite=Strict", below)
        self.assertEqual(self.request(b"Cookie: %b; %b" % (self.pair(below), cookie), target=b"/b"), b"")
        self.answer()
        self.edge.clock.advance(LIFETIME - 1)
        self.visitor = self.visit()
        self.reaches(b"Cookie: " + cookie)
        self.edge.clock.advance(2)
        self.visitor = self.visit()
        self.assertTrue(self.request(b"Cookie: " + cookie).startswith(b"HTTP/1.1 401 "))

    def test_aCookieThatWasChangedIsNone(self) -> None:
        cookie = self.pair(self.cookie())
        name, _, value = cookie.partition(b"=")
        expires, user, code = value.split(b".")
        for changed in (
            b"%d.%b.%b" % (int(expires) + 1, user, code), b"%b.%b.%b" % (expires, b64encode(b"bob"), code),
            b"%b.%b.%b0" % (expires, user, code[:-1] if code[-1:] != b"0" else code), b"%b.%b." % (expires, user),
            b".".join((expires, user)), expires + b".\xff." + code, b"9" * 5000 + b"." + user + b"." + code,
            b"-1.%b.%b" % (user, code), "٩.".encode() + user + b"." + code,
        ):  # fmt: skip
            heard = self.request(b"Cookie: %b=%b" % (name, changed))
            self.assertTrue(heard.startswith(b"HTTP/1.1 401 "), (changed, heard))

    def test_aCookieOutlivesAReloadButNotItsPassword(self) -> None:
        cookie = self.pair(self.cookie())
        self.reload()
        self.reaches(b"Cookie: " + cookie)
        changed = makePasswordEntry("alice", "secret: with a colon", ln=10)           # with another salt
        self.config = evolve(self.config, routes=(evolve(self.config.routes[0], users=(changed,)),))
        self.reload()
        self.assertTrue(self.request(b"Cookie: " + cookie).startswith(b"HTTP/1.1 401 "))

    def test_itIsReplacedInTheSecondHalfOfItsLife(self) -> None:
        cookie = self.pair(self.cookie())
        self.assertEqual(self.cookie(b"Cookie: " + cookie), b"")
        self.edge.clock.advance(LIFETIME / 2 + 1)
        self.visitor = self.visit()
        self.assertNotIn(self.pair(self.cookie(b"Cookie: " + cookie)), (b"", cookie))

    def test_overTLSItIsSecure(self) -> None:
        self.assertNotIn(b"Secure", self.cookie())
        self.visitor = self.visit(IPv4Address("TCP", "10.0.0.1", 1))
        self.assertIn(b"; Secure", self.cookie(b"X-Forwarded-Proto: https"))

    def test_passwordsOfTheApplicationAreHashedOnce(self) -> None:
        """
        The name of a user of the route with another password: it is the application's, and costs one hash.
        """
        cookie = self.pair(self.cookie())
        with mock.patch.object(PasswordEntry, "verify", autospec=True, return_value=False) as fits:
            for _ in range(5):
                self.reaches(b"Cookie: " + cookie, b"Authorization: " + WRONG)
        self.assertEqual(fits.call_count, 1)

    def test_itIsForRoutesWithUsers(self) -> None:
        with self.assertRaisesRegex(ConfigurationError, "keep_authorization is for a route with users"):
            AccessPolicy(Route(host="a.net", to="b", keepAuthorization=True), None)


class FileTests(SynchronousTestCase):
    """
    Users in a file.
    """

    def test_itIsRead(self) -> None:
        path = Path(self.mktemp())
        path.write_text(f"# who may come\n\n{ALICE}\n")
        self.assertTrue(AccessPolicy(Route(host="a.net", to="b", usersFile=str(path)), None).authenticates)

    def test_mistakesOfUsersFilesAreReported(self) -> None:
        path = Path(self.mktemp())
        for text, sentence in (("# nobody\n", "lists no user"), ("\nalice:secret\n", ":2: a line must be USER:.scrypt")):
            path.write_text(text)
            with self.assertRaisesRegex(ConfigurationError, sentence):
                AccessPolicy(Route(host="a.net", to="b", usersFile=str(path)), None)
        with self.assertRaisesRegex(ConfigurationError, "cannot be read"):
            AccessPolicy(Route(host="a.net", to="b", usersFile="nowhere"), None)


class RedirectTests(PublicCase):
    """
    From plain HTTP to where it is secure.
    """

    config = EdgeConfig(routes=(Route(host="app.localhost", to="app", redirect=True),), trustedProxies=("10.0.0.0/8",))

    def test_aRouteMayRedirectToHTTPS(self) -> None:
        heard = self.say(GET.replace(b"GET / ", b"POST /a?b=c ").replace(b"app.localhost", b"app.localhost:80"))
        self.assertTrue(heard.startswith(b"HTTP/1.1 308 "), heard)
        self.assertIn(b"\r\nLocation: https://app.localhost/a?b=c\r\n", heard)
        self.factory.site.securePort = 8443
        self.assertIn(b"\r\nLocation: https://app.localhost:8443/\r\n", self.say(GET))

    def test_theLocationIsInASCII(self) -> None:
        heard = self.say(GET.replace(b"GET / ", b"GET /gr\xc3\xbc\xc3\x9fe?\xff "))
        self.assertIn(b"\r\nLocation: https://app.localhost/gr%C3%BC%C3%9Fe?%FF\r\n", heard)

    def test_aSecureProxyIsNotRedirected(self) -> None:
        self.visitor = self.visit(IPv4Address("TCP", "10.0.0.1", 1))
        self.assertEqual(self.status(GET), 308)
        self.say(GET[:-2] + b"X-Forwarded-Proto: https\r\n\r\n")
        self.assertEqual(self.answer(), OK)

    def test_norBehindOneThatWritesForwarded(self) -> None:
        self.visitor = self.visit(IPv4Address("TCP", "10.0.0.1", 1))
        self.assertEqual(self.status(GET[:-2] + b"Forwarded: for=192.0.2.1\r\n\r\n"), 308)
        for scheme in (b"https", b"HTTPS", b'"wss"'):
            self.say(GET[:-2] + b"Forwarded: for=192.0.2.1;proto=" + scheme + b", for=10.0.0.2;proto=http\r\n\r\n")
            self.assertEqual(self.answer(), OK)

    def test_aVisitorCannotWriteItsSchemeBeforeTheProxys(self) -> None:
        self.visitor = self.visit(IPv4Address("TCP", "10.0.0.1", 1))
        fields = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https, http\r\n\r\n"
        self.assertEqual(self.status(GET[:-2] + fields), 308)

    def test_aStrangerIsNotBelieved(self) -> None:
        self.assertEqual(self.status(GET[:-2] + b"X-Forwarded-Proto: https\r\n\r\n"), 308)

    def test_aListenerMayRedirectEverything(self) -> None:
        door = Server()
        self.edge.doors.add(HTTPDoor(path=b"/_tunnel/1", server=door))
        where = EdgeListener(text="tcp:80", endpoint=None, redirect=True)
        connection = self.factory.buildConnection(IPv4Address("TCP", "192.0.2.7", 1), where)
        with mock.patch.object(self.factory, "buildProtocol", lambda address: connection):
            self.visitor = self.visit()
        for host, path in ((b"other.localhost", b"/"), (b"localhost", b"/_tunnel/1"), (b"[::1]:80", b"/x")):
            heard = self.say(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host))
            self.assertIn(b"\r\nLocation: https://%b%b\r\n" % (host.removesuffix(b":80"), path), heard)
        self.assertEqual(door.asked, [])


class RateTests(PublicCase):
    """
    Requests a second.
    """

    config = EdgeConfig(
        routes=(Route(host="www.localhost", to="app", requestsPerSecond=0.5, burst=2),),
        limits=Limits(agentRequestsPerSecond=4),
    )
    WWW = GET.replace(b"app.", b"www.")

    def test_requestsOfARouteAreLimited(self) -> None:
        for _ in range(2):
            self.say(self.WWW)
            self.assertEqual(self.answer(), OK)
        heard = self.say(self.WWW)
        self.assertTrue(heard.startswith(b"HTTP/1.1 429 "), heard)
        self.assertIn(b"\r\nRetry-After: 2\r\n", heard)
        self.edge.clock.advance(2)
        self.say(self.WWW)
        self.assertEqual(self.answer(), OK)

    def test_requestsToAnAgentAreLimited(self) -> None:
        for _ in range(4):
            self.say(GET)
            self.assertEqual(self.answer(), OK)
        self.assertEqual(self.status(GET), 429)
        self.edge.clock.advance(0.25)
        self.say(GET)
        self.assertEqual(self.answer(), OK)

    def test_theRateOfTheCredentialApplies(self) -> None:
        self.edge.records["abcd"] = TokenRecord(name="laptop", tokenSha256="ab" * 32, requestsPerSecond=1)
        self.say(GET)
        self.answer()
        self.assertEqual(self.status(GET), 429)
        self.edge.records["abcd"] = TokenRecord(name="laptop", tokenSha256="ab" * 32, requestsPerSecond=100)
        self.say(GET)
        self.assertEqual(self.answer(), OK)

    def test_aRecordWithoutLimitsHasThoseOfTheConfiguration(self) -> None:
        self.edge.records["abcd"] = CertificateRecord(name="laptop", sha256="ab" * 32)
        statuses = []
        for _ in range(5):
            self.visitor = self.visit()
            statuses.append(self.say(GET) or self.answer())
        self.assertEqual([status[9:12] for status in statuses], [b"200"] * 4 + [b"429"])


class BandwidthTests(PublicCase):
    """
    Octets a second: nothing is lost, it only takes as long as it should.
    """

    config = EdgeConfig(routes=(Route(host="app.localhost", to="app", octetsPerSecond=64 * 1024),))
    LENGTH = 640 * 1024

    def seconds(self, talker: Any, take: Any) -> float:
        """
        How long it takes until C{take()} has had all that C{talker} says, as fast as he is heard.
        """
        piece, sent, got, began = bytes(8192), 0, 0, self.edge.clock.seconds()
        while got < self.LENGTH:
            while sent < self.LENGTH and not talker.transport.undelivered:
                talker.say(piece)
                sent += len(piece)
                self.settle()
            got += len(take())
            if got < self.LENGTH:
                self.edge.clock.advance(0.125)
                self.settle()
        return self.edge.clock.seconds() - began

    def test_aResponseIsThrottled(self) -> None:
        self.say(GET)
        agent = self.tunnel.agent.far[-1]
        agent.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.LENGTH)
        self.settle()
        self.visitor.take()
        took = self.seconds(agent, self.visitor.take)
        self.assertApproximates(took, 9.0, 0.5)
        self.assertEqual(self.log[-1].octets, self.LENGTH)

    def test_aRequestIsThrottled(self) -> None:
        self.say(GET.replace(b"GET", b"PUT")[:-2] + b"Content-Length: %d\r\n\r\n" % self.LENGTH)
        agent = self.tunnel.agent.far[-1]
        agent.take()
        took = self.seconds(self.visitor, agent.take)
        self.assertApproximates(took, 9.0, 0.5)
        self.assertEqual(self.answer(), b"")                  # it waits for what the request has taken
        self.edge.clock.advance(1)
        self.settle()
        self.assertEqual(self.visitor.take(), OK)

    def test_nothingIsLeftBehind(self) -> None:
        self.say(GET)
        agent = self.tunnel.agent.far[-1]
        agent.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.LENGTH + bytes(200_000))
        self.settle()
        before = len(self.edge.clock.getDelayedCalls())
        self.visitor.transport.abortConnection()
        self.settle()
        self.assertLess(len(self.edge.clock.getDelayedCalls()), before)

    def test_smallOnesAreNotHeldBack(self) -> None:
        for _ in range(20):
            self.say(GET)
            self.assertEqual(self.answer(), OK)

    def answered(self, body: int) -> Any:
        """
        One more visitor, who was given a response at once.

        @return: who he is, and what he has to be settled with.
        """
        visitor = self.visit()
        visitor.say(GET)
        wire = self.wire
        self.settle()
        self.tunnel.agent.far[-1].say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % body + bytes(body))
        settle(wire, self.tunnel.agent)
        return visitor, wire

    def test_norDoManySmallOnesPassTogether(self) -> None:
        """
        Twenty visitors at once, each of whom gets less than the bucket holds; the last has his answer when all are paid for.
        """
        body = 32 * 1024
        visitors = [self.answered(body) for _ in range(20)]
        got = 0
        for seconds in range(12):
            self.assertLessEqual(got, 64 * 1024 * (seconds + 1) + 2 * body)
            for visitor, wire in visitors:
                settle(wire, self.tunnel.agent)
                got += len(visitor.take())
            self.edge.clock.advance(0.5)
            self.edge.clock.advance(0.5)
        self.assertGreaterEqual(got, 20 * body)

    def test_delayedResponsesAreBounded(self) -> None:
        """
        Very many wait for the same moment, and all but the first are too late then.
        """
        self.edge.admission.configure(1000, 0)
        visitors = [self.answered(32 * 1024) for _ in range(MAX_DELAYED + 8)]
        (bucket,) = self.edge.routes.find(b"app.localhost", b"/").policy.buckets     # type: ignore[union-attr]
        self.edge.clock.advance(1)
        for _, wire in visitors:
            settle(wire, self.tunnel.agent)
        self.assertGreaterEqual(bucket.delayed, MAX_DELAYED)
        self.visitor = self.visit()
        self.assertEqual(self.status(GET), 429)
        for _ in range(100):
            self.edge.clock.advance(0.5)
        self.assertEqual(bucket.delayed, 0)
        self.assertEqual(self.say(GET), b"")
        self.assertEqual(self.answer(), OK)

    def test_whoLeavesBeforeHisAnswerIsPaidForLeavesNothing(self) -> None:
        visitors = [self.answered(32 * 1024) for _ in range(8)]
        (bucket,) = self.edge.routes.find(b"app.localhost", b"/").policy.buckets     # type: ignore[union-attr]
        self.edge.clock.advance(1)
        self.settle()
        self.assertGreater(bucket.delayed, 0)
        for visitor, wire in visitors:
            visitor.transport.abortConnection()
            settle(wire, self.tunnel.agent)
        self.assertEqual(bucket.delayed, 0)
        late = [call for call in self.edge.clock.getDelayedCalls() if "respond" in str(call)]
        self.assertEqual(late, [])

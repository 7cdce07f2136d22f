"""
Tokens: made, kept as hashes, found again, and never shown.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from attrs import evolve
from twisted.cred.checkers import AllowAnonymousAccess, InMemoryUsernamePasswordDatabaseDontUse
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tunnelstack.control.auth.checkers import CheckerAuthenticator
from tunnelstack.control.auth.tokens import (
    TOKEN_FORMAT,
    CredentialExpired,
    CredentialUnknown,
    TokenAuthenticator,
    TokenTable,
    identifierOf,
    newToken,
)
from tunnelstack.control.config.records import TokenRecord
from tunnelstack.interfaces import IAuthenticator
from tunnelstack.records import Claim, Principal


def claim(token: str | None) -> Claim:
    """
    Of somebody who shows a token.
    """
    return Claim(dialect="native", token=token)


class TokenTests(SynchronousTestCase):
    """
    Making tokens, and knowing them.
    """

    def setUp(self) -> None:
        self.new = newToken()
        self.record = TokenRecord(
            name="laptop", tokenSha256=self.new.tokenSha256.upper(), allow=("http:*",), share=True, id=self.new.id
        )
        self.authenticator = TokenAuthenticator(TokenTable([self.record]))

    def test_tokensHaveTheirForm(self) -> None:
        for _ in range(50):                   # a secret may hold underscores
            new = newToken()
            self.assertRegex(new.token, TOKEN_FORMAT)
            self.assertEqual(identifierOf(new.token), new.id)
        self.assertEqual(self.new.tokenSha256, sha256(self.new.token.encode()).hexdigest())

    def test_tokensAreNeverShown(self) -> None:
        self.assertNotIn(self.new.token, repr(self.new))
        self.assertNotIn(self.new.token, repr(claim(self.new.token)))

    def test_aKnownTokenIsAPrincipal(self) -> None:
        found = self.successResultOf(self.authenticator.authenticate(claim(self.new.token)))
        self.assertEqual(found, Principal(agent="laptop", allow=("http:*",), share=True, token=self.new.id))

    def test_anythingElseIsRefused(self) -> None:
        token = self.new.token
        near = (token[:-1], token + "x", token.upper(), " " + token, self.new.tokenSha256)
        for wrong in (None, "", *near, "é", "\ud800", "x" * 10**6):
            failure = self.failureResultOf(self.authenticator.authenticate(claim(wrong)), CredentialUnknown)
            self.assertNotIn(token[12:], str(failure.value))

    def test_theBookMayBeReplaced(self) -> None:
        principal = self.successResultOf(self.authenticator.authenticate(claim(self.new.token)))
        self.assertTrue(self.authenticator.tokens.isCurrent(principal))
        self.authenticator.tokens.replace([])
        self.failureResultOf(self.authenticator.authenticate(claim(self.new.token)), CredentialUnknown)
        self.assertFalse(self.authenticator.tokens.isCurrent(principal))

    def test_aTokenThatHasExpiredIsRefusedWithTheTime(self) -> None:
        time = [datetime(2026, 1, 1, tzinfo=UTC)]
        record = evolve(self.record, expires=time[0] + timedelta(seconds=1))
        self.authenticator.tokens = book = TokenTable([record], lambda: time[0])
        principal = self.successResultOf(self.authenticator.authenticate(claim(self.new.token)))
        self.assertTrue(book.isCurrent(principal))
        time[0] += timedelta(seconds=1)
        expired: Any = self.failureResultOf(self.authenticator.authenticate(claim(self.new.token)), CredentialExpired).value
        self.assertEqual((expired.code, expired.sentence), ("expired", "the token is expired since 2026-01-01T00:00:01Z"))
        self.assertIn(self.new.id, str(expired))
        self.assertNotIn(self.new.token[12:], str(expired))
        self.failureResultOf(self.authenticator.authenticate(claim(self.new.token + "x")), CredentialUnknown)
        self.assertFalse(book.isCurrent(principal))
        self.assertEqual(book.record(self.new.id), record)        # why it is unknown can still be said

    def test_itProvidesItsInterface(self) -> None:
        verifyObject(IAuthenticator, self.authenticator)


class CheckerTests(SynchronousTestCase):
    """
    Twisted's own checkers.
    """

    def setUp(self) -> None:
        database = InMemoryUsernamePasswordDatabaseDontUse(laptop=b"secret")
        self.authenticator = CheckerAuthenticator(database, allow=["http:laptop"])

    def test_itProvidesItsInterface(self) -> None:
        verifyObject(IAuthenticator, self.authenticator)

    def test_theAvatarIsTheAgent(self) -> None:
        found = self.successResultOf(self.authenticator.authenticate(claim("laptop:secret")))
        self.assertEqual((found.agent, found.allow), ("laptop", ("http:laptop",)))

    def test_wrongPasswordsAreRefused(self) -> None:
        for wrong in ("laptop:", "laptop:wrong", "nobody:secret", "laptop", "", None):
            self.failureResultOf(self.authenticator.authenticate(claim(wrong)), CredentialUnknown)

    def test_nobodyIsLetInUnknown(self) -> None:
        class Anyone(AllowAnonymousAccess):  # type: ignore[misc]
            def requestAvatarId(self, credentials: object) -> tuple[()]:
                return ()

        self.failureResultOf(CheckerAuthenticator(Anyone()).authenticate(claim("a:b")), CredentialUnknown)

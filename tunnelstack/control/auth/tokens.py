"""
Bearer tokens: C{ts_<id>_<secret>}, of which an edge keeps only the SHA-256.

The secret is 256 random bits, so that a fast hash protects it as well as a slow one would, and a thousand agents that come back
at once do not hold the reactor.  The identifier is public: it names the token in logs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from secrets import token_hex, token_urlsafe
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from tunnelstack.errors import Denied, Refused
from tunnelstack.interfaces import IAuthenticator
from tunnelstack.records import Claim, Principal

TOKEN_FORMAT = re.compile(r"ts_([0-9A-Za-z]{4,32})_([0-9A-Za-z_-]{43})")
MAX_CREDENTIAL_LENGTH = 512
"""Octets of the longest credential that is looked at."""


class CredentialUnknown(Refused):
    """
    Nobody is known by this credential, or none was shown.
    """


class CredentialExpired(Denied):
    """
    The token is a known one, and its time is over.  To tell an agent so tells it nothing else: it has shown the token.
    """

    def __init__(self, since: datetime, **details: object) -> None:
        super().__init__("expired", f"the token is expired since {formatTime(since)}", **details)


class IToken(Protocol):
    """
    What a L{TokenTable} keeps of a token: L{TokenRecord<tunnelstack.control.config.records.TokenRecord>}, or anything alike.
    """

    @property
    def name(self) -> str: ...
    @property
    def tokenSha256(self) -> str: ...
    @property
    def allow(self) -> tuple[str, ...]: ...
    @property
    def share(self) -> bool: ...
    @property
    def id(self) -> str: ...
    @property
    def expires(self) -> datetime: ...


@frozen
class NewToken:
    """
    A token that was just made; the only moment at which it can be read.

    @ivar token: to be given to the agent.
    @ivar id: its public identifier.
    @ivar tokenSha256: what the edge keeps.
    """

    token: str
    id: str
    tokenSha256: str

    def __repr__(self) -> str:
        return f"NewToken(id={self.id!r})"


def newToken() -> NewToken:
    """
    Make a token of 256 random bits.
    """
    identifier = token_hex(4)
    token = f"ts_{identifier}_{token_urlsafe(32)}"
    return NewToken(token, identifier, digestOf(token))


def digestOf(token: str) -> str:
    """
    The SHA-256 of a token, as the edge keeps it.
    """
    return sha256(token.encode("utf-8", "replace")).hexdigest()


def formatTime(time: datetime) -> str:
    """
    A time as TOML and people write it, to the second.
    """
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def identifierOf(token: str) -> str:
    """
    The public part of a token, C{""} for a credential of another form.
    """
    form = TOKEN_FORMAT.fullmatch(token)
    return form[1] if form else ""


class TokenTable:
    """
    The tokens that an edge knows; it may be given others while it runs.
    """

    def __init__(
        self, records: Iterable[IToken] = (), now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """
        @param now: the time of day, by which tokens expire.
        """
        self._records: dict[str, IToken] = {}
        self._credentialId: dict[str, IToken] = {}
        self._principals: dict[Principal, datetime] = {}
        self._now = now
        self.replace(records)

    def replace(self, records: Iterable[IToken]) -> None:
        """
        Know these from now on, and no others.
        """
        self._records = {record.tokenSha256.lower(): record for record in records}
        self._credentialId = {_credentialId(record): record for record in reversed(self._records.values())}
        self._principals = {}
        for record in self._records.values():
            principal = _principal(record)
            known = self._principals.get(principal, record.expires)
            self._principals[principal] = max(known, record.expires)

    def find(self, token: str) -> IToken | None:
        """
        @return: the record of a token, whether it has expired or not (L{hasExpired}).  What the time of the look-up tells of is
            a hash, which nobody can choose or undo.
        """
        if not token or len(token) > MAX_CREDENTIAL_LENGTH:
            return None
        digest = digestOf(token)
        record = self._records.get(digest)
        if record is None or not compare_digest(record.tokenSha256.lower(), digest):
            return None
        return record

    def hasExpired(self, record: IToken) -> bool:
        """
        Whether the time of a token is over.
        """
        return record.expires <= self._now()

    def record(self, credentialId: str) -> IToken | None:
        """
        @param credentialId: what names a token in logs.
        @return: its record, whether it has expired or not.
        """
        return self._credentialId.get(credentialId)

    def isCurrent(self, principal: Principal) -> bool:
        """
        Whether the token by which somebody was let in is still one of the table's, with the same rights.
        """
        expires = self._principals.get(principal)
        return expires is not None and expires > self._now()


def _principal(record: IToken) -> Principal:
    return Principal(agent=record.name, allow=tuple(record.allow), share=record.share, token=_credentialId(record))


def _credentialId(record: IToken) -> str:
    return record.id or record.tokenSha256[:8].lower()


@implementer(IAuthenticator)
class TokenAuthenticator:
    """
    Knows people by their tokens.

    @ivar tokens: a L{TokenTable}.
    """

    def __init__(self, tokens: TokenTable) -> None:
        self.tokens = tokens

    def authenticate(self, claim: Claim) -> Deferred[Principal]:
        """
        As in L{IAuthenticator}.
        """
        record = self.tokens.find(claim.token or "")
        if record is None:
            credentialId = identifierOf(claim.token or "")
            return fail(
                CredentialUnknown(
                    "no token was shown" if not claim.token else "the token is not known", token=credentialId
                )
            )
        if self.tokens.hasExpired(record):
            return fail(CredentialExpired(record.expires, token=_credentialId(record), agent=record.name))
        return succeed(_principal(record))

    def isCurrent(self, principal: Principal) -> bool:
        """
        As in L{TokenTable.isCurrent}.
        """
        return self.tokens.isCurrent(principal)

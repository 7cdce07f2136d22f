"""
Bearer tokens: C{ts_<id>_<secret>}, of which an edge keeps only the SHA-256.

The secret is 256 random bits.  A fast hash therefore protects it as well as a slow one would, and a thousand agents that
connect again at once do not block the reactor.  The identifier is public: logs show it.
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
from tunnelstack.settings.record import Record

TOKEN_FORMAT = re.compile(r"ts_([0-9A-Za-z]{4,32})_([0-9A-Za-z_-]{43})")
MAX_CREDENTIAL_LENGTH = 512
"""Octets of the longest credential that is examined."""


class CredentialUnknown(Refused):
    """
    The credential is unknown, or the agent sent none.
    """


class CredentialExpired(Denied):
    """
    The token is known, and has expired.  The reason is sent to the agent, which has proved that it has the token.
    """

    def __init__(self, since: datetime, **details: object) -> None:
        super().__init__("expired", f"the token is expired since {formatTime(since)}", **details)


class IToken(Protocol):
    """
    A record in a L{TokenTable}, such as a L{TokenRecord<tunnelstack.control.config.records.TokenRecord>}.
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


@frozen(eq=False, repr=False)
class NewToken(Record):
    """
    A new token, as it is shown once.

    @ivar token: the credential for the agent.
    @ivar id: its public identifier.
    @ivar tokenSha256: the hash that the edge stores.
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
    @return: the SHA-256 of a token in hexadecimal digits, as the edge stores it.
    """
    return sha256(token.encode("utf-8", "replace")).hexdigest()


def formatTime(time: datetime) -> str:
    """
    @return: a time in the form of TOML, to the second.
    """
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def identifierOf(token: str) -> str:
    """
    @return: the public identifier of a token; C{""} for a credential of another form.
    """
    form = TOKEN_FORMAT.fullmatch(token)
    return form[1] if form else ""


class TokenTable:
    """
    The tokens of an edge.  They may be replaced while it runs.

    @ivar record: called with the public identifier of a token; gives its record, even if it has expired, or C{None}.
    """

    def __init__(
        self, records: Iterable[IToken] = (), now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """
        @param now: gives the current time.
        """
        self._records: dict[str, IToken] = {}
        self._credentialId: dict[str, IToken] = {}
        self.record = self._credentialId.get      # every request asks for one
        self._principals: dict[Principal, datetime] = {}
        self._now = now
        self.replace(records)

    def replace(self, records: Iterable[IToken]) -> None:
        """
        Replace all records.
        """
        self._records = {record.tokenSha256.lower(): record for record in records}
        self._credentialId.clear()
        self._credentialId.update((_credentialId(record), record) for record in reversed(self._records.values()))
        self._principals = {}
        for record in self._records.values():
            principal = _principal(record)
            known = self._principals.get(principal, record.expires)
            self._principals[principal] = max(known, record.expires)

    def find(self, token: str) -> IToken | None:
        """
        @return: the record of a token, even if it has expired (L{hasExpired}); C{None} for an unknown token.
        """
        # The time of the dictionary look-up depends on the hash alone, which an attacker can neither choose nor invert.
        if not token or len(token) > MAX_CREDENTIAL_LENGTH:
            return None
        digest = digestOf(token)
        record = self._records.get(digest)
        if record is None or not compare_digest(record.tokenSha256.lower(), digest):
            return None
        return record

    def hasExpired(self, record: IToken) -> bool:
        return record.expires <= self._now()

    def isCurrent(self, principal: Principal) -> bool:
        """
        @return: whether the token that an agent was accepted with is still in the table, with the same rights, and not expired.
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
    Accepts the agents whose tokens are in a table.
    """

    def __init__(self, tokens: TokenTable) -> None:
        self.tokens = tokens

    def authenticate(self, claim: Claim) -> Deferred[Principal]:
        record = self.tokens.find(claim.token or "")
        if record is None:
            credentialId = identifierOf(claim.token or "")
            return fail(
                CredentialUnknown(
                    "the agent sent no token" if not claim.token else "the token is unknown", token=credentialId
                )
            )
        if self.tokens.hasExpired(record):
            return fail(CredentialExpired(record.expires, token=_credentialId(record), agent=record.name))
        return succeed(_principal(record))

    def isCurrent(self, principal: Principal) -> bool:
        """
        @return: as L{TokenTable.isCurrent}.
        """
        return self.tokens.isCurrent(principal)

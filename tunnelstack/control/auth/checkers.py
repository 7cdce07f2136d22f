"""
Names and passwords, as any of Twisted's credentials checkers knows them: the way by which agents are known to whatever knows an
organisation's users already.

The token that such an agent shows is C{name:password}; the name of the avatar is the agent's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.strcred import InvalidAuthArgumentString, InvalidAuthType, makeChecker
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.control.auth.tokens import MAX_CREDENTIAL_LENGTH, CredentialUnknown
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IAuthenticator
from tunnelstack.records import Claim, Principal

AGENT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""What an agent may be called."""

CREDENTIAL_PREFIX = "checker:"
"""What comes before the name where an agent of a checker is named in logs."""


@implementer(IAuthenticator)
class CheckerAuthenticator:
    """
    Knows whoever a credentials checker knows.
    """

    def __init__(self, checker: ICredentialsChecker, allow: Iterable[str] = (), share: bool = False) -> None:
        """
        @param checker: one that takes C{IUsernamePassword}.
        @param allow: what all of them may do.
        """
        self._checker = checker
        self._allow = tuple(allow)
        self._share = share

    def authenticate(self, claim: Claim) -> Deferred[Principal]:
        """
        As in L{IAuthenticator}.
        """
        name, colon, password = (claim.token or "").partition(":")
        if not colon or len(claim.token or "") > MAX_CREDENTIAL_LENGTH:
            return fail(CredentialUnknown("no name and password were shown"))
        credentials = UsernamePassword(name.encode(), password.encode())
        asked = maybeDeferred(self._checker.requestAvatarId, credentials)
        return asked.addCallbacks(self._authenticated, self._loginFailed)

    def isCurrent(self, principal: Principal) -> bool:
        """
        Whether somebody who was let in could be one of the checker's, with the rights that they have now.  A checker cannot be
        asked for more without a password.
        """
        return principal == self._principal(principal.agent)

    def _authenticated(self, avatar: bytes | str | tuple[()]) -> Principal:
        if not avatar:
            raise CredentialUnknown("the checker takes this for an anonymous user")
        agent = avatar.decode("utf-8", "replace") if isinstance(avatar, bytes) else str(avatar)
        if not AGENT.fullmatch(agent):
            raise CredentialUnknown("the checker knows them by a name that no agent can have", name=agent)
        return self._principal(agent)

    def _principal(self, agent: str) -> Principal:
        return Principal(agent=agent, allow=self._allow, share=self._share, token=CREDENTIAL_PREFIX + agent)

    def _loginFailed(self, failure: Failure) -> Principal:
        failure.trap(UnauthorizedLogin)
        raise CredentialUnknown("the name or the password is wrong")


def parseChecker(auth: str) -> ICredentialsChecker:
    """
    @param auth: as C{twistd} takes it after C{--auth}: a plugin's name, and what it wants to know.
    @raise ConfigurationError: there is no such checker, or it takes no names and passwords.
    """
    try:
        checker: ICredentialsChecker = makeChecker(auth)
    except InvalidAuthType:
        raise ConfigurationError(f"auth {auth!r}: there is no such credentials checker on this machine") from None
    except (InvalidAuthArgumentString, ValueError, OSError) as wrong:
        raise ConfigurationError(f"auth {auth!r} cannot be used: {wrong}") from None
    if not any(kind is IUsernamePassword for kind in checker.credentialInterfaces):
        raise ConfigurationError(f"auth {auth!r} takes no names and passwords")
    return checker

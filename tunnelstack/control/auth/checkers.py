"""
Authentication of agents by name and password, with any of Twisted's credentials checkers: for organisations that have a
directory of users already.

The token of such an agent is C{name:password}.  The identifier of the avatar is the agent's name.
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
"""The form of an agent's name."""

CREDENTIAL_PREFIX = "checker:"
"""The beginning of the public identifier of such a credential, which logs show."""


@implementer(IAuthenticator)
class CheckerAuthenticator:
    """
    Accepts every agent that a credentials checker accepts.
    """

    def __init__(self, checker: ICredentialsChecker, allow: Iterable[str] = (), share: bool = False) -> None:
        """
        @param checker: accepts C{IUsernamePassword}.
        @param allow: the rights of every agent of this checker.
        @param share: whether several processes of an agent may hold the same name.
        """
        self._checker = checker
        self._allow = tuple(allow)
        self._share = share

    def authenticate(self, claim: Claim) -> Deferred[Principal]:
        name, colon, password = (claim.token or "").partition(":")
        if not colon or len(claim.token or "") > MAX_CREDENTIAL_LENGTH:
            return fail(CredentialUnknown("the agent sent no name and password"))
        credentials = UsernamePassword(name.encode(), password.encode())
        asked = maybeDeferred(self._checker.requestAvatarId, credentials)
        return asked.addCallbacks(self._authenticated, self._loginFailed)

    def isCurrent(self, principal: Principal) -> bool:
        """
        @return: whether the rights of an agent that was accepted are still those of this checker.  Whether the checker still
            accepts the agent cannot be found out without the password.
        """
        return principal == self._principal(principal.agent)

    def _authenticated(self, avatar: bytes | str | tuple[()]) -> Principal:
        if not avatar:
            raise CredentialUnknown("the checker accepts this only as an anonymous user")
        agent = avatar.decode("utf-8", "replace") if isinstance(avatar, bytes) else str(avatar)
        if not AGENT.fullmatch(agent):
            raise CredentialUnknown("the name that the checker gives is not a valid name of an agent", name=agent)
        return self._principal(agent)

    def _principal(self, agent: str) -> Principal:
        return Principal(agent=agent, allow=self._allow, share=self._share, token=CREDENTIAL_PREFIX + agent)

    def _loginFailed(self, failure: Failure) -> Principal:
        failure.trap(UnauthorizedLogin)
        raise CredentialUnknown("the name or the password is wrong")


def parseChecker(auth: str) -> ICredentialsChecker:
    """
    @param auth: the argument of C{twistd}'s option C{--auth}: the name of a plugin, and its arguments.
    @raise ConfigurationError: there is no such checker, or it does not accept names and passwords.
    """
    try:
        checker: ICredentialsChecker = makeChecker(auth)
    except InvalidAuthType:
        raise ConfigurationError(f'auth "{auth}": this machine has no such credentials checker') from None
    except (InvalidAuthArgumentString, ValueError, OSError) as wrong:
        raise ConfigurationError(f'auth "{auth}" cannot be used: {wrong}') from None
    if not any(kind is IUsernamePassword for kind in checker.credentialInterfaces):
        raise ConfigurationError(f'auth "{auth}": this checker does not accept names and passwords')
    return checker

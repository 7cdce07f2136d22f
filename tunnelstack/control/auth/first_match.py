"""
Several authenticators, tried in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.control.auth.tokens import CredentialUnknown
from tunnelstack.errors import Refused
from tunnelstack.interfaces import IAuthenticator
from tunnelstack.records import Claim, Principal


class RevocableAuthenticator(Protocol):
    """
    An L{IAuthenticator} whose credentials may be taken back.
    """

    def authenticate(self, claim: Claim) -> Deferred[Principal]: ...

    def isCurrent(self, principal: Principal) -> bool: ...


@implementer(IAuthenticator)
class FirstMatchAuthenticator:
    """
    Accepts what one of several authenticators accepts.

    @ivar authenticators: tried in this order.  May be replaced.
    """

    def __init__(self, authenticators: Sequence[RevocableAuthenticator] = ()) -> None:
        self.authenticators = authenticators

    def authenticate(self, claim: Claim) -> Deferred[Principal]:
        """
        If all of them refuse, the reason is that of the first: the others expect other kinds of credentials.
        """
        if not self.authenticators:
            return fail(CredentialUnknown("this edge has no credentials"))
        first, *others = self.authenticators
        asked = first.authenticate(claim)
        return asked.addErrback(_askOthers, claim, others) if others else asked

    def isCurrent(self, principal: Principal) -> bool:
        """
        @return: whether an agent that was accepted would be accepted now, with the same rights.
        """
        return any(authenticator.isCurrent(principal) for authenticator in self.authenticators)


def _askOthers(
    refusal: Failure, claim: Claim, others: Sequence[RevocableAuthenticator], first: Failure | None = None
) -> Deferred[Principal]:
    """
    Ask the next one, unless there is another reason for the failure than that an agent is not known.

    @param first: the refusal of the first one.
    """
    refusal.trap(Refused)
    first = first or refusal
    if not others:
        return fail(first)
    following, *rest = others
    return following.authenticate(claim).addErrback(_askOthers, claim, rest, first)

"""
Several authenticators, tried in order.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, inlineCallbacks
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

    @inlineCallbacks
    def authenticate(self, claim: Claim) -> Generator[Deferred[Principal], Principal, Principal]:
        """
        If all of them refuse, the reason is that of the first: the others expect other kinds of credentials.
        """
        first: Refused = CredentialUnknown("this edge has no credentials")
        for position, authenticator in enumerate(self.authenticators):
            asked: Deferred[Principal] = authenticator.authenticate(claim)
            try:
                return (yield asked)
            except Refused as refused:
                if position == 0:
                    first = refused
        raise first

    def isCurrent(self, principal: Principal) -> bool:
        """
        @return: whether an agent that was accepted would be accepted now, with the same rights.
        """
        return any(authenticator.isCurrent(principal) for authenticator in self.authenticators)

"""
Several authenticators to be known, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface import implementer

from tunnelstack.control.auth.tokens import CredentialUnknown
from tunnelstack.errors import Refused
from tunnelstack.interfaces import IAuthenticator
from tunnelstack.records import Claim, Principal


@implementer(IAuthenticator)
class FirstMatchAuthenticator:
    """
    Knows whoever one of several knows.

    @ivar authenticators: the L{IAuthenticator}s, the first one asked first; each has C{knows(principal)}.  May be replaced.
    """

    def __init__(self, authenticators: Sequence[Any] = ()) -> None:
        self.authenticators = authenticators

    @inlineCallbacks
    def authenticate(self, claim: Claim) -> Any:
        """
        As in L{IAuthenticator}.  What the first of them says is the reason of a refusal: the others know other credentials.
        """
        first: Refused = CredentialUnknown("nobody is known to this edge")
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
        Whether somebody who was let in would be let in now, with the same rights.
        """
        return any(authenticator.isCurrent(principal) for authenticator in self.authenticators)

"""
The credentials of agents in force: the tokens of the configuration and of the state folder, client certificates, and checkers.
The sessions of a credential that is revoked, expires or changes are closed immediately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from tunnelstack.control.auth.first_match import FirstMatchAuthenticator, RevocableAuthenticator
from tunnelstack.control.auth.name_ownership import NameOwnership
from tunnelstack.control.auth.token_store import TokenStore
from tunnelstack.control.auth.tokens import TokenAuthenticator, TokenTable
from tunnelstack.control.config.records import EdgeConfig, TokenRecord
from tunnelstack.control.registry import Registry
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.records import Principal
from tunnelstack.settings.state_dir import StateDirectory

CHECK_SECONDS = 0.5
"""Seconds between two checks of the token file, so that a change is effective within a second."""


class CredentialStore(Service):
    """
    The credentials of one edge.

    @ivar tokens: all tokens.
    @ivar authenticator: the L{IAuthenticator<tunnelstack.interfaces.IAuthenticator>} of agents.
    @ivar store: the tokens in the state folder, or C{None} if there is no state folder.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, config: EdgeConfig, registry: Registry, owners: NameOwnership,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        @param owners: receives all credentials, which reserve names.
        @param now: gives the current date and time, with a time zone.
        """
        self._owners = owners
        self.tokens = TokenTable(config.tokens, now)
        self.authenticator = FirstMatchAuthenticator([TokenAuthenticator(self.tokens)])
        self.store = TokenStore(StateDirectory(Path(config.stateDirectory))) if config.stateDirectory else None
        self._clock = clock
        self._config = config
        self._registry = registry
        self._now = now
        self._stamp: tuple[int, ...] = ()
        self._records: tuple[TokenRecord, ...] = ()     # of the state folder
        self._nextExpiry: datetime | None = None              # when the next token expires
        self._timer: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        if self.store is not None:
            self._timer = self._clock.callLater(CHECK_SECONDS, self._poll)

    def stopService(self) -> None:
        super().stopService()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def configure(self, config: EdgeConfig) -> None:
        """
        Accept the credentials of a configuration and of the token store, and no others.

        @raise ConfigurationError: a checker or the token file cannot be used.  Nothing has changed.
        """
        authenticators: list[RevocableAuthenticator] = [TokenAuthenticator(self.tokens)]
        if config.certificates:
            from tunnelstack.control.auth.mtls import CertificateAuthenticator  # most edges have none

            authenticators.append(CertificateAuthenticator(config.certificates))
        for each in config.checkers:
            from tunnelstack.control.auth.checkers import CheckerAuthenticator, parseChecker

            authenticators.append(CheckerAuthenticator(parseChecker(each.auth), each.allow, each.share))
        if self.store is not None:
            self._read()
        self._config = config
        self.authenticator.authenticators = authenticators
        self._apply()

    def isLive(self, agent: str) -> bool:
        """
        @return: whether an agent of this name has a credential; those of checkers cannot be listed.
        """
        now = self._now()
        return bool(self._config.checkers) or any(each.name == agent for each in self._config.certificates) or any(
            each.name == agent and each.expires > now for each in (*self._config.tokens, *self._records)
        )

    def reload(self) -> None:
        """
        Read the token file again.

        @raise ConfigurationError: the file cannot be used.  Nothing has changed.
        """
        if self.store is not None:
            self._read()
            self._apply()

    def _read(self) -> None:
        assert self.store is not None
        self._stamp = self.store.modificationStamp()
        self._records = self.store.read()

    def _apply(self) -> None:
        tokens = (*self._config.tokens, *self._records)
        self.tokens.replace(tokens)
        self._owners.setCredentials((*tokens, *self._config.certificates, *self._config.checkers))
        self._dropRevoked()

    def _poll(self) -> None:
        assert self.store is not None
        self._timer = self._clock.callLater(CHECK_SECONDS, self._poll)
        if self.store.modificationStamp() != self._stamp:
            try:
                self.reload()
            except ConfigurationError as wrong:
                self.log.error("the token file was not reloaded: {reason}", reason=str(wrong))
        elif self._nextExpiry is not None and self._nextExpiry <= self._now():
            self._dropRevoked()

    def _dropRevoked(self) -> None:
        """
        Close the sessions whose credentials are no longer accepted.
        """
        self._nextExpiry = _nextExpiry((*self._config.tokens, *self._records), self._now())
        for tunnel in list(self._registry):
            if not (tunnel.principal.realm or self.authenticator.isCurrent(tunnel.principal)):
                self._registry.remove(tunnel)
                code, why = self._revocationReason(tunnel.principal)
                self.log.info(
                    "{agent} disconnected: {reason}", agent=tunnel.principal.agent, token=tunnel.principal.token,
                    reason=why, status="agent",
                )
                tunnel.abort(Denied(code, why))

    def _revocationReason(self, principal: Principal) -> tuple[str, str]:
        record = self.tokens.record(principal.token)
        if record is None:
            return "revoked", f"the credential of {principal.agent} ({principal.token}) was revoked"
        if record.expires <= self._now():
            return "expired", f"the token of {principal.agent} ({principal.token}) has expired"
        return "changed", f"the rights of {principal.agent} ({principal.token}) have changed; it may connect again"


def _nextExpiry(records: Iterable[TokenRecord], now: datetime) -> datetime | None:
    """
    When the next token expires; C{None} if none does.
    """
    return min((record.expires for record in records if record.expires > now), default=None)
